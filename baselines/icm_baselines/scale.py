"""Coding at a smaller size, as the MPEG VCM anchors do, with the true size in the stream.

A side of n pixels is coded at ``2 * ceil(n * percent / 200)`` pixels (the anchors' ``ceil(iw * 3 / 8) * 2``
at 75 %). Both ways the samples are resampled by a Lanczos filter with three lobes, widened on the way down,
in Pillow's 8-bit fixed-point arithmetic, which is the same on every machine.

Up to eight lengths share one coded length. A first byte tells for columns (high four bits) and rows (low
four bits) how far below the largest of them the true length is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image as PillowImage

from icm_bench.error import CodecError
from icm_bench.image import Image

Percent: TypeAlias = Literal["100", "75", "50", "25"]


def encode(image: Image, percent: Percent, encode_small: Callable[[Image], bytes]) -> bytes:
    """Return the bitstream of an image that ``encode_small`` codes at a smaller size."""
    if percent == "100":
        return encode_small(image)
    height, width = image.shape[:2]
    rows, columns = _coded_side(height, percent), _coded_side(width, percent)
    shortfalls = _largest_side(columns, percent) - width, _largest_side(rows, percent) - height
    return bytes([shortfalls[0] << 4 | shortfalls[1]]) + encode_small(_resampled(image, columns, rows))


def decode(data: bytes, percent: Percent, decode_small: Callable[[bytes], Image]) -> Image:
    """Return the image of a bitstream at its true size.

    Raises:
        CodecError: The bytes are truncated, damaged, empty or foreign.
    """
    if percent == "100":
        return decode_small(data)
    if not data:
        raise CodecError("the bitstream is empty")
    picture = decode_small(data[1:])
    rows, columns = picture.shape[:2]
    width = _largest_side(columns, percent) - (data[0] >> 4)
    height = _largest_side(rows, percent) - (data[0] & 0x0F)
    if _coded_side(width, percent) != columns or _coded_side(height, percent) != rows:
        raise CodecError(f"the bitstream is damaged: {columns}x{rows} is not {percent} % of {width}x{height}")
    return _resampled(picture, width, height)


def head_bytes(percent: Percent) -> int:
    """Return how many bytes stand before the coded picture."""
    return 0 if percent == "100" else 1


def _coded_side(side: int, percent: Percent) -> int:
    return 2 * -(-side * int(percent) // 200)


def _largest_side(coded: int, percent: Percent) -> int:
    return coded * 100 // int(percent)


def _resampled(image: Image, width: int, height: int) -> Image:
    resized = PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.LANCZOS)
    return np.array(resized)
