"""NAL units of an Annex B byte stream (clause B.2 of H.265 and H.266)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_START_CODE = re.compile(rb"\x00*\x00\x00\x01")


@dataclass(frozen=True)
class Unit:
    """One NAL unit.

    Attributes:
        prefix_bytes: Length of its start code with leading zeros.
        content: The unit itself, header included.
    """

    prefix_bytes: int
    content: bytes


def units(stream: bytes) -> Iterator[Unit]:
    """Yield the NAL units of a byte stream; bytes before the first start code belong to none."""
    starts = list(_START_CODE.finditer(stream))
    ends = [start.start() for start in starts[1:]] + [len(stream)]
    for start, end in zip(starts, ends, strict=False):
        yield Unit(start.end() - start.start(), stream[start.end() : end])


def overhead_bytes(stream: bytes, is_slice: Callable[[bytes], bool]) -> int:
    """Return how many bytes of a stream are no coded slices: parameter sets, messages, all start codes."""
    return len(stream) - sum(len(unit.content) for unit in units(stream) if is_slice(unit.content))
