"""Open bitstream units of AV1 in the low-overhead format (section 5 of the AV1 specification)."""

from __future__ import annotations

_TILE_GROUP, _FRAME = 4, 6
_EXTENSION_FLAG, _SIZE_FLAG = 0x04, 0x02


def payload_bytes(stream: bytes) -> int:
    """Return how many bytes stand in the payloads of frame and tile group units.

    The frame header within a frame unit is not byte-aligned to be told apart; it counts as payload.
    """
    position, total = 0, 0
    while position < len(stream):
        header = stream[position]
        position += 2 if header & _EXTENSION_FLAG else 1
        size, position = _leb128(stream, position) if header & _SIZE_FLAG else (len(stream), position)
        size = max(0, min(size, len(stream) - position))
        if header >> 3 & 0x0F in (_TILE_GROUP, _FRAME):
            total += size
        position += size
    return total


def _leb128(stream: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(stream[position : position + 8]):
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value, position + index + 1
    return value, len(stream)
