"""PNG: no loss, the ceiling of rate and of accuracy."""

from __future__ import annotations

from typing import ClassVar

from icm_baselines import pillow
from icm_baselines.option import whole
from icm_bench.codec import Quality
from icm_bench.error import CodecError
from icm_bench.image import Image

_END = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"


class Png:
    """PNG by Pillow and zlib, at zlib's strongest compression.

    Args:
        quality: 0, the only one.
        device: Ignored.
    """

    name: ClassVar[str] = "png"
    qualities: ClassVar[tuple[Quality, ...]] = (0,)

    def __init__(self, quality: Quality, *, device: str = "cpu") -> None:
        del device
        whole(quality, 0, 0, where="png quality")

    def encode(self, image: Image) -> bytes:
        """Return the file of an image."""
        return pillow.encode(image, "PNG", {"optimize": True})

    def decode(self, data: bytes) -> Image:
        """Return the image of a file."""
        # Pillow is content with pixels and does not miss the end of the file.
        if data and not data.endswith(_END):
            raise CodecError("the bitstream is truncated or of another format", where="PNG")
        return pillow.decode(data, "PNG")

    def version(self) -> str:
        """Name zlib and Pillow."""
        return pillow.version("zlib")
