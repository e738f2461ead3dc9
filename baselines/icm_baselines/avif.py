"""AVIF: AV1 still pictures, by libaom or SVT-AV1."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from icm_baselines import envelope, ffmpeg, obu
from icm_baselines.option import check_sides, short_label, whole
from icm_baselines.still import Still
from icm_bench.codec import Quality
from icm_bench.color import PlaneFormat
from icm_bench.error import UsageError
from icm_bench.image import Image

Encoder: TypeAlias = Literal["aom", "svt"]

_STILL = Still(
    PlaneFormat(chroma="420", bit_depth=10, matrix="bt709", range="limited"),
    "obu",
    smallest=2,
    decoder=("-c:v", "libdav1d"),
)
_LARGEST_SPEED = 8
# Past it, SVT-AV1 takes a width by its lower 16 bits; of 65,536 rows libaom's stream cannot be read.
_LARGEST: Mapping[Encoder, tuple[int, int]] = MappingProxyType(
    {"aom": (65_535, 65_535), "svt": (16_384, 8_704)}
)


class Avif:
    """AV1 still pictures at a constant quantiser: libaom or SVT-AV1, decoded by dav1d.

    Pictures are coded as 4:2:0, 10 bit, BT.709, limited range, tuned for PSNR. The bitstream is the AV1
    low-overhead stream (temporal delimiter, sequence header of a still picture, one frame) after the two
    bytes of :mod:`icm_baselines.envelope`; the boxes of the AVIF file format, some 270 bytes, are left out
    as those of JPEG 2000 are. Pillow's own AVIF writer is not used: its conversion leaves
    the red, green and blue of photographs -0.5, +0.5 and -0.6 levels off on average at any quality.

    Args:
        quality: Quantiser (CRF), 1 to 63; fewer bits the higher.
        device: Ignored; both encoders run on the CPU, on one thread.
        encoder: libaom in its all-intra mode, or SVT-AV1 in its still-picture mode.
        speed: The encoder's own speed, 0 to 8; slower the lower.
    """

    name: ClassVar[str] = "avif"
    qualities: ClassVar[tuple[Quality, ...]] = (63, 58, 52, 46, 39, 31, 22)
    always_named: ClassVar[tuple[str, ...]] = ("encoder",)

    def __init__(
        self, quality: Quality, *, device: str = "cpu", encoder: Encoder = "aom", speed: int = 4
    ) -> None:
        del device
        self._crf = str(whole(quality, 1, 63, where="avif quantiser"))
        if not 0 <= speed <= _LARGEST_SPEED:
            raise UsageError(f"{speed} is not a speed from 0 to {_LARGEST_SPEED}", where="avif:speed")
        self._encoder = encoder
        self._speed = str(speed)

    @classmethod
    def label(cls, options: Mapping[str, str]) -> str:
        """Return the name with the encoder and what else the options say: ``AVIF aom``."""
        return short_label("AVIF", options, named="encoder")

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of an image.

        Raises:
            CodecError: A side is longer than the encoder codes.
        """
        check_sides(image, *_LARGEST[self._encoder], where=f"AVIF by {self._encoder}")
        arguments = self._aom() if self._encoder == "aom" else self._svt()
        return _STILL.encode(image, (*arguments, "-threads", "1"))

    def decode(self, data: bytes) -> Image:
        """Return the image of a bitstream."""
        return _STILL.decode(data)

    def version(self) -> str:
        """Name the layout of the bitstream, the encoder and the ffmpeg that carries it and dav1d."""
        if self._encoder == "aom":
            encoder = ffmpeg.version("libaom-av1", r"libaom-av1 @ \S+\] (v\S+)")
        else:
            encoder = ffmpeg.version("libsvtav1", r"SVT-AV1 Encoder Lib (\S+)")
        return f"envelope 1, {encoder}"

    def header_bytes(self, data: bytes) -> int:
        """Return the bytes of envelope, temporal delimiter, sequence header and unit headers."""
        return len(data) - obu.payload_bytes(data[envelope.N_BYTES :])

    def _aom(self) -> tuple[str, ...]:
        mode = ("-c:v", "libaom-av1", "-usage", "allintra", "-still-picture", "1", "-cpu-used", self._speed)
        objective = ("-tune", "psnr", "-aq-mode", "0", "-aom-params", "deltaq-mode=0:enable-chroma-deltaq=0")
        return (*mode, "-crf", self._crf, "-b:v", "0", *objective, "-row-mt", "0")

    def _svt(self) -> tuple[str, ...]:
        mode = ("-c:v", "libsvtav1", "-preset", self._speed, "-crf", self._crf)
        return (*mode, "-svtav1-params", "avif=1:lp=1:tune=1:aq-mode=0")
