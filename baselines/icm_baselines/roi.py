"""Standard codecs that spend their bits on a region of interest; every decoder of the plain format reads the stream.

``jpeg-roi`` and ``vvc-roi`` attenuate the background before they encode, after Gao et al. (IEEE TCSVT, 2026): outside
the region a pixel becomes alpha times itself plus (1 - alpha) times the background's mean. ``hevc-roi`` and
``uvg266-roi`` code the background with a coarser QP instead. Either strength is a dimension of the ladder, and the
curve is the Pareto front over strength and quality. As a number, an operating point is a thousand times the strength
plus the plain codec's quality: 20037 is alpha 20 % at QP 37 of ``vvc-roi``, 8037 a background 8 steps coarser at CRF 37
of ``hevc-roi`` or at QP 37 of ``uvg266-roi``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from icm_baselines import uvg266
from icm_baselines.hevc import Hevc
from icm_baselines.hevc import Preset as HevcPreset
from icm_baselines.jpeg import Jpeg
from icm_baselines.option import short_label, whole
from icm_baselines.region import ICM, Region, checked_options
from icm_baselines.uvg266 import Uvg266
from icm_baselines.vvc import Preset, Vvc
from icm_bench.codec import Guide, Quality
from icm_bench.error import UsageError
from icm_bench.image import Image

ALPHAS = (20, 50, 80, 100)
"""How much of the background's contrast is left, in percent; at 100 the codec is the plain one."""

# Their rates interleave: the ladders are in the order of an image that is all background. What loses most of the
# background's contrast is left out where quality is high.
_UNIT = 1000
_QP_RANGE = 63
"""What x265's 10-bit QPs range over, by which ffmpeg multiplies an offset."""


def attenuated(image: Image, share: NDArray[np.float64], alpha: float) -> Image:
    """Return an image whose background is pulled towards its mean.

    Args:
        image: The image.
        share: How much of each pixel belongs to the region, height x width, 0 to 1.
        alpha: How much of the background's contrast is left, 0 to 1.
    """
    background = 1.0 - share
    if alpha == 1.0 or not background.any():
        return image
    mean = np.average(image.reshape(-1, 3), axis=0, weights=background.ravel())
    kept = (share + background * alpha)[..., np.newaxis]
    return np.asarray(np.rint(mean + kept * (image - mean)), np.uint8)


class _Guided:
    """What codecs with a region of interest share; their options are the fields of :class:`Region`."""

    name: ClassVar[str]
    front_of: ClassVar[str] = "map"
    always_named: ClassVar[tuple[str, ...]] = ("preset", "roi")
    STRENGTHS: ClassVar[tuple[int, ...]] = (0, 4, 8, 12)
    """By how many steps the background's QP is coarser."""
    _format: ClassVar[str]

    def __init__(
        self,
        quality: Quality,
        *,
        device: str = "cpu",
        roi: str = ICM,
        weights: str = "",
        score: float = 0.5,
        margin: int = 8,
    ) -> None:
        del device
        self._strength, self._plain_quality = _split(quality, self.STRENGTHS, self.name)
        self._region = Region(roi, weights, score, margin, codec=self.name)

    @classmethod
    def complete_options(cls, options: Mapping[str, str], *, task: str, provider: str) -> dict[str, str]:
        """Return the options, where the shipped ROI network can look at the dataset's images or another is named."""
        del task
        return checked_options(cls.name, options, provider)

    @classmethod
    def label(cls, options: Mapping[str, str]) -> str:
        """Return what a legend calls it: ``VVC medium, ROI by icm``; a file is called by its name."""
        finder = Path(options["weights"]).stem if "weights" in options else options.get("roi", ICM)
        others = {key: value for key, value in options.items() if key not in ("roi", "weights")}
        return short_label(cls._format, {"ROI by": finder, **others}, named="preset")

    def objective(self) -> str:
        """Return nothing: no weights are trained for the plain codec."""
        return ""

    def trained_through(self) -> tuple[str, ...]:
        """Return the detectors that taught icm's ROI network, where it finds the region."""
        return self._region.trained_through()

    def guide(self) -> Guide:
        """Return what finds the region."""
        return self._region.guide()


