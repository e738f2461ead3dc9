"""HEVC (H.265) intra pictures, by x265."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from icm_baselines import envelope, ffmpeg, nal
from icm_baselines.option import short_label, whole
from icm_baselines.still import Still
from icm_bench.codec import Quality
from icm_bench.color import Chroma, PlaneFormat
from icm_bench.error import CodecError
from icm_bench.image import Image, check_image

Preset: TypeAlias = Literal["ultrafast", "fast", "medium", "slow", "slower", "veryslow", "placebo"]

_LARGEST_SLICE_TYPE = 31  # nal_unit_type of VCL units, table 7-1 of H.265

_LONGEST_OF_SMALL_BLOCKS = 4216
"""The longest side up to level 4.1: from level 5 on, blocks have 32 rows and columns, which narrower images lack."""

# One intra picture at one QP, objective quality, and no message or delimiter.
_AS_TEXT = (
    "keyint=1:bframes=0:total-frames=1:ipratio=1:aq-mode=0:cutree=0:psy-rd=0:psy-rdoq=0:info=0:aud=0:hrd=0:"
    "repeat-headers=1:frame-threads=1:pools=none:wpp=0:log-level=error"
)
_SETTINGS: Mapping[str, str] = MappingProxyType(dict(pair.split("=") for pair in _AS_TEXT.split(":")))


class Hevc:
    """HEVC intra at a fixed QP: x265, decoded by ffmpeg's own decoder.

    Pictures are coded at 10 bit, BT.709, limited range. The bitstream is the whole Annex B byte stream
    after the two bytes of :mod:`icm_baselines.envelope`. Adaptive quantisation and psycho-visual terms are
    off.

    Args:
        quality: QP of the picture, 0 to 51; fewer bits the higher.
        device: Ignored; x265 runs on the CPU, on one thread.
        chroma: Chroma format, 4:2:0 or 4:4:4.
        preset: x265's speed preset.
    """

    name: ClassVar[str] = "hevc"
    qualities: ClassVar[tuple[Quality, ...]] = (49, 45, 41, 37, 32, 27, 22)
    always_named: ClassVar[tuple[str, ...]] = ("preset",)

    def __init__(
        self, quality: Quality, *, device: str = "cpu", chroma: Chroma = "420", preset: Preset = "slow"
    ) -> None:
        del device
        self._qp = whole(quality, 0, 51, where="hevc QP")
        self._preset = preset
        self._still = Still(PlaneFormat(chroma, 10, "bt709", "limited"), "hevc")

    @classmethod
    def label(cls, options: Mapping[str, str]) -> str:
        """Return the name with the preset and what else the options say: ``HEVC medium``."""
        return short_label("HEVC", options, named="preset")

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of an image.

        Raises:
            CodecError: It is a strip that no level of HEVC has blocks for.
        """
        return self._code(image, self._encoder("qp"))

    def decode(self, data: bytes) -> Image:
        """Return the image of a bitstream."""
        return self._still.decode(data)

    def version(self) -> str:
        """Name the layout of the bitstream, x265 and the ffmpeg that carries it."""
        encoder = ffmpeg.version("libx265", r"HEVC encoder version (\S+)")
        return f"envelope 1, {encoder}"

    def header_bytes(self, data: bytes) -> int:
        """Return the bytes of envelope, parameter sets and start codes."""
        return envelope.N_BYTES + nal.overhead_bytes(data[envelope.N_BYTES :], _is_slice)

    def _code(self, image: Image, arguments: tuple[str, ...]) -> bytes:
        _check_strip(image)
        return self._still.encode(image, arguments)

    def _encoder(self, control: str, changed: Mapping[str, str] = MappingProxyType({})) -> tuple[str, ...]:
        """Return ffmpeg's arguments for x265: what its quality is (``qp``, ``crf``), and settings other than usual."""
        settings = {control: str(self._qp), **_SETTINGS, **changed}
        text = ":".join(f"{key}={value}" for key, value in settings.items())
        return "-c:v", "libx265", "-preset", self._preset, "-x265-params", text, "-threads", "1"


def _check_strip(image: Image) -> None:
    """Raise ``CodecError`` for an image that is long, and narrower than the blocks that its length demands."""
    check_image(image, where="HEVC")
    narrow, long = sorted(image.shape[:2])
    if narrow < 31 and long > _LONGEST_OF_SMALL_BLOCKS:
        raise CodecError(
            f"codes no image longer than {_LONGEST_OF_SMALL_BLOCKS} pixels that is narrower than 31, not one of "
            f"{image.shape[1]}x{image.shape[0]}",
            where="HEVC",
            hint="leave the image out, or scale it down",
        )


def _is_slice(unit: bytes) -> bool:
    return len(unit) > 1 and unit[0] >> 1 & 0x3F <= _LARGEST_SLICE_TYPE
