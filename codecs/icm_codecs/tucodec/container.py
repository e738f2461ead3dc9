"""The bitstream's frame: which model, which position, which size, and whether the bytes are whole.

::

    2 bytes  0x7000 + position (0 to 4095), most significant byte first
    2 bytes  the beginning of the weights' SHA-256
    1 to 3   width, least significant seven bits first, the eighth bit set on all bytes but the last
    1 to 3   height, likewise
    n bytes  the entropy coder's stream, with zeros behind it as in :mod:`icm_codecs.bitstream.container`
    3 bytes  the low 24 bits of the CRC-32 of all the above
"""

from __future__ import annotations

from dataclasses import dataclass

from icm_codecs.bitstream.container import checked_payload, filled, read_varint, seal, unseal, varint

_FORMAT = 0x70


@dataclass(frozen=True)
class RateFrame:
    """One image's bitstream, taken apart.

    Attributes:
        model: Two bytes that name the weights.
        position: Where between the model's rate points, 0 to 4095.
        width: Pixels.
        height: Pixels.
        payload: The entropy coder's stream.
    """

    model: bytes
    position: int
    width: int
    height: int
    payload: bytes

    def pack(self) -> bytes:
        """Return the bitstream."""
        head = ((_FORMAT << 8) + self.position).to_bytes(2, "big") + self.model
        payload = filled(self.payload, self.width, self.height)
        return seal(head + varint(self.width) + varint(self.height) + payload)

    @property
    def header_bytes(self) -> int:
        """How many bytes of the bitstream are not payload."""
        return len(self.pack()) - len(self.payload)


def unpack(data: bytes) -> RateFrame:
    """Take a bitstream apart.

    Raises:
        CodecError: The bytes are empty, truncated, damaged or of another format. Nothing has been allocated by then.
    """
    body = unseal(data, _FORMAT, least_bytes=6)
    width, at = read_varint(body, 4)
    height, at = read_varint(body, at)
    payload = checked_payload(body[at:], width, height)
    return RateFrame(body[2:4], int.from_bytes(body[:2], "big") & 0xFFF, width, height, payload)
