"""What a detector is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, TypeAlias, runtime_checkable

from icm_bench.image import Image

Task: TypeAlias = Literal["detection", "segmentation", "fidelity"]
"""What is measured: a detector's boxes, its instance masks, or, with no detector, the pixels themselves."""

NO_DETECTOR: Final = "none"
"""What stands for the detector where there is none."""

Prediction: TypeAlias = dict[str, Any]
"""A COCO result row without ``image_id``: ``category_id``, ``bbox`` [x, y, width, height] in pixels, ``score`` in
[0, 1] and, for a detector that segments, ``segmentation`` as compressed run lengths whose counts are ``str``."""


@runtime_checkable
class Detector(Protocol):
    """A frozen detector.

    The class says what its instances may do. An instance may have fewer ``tasks`` and ``published`` values, where its
    options choose a variant. Where the weights decide the categories, the class has an empty ``categories``.

    Attributes:
        name: The detector's name: entry point, command line, file names and legends.
        tasks: What it predicts: boxes, or boxes and masks.
        categories: The categories that it can name, by the ``category_id`` of its predictions.
        published: Its published AP in percent on the whole of COCO val2017, by task; empty where none is known.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[Task, ...]]
    categories: ClassVar[Mapping[int, str]]
    published: ClassVar[Mapping[Task, float]]

    def __init__(self, *, weights: Path | None = None, device: str = "cpu") -> None: ...

    def predict(self, image: Image) -> list[Prediction]:
        """Return what the detector sees in one image, in the pixels of that image, best score first.

        Raises:
            DetectorError: The detector cannot run.
        """
        ...

    def version(self) -> str:
        """Name all that can change a prediction: the library and the hash of the weights."""
        ...


@runtime_checkable
class PredictsBatches(Protocol):
    """A detector that takes several images at once, and finds in each what it finds in that image alone."""

    def predict_batch(self, images: Sequence[Image]) -> list[list[Prediction]]:
        """Return what :meth:`Detector.predict` returns for each image, in order.

        Args:
            images: One or more, of any sizes. A detector that pads images to a common size sees other pixels than in
                one image alone: it has no such method, or takes images of other sizes apart.

        Raises:
            DetectorError: The detector cannot run.
        """
        ...


@runtime_checkable
class NamedByWeights(Protocol):
    """A detector class that takes any file of weights, whose name becomes a part of the detector's."""

    @classmethod
    def name_by_weights(cls, options: Mapping[str, str], *, weights: Path | None) -> dict[str, str]:
        """Return a spec's options with one that names the weights, which becomes part of the identity.

        Args:
            options: As written.
            weights: The file, or None for the published ones.

        Raises:
            DetectorError: The weights cannot be read.
        """
        ...


@runtime_checkable
class FetchesWeights(Protocol):
    """A detector whose published weights are fetched on first use."""

    @classmethod
    def cached_weights(cls) -> Path:
        """Return where the published weights are kept, or will be once they are fetched."""
        ...
