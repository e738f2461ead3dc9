"""What every codec must do, as a check."""

from __future__ import annotations

import multiprocessing
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np

from icm_bench.codec import Codec, Quality, ReportsHeaderBytes, ladder_of, load, pixel_tolerance
from icm_bench.error import CodecError
from icm_bench.image import Image
from icm_bench.machine import n_cores, one_thread, threads
from icm_bench.testing.check import checking, require
from icm_bench.testing.image import photograph

SIZES = ((1, 1), (1, 17), (17, 1), (3, 5), (63, 65), (641, 479))
"""Widths and heights that every codec must return exactly."""


class ThreadsWarning(UserWarning):
    """An encoder makes other bytes on several threads than on one."""


_KEBAB = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")
_LADDER_SIZE = (256, 192)
_DAMAGE_SIZE = (96, 64)
_FLIPS = 24


def check_codec(codec_class: type[Codec], quality: Quality | None = None, **options: Any) -> None:
    """Check that a codec keeps the contract of :class:`icm_bench.codec.Codec`.

    Args:
        codec_class: The codec.
        quality: The operating point for all checks but the ladder's; the ladder's middle where None.
        options: What the constructor is given beside the quality.

    Warns:
        ThreadsWarning: The encoder makes other bytes on several threads than on one.

    Raises:
        AssertionError: A check failed.
    """
    with checking(codec_class, "declaration"):
        require(_KEBAB.fullmatch(codec_class.name) is not None, f"name {codec_class.name!r}")
        ladder = ladder_of(codec_class, options)
        require(isinstance(ladder, tuple) and len(ladder) > 0, "qualities is not a tuple of qualities")
        require(len(set(ladder)) == len(ladder), "qualities repeat")
    chosen = ladder[len(ladder) // 2] if quality is None else quality

    def make() -> Codec:
        return codec_class(chosen, **options)

    for name, check in _CODEC_CHECKS.items():
        with checking(codec_class, name):
            check(make)
    with checking(codec_class, "ladder order"):
        _check_ladder([codec_class(point, **options) for point in ladder])
    with checking(codec_class, "another process on several threads"):
        _check_threads(codec_class, chosen, options)


def _check_version(make: Callable[[], Codec]) -> None:
    first, second = make().version(), make().version()
    require(isinstance(first, str) and first.strip() != "", f"version is {first!r}")
    require(first == second, f"two instances say {first!r} and {second!r}")
    require("\n" not in first, "version has more than one line")


def _check_sizes(make: Callable[[], Codec]) -> None:
    codec = make()
    for width, height in SIZES:
        _round_trip(codec, photograph(width, height, seed=width), f"{width}x{height}")


def _check_contents(make: Callable[[], Codec]) -> None:
    codec = make()
    ramp = np.add.outer(np.arange(40), np.arange(56)).astype(np.uint8)
    contents = {
        "grey": np.stack([2 * ramp] * 3, axis=-1),
        "black": np.zeros((40, 56, 3), np.uint8),
        "white": np.full((40, 56, 3), 255, np.uint8),
        "one colour": np.full((40, 56, 3), (250, 3, 90), np.uint8),
        "noise": np.random.default_rng(1).integers(0, 256, (40, 56, 3), np.uint8),
    }
    for name, image in contents.items():
        _round_trip(codec, image, name)


def _check_resemblance(make: Callable[[], Codec]) -> None:
    # A swapped channel order, a transposition and a mirror image all have the right shape.
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32] += np.array([180, 30, 60], np.uint8)
    image[:, 48:] += np.array([20, 120, 40], np.uint8)
    codec = make()
    seen = codec.decode(codec.encode(image)).astype(np.float64)
    distances = {
        "the image": _distance(image, seen),
        "the image with red and blue swapped": _distance(image[..., ::-1], seen),
        "the image upside down": _distance(image[::-1], seen),
        "the image mirrored": _distance(image[:, ::-1], seen),
        "a flat image": _distance(np.broadcast_to(image.mean(axis=(0, 1)), image.shape), seen),
    }
    nearest = min(distances, key=lambda name: distances[name])
    require(nearest == "the image", f"what is decoded looks most like {nearest}")


def _check_determinism(make: Callable[[], Codec]) -> None:
    codec, other = make(), make()
    first, second = photograph(61, 47, seed=1), photograph(40, 64, seed=2)
    data = codec.encode(first)
    codec.decode(codec.encode(second))
    require(codec.encode(first) == data, "the same instance gives other bytes the second time")
    require(other.encode(first) == data, "a second instance gives other bytes")
    pixels = codec.decode(data)
    require(
        np.array_equal(make().decode(data), pixels), "an instance that did not encode decodes other pixels"
    )
    require(
        np.array_equal(codec.decode(data), pixels), "the same bytes decode to other pixels the second time"
    )


def _check_header_bytes(make: Callable[[], Codec]) -> None:
    codec = make()
    if isinstance(codec, ReportsHeaderBytes):
        data = codec.encode(photograph(63, 65))
        n_bytes = codec.header_bytes(data)
        require(0 <= n_bytes <= len(data), f"{n_bytes} header bytes in a bitstream of {len(data)}")


