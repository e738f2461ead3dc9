"""The bitstream: progressive, each iteration a segment that is whole or not.

::

    1 byte   0xB0 (raw) or 0xC0 (adaptive) + number of iterations - 1
    2 bytes  the beginning of the weights' SHA-256
    1 to 3   width, least significant seven bits first, the eighth bit set on all bytes but the last
    1 to 3   height, likewise
    then for each iteration
      1 to 3   adaptive only: length of the segment, likewise
      n bytes  the segment: raw, four bytes a block of 16 x 16 pixels; adaptive, no longer than that
      2 bytes  the low 16 bits of the CRC-32 of the codec's name and of all the above from the first byte on, that
               one without the number of iterations

No check but the first byte knows how many iterations there are. So the first k segments behind a head that says k
are exactly what encoding with k iterations gives, while a stream that was cut by accident says more than it holds.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from icm_bench.error import CodecError
from icm_codecs.bitstream.container import check_size, read_varint, varint
from icm_codecs.pixel import n_blocks
from icm_codecs.rnn_gdn.network import BITS, STRIDE

Coding = Literal["raw", "adaptive"]
"""How bits are sent: as they are, which is the paper's, or entropy coded without loss, which is ours."""

_FORMATS: tuple[tuple[int, Coding], ...] = ((0xB0, "raw"), (0xC0, "adaptive"))
_CHECK_BYTES = 2
_MODEL_BYTES = 2
_SALT = zlib.crc32(b"rnn-gdn")
_MOST_BITS_A_BYTE = 800
_HINT = "give the bytes that encode returned, whole"


@dataclass(frozen=True)
class ProgressiveFrame:
    """One image's bitstream, taken apart.

    Attributes:
        coding: How the segments are coded.
        model: Two bytes that name the weights.
        width: Pixels.
        height: Pixels.
        segments: One an iteration, 1 to 16.
    """

    coding: Coding
    model: bytes
    width: int
    height: int
    segments: tuple[bytes, ...]

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return n_blocks(self.height, STRIDE), n_blocks(self.width, STRIDE)

    def pack(self) -> bytes:
        """Return the bitstream."""
        first = next(first for first, coding in _FORMATS if coding == self.coding)
        stream = bytes([first]) + self.model + varint(self.width) + varint(self.height)
        for segment in self.segments:
            stream += (varint(len(segment)) if self.coding == "adaptive" else b"") + segment
            stream += _check(stream)
        return bytes([first + len(self.segments) - 1]) + stream[1:]

    @property
    def header_bytes(self) -> int:
        """How many bytes of the bitstream are not segments."""
        return len(self.pack()) - sum(map(len, self.segments))


def unpack(data: bytes) -> ProgressiveFrame:
    """Take a bitstream apart.

    Raises:
        CodecError: The bytes are empty, truncated, damaged or of another format. Nothing has been allocated by then.
    """
    if not data:
        raise CodecError("the bitstream is empty", hint=_HINT)
    first, iterations = data[0] & 0xF0, (data[0] & 0x0F) + 1
    coding = dict(_FORMATS).get(first)
    if coding is None:
        raise CodecError("the bitstream is of another format", hint=_HINT)
    position = 1 + _MODEL_BYTES
    width, position = read_varint(data, position)
    height, position = read_varint(data, position)
    check_size(width, height)
    empty = ProgressiveFrame(coding, data[1 : 1 + _MODEL_BYTES], width, height, ())
    body = bytes([first]) + data[1:]
    spans = list(_segments(body, position, iterations, empty))
    if len(spans) < iterations or spans[-1][1] + _CHECK_BYTES != len(data):
        raise CodecError("the bitstream is truncated or damaged", hint=_HINT)
    return replace(empty, segments=tuple(body[start:end] for start, end in spans))


def raw_bytes(rows: int, columns: int) -> int:
    """Return the length of a raw segment of so many blocks."""
    return rows * columns * BITS // 8


def _segments(
    body: bytes, position: int, iterations: int, frame: ProgressiveFrame
) -> Iterator[tuple[int, int]]:
    """Yield where segments start and end, up to the first that is not whole."""
    most = raw_bytes(*frame.blocks)
    for _ in range(iterations):
        length = most
        if frame.coding == "adaptive":
            try:
                length, position = read_varint(body, position)
            except CodecError:
                return
        end = position + length
        # No model is surer of a bit than that, so less cannot be what it claims: refused before it is allocated.
        possible = most * 8 // _MOST_BITS_A_BYTE <= length <= most
        if not possible or body[end : end + _CHECK_BYTES] != _check(body[:end]):
            return
        yield position, end
        position = end + _CHECK_BYTES


def _check(stream: bytes) -> bytes:
    return (zlib.crc32(stream, _SALT) & 0xFFFF).to_bytes(_CHECK_BYTES, "big")
