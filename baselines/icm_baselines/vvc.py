"""VVC (H.266) intra pictures, by VVenC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias

from icm_baselines import envelope, ffmpeg, nal
from icm_baselines import scale as scaling
from icm_baselines.option import check_sides, short_label, whole
from icm_baselines.scale import Percent
from icm_baselines.still import Still
from icm_bench import limit
from icm_bench.codec import Quality
from icm_bench.color import PlaneFormat
from icm_bench.error import CodecError, ProgramError
from icm_bench.image import Image

Preset: TypeAlias = Literal["faster", "fast", "medium", "slow", "slower"]

_STILL = Still(PlaneFormat(chroma="420", bit_depth=10, matrix="bt709", range="limited"), "vvc")
# Level 6.3 allows 25,332, of which coded sides are multiples of 8; ffmpeg's decoder insists.
_LARGEST_SIDE = 25_328
_LARGEST_SLICE_TYPE = 11  # nal_unit_type of VCL units, table 5 of H.266

_PICTURE_PARAMETERS = 16

_QP_BASE = "pps_init_qp_minus26"
_QP = (_QP_BASE, "ph_qp_delta", "sh_qp_delta")
"""What adds up to the QP of a slice, less 26: the picture parameter set's, and the picture's or the slice's."""

# One intra picture, objective quality, the slice's QP equal to the one asked for, and no unit or
# parameter that a single picture does not need.
_SETTINGS = (
    "IntraPeriod=1:GOPSize=1:DecodingRefreshType=idr:IntraQPOffset=0:AccessUnitDelimiter=0:"
    "VuiParametersPresent=0:HrdParametersPresent=0:SEIDecodedPictureHash=0"
)