def _check_missing(make: Callable[[], Codec]) -> None:
    codec = make()
    data = codec.encode(photograph(*_DAMAGE_SIZE))
    n = len(data)
    for length in sorted({0, 1, 2, 3, n // 8, n // 4, n // 2, 3 * n // 4, n - 8, n - 2, n - 1}):
        if 0 <= length < n:
            _require_refusal(codec, data[:length], f"the first {length} of {n} bytes")


def _check_foreign(make: Callable[[], Codec]) -> None:
    codec = make()
    rng = np.random.default_rng(3)
    foreign = {
        "zeros": bytes(500),
        "ones": b"\xff" * 500,
        "text": b"This is not an image.\n" * 20,
        "random bytes": rng.bytes(2000),
        "the head of a TIFF file": b"II*\x00\x08\x00\x00\x00\x01\x00" + rng.bytes(300),
    }
    for name, data in foreign.items():
        _require_refusal(codec, data, name)


def _check_flips(make: Callable[[], Codec]) -> None:
    # Few formats protect the size that they signal, so a flip anywhere must not crash,
    # and one in the last quarter, which is payload, must not change the size either.
    codec = make()
    image = photograph(*_DAMAGE_SIZE)
    data = codec.encode(image)
    for position in np.linspace(0, 8 * len(data) - 1, _FLIPS).astype(int).tolist():
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << (position % 8)
        what = f"bit {position} of {8 * len(data)} flipped"
        try:
            decoded = codec.decode(bytes(damaged))
        except CodecError as error:
            _require_one_line(error, what)
            continue
        shape = image.shape if position > 6 * len(data) else decoded.shape
        _require_image(decoded, shape, what)


_CODEC_CHECKS: Mapping[str, Callable[[Callable[[], Codec]], None]] = MappingProxyType(
    {
        "version": _check_version,
        "sizes": _check_sizes,
        "contents": _check_contents,
        "resemblance": _check_resemblance,
        "determinism": _check_determinism,
        "header bytes": _check_header_bytes,
        "truncated data": _check_missing,
        "foreign data": _check_foreign,
        "flipped bits": _check_flips,
    }
)


def _check_threads(codec_class: type[Codec], quality: Quality, options: Mapping[str, Any]) -> None:
    """Code on one thread, as runs do, and on several in a process that has seen no image yet; say what differs."""
    n_threads = max(2, n_cores())
    image = photograph(*_LADDER_SIZE)
    with one_thread():
        codec = codec_class(quality, **options)
        data = codec.encode(image)
        pixels = codec.decode(data)
    with threads(n_threads), ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        other_data, other_pixels = pool.submit(
            _code_anew, codec_class, quality, options, image, data, n_threads
        ).result()
    where = f"another process on {n_threads} threads"
    apart = np.abs(pixels.astype(int) - other_pixels)
    tolerance = pixel_tolerance(codec)
    require(
        apart.max() <= tolerance,
        f"{where} decodes other pixels than one thread: {np.count_nonzero(apart)} of {apart.size} values differ, by up "
        f"to {apart.max()} levels, and the codec declares pixel_tolerance {tolerance}",
    )
    if data != other_data:
        same = zip(data, other_data, strict=False)
        first = next((place for place, (a, b) in enumerate(same) if a != b), min(len(data), len(other_data)))
        warnings.warn(
            f"{codec_class.__name__}: {where} encodes other bytes than one thread: {len(other_data)} bytes for "
            f"{len(data)}, from byte {first} on; runs code on one thread",
            ThreadsWarning,
            stacklevel=3,
        )


def _code_anew(
    codec_class: type[Codec],
    quality: Quality,
    options: Mapping[str, Any],
    image: Image,
    data: bytes,
    n_threads: int,
) -> tuple[bytes, Image]:
    codec = codec_class(quality, **options)
    load(codec)
    with threads(n_threads):
        return codec.encode(image), codec.decode(data)


def _check_ladder(codecs: Sequence[Codec]) -> None:
    image = photograph(*_LADDER_SIZE)
    rates = [len(codec.encode(image)) for codec in codecs]
    rising = all(lower < higher for lower, higher in pairwise(rates))
    require(rising, f"bytes along the ladder do not rise: {rates}")


def _round_trip(codec: Codec, image: Image, what: str) -> None:
    given = image.copy()
    data = codec.encode(given)
    require(isinstance(data, bytes), f"{what}: encode returns {type(data).__name__}, not bytes")
    require(len(data) > 0, f"{what}: the bitstream is empty")
    require(np.array_equal(given, image), f"{what}: encode changes its input")
    _require_image(codec.decode(data), image.shape, what)


def _distance(image: Image, seen: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(np.mean((image.astype(np.float64) - seen) ** 2))


def _require_image(image: Image, shape: Sequence[int], what: str) -> None:
    require(isinstance(image, np.ndarray), f"{what}: decode returns {type(image).__name__}, not an array")
    require(image.dtype == np.uint8, f"{what}: decode returns {image.dtype}, not uint8")
    require(image.ndim == 3 and image.shape[2] == 3, f"{what}: decode returns shape {image.shape}")
    require(image.shape == tuple(shape), f"{what}: decode returns {image.shape}, not {tuple(shape)}")
    require(image.flags.c_contiguous, f"{what}: the decoded array is not contiguous")


def _require_refusal(codec: Codec, data: bytes, what: str) -> None:
    try:
        codec.decode(data)
    except CodecError as error:
        _require_one_line(error, what)
    else:
        raise AssertionError(f"{what}: decoded without a CodecError")


def _require_one_line(error: CodecError, what: str) -> None:
    require(
        str(error).strip() != "" and "\n" not in str(error), f"{what}: the error is not one line: {error}"
    )
