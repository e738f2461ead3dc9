"""Metrics that other packages provide: what one says of an image at an operating point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from icm_bench import registry
from icm_bench.detector import Prediction
from icm_bench.error import UsageError
from icm_bench.image import Image
from icm_bench.metrics.metric import METRICS


class Outcome(Protocol):
    """What became of one image at one operating point; each part is read or decoded when it is asked for."""

    @property
    def original(self) -> Image:
        """The image before coding, height x width x 3 RGB."""

    @property
    def decoded(self) -> Image:
        """The image as it was decoded; of the uncompressed images, the original."""

    @property
    def objects(self) -> Sequence[Mapping[str, Any]]:
        """The annotations of the image in COCO's form; none without ground truth."""

    @property
    def predictions(self) -> Sequence[Prediction]:
        """What the detector found, in COCO's form, best score first; nothing where no detector looks."""


class ImageMetric(Protocol):
    """What an entry point of the group ``icm_bench.metrics`` names.

    A curve has the mean over the images. Higher values are better.

    Attributes:
        name: The column in the results, and the name on the command line.
        label: What it is called where people read it.
        unit: What follows its values, or nothing.
        digits: How many digits after the point a table shows.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    unit: ClassVar[str]
    digits: ClassVar[int]

    def measure(self, outcome: Outcome) -> float | None:
        """Return the value of one image; None where it is not defined."""

    def version(self) -> str:
        """Name all that can change a value."""


def load_metric(name: str) -> ImageMetric:
    """Return a metric that another package provides.

    Raises:
        UsageError: The name is unknown, or a metric that every curve has goes by it.
        IcmBenchError: Its provider cannot be imported.
    """
    if name in METRICS:
        raise UsageError("every curve has it", where=f"metric '{name}'", hint="leave it out of --metrics")
    metric: ImageMetric = registry.load("metric", name)()
    return metric
