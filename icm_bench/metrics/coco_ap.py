"""Average precision and recall as COCO defines them, of a data set and of its resamples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from icm_bench.detector import Task
from icm_bench.error import UsageError
from icm_bench.metrics.coco_match import AREA_RANGES, Bits, Matches, match
from icm_bench.metrics.coco_overlap import IOU_THRESHOLDS
from icm_bench.metrics.coco_ranking import Ranking, ordered, rankings_of
from icm_bench.metrics.coco_truth import Floats, GroundTruth

__all__ = ["METRICS", "GroundTruth", "Scorer", "score"]

METRICS: Final = (
    *("map", "map50", "map75", "map_small", "map_medium", "map_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)
"""COCO's twelve figures, in COCO's order."""

Weights: TypeAlias = NDArray[np.int32] | NDArray[np.int64]

_RECALL_STEP: Final = 0.01
_N_RECALLS: Final = 101
_RECALL_LIMITS: Final = ((0, 1), (0, 10), (0, 100), (1, 100), (2, 100), (3, 100))
"""Area range and detections an image of the six recalls."""
_RESAMPLES_AT_ONCE: Final = 500
_WIDE: Final = 64


def score(ground_truth: GroundTruth, predictions: Sequence[Mapping[str, Any]], task: Task) -> Scorer:
    """Match predictions to ground truth once, ready to be scored on the data set and on its resamples.

    Args:
        ground_truth: The annotated objects.
        predictions: COCO result rows, see :func:`icm_bench.metrics.coco_match.match`; may be empty.
        task: Whether boxes or masks are compared.

    Raises:
        DetectorError: A prediction is malformed or belongs to an image that the annotation file does not
            have.
        UsageError: The task is neither detection nor segmentation.
    """
    return Scorer(match(ground_truth, predictions, task))


@dataclass(frozen=True, eq=False)
class Scorer:
    """The accuracy of one set of predictions.

    Figures are those of COCO's reference evaluation (101-point interpolated average precision and average
    recall over IoU 0.50 to 0.95), in percent.

    Attributes:
        matches: What became of each detection.
    """

    matches: Matches

    def metrics(self) -> dict[str, float | None]:
        """Return COCO's twelve figures, 0 to 100; None where no object counts, as where COCO says -1."""
        return {
            name: defined_or_none(float(values[0])) for name, values in self.resampled(self._once()).items()
        }

    def per_category(self) -> dict[int, float | None]:
        """Return the average precision of each category id, 0 to 100; None where it has no object."""
        once = self._once()
        entries = ordered(self.matches, once[0])
        rankings = list(rankings_of(self.matches, entries))
        columns = once.T.astype(np.float64)
        precision = _precision_figures(self.matches, rankings, columns, entries.rows(columns))[0, :, 0]
        ids = self.matches.ground_truth.category_ids.tolist()
        return {
            category: defined_or_none(100 * value)
            for category, value in zip(ids, precision.tolist(), strict=True)
        }

    def resampled(self, weights: Weights) -> dict[str, Floats]:
        """Return the twelve figures of data sets in which each image appears a given number of times.

        A figure is exactly the reference evaluation's on a data set whose images stand in the order of their
        ids with the copies of an image next to each other.

        Args:
            weights: Resamples x images, how often each image appears, images in the order of their sorted
                ids.

        Returns:
            For each figure one value a resample, 0 to 100; NaN where no object counts.

        Raises:
            UsageError: The weights are negative, not whole, or not of one column an image.
        """
        checked = checked_weights(weights, self.matches.ground_truth.n_images)
        entries = ordered(self.matches, checked.max(axis=0, initial=0))
        rankings = list(rankings_of(self.matches, entries))
        values = np.full((len(METRICS), len(checked)), np.nan)
        for start in range(0, len(checked), _RESAMPLES_AT_ONCE):
            part = slice(start, start + _RESAMPLES_AT_ONCE)
            columns = np.ascontiguousarray(checked[part].T, dtype=np.float64)
            precision = _precision_figures(self.matches, rankings, columns, entries.rows(columns))
            recall = _recall_figures(self.matches, columns)
            values[:, part] = 100 * mean_over_categories(np.concatenate([precision, recall]))
        return dict(zip(METRICS, values, strict=True))

    def _once(self) -> NDArray[np.int64]:
        return np.ones((1, self.matches.ground_truth.n_images), dtype=np.int64)


def defined_or_none(value: float) -> float | None:
    """Return a value, or None in place of NaN."""
    return None if np.isnan(value) else value


def checked_weights(weights: Weights, n_images: int) -> Weights:
    """Return resamples' weights, resamples x images, as they are.

    Raises:
        UsageError: The weights are negative, not whole, or not of one column an image.
    """
    if weights.ndim != 2 or weights.shape[1] != n_images or weights.dtype.kind not in "iu":
        raise UsageError(
            f"weights of shape {weights.shape} and type {weights.dtype}",
            hint=f"give whole numbers, resamples x {n_images} images",
        )
    if weights.size and weights.min() < 0:
        raise UsageError("a negative weight", hint="count how often each image appears")
    return weights


