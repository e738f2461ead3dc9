"""Two bytes before a video stream: what to crop from its picture, and a check.

Video standards code even sizes (under 4:2:0) above a minimum; a picture of 641x479 or 1x1 is padded, and
its true size must travel with it. Nor do their streams notice every kind of damage: the last byte may be
missing unseen.

The first byte holds the columns (high four bits) and rows (low four bits) to crop, 0 to 15. The second is
the sum of the stream's bytes modulo 256, which no single flipped bit and no loss of a last byte other than
zero leaves unchanged. Both are counted in the rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icm_bench.error import CodecError
from icm_bench.image import Image

N_BYTES = 2
"""Length of the envelope in bytes."""

_LARGEST_CROP = 15


@dataclass(frozen=True)
class Envelope:
    """A stream, and how much of its picture is padding.

    Attributes:
        stream: The coded picture.
        crop_columns: Columns on the right to drop, 0 to 15.
        crop_rows: Rows at the bottom to drop, 0 to 15.
    """

    stream: bytes
    crop_columns: int
    crop_rows: int

    def pack(self) -> bytes:
        """Return the envelope and the stream as one.

        Raises:
            CodecError: The crop does not fit four bits.
        """
        if not (0 <= self.crop_columns <= _LARGEST_CROP and 0 <= self.crop_rows <= _LARGEST_CROP):
            raise CodecError(f"cannot signal a crop of {self.crop_columns}x{self.crop_rows}")
        return bytes((self.crop_columns << 4 | self.crop_rows, _check(self.stream))) + self.stream

    def crop(self, picture: Image) -> Image:
        """Return the picture without its padding.

        Raises:
            CodecError: Nothing would be left.
        """
        height, width = picture.shape[0] - self.crop_rows, picture.shape[1] - self.crop_columns
        if height < 1 or width < 1:
            raise CodecError("the bitstream is damaged: it crops more than its picture has")
        return np.ascontiguousarray(picture[:height, :width])


def unpack(data: bytes) -> Envelope:
    """Return what was packed.

    Raises:
        CodecError: The bytes are truncated, damaged, empty or foreign.
    """
    stream = data[N_BYTES:]
    if not stream:
        raise CodecError("the bitstream is empty" if not data else "the bitstream is truncated")
    if data[1] != _check(stream):
        raise CodecError("the bitstream is truncated, damaged or foreign: its check byte does not fit")
    return Envelope(stream, data[0] >> 4, data[0] & _LARGEST_CROP)


def _check(stream: bytes) -> int:
    return sum(stream) & 0xFF
