"""NAL units of an Annex B byte stream (clause B.2 of H.265 and H.266)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from icm_bench.error import CodecError

# From the first zero of a run only, so that a long run without an end is read once.
_START_CODE = re.compile(rb"(?<!\x00)\x00*\x00\x00\x01")
_LONGEST_GOLOMB = 32
"""The most zeros that an Exp-Golomb code begins with."""


def units(stream: bytes) -> Iterator[bytes]:
    """Yield the NAL units of a byte stream, headers included; bytes before the first start code belong to none."""
    starts = list(_START_CODE.finditer(stream))
    ends = [start.start() for start in starts[1:]] + [len(stream)]
    for start, end in zip(starts, ends, strict=False):
        yield stream[start.end() : end]


def overhead_bytes(stream: bytes, is_slice: Callable[[bytes], bool]) -> int:
    """Return how many bytes of a stream are no coded slices: parameter sets, messages, all start codes."""
    return len(stream) - sum(len(unit) for unit in units(stream) if is_slice(unit))


class Bits:
    """The bits of a NAL unit without its header, emulation prevention bytes taken out, read from the front."""

    def __init__(self, payload: bytes) -> None:
        raw = payload.replace(b"\x00\x00\x03", b"\x00\x00")
        self._digits = "".join(f"{byte:08b}" for byte in raw)
        self._position = 0

    def read(self, n: int) -> int:
        """Return the next n bits as an unsigned number.

        Raises:
            CodecError: Fewer are left.
        """
        digits = self._digits[self._position : self._position + n]
        if len(digits) < n:
            raise CodecError("the bitstream is truncated or damaged: a NAL unit ends early")
        self._position += n
        return int(digits or "0", 2)

    def read_golomb(self) -> int:
        """Return the next ue(v), an unsigned Exp-Golomb code (9.2).

        Raises:
            CodecError: Fewer bits are left than it needs, or it is longer than any.
        """
        zeros = 0
        while self.read(1) == 0:
            zeros += 1
            if zeros > _LONGEST_GOLOMB:
                raise CodecError("the bitstream is damaged: a number in a NAL unit is too long")
        return (1 << zeros) - 1 + self.read(zeros)