class _Attenuating(_Guided):
    """A plain codec behind the attenuation of the background; ``soft`` says over how many pixels the region fades."""

    STRENGTHS: ClassVar[tuple[int, ...]] = ALPHAS

    def __init__(self, quality: Quality, *, soft: int = 0, **region: Any) -> None:
        super().__init__(quality, **region)
        self._region = replace(self._region, soft=soft)
        self._spec: str
        self._codec: Jpeg | Vvc

    def coded_as(self) -> tuple[str, Quality] | None:
        """Return the plain codec's point where nothing is attenuated."""
        return (self._spec, self._plain_quality) if self._strength == 100 else None

    def encode(self, image: Image) -> bytes:
        """Return the plain codec's bitstream of the attenuated image."""
        if self._strength == 100:
            return self._codec.encode(image)
        return self._codec.encode(attenuated(image, self._region.share(image), self._strength / 100))

    def decode(self, data: bytes) -> Image:
        """Return the image of a bitstream of the plain codec."""
        return self._codec.decode(data)

    def version(self) -> str:
        """Name what the plain codec names and, where the background is attenuated, what finds the region."""
        plain = self._codec.version()
        return (
            plain if self._strength == 100 else f"background attenuation 1, {self._region.version()}, {plain}"
        )

    def header_bytes(self, data: bytes) -> int:
        """Return the header bytes that the plain codec counts."""
        return self._codec.header_bytes(data)


class JpegRoi(_Attenuating):
    """JPEG of images whose background is attenuated.

    Args:
        quality: A thousand times alpha in percent plus libjpeg's quality.
        region: The options of the region.
    """

    name: ClassVar[str] = "jpeg-roi"
    qualities: ClassVar[tuple[Quality, ...]] = (
        *(20005, 20010, 50005, 20020, 80005, 50010),
        *(100005, 80010, 50020, 100010, 20050, 80020),
        *(100020, 50050, 80050, 50075, 100050, 80075),
        *(100075, 50095, 80095, 100095),
    )
    always_named: ClassVar[tuple[str, ...]] = ("roi",)
    _format = "JPEG"

    def __init__(self, quality: Quality, **region: Any) -> None:
        super().__init__(quality, **region)
        self._spec, self._codec = "jpeg", Jpeg(self._plain_quality)


class VvcRoi(_Attenuating):
    """VVC of images whose background is attenuated.

    Args:
        quality: A thousand times alpha in percent plus the QP.
        preset: VVenC's speed preset.
        region: The options of the region.
    """

    name: ClassVar[str] = "vvc-roi"
    qualities: ClassVar[tuple[Quality, ...]] = (
        *(20047, 20042, 50047, 20037, 80047, 50042),
        *(100047, 20032, 80042, 50037, 100042, 20027),
        *(80037, 50032, 100037, 20022, 80032, 50027),
        *(100032, 80027, 50022, 100027, 80022, 100022),
    )
    _format = "VVC"

    def __init__(self, quality: Quality, *, preset: Preset = "fast", **region: Any) -> None:
        super().__init__(quality, **region)
        self._spec, self._codec = f"vvc:preset={preset}", Vvc(self._plain_quality, preset=preset)


