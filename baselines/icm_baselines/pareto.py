"""The MPEG VCM image anchor: each picture at four scales and six QPs, and of these the Pareto front.

An operating point is a scale and a QP for the whole dataset, as in the anchor, not chosen image by image. As a
number it is a hundred times the scale in percent plus the QP: 5037 is 50 % at QP 37. The front is taken where
the points' rate and AP are known, over the dataset; see :func:`icm_bench.pipeline.front.front`.

A point is nothing but an operating point of the codec without the front, ``vvc:scale=50`` at QP 37. It is
stored as that codec's and coded once for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from icm_baselines.option import whole
from icm_baselines.scale import PERCENTS, Percent
from icm_baselines.vtm import Vtm
from icm_baselines.vvc import Preset, Vvc
from icm_bench.codec import Programs, Quality
from icm_bench.color import Chroma
from icm_bench.error import UsageError
from icm_bench.image import Image

_UNIT = 100
_LARGEST_QP = 63

# QP 22, 27, 32, 37, 42 and 47 at every scale. Their rates interleave: this is their order on photographs.
_LADDER: tuple[Quality, ...] = (
    *(2547, 2542, 5047, 2537, 7547, 5042),
    *(10047, 2532, 7542, 5037, 2527, 10042),
    *(7537, 5032, 2522, 10037, 7532, 5027),
    *(10032, 5022, 7527, 10027, 7522, 10022),
)


class _Front:
    """Some operating points of a codec that can scale, by a number that names scale and QP."""

    qualities: ClassVar[tuple[Quality, ...]] = _LADDER
    front_of: ClassVar[str] = "map"

    def __init__(self, spec: str, codec: Vvc | Vtm, qp: int) -> None:
        self._spec, self._codec, self._qp = spec, codec, qp

    def coded_as(self) -> tuple[str, Quality]:
        """Return the spec and the quality under which the point is coded and stored."""
        return self._spec, self._qp

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of an image."""
        return self._codec.encode(image)

    def decode(self, data: bytes) -> Image:
        """Return the image of a bitstream of any scale and QP."""
        return self._codec.decode(data)

    def version(self) -> str:
        """Name what the codec without the front names at this scale."""
        return self._codec.version()

    def header_bytes(self, data: bytes) -> int:
        """Return the bytes of envelope, parameter sets (adaptation parameter sets too) and start codes."""
        return self._codec.header_bytes(data)


class VvcPareto(_Front):
    """The front over ``vvc`` at 100, 75, 50 and 25 % of the size.

    Args:
        quality: A hundred times the scale in percent plus the QP.
        device: Ignored; VVenC runs on the CPU, on one thread.
        preset: VVenC's speed preset.
    """

    name: ClassVar[str] = "vvc-pareto"
    always_named: ClassVar[tuple[str, ...]] = ("preset",)

    @classmethod
    def label(cls, options: Mapping[str, str]) -> str:
        """Return the label of the codec without the front, and that it is one."""
        return f"{Vvc.label(options)}, front"

    def __init__(self, quality: Quality, *, device: str = "cpu", preset: Preset = "fast") -> None:
        percent, qp = _scale_and_qp(quality, self.name)
        codec = Vvc(qp, device=device, preset=preset, scale=percent)
        super().__init__(f"vvc:preset={preset}{_scale_option(percent)}", codec, qp)


class VtmPareto(_Front):
    """The front over ``vtm`` at 100, 75, 50 and 25 % of the size: the anchor itself.

    Args:
        quality: A hundred times the scale in percent plus the QP.
        device: Ignored; VTM runs on the CPU, on one thread.
        chroma: Chroma format, 4:2:0 or 4:4:4.
        dir: Folder of VTM's executables; empty to look elsewhere.
        programs: Names that folder where ``dir`` does not.
    """

    name: ClassVar[str] = "vtm-pareto"

    @classmethod
    def label(cls, options: Mapping[str, str]) -> str:
        """Return the label of the codec without the front, and that it is one."""
        return f"{Vtm.label(options)}, front"

    def __init__(
        self,
        quality: Quality,
        *,
        device: str = "cpu",
        chroma: Chroma = "420",
        dir: str = "",  # noqa: A002 # the option's name on the command line
        programs: Programs | None = None,
    ) -> None:
        percent, qp = _scale_and_qp(quality, self.name)
        codec = Vtm(qp, device=device, chroma=chroma, scale=percent, dir=dir, programs=programs)
        chosen = f":chroma={chroma}" if chroma != "420" else ""
        super().__init__(f"vtm{chosen}{_scale_option(percent)}{f':dir={dir}' if dir else ''}", codec, qp)


def _scale_and_qp(quality: Quality, name: str) -> tuple[Percent, int]:
    percent, qp = divmod(quality, _UNIT)
    known: tuple[Percent, ...] = tuple(text for text in PERCENTS if int(text) == percent)
    if not known:
        raise UsageError(
            f"{quality:g} is not a scale of {', '.join(PERCENTS)} % times {_UNIT} plus a QP",
            where=f"{name} quality",
            hint=f"for 50 % at QP 37 write {50 * _UNIT + 37}",
        )
    return known[0], whole(qp, 0, _LARGEST_QP, where=f"{name} QP")


def _scale_option(percent: Percent) -> str:
    return "" if percent == "100" else f":scale={percent}"