def mean_over_categories(figures: Floats) -> Floats:
    """Average figures x categories x resamples over the categories in which a figure is defined."""
    defined = ~np.isnan(figures)
    total = np.where(defined, figures, 0.0).sum(axis=1)
    count = defined.sum(axis=1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _objects(matches: Matches, area: int) -> csr_matrix:
    """Count the objects of each category and image that are neither crowds nor outside an area range."""
    truth = matches.ground_truth
    _, low, high = AREA_RANGES[area]
    counts = ~truth.ignored(low, high)
    ones = np.ones(np.count_nonzero(counts))
    return csr_matrix((ones, (truth.category[counts], truth.image[counts])), shape=_shape(matches))


def _shape(matches: Matches) -> tuple[int, int]:
    return len(matches.ground_truth.category_ids), matches.ground_truth.n_images


def _weighed(counts: csr_matrix, weights: Floats) -> Floats:
    return np.asarray(counts @ weights, dtype=np.float64)


def _recall_figures(matches: Matches, weights: Floats) -> Floats:
    """Return the six average recalls of each category.

    Returns:
        6 x categories x resamples, 0 to 1, NaN where no object counts.
    """
    figures = []
    for area, most in _RECALL_LIMITS:
        kept = matches.rank < most
        n_found = _n_bits(matches.true[area][kept])
        places = (matches.category[kept], matches.image[kept])
        found = _weighed(csr_matrix((n_found, places), shape=_shape(matches)), weights)
        objects = _weighed(_objects(matches, area), weights)
        undefined = np.full(objects.shape, np.nan)
        figures.append(np.divide(found, objects * len(IOU_THRESHOLDS), out=undefined, where=objects > 0))
    return np.stack(figures)


def _n_bits(bits: Bits) -> Floats:
    each = [((bits >> index) & 1).astype(np.float64) for index in range(len(IOU_THRESHOLDS))]
    return np.asarray(np.sum(each, axis=0))


def _precision_figures(
    matches: Matches, rankings: Sequence[Ranking], weights: Floats, rows: Floats
) -> Floats:
    """Return the six average precisions of each category.

    Returns:
        6 x categories x resamples, 0 to 1, NaN where no object counts.
    """
    objects = [_weighed(_objects(matches, area), weights) for area in range(len(AREA_RANGES))]
    precision: Floats = np.stack([np.where(objects[area] > 0, 0.0, np.nan) for area in (0, 0, 0, 1, 2, 3)])
    for ranking in rankings:
        n_objects = objects[ranking.area][ranking.category]
        at_thresholds = _average_precision(ranking, rows, n_objects)
        at_thresholds[:, n_objects == 0] = np.nan
        if ranking.area == 0:
            precision[1, ranking.category] = at_thresholds[0]
            precision[2, ranking.category] = at_thresholds[5]
        figure = 0 if ranking.area == 0 else 2 + ranking.area
        precision[figure, ranking.category] = at_thresholds.mean(axis=0)
    return precision


def _average_precision(ranking: Ranking, rows: Floats, n_objects: Floats) -> Floats:
    """Return the average precision at each threshold: thresholds x resamples, 0 to 1.

    Args:
        ranking: What it depends on.
        rows: Weight rows x resamples.
        n_objects: Of each resample, how many objects count.
    """
    always = _weighed(ranking.always, rows)
    always[0] += np.spacing(1.0)  # so that nothing over nothing is 0; lost in any sum of one or more
    _accumulate(np.add, always)
    to_find = np.maximum(n_objects, 1.0)
    figures = np.zeros((len(IOU_THRESHOLDS), rows.shape[1]))
    scratch = np.empty((4, max(map(len, ranking.places)), rows.shape[1]))
    for figure, places, sometimes in zip(figures, ranking.places, ranking.sometimes, strict=True):
        if not len(places):
            continue
        found, precision, reached, steps = scratch[:, : len(places)]
        # The indices are sound; any mode but "raise" spares a copy.
        np.take(rows, ranking.row[places], axis=0, out=found, mode="clip")
        _accumulate(np.add, found)
        np.take(always, places, axis=0, out=precision, mode="clip")
        if sometimes is not None:
            extra = _weighed(sometimes, rows)
            _accumulate(np.add, extra)
            precision += extra
        np.divide(found, precision, out=precision)
        _accumulate(np.maximum, precision[::-1])
        found /= to_find
        _count_recalls_reached(found, out=reached, scratch=steps)
        np.subtract(reached[1:], reached[:-1], out=steps[1:])
        steps[0] = reached[0]
        np.einsum("pr,pr->r", precision, steps, out=figure)
    return figures / _N_RECALLS


def _accumulate(operation: np.ufunc, values: Floats) -> None:
    """Replace each row by the operation's result over all rows so far."""
    if values.shape[1] < _WIDE:
        operation.accumulate(values, axis=0, out=values)
        return
    # The ufunc's own accumulation walks down the columns; row by row is several times as fast.
    for before, row in pairwise(values):
        operation(before, row, out=row)


def _count_recalls_reached(recall: Floats, out: Floats, scratch: Floats) -> None:
    """Count the recalls 0, 0.01, ..., 1 that are not above the given ones, exact to the last bit."""
    np.multiply(recall, _N_RECALLS - 1, out=out)
    np.rint(out, out=out)
    np.multiply(out, _RECALL_STEP, out=scratch)
    out += scratch <= recall