class HevcRoi(_Guided, Hevc):
    """HEVC with a coarser QP outside the region: x265 at a constant rate factor, told by ffmpeg's filter ``addroi``.

    x265 heeds the filter only with a rate factor and adaptive quantisation, which is on at a strength (0.01) that moves
    hardly a byte by itself; with a QP or with a strength of 0 it ignores it without a word. The region is the
    boxes around its parts, in blocks of the encoder.

    Args:
        quality: A thousand times the steps by which the background's QP is coarser, plus the rate factor.
        preset: x265's speed preset.
        region: The options of the region.
    """

    name: ClassVar[str] = "hevc-roi"
    qualities: ClassVar[tuple[Quality, ...]] = (
        *(12037, 8041, 49, 4045, 4041, 45),
        *(8037, 12032, 41, 4037, 8032, 12027),
        *(37, 4032, 8027, 12022, 32, 4027),
        *(8022, 27, 4022, 22),
    )
    _format = "HEVC"

    def __init__(self, quality: Quality, *, preset: HevcPreset = "slow", **region: Any) -> None:
        _Guided.__init__(self, quality, **region)
        Hevc.__init__(self, self._plain_quality, preset=preset)

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of an image."""
        filters = self._filters(image) if self._strength else ()
        return self._code(image, (*filters, *self._encoder("crf", _AQ)))

    def version(self) -> str:
        """Name the layout of the bitstream, x265, the ffmpeg that carries it, and what finds the region."""
        plain = f"rate factor, {super().version()}"
        return f"{plain}, {self._region.version()}" if self._strength else plain

    def _filters(self, image: Image) -> tuple[str, ...]:
        # Of regions that overlap the first counts, so what remains for the last is the background.
        parts = [f"addroi=x={x}:y={y}:w={w}:h={h}:qoffset=0" for x, y, w, h in self._region.boxes(image)]
        parts.append(f"addroi=x=0:y=0:w=iw:h=ih:qoffset={self._strength}/{_QP_RANGE}")
        return "-vf", ",".join(parts)


class Uvg266Roi(_Guided, Uvg266):
    """VVC with a coarser QP outside the region, by uvg266's ROI map: one QP for each block of 64x64 pixels.

    A block that holds any pixel of the region keeps its QP.

    Args:
        quality: A thousand times the steps by which the background's QP is coarser, plus the QP.
        preset: uvg266's speed preset.
        region: The options of the region.
    """

    name: ClassVar[str] = "uvg266-roi"
    qualities: ClassVar[tuple[Quality, ...]] = (
        *(8042, 12037, 47, 4042, 8037, 12032),
        *(42, 4037, 8032, 12027, 37, 4032),
        *(8027, 12022, 32, 4027, 8022, 27),
        *(4022, 22),
    )
    _format = "uvg266"

    def __init__(self, quality: Quality, *, preset: uvg266.Preset = "medium", **region: Any) -> None:
        _Guided.__init__(self, quality, **region)
        Uvg266.__init__(self, self._plain_quality, preset=preset)

    def coded_as(self) -> tuple[str, Quality] | None:
        """Return the plain codec's point where the background is no coarser."""
        return None if self._strength else (f"uvg266:preset={self._preset}", self._qp)

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of an image."""
        return self._encoded(image, self._offsets(image) if self._strength else None)

    def version(self) -> str:
        """Name what the plain codec names and, where the background is coarser, what finds the region."""
        return f"{super().version()}, {self._region.version()}" if self._strength else super().version()

    def _offsets(self, image: Image) -> NDArray[np.int64]:
        inside = self._region.share(image) > 0.0
        rows, columns = (np.arange(0, side, uvg266.BLOCK) for side in inside.shape)
        kept = np.logical_or.reduceat(np.logical_or.reduceat(inside, rows, axis=0), columns, axis=1)
        return np.where(kept, 0, self._strength)


_AQ = {"aq-mode": "1", "aq-strength": "0.01"}


def _split(quality: Quality, strengths: tuple[int, ...], name: str) -> tuple[int, int]:
    strength, plain = divmod(quality, _UNIT)
    if strength not in strengths:
        shown = ", ".join(map(str, strengths))
        raise UsageError(
            f"{quality:g} is not one of {shown} times {_UNIT} plus a quality",
            where=f"{name} quality",
            hint=f"as in {strengths[0] * _UNIT + 37}",
        )
    return int(strength), whole(plain, 0, 100, where=f"{name} quality")
