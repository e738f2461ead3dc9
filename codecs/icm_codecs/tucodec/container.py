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

from icm_codecs.bitstream.container import Packed, framed, unframed

_FORMAT = 0x70


@dataclass(frozen=True)
class RateFrame(Packed):
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
        return framed(head, self.width, self.height, self.payload)


def unpack(data: bytes) -> RateFrame:
    """Take a bitstream apart.

    Raises:
        CodecError: The bytes are empty, truncated, damaged or of another format. Nothing has been allocated by then.
    """
    head, width, height, payload = unframed(data, _FORMAT, 4)
    return RateFrame(head[2:], int.from_bytes(head[:2], "big") & 0xFFF, width, height, payload)
