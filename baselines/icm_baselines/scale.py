"""Coding at a smaller size, as the MPEG VCM anchors do, with scale and true size in the stream.

A side of n pixels is coded at ``2 * ceil(n * percent / 200)`` pixels (the anchors' ``ceil(iw * 3 / 8) * 2``
at 75 %). Both ways the samples are resampled by a Lanczos filter with three lobes, widened on the way down,
in Pillow's 8-bit fixed-point arithmetic, which is the same on every machine.

Up to eight lengths share one coded length. A first byte holds the scale (two bits: 1 for 75 %, 2 for 50 %,
3 for 25 %) and tells for columns and rows (three bits each) how far below the largest of them the true
length is. A picture that is coded at full size has no such byte. Which of the two a stream is shows in where
its Annex B byte stream begins: right after the envelope, or a byte later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image as PillowImage

from icm_baselines import envelope
from icm_bench import limit
from icm_bench.error import CodecError
from icm_bench.image import Image, check_image

Percent: TypeAlias = Literal["100", "75", "50", "25"]

PERCENTS: tuple[Percent, ...] = ("100", "75", "50", "25")
"""The scales; a scale's place is what the first byte says."""

# The first unit of a byte stream has the long start code (annex B.2.2 of H.266), so two of them cannot lie a
# byte apart: this one's last byte would be the other's zero.
_START = b"\x00\x00\x00\x01"
_LONGEST_SHORTFALL = 7


def encode(image: Image, percent: Percent, encode_coded_size: Callable[[Image], bytes]) -> bytes:
    """Return the bitstream of an image that ``encode_coded_size`` codes as an enveloped Annex B byte stream.

    Raises:
        CodecError: It is no image.
    """
    check_image(image, where=f"a scale of {percent} %")
    if percent == "100":
        return encode_coded_size(image)
    height, width = image.shape[:2]
    rows, columns = _coded_side(height, percent), _coded_side(width, percent)
    shortfalls = _largest_side(columns, percent) - width, _largest_side(rows, percent) - height
    head = PERCENTS.index(percent) << 6 | shortfalls[0] << 3 | shortfalls[1]
    return bytes([head]) + encode_coded_size(_resampled(image, columns, rows))


def decode(data: bytes, decode_coded_size: Callable[[bytes], Image]) -> Image:
    """Return the image of a bitstream at its true size.

    Raises:
        CodecError: The bytes are truncated, damaged, empty or foreign.
    """
    before = head_bytes(data)
    picture = decode_coded_size(data[before:])
    if not before:
        return picture
    percent = PERCENTS[data[0] >> 6]
    rows, columns = picture.shape[:2]
    width = _largest_side(columns, percent) - (data[0] >> 3 & _LONGEST_SHORTFALL)
    height = _largest_side(rows, percent) - (data[0] & _LONGEST_SHORTFALL)
    if percent == "100" or _coded_side(width, percent) != columns or _coded_side(height, percent) != rows:
        raise CodecError(f"the bitstream is damaged: {columns}x{rows} is not {percent} % of {width}x{height}")
    limit.check_claim(width, height, len(data), where="scaled picture")
    return _resampled(picture, width, height)


def head_bytes(data: bytes) -> int:
    """Return how many bytes stand before the envelope of the coded picture."""
    return int(data[1 + envelope.N_BYTES :].startswith(_START))


def layout(percent: Percent) -> str:
    """Name the layout of the bitstream, for a codec's version."""
    return "envelope 1" if percent == "100" else "scale 2, envelope 1"


def _coded_side(side: int, percent: Percent) -> int:
    return 2 * -(-side * int(percent) // 200)


def _largest_side(coded: int, percent: Percent) -> int:
    return coded * 100 // int(percent)


def _resampled(image: Image, width: int, height: int) -> Image:
    resized = PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.LANCZOS)
    return np.array(resized)
