"""The learned codec for machines, after Le et al. (ICASSP 2021, arXiv 2108.09993).

What is guaranteed:

- The latents that a decoder recovers are identical, bit for bit, on every device, library and thread count: all that
  encoder and decoder must agree on is integer (:mod:`icm_codecs.bitstream.integer_layer`) or a stored table
  (:mod:`icm_codecs.bitstream.table`).
- The pixels are identical on the same machine, device and library. They come from a floating-point network, whose last
  bits other processors or libraries may round differently: there a pixel may differ by one level.
- The same holds for the encoder's choice of latents, so another machine may write other bytes, which every decoder
  reads alike.

The networks are loaded when the first image is coded: naming a codec and its version costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from icm_bench.codec import Quality
from icm_bench.error import UsageError
from icm_bench.file import file_digest
from icm_bench.image import Image
from icm_codecs.learned import LadderCodec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from icm_codecs.checkerboard.coder import CheckerboardCoder
    from icm_codecs.icm.coder import IcmCoder

Domain = Literal["photos", "scenes"]
"""The images that weights were trained on: photographs, or the drawn images of the dataset ``scenes``."""

Objective = Literal["mse", "detection", "segmentation"]
"""What weights were trained for: fidelity to the pixels, or a task through its frozen detector."""

_MOST_STEPS = 1000
"""The most gradient steps that an encoder takes on an image."""

_LOG = logging.getLogger(__name__)

_DRAWN = frozenset({"scenes", "scenes-poses"})
"""The dataset providers whose images are drawn."""

_SHIPPED = MappingProxyType(
    {
        ("photos", "mse"): "icm-photos-mse",
        ("photos", "detection"): "icm-photos",
        ("photos", "segmentation"): "icm-photos",
        ("scenes", "mse"): "icm-scenes-mse",
        ("scenes", "detection"): "icm-scenes",
        ("scenes", "segmentation"): "icm-scenes",
    }
)
"""Names of weights; what has no file is not offered."""

_SHARED_FEATURES: Mapping[str, tuple[str, ...]] = MappingProxyType({"icm-scenes": ("maskrcnn_scenes",)})
"""Detectors that weights were trained through by their features, which another detector's training shares with them."""

_LADDERS: Mapping[str, tuple[Quality, ...]] = MappingProxyType({"icm-scenes": (1, 2, 4, 6, 9, 10)})
"""Shipped weights of which fewer rate points give the same BD-rates, to a tenth of a point, in half of the time."""