class Vvc:
    """VVC intra at a fixed QP: VVenC, decoded by ffmpeg's own decoder.

    Pictures are coded as 4:2:0 (all that libvvenc takes), 10 bit, BT.709, limited range. The bitstream is
    the whole Annex B byte stream after the two bytes of :mod:`icm_baselines.envelope`. Perceptual
    adaptation of the QP is off.

    Rate against CPU time of the presets, VVenC 1.15, twelve images of COCO val2017 at QP 22, 27,
    32, 37, 42 and 47; BD-rate (Akima) of the mean PSNR over the pooled rate against ``fast``, negative =
    fewer bits:

    ==========  =========  ================  ====================
    preset      BD-rate    encoding, mean    encoding at 22 / 47
    ==========  =========  ================  ====================
    ``faster``  +10.6 %    0.20 s            0.34 s / 0.11 s
    ``fast``    0          0.67 s            1.29 s / 0.22 s
    ``medium``  -5.3 %     2.31 s            4.25 s / 0.62 s
    ==========  =========  ================  ====================

    At these times ``fast``, the default, codes 100 images at six QPs in four minutes of two cores; a claim
    against VVC is better made against ``medium`` or slower.

    Args:
        quality: QP of the picture, 0 to 63; fewer bits the higher. It is the slice's own: VVenC's habit of
            coding intra pictures three steps finer is off, which renames the points of its curve and moves
            none.
        device: Ignored; VVenC runs on the CPU, on one thread.
        preset: VVenC's speed preset.
        scale: Size in percent at which the picture is coded, see :mod:`icm_baselines.scale`.
    """

    name: ClassVar[str] = "vvc"
    qualities: ClassVar[tuple[Quality, ...]] = (47, 42, 37, 32, 27, 22)
    always_named: ClassVar[tuple[str, ...]] = ("preset",)

    def __init__(
        self, quality: Quality, *, device: str = "cpu", preset: Preset = "fast", scale: Percent = "100"
    ) -> None:
        del device
        self._qp = whole(quality, 0, 63, where="vvc QP")
        self._preset = preset
        self._percent = scale

    @classmethod
    def label(cls, options: Mapping[str, str]) -> str:
        """Return the name with the preset and what else the options say: ``VVC medium``."""
        return short_label("VVC", options, named="preset")

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of an image.

        Raises:
            CodecError: A side is longer than the highest level allows.
        """
        return scaling.encode(image, self._percent, self._encode_coded_size)

    def s_per_megapixel(self) -> float:
        """Return what the table above says of ``fast``, and of the other presets in proportion."""
        pace = {"faster": 0.3, "fast": 1.0, "medium": 3.4, "slow": 12.0, "slower": 40.0}[self._preset]
        return float(2.2 * pace * 2.0 ** ((34 - self._qp) / 10) * (int(self._percent) / 100) ** 2)

    def decode(self, data: bytes) -> Image:
        """Return the image of a bitstream."""
        return scaling.decode(data, _STILL.decode)

    def version(self) -> str:
        """Name the layout of the bitstream, VVenC and the ffmpeg that carries it."""
        encoder = ffmpeg.version("libvvenc", r"libvvenc version: (\S+)")
        return f"{scaling.layout(self._percent)}, {encoder}"

    def header_bytes(self, data: bytes) -> int:
        """Return the bytes of envelope, parameter sets (adaptation parameter sets too) and start codes."""
        before = scaling.head_bytes(data) + envelope.N_BYTES
        return before + nal.overhead_bytes(data[before:], is_slice)

    def quality_of(self, data: bytes) -> Quality:
        """Return the QP of a bitstream's slices.

        Raises:
            CodecError: There is no QP in its headers.
        """
        fields = ffmpeg.header_fields(data[scaling.head_bytes(data) + envelope.N_BYTES :], "vvc", _QP)
        if _QP_BASE not in fields or len(fields) < 2:
            raise CodecError("the bitstream's headers hold no QP", where="VVC")
        return 26 + sum(fields.values())

    def _encode_coded_size(self, image: Image) -> bytes:
        check_largest_side(image)
        encoder = ("-c:v", "libvvenc", "-preset", self._preset, "-qp", str(self._qp), "-qpa", "0")
        return _STILL.encode(image, (*encoder, "-vvenc-params", _SETTINGS, "-threads", "1"))


def check_largest_side(image: Image) -> None:
    """Refuse an image that ffmpeg's decoder would not read again.

    Raises:
        CodecError: A side is longer than the highest level allows.
    """
    check_sides(image, _LARGEST_SIDE, _LARGEST_SIDE, where="VVC")


def is_slice(unit: bytes) -> bool:
    """Return whether a NAL unit of VVC is a coded slice or a part of one."""
    return len(unit) > 1 and unit[1] >> 3 <= _LARGEST_SLICE_TYPE


def picture_size(stream: bytes) -> tuple[int, int]:
    """Return coded width and height of a stream's picture, from its first picture parameter set (7.3.2.5).

    Raises:
        CodecError: There is no picture parameter set.
    """
    return _picture_sizes(stream)[0]


def check_claim(stream: bytes, *, where: str) -> None:
    """Refuse a stream whose pictures have more pixels than its bytes can hold, before a decoder allocates them.

    A decoder allocates a picture by its picture parameter set, of which there may be several, and as many pictures as
    there are slices.

    Raises:
        CodecError: They have more, or there is no picture parameter set.
    """
    slices = sum(is_slice(unit) for unit in nal.units(stream))
    for width, height in _picture_sizes(stream):
        limit.check_claim(width, height * max(1, slices), len(stream), where=where)


def _picture_sizes(stream: bytes) -> list[tuple[int, int]]:
    sizes = []
    for unit in nal.units(stream):
        if unit[1:2] and unit[1] >> 3 == _PICTURE_PARAMETERS:
            bits = nal.Bits(unit[2:])
            bits.read(11)  # its own number, the sequence parameter set's, pps_mixed_nalu_types_in_pic_flag
            sizes.append((bits.read_golomb(), bits.read_golomb()))
    if not sizes:
        raise CodecError("the bitstream holds no picture parameter set", where="VVC")
    return sizes


def check_picture_size(stream: bytes, width: int, height: int, *, where: str) -> None:
    """Raise ``ProgramError`` where an encoder coded another size than it was told; ``where`` names the encoder."""
    coded = picture_size(stream)
    if coded != (width, height):
        raise ProgramError("coded {}x{} where {}x{} was due".format(*coded, width, height), where=where)
