"""VVC (H.266) intra pictures, by VVenC."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from icm_baselines import envelope, ffmpeg, nal
from icm_baselines.option import whole
from icm_baselines.still import Still
from icm_bench.codec import Quality
from icm_bench.color import PlaneFormat
from icm_bench.image import Image

Preset: TypeAlias = Literal["faster", "fast", "medium", "slow", "slower"]

_STILL = Still(PlaneFormat(chroma="420", bit_depth=10, matrix="bt709", range="limited"), "vvc")
_LARGEST_SLICE_TYPE = 11  # nal_unit_type of VCL units, table 5 of H.266

# One intra picture, objective quality, the slice's QP equal to the one asked for, and no unit or
# parameter that a single picture does not need.
_SETTINGS = ":".join(
    (
        "IntraPeriod=1",
        "GOPSize=1",
        "DecodingRefreshType=idr",
        "IntraQPOffset=0",
        "AccessUnitDelimiter=0",
        "VuiParametersPresent=0",
        "HrdParametersPresent=0",
        "SEIDecodedPictureHash=0",
    )
)


class Vvc:
    """VVC intra at a fixed QP: VVenC, decoded by ffmpeg's own decoder.

    Pictures are coded as 4:2:0 (all that libvvenc takes), 10 bit, BT.709, limited range. The bitstream is
    the whole Annex B byte stream after the two bytes of :mod:`icm_baselines.envelope`. Perceptual
    adaptation of the QP is off.

    Args:
        quality: QP of the picture, 0 to 63; fewer bits the higher.
        device: Ignored; VVenC runs on the CPU, on one thread.
        preset: VVenC's speed preset.
    """

    name: ClassVar[str] = "vvc"
    qualities: ClassVar[tuple[Quality, ...]] = (52, 47, 42, 37, 32, 27, 22)
    always_named: ClassVar[tuple[str, ...]] = ("preset",)

    def __init__(self, quality: Quality, *, device: str = "cpu", preset: Preset = "fast") -> None:
        del device
        self._qp = whole(quality, 0, 63, where="vvc QP")
        self._preset = preset

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of an image."""
        encoder = ("-c:v", "libvvenc", "-preset", self._preset, "-qp", str(self._qp), "-qpa", "0")
        return _STILL.encode(image, (*encoder, "-vvenc-params", _SETTINGS, "-threads", "1"))

    def decode(self, data: bytes) -> Image:
        """Return the image of a bitstream."""
        return _STILL.decode(data)

    def version(self) -> str:
        """Name the layout of the bitstream, VVenC and the ffmpeg that carries it."""
        encoder = ffmpeg.version("libvvenc", r"libvvenc version: (\S+)")
        return f"envelope 1, {encoder}"

    def header_bytes(self, data: bytes) -> int:
        """Return the bytes of envelope, parameter sets (adaptation parameter sets too) and start codes."""
        return envelope.N_BYTES + nal.overhead_bytes(data[envelope.N_BYTES :], _is_slice)


def _is_slice(unit: bytes) -> bool:
    return len(unit) > 1 and unit[1] >> 3 <= _LARGEST_SLICE_TYPE
