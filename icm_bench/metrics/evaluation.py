"""Evaluations by name: whose rules turn a dataset's predictions into accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from icm_bench.dataset import Dataset
from icm_bench.detector import Task
from icm_bench.metrics import cityscapes_ap, coco_ap, openimages_ap
from icm_bench.metrics.coco_ap import Weights
from icm_bench.metrics.coco_truth import Floats, GroundTruth


class Scorer(Protocol):
    """The accuracy of one set of predictions, in percent."""

    def metrics(self) -> dict[str, float | None]:
        """Return the figures of the whole dataset; None where one is not defined."""

    def per_category(self) -> dict[int, float | None]:
        """Return the average precision of each category id; None where it has no object."""

    def resampled(self, weights: Weights) -> dict[str, Floats]:
        """Return the figures on resamples of the images; NaN where one is not defined."""


@dataclass(frozen=True)
class Evaluation:
    """One way to score.

    Attributes:
        figures: The accuracies of a curve, in percent: what is resampled and compared. The first is the one that
            curves are compared on where nobody asks for another.
        read: Returns ground truth as ``score`` needs it, from COCO's object format.
        score: Matches predictions to ground truth.
    """

    figures: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Any]
    score: Callable[[Any, Sequence[Mapping[str, Any]], Task], Scorer]


_COCO = ("map", "map50", "map75", "map_small", "map_medium", "map_large")

EVALUATIONS: Mapping[str, Evaluation] = MappingProxyType(
    {
        "coco": Evaluation(_COCO, GroundTruth.from_coco, coco_ap.score),
        "cityscapes": Evaluation(
            (*_COCO, *cityscapes_ap.METRICS), cityscapes_ap.StreetTruth.from_rows, cityscapes_ap.score
        ),
        "open-images-challenge": Evaluation(
            openimages_ap.METRICS, openimages_ap.VerifiedTruth.from_rows, openimages_ap.score
        ),
    }
)


def evaluation_of(dataset: Dataset) -> Evaluation:
    """Return how a dataset is scored."""
    return EVALUATIONS[dataset.evaluation]
