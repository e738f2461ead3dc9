"""JPEG 2000 (Part 1), by OpenJPEG."""

from __future__ import annotations

from typing import ClassVar

from icm_baselines import pillow
from icm_baselines.option import real
from icm_bench.codec import Quality
from icm_bench.error import CodecError
from icm_bench.image import Image

_START = b"\xff\x4f\xff\x51"  # SOC, SIZ
_END = b"\xff\xd9"
_START_OF_TILE_PART = b"\xff\x90"
_BITS = 24.0


class Jpeg2000:
    """JPEG 2000 at a given rate: irreversible 9/7 wavelet, multiple component transform, one layer, one tile.

    The bitstream is the raw codestream, without the boxes of the JP2 file format. Chroma is at full size.

    Args:
        quality: Bits per pixel that OpenJPEG aims at, header included; a picture whose header alone is larger
            takes more.
        device: Ignored.
    """

    name: ClassVar[str] = "jpeg2000"
    qualities: ClassVar[tuple[Quality, ...]] = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0)

    def __init__(self, quality: Quality, *, device: str = "cpu") -> None:
        del device
        rate_bpp = real(quality, 0.001, _BITS, where="jpeg2000 rate")
        self._options = {
            "quality_mode": "rates",
            "quality_layers": [_BITS / rate_bpp],
            "irreversible": True,
            "mct": 1,
            "no_jp2": True,
            "comment": " ",  # OpenJPEG else spends 32 bytes on its own name
        }

    def encode(self, image: Image) -> bytes:
        """Return the codestream of an image."""
        return pillow.encode(image, "JPEG2000", self._options)

    def decode(self, data: bytes) -> Image:
        """Return the image of a codestream."""
        if data:
            _tile_part_bytes(data)
        return pillow.decode(data, "JPEG2000")

    def version(self) -> str:
        """Name OpenJPEG and Pillow."""
        return pillow.version("jpg_2000")

    def header_bytes(self, data: bytes) -> int:
        """Return the bytes of the main header, the tile-part's header and the end marker."""
        return len(data) - _tile_part_bytes(data)


def _tile_part_bytes(data: bytes) -> int:
    """Return the bytes of the one tile-part's packets, and so refuse what OpenJPEG would decode in part."""
    refusal = CodecError("the bitstream is truncated or of another format", where="JPEG 2000")
    if not (data.startswith(_START) and data.endswith(_END)):
        raise refusal
    position = 2
    while position + 12 <= len(data) and data[position : position + 2] != _START_OF_TILE_PART:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    tile_part = int.from_bytes(data[position + 6 : position + 10], "big")
    packets = data.find(b"\xff\x93", position) + 2
    if position + tile_part + len(_END) != len(data) or not position < packets <= position + tile_part:
        raise refusal
    return position + tile_part - packets
