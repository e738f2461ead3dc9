"""The bitstream's frame: which model, which quality, which size, and whether the bytes are whole.

::

    1 byte   0xA0 + quality index (0 to 15)
    2 bytes  the beginning of the weights' SHA-256
    1 to 3   width, least significant seven bits first, the eighth bit set on all bytes but the last
    1 to 3   height, likewise
    n bytes  the entropy coder's stream, with zeros behind it where it is shorter than :func:`least_payload`
    3 bytes  the low 24 bits of the CRC-32 of all the above
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

from icm_bench.error import CodecError
from icm_bench.limit import max_pixels

MAX_SIDE = 2**16 - 1
"""Longest side of an image in pixels."""

MAX_PIXELS = 2**26
"""Most pixels of an image, where the user names no other limit."""

MOST_PIXELS_A_BYTE = 2**14
"""Most pixels for each byte of the entropy coder's stream: a tenth of the lowest rate that an image of anything takes.

So what a decoder allocates is bounded by the bytes that it was given, and not by the size that they claim.
"""

_FORMAT = 0xA0
_CHECK_BYTES = 3
_HINT = "give the bytes that encode returned, whole"


class Packed(ABC):
    """A bitstream, taken apart."""

    payload: bytes

    @abstractmethod
    def pack(self) -> bytes:
        """Return the bitstream."""

    @property
    def header_bytes(self) -> int:
        """How many bytes of the bitstream are not payload."""
        return len(self.pack()) - len(self.payload)


@dataclass(frozen=True)
class Frame(Packed):
    """One image's bitstream, taken apart.

    Attributes:
        model: Two bytes that name the weights.
        quality: Index of the rate point, 0 to 15.
        width: Pixels.
        height: Pixels.
        payload: The entropy coder's stream.
    """

    model: bytes
    quality: int
    width: int
    height: int
    payload: bytes

    def pack(self) -> bytes:
        """Return the bitstream."""
        return framed(bytes([_FORMAT + self.quality]) + self.model, self.width, self.height, self.payload)


def unpack(data: bytes) -> Frame:
    """Take a bitstream apart.

    Raises:
        CodecError: The bytes are empty, truncated, damaged or of another format. Nothing has been allocated by then.
    """
    head, width, height, payload = unframed(data, _FORMAT, 3)
    return Frame(head[1:], head[0] & 0x0F, width, height, payload)


def framed(head: bytes, width: int, height: int, payload: bytes) -> bytes:
    """Return the bitstream of an image: a head, the size, the entropy coder's stream, and the check."""
    return seal(head + varint(width) + varint(height) + filled(payload, width, height))


def unframed(data: bytes, format_bits: int, head_bytes: int) -> tuple[bytes, int, int, bytes]:
    """Return head, width, height and entropy coder's stream of what :func:`framed` returned.

    Raises:
        CodecError: The bytes are empty, truncated, damaged or of another format. Nothing has been allocated by then.
    """
    body = unseal(data, format_bits, least_bytes=head_bytes + 2)
    width, position = read_varint(body, head_bytes)
    height, position = read_varint(body, position)
    return body[:head_bytes], width, height, checked_payload(body[position:], width, height)


def least_payload(width: int, height: int) -> int:
    """Return how many bytes the entropy coder's stream of an image has at least."""
    return -(-width * height // MOST_PIXELS_A_BYTE)


def filled(payload: bytes, width: int, height: int) -> bytes:
    """Return an entropy coder's stream with zeros behind it where it is too short for the size; decoders skip them."""
    return payload.ljust(least_payload(width, height), b"\0")


def checked_payload(payload: bytes, width: int, height: int) -> bytes:
    """Return an entropy coder's stream that may be of an image of this size.

    Raises:
        CodecError: The size is not coded, or the bytes are too few for it. Nothing has been allocated by then.
    """
    check_size(width, height)
    if len(payload) < least_payload(width, height):
        raise CodecError(
            f"{len(payload)} bytes are too few for an image of {width}x{height} pixels", hint=_HINT
        )
    return payload


def seal(body: bytes) -> bytes:
    """Return a bitstream's fields with their check appended."""
    return body + _check(body)


def unseal(data: bytes, format_bits: int, *, least_bytes: int) -> bytes:
    """Return a bitstream's fields without their check.

    Args:
        data: The bitstream.
        format_bits: What the upper four bits of the first byte must be.
        least_bytes: How many bytes the fields take at least.

    Raises:
        CodecError: The bytes are empty, truncated, damaged or of another format.
    """
    if not data:
        raise CodecError("the bitstream is empty", hint=_HINT)
    if data[0] & 0xF0 != format_bits:
        raise CodecError("the bitstream is of another format", hint=_HINT)
    body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    if len(body) < least_bytes or check != _check(body):
        raise CodecError("the bitstream is truncated or damaged", hint=_HINT)
    return body


def check_size(width: int, height: int) -> None:
    """Raise ``CodecError`` where an image of this size is not coded."""
    most = max_pixels(MAX_PIXELS)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= most):
        raise CodecError(
            f"an image of {width}x{height} pixels is not coded",
            hint=f"use sides of 1 to {MAX_SIDE} and at most {most} pixels, or give --max-pixels",
        )


def _check(body: bytes) -> bytes:
    return (zlib.crc32(body) & 0xFFFFFF).to_bytes(_CHECK_BYTES, "big")


def varint(value: int) -> bytes:
    """Return a whole number's bytes: seven bits a byte, least significant first, the eighth set on all but the last."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the number of up to three bytes that stands at a position, and the position after it.

    Raises:
        CodecError: The number does not end.
    """
    value = 0
    for place in range(3):
        if position + place >= len(data):
            break
        byte = data[position + place]
        value |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return value, position + place + 1
    raise CodecError("the bitstream's size field is malformed", hint=_HINT)