class Icm(LadderCodec[Any]):
    """A learned image codec whose networks are trained for machines.

    Convolutional networks with residual connections, a mean and scale hyperprior and a coder of asymmetric numeral
    systems, as the paper has them; one model serves every rate, which is our choice. So are two things that the weights
    for a task have: an ROI map, by which steps are coarser where the encoder sees no object, and further layers at the
    highest qualities, which code what the decoded image of the first lacks.

    Args:
        quality: The rate point, 1 to 10, or to 8 for fidelity to scenes; the weights' model cards say which rates
            these are.
        device: Where the networks run: "cpu", "cuda".
        domain: What the shipped weights were trained on.
        objective: What they were trained for. Where a run names neither, its dataset and its task choose: drawn images
            or photographs, and the weights for the task where there are some, else those for fidelity.
        weights: A checkpoint file that the training wrote, instead of the shipped one.
        roi: Whether the encoder of weights that have an ROI network looks for regions of interest; without, steps are
            the same everywhere. What a decoder does is in the bitstream.
        refine: How many gradient steps the encoder takes on each image, see :mod:`icm_codecs.checkerboard.refine`; 0
            for none. The weights for a task on photographs can be refined.
        teachers: What a refinement looks at: ONNX files of the detectors that the weights were trained through, with
            "+" between them; they take turns, beginning with the second.

    Raises:
        UsageError: There is no such quality, no weights of that domain for that objective, or no such refinement.
    """

    name: ClassVar[str] = "icm"
    qualities: ClassVar[tuple[Quality, ...]] = tuple(range(1, 11))

    def __init__(
        self,
        quality: Quality,
        *,
        device: str = "cpu",
        domain: Domain = "photos",
        objective: Objective = "mse",
        weights: str = "",
        roi: bool = True,
        refine: int = 0,
        teachers: str = "",
    ) -> None:
        path = Path(weights) if weights else _shipped_weights(domain, objective)
        self._set(quality, device, path, shipped=None if weights else _rates(path))
        self._roi = roi
        if not 0 <= refine <= _MOST_STEPS or (teachers and not refine):
            hint = f"choose refine=1 to {_MOST_STEPS}, or leave it and teachers out"
            raise UsageError(f"cannot refine {refine} times", where=self.name, hint=hint)
        self._refine, self._teachers = refine, tuple(map(Path, teachers.split("+"))) if teachers else ()
        self._coded_as: tuple[str, Quality] | None = None
        if not weights and objective == "segmentation" and path == _shipped().get((domain, "detection")):
            options = {"domain": domain, "objective": "detection", "refine": str(refine or "")}
            options |= {"roi": "" if roi else "off", "teachers": teachers}
            said = [f"{option}={value}" for option, value in options.items() if value]
            self._coded_as = (":".join([self.name, *said]), quality)

    @classmethod
    def complete_options(cls, options: Mapping[str, str], *, task: str, provider: str) -> dict[str, str]:
        """Return a spec's options with those that say which of the shipped weights a run takes.

        ``attention``, the former name of ``roi``, is understood; a warning says the present name.
        """
        if "attention" in options:
            _LOG.warning(
                "codec 'icm': the option attention is now called roi; write icm:roi=%s", options["attention"]
            )
        options = {"roi" if key == "attention" else key: value for key, value in options.items()}
        if "weights" in options:
            return dict(options)
        domain = options.get("domain", "scenes" if provider in _DRAWN else "photos")
        objective = options.get("objective", task if (domain, task) in _shipped() else "mse")
        return {**options, "domain": domain, "objective": objective}

    @classmethod
    def ladder(cls, options: Mapping[str, Any]) -> tuple[Quality, ...]:
        """Return the rate points of the weights that options name: as many as it takes to draw their curve.

        Raises:
            UsageError: There are no such weights.
            CodecError: The weights cannot be read.
        """
        weights = options.get("weights", "")
        named = (options.get("domain", "photos"), options.get("objective", "mse"))
        path = Path(weights) if weights else _shipped_weights(*named)
        return _rates(path) if weights else _LADDERS.get(path.stem, _rates(path))

    @classmethod
    def label(cls, options: Mapping[str, str]) -> str:
        """Return the short name: ``icm``; ``icm, no ROI``; ``icm, for fidelity``; ``icm, FILE``; ``icm, refined``."""
        names = [cls.name]
        if "weights" in options:
            names.append(Path(options["weights"]).stem)
        elif options.get("objective", "mse") == "mse":
            names.append("for fidelity")
        if options.get("refine", "0") != "0":
            names.append("refined")
        return ", ".join([*names, "no ROI"] if options.get("roi") == "off" else names)

    def version(self) -> str:
        """Name the package, the libraries that compute and code, the weights, and what refines with which teachers.

        Raises:
            CodecError: The weights cannot be read.
            UsageError: A teacher's file cannot be read.
        """
        teachers = [f"{path.stem} {_digest(path)[:12]}" for path in self._teachers]
        refined = ["refinement 1", *teachers] if self._refine else []
        return ", ".join([super().version(), *refined])

    def coded_as(self) -> tuple[str, Quality] | None:
        """Return the spec for detection where the weights for segmentation are the same: bitstreams are coded once."""
        return self._coded_as

    def trained_through(self) -> tuple[str, ...]:
        """Return the detectors that the weights were trained through.

        Raises:
            CodecError: The weights cannot be read.
        """
        return tuple(sorted({*super().trained_through(), *_SHARED_FEATURES.get(self._path.stem, ())}))

    def region(self, image: Image) -> NDArray[np.float32]:
        """Return how likely its ROI network finds an object near each pixel, height x width, 0 to 1.

        Raises:
            UsageError: The weights have no ROI network.
            CodecError: The weights cannot be read.
        """
        from icm_codecs.icm.coder import IcmCoder

        if not isinstance(self._coder, IcmCoder):
            raise UsageError(
                "the weights have no ROI network", where=self.name, hint="give weights that have one"
            )
        return self._coder.region(image)

    def _payload(self, image: Image) -> bytes:
        payload: bytes = self._coder.entropy_code(*self._coder.analyse(image))
        return payload

    def _open(self) -> IcmCoder | CheckerboardCoder:
        from icm_codecs.checkerboard import checkpoint as checkerboard
        from icm_codecs.checkerboard.coder import CheckerboardCoder
        from icm_codecs.icm.checkpoint import load_checkpoint
        from icm_codecs.icm.coder import IcmCoder

        if checkerboard.is_checkerboard(self._path):
            model = checkerboard.load_checkpoint(self._path, device=self._device)
            refiner = None
            if self._refine:
                # What a training needs is imported for a refinement alone.
                from icm_codecs.checkerboard.refine import Refiner

                refiner = Refiner(self._path, model, self._teachers, self._refine, self._device)
            return CheckerboardCoder(model, self._quality, self._device, name=self.name, refiner=refiner)
        if self._refine:
            hint = "leave out refine, or take weights for photographs"
            raise UsageError("these weights cannot be refined", where=self._path.stem, hint=hint)
        checkpoint = load_checkpoint(self._path, device=self._device)
        return IcmCoder(checkpoint, self._quality, self._device, uses_roi=self._roi)


@cache
def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        hint = "give the files of the detectors that the weights were trained through"
        raise UsageError("cannot be read", where=path, hint=hint) from error


@cache
def _rates(path: Path) -> tuple[Quality, ...]:
    from icm_codecs.checkerboard import checkpoint as checkerboard
    from icm_codecs.icm.checkpoint import count_rates

    count = checkerboard.count_rates if checkerboard.is_checkerboard(path) else count_rates
    return tuple(range(1, count(path) + 1))


def _shipped() -> dict[tuple[str, str], Path]:
    """Return the files of the weights that there are, by domain and objective."""
    folder = Path(__file__).parents[1] / "weights"
    paths = {key: folder / f"{name}.safetensors" for key, name in _SHIPPED.items()}
    return {key: path for key, path in paths.items() if path.is_file()}


def _shipped_weights(domain: str, objective: str) -> Path:
    path = _shipped().get((domain, objective))
    if path is None:
        known = ", ".join(f"{one}:{other}" for one, other in _shipped())
        raise UsageError(
            f"has no weights of the domain {domain!r} for the objective {objective!r}",
            where=Icm.name,
            hint=f"choose one of domain:objective = {known}, or give weights=FILE",
        )
    return path
