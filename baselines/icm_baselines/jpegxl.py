"""JPEG XL (lossy), by libjxl."""

from __future__ import annotations

from typing import ClassVar

from icm_baselines import ffmpeg
from icm_baselines.option import real
from icm_bench.codec import Quality
from icm_bench.error import CodecError, UsageError
from icm_bench.image import Image, check_image

_START = b"\xff\x0a"
_LARGEST_EFFORT = 9


class JpegXl:
    """Lossy JPEG XL (VarDCT, XYB) at a given distance, by libjxl both ways.

    The bitstream is the raw codestream of an sRGB image, without boxes.

    Args:
        quality: Butteraugli distance, 0.01 to 15, as far as ffmpeg's encoder goes; fewer bits the higher.
        device: Ignored; libjxl runs on the CPU, on one thread.
        effort: libjxl's effort, 1 to 9.
    """

    name: ClassVar[str] = "jpegxl"
    qualities: ClassVar[tuple[Quality, ...]] = (15, 11, 8, 5.5, 3.5, 2, 1)

    def __init__(self, quality: Quality, *, device: str = "cpu", effort: int = 7) -> None:
        del device
        self._distance = real(quality, 0.01, 15.0, where="jpegxl distance")
        if not 1 <= effort <= _LARGEST_EFFORT:
            raise UsageError(f"{effort} is not an effort from 1 to {_LARGEST_EFFORT}", where="jpegxl:effort")
        self._effort = str(effort)

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of an image."""
        check_image(image, where="JPEG XL")
        height, width = image.shape[:2]
        encoder = ("-c:v", "libjxl", "-distance", f"{self._distance:g}", "-effort", self._effort, "-xyb", "1")
        colours = ("-color_trc", "iec61966-2-1", "-color_primaries", "bt709")
        arguments = (*encoder, *colours, "-threads", "1")
        return ffmpeg.encode(image.tobytes(), "rgb24", width, height, arguments, "image2pipe")

    def decode(self, data: bytes) -> Image:
        """Return the image of a bitstream."""
        if not data.startswith(_START):
            raise CodecError("the bitstream is empty, truncated or of another format", where="JPEG XL")
        return ffmpeg.decode_rgb(data, "jpegxl_pipe", decoder=("-c:v", "libjxl"))

    def version(self) -> str:
        """Name the ffmpeg that carries libjxl."""
        return ffmpeg.version("libjxl")
