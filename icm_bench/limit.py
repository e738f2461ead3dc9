"""How many pixels an image may have: what is larger is taken for a decompression bomb, unless the user wants it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from icm_bench.error import CodecError, UsageError

VARIABLE = "ICM_BENCH_MAX_PIXELS"
"""The environment variable that names another limit; ``--max-pixels`` sets it, and a run's jobs carry it."""

MAX_PIXELS = 80_000_000
"""The most pixels of an image where the user names no limit."""

_SMALL_PIXELS = 2**24
_PIXELS_A_BYTE = 2**14
_HINT = "give --max-pixels if it is meant to be so large"


def chosen() -> int | None:
    """Return the limit that the user names in pixels, or None.

    Raises:
        UsageError: It is not a whole number above 0.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not int(text):
        raise UsageError(f"'{text}' is not a number of pixels", where=VARIABLE, hint="write 200000000")
    from PIL import Image as PillowImage  # the command line sets the limit without it

    # This check is in the place of Pillow's, which ends at 179 million.
    PillowImage.MAX_IMAGE_PIXELS = None
    return int(text)


@contextlib.contextmanager
def chosen_as(most: int | None) -> Iterator[None]:
    """Take the limit that the user named on another machine; with None, that of this one stays."""
    if most is None:
        yield
        return
    before = os.environ.get(VARIABLE, "")
    os.environ[VARIABLE] = str(most)
    try:
        yield
    finally:
        os.environ[VARIABLE] = before


def max_pixels(usual: int = MAX_PIXELS) -> int:
    """Return the most pixels of an image file; the user's limit goes before the usual one."""
    return chosen() or usual


def of_stream(n_bytes: int) -> int:
    """Return the most pixels that a bitstream may claim, so that a few bytes cannot ask for gigabytes.

    A small image may be coded in next to nothing; beyond 2^24 pixels each byte allows 2^14, a tenth of the lowest rate
    that an image of anything takes. A limit that the user names is the only one.
    """
    return chosen() or min(MAX_PIXELS, _SMALL_PIXELS + n_bytes * _PIXELS_A_BYTE)


def check_claim(
    width: int,
    height: int,
    n_bytes: int,
    *,
    where: str,
    pixels_a_byte: int | None = None,
    small: int = 0,
    usual: int = MAX_PIXELS,
) -> None:
    """Refuse a bitstream that claims more pixels than its bytes can hold, before anything is allocated.

    Args:
        width: What it claims, in pixels.
        height: Likewise.
        n_bytes: Its length.
        where: The format.
        pixels_a_byte: The most pixels that a byte of this format can hold, where that is known.
        small: Pixels that a stream of any length may claim beside those.
        usual: The most pixels that its decoder holds in 1 GiB, where the user names no limit.

    Raises:
        CodecError: It claims more.
    """
    most = of_stream(n_bytes) if pixels_a_byte is None or chosen() else small + n_bytes * pixels_a_byte
    if width * height > min(most, max_pixels(usual)):
        raise CodecError(f"{n_bytes} bytes claim {width}x{height} pixels", where=where, hint=_HINT)
