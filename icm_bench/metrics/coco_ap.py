"""Average precision and recall as COCO defines them, of a data set and of its resamples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from icm_bench.detector import Task
from icm_bench.error import UsageError
from icm_bench.metrics.coco_match import ALL_THRESHOLDS, AREA_RANGES, Bits, Matches, match
from icm_bench.metrics.coco_overlap import IOU_THRESHOLDS
from icm_bench.metrics.coco_truth import Floats, GroundTruth, Indices

__all__ = ["METRICS", "GroundTruth", "Scorer", "score"]

METRICS: Final = (
    "map",
    "map50",
    "map75",
    "map_small",
    "map_medium",
    "map_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
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
        return {name: _defined(float(values[0])) for name, values in self.resampled(self._once()).items()}

    def per_category(self) -> dict[int, float | None]:
        """Return the average precision of each category id, 0 to 100; None where it has no object."""
        once = self._once()
        entries = _entries(self.matches, once[0])
        rankings = list(_rankings(self.matches, entries))
        columns = once.T.astype(np.float64)
        precision = _precision_figures(self.matches, rankings, columns, entries.rows(columns))[0, :, 0]
        ids = self.matches.ground_truth.category_ids.tolist()
        return {
            category: _defined(100 * value) for category, value in zip(ids, precision.tolist(), strict=True)
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
        entries = _entries(self.matches, checked.max(axis=0, initial=0))
        rankings = list(_rankings(self.matches, entries))
        values = np.full((len(METRICS), len(checked)), np.nan)
        for start in range(0, len(checked), _RESAMPLES_AT_ONCE):
            part = slice(start, start + _RESAMPLES_AT_ONCE)
            columns = np.ascontiguousarray(checked[part].T, dtype=np.float64)
            precision = _precision_figures(self.matches, rankings, columns, entries.rows(columns))
            recall = _recall_figures(self.matches, columns)
            values[:, part] = 100 * _mean_over_categories(np.concatenate([precision, recall]))
        return dict(zip(METRICS, values, strict=True))

    def _once(self) -> NDArray[np.int64]:
        return np.ones((1, self.matches.ground_truth.n_images), dtype=np.int64)


def _defined(value: float) -> float | None:
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


def _mean_over_categories(figures: Floats) -> Floats:
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
    matches: Matches, rankings: Sequence[_Ranking], weights: Floats, rows: Floats
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


@dataclass(frozen=True, eq=False)
class _Entries:
    """Detections by category and falling score, the copies of tied ones in the order that the reference has.

    A weight row says how often an entry appears in each resample: the first rows are the images', each
    further row is a single copy of an image, present where the image appears more often than the copies
    before it.
    """

    detection: Indices
    row: Indices
    copied_image: Indices
    copies_before: Indices

    def rows(self, weights: Floats) -> Floats:
        """Return all weight rows, from images x resamples."""
        copies = weights[self.copied_image] > self.copies_before[:, np.newaxis]
        return np.concatenate([weights, copies]) if len(copies) else weights


def _entries(matches: Matches, most_copies: Indices) -> _Entries:
    """Order the detections.

    Where an image stands n times, its detections that tie in score, say a false and a true one, come as
    false, true, false, true; weighing each by n would give false, false, true, true, which has another
    precision. Only such ties need a copy apiece.
    """
    order = np.lexsort((-matches.scores, matches.category))
    run = _tied_runs(matches, order)
    copies = np.where(_is_mixed(matches, order, run), most_copies[matches.image[order]], 1)
    copies = np.maximum(copies, 1)
    source = np.repeat(np.arange(len(order)), copies)
    copy = np.arange(len(source)) - np.repeat(np.cumsum(copies) - copies, copies)
    resorted = np.lexsort((source, copy, run[source]))
    source, copy = source[resorted], copy[resorted]
    detection = order[source]
    image = matches.image[detection]
    apart = copies[source] > 1
    width = int(copies.max(initial=1))
    copied, row_of_copy = np.unique(image[apart] * width + copy[apart], return_inverse=True)
    row = image.copy()
    row[apart] = matches.ground_truth.n_images + row_of_copy
    return _Entries(detection, row, copied // width, copied % width)


def _tied_runs(matches: Matches, order: Indices) -> Indices:
    """Number the runs of detections that share category, image and score."""
    same = np.zeros(len(order), dtype=np.bool_)
    same[1:] = True
    for key in (matches.category, matches.image, matches.scores):
        same[1:] &= key[order[1:]] == key[order[:-1]]
    return np.cumsum(~same)


def _is_mixed(matches: Matches, order: Indices, run: Indices) -> NDArray[np.bool_]:
    """Tell of each detection whether it ties with one of its image that fares otherwise."""
    fate = np.concatenate([matches.true, matches.counted])[:, order]
    differs = np.zeros(len(order), dtype=np.bool_)
    differs[1:] = (run[1:] == run[:-1]) & (fate[:, 1:] != fate[:, :-1]).any(axis=0)
    return np.isin(run, run[differs])


@dataclass(frozen=True, eq=False)
class _Ranking:
    """The detections of one category and area range, reduced to what average precision depends on.

    Interpolated precision has its steps at true positives, so only these are places where anything is
    computed.

    Attributes:
        category: Index of the category.
        area: Index of the area range.
        row: Of each place, its weight row.
        always: Places x weight rows: how many detections that count at every threshold stand between a place
            and the place before, the place itself included.
        places: For each threshold, which places are true positives there.
        sometimes: For each threshold, its places x weight rows: the same for detections that count at this
            and not at every threshold; None where there are none.
    """

    category: int
    area: int
    row: Indices
    always: csr_matrix
    places: tuple[Indices, ...]
    sometimes: tuple[csr_matrix | None, ...]


def _rankings(matches: Matches, entries: _Entries) -> Iterator[_Ranking]:
    n_rows = matches.ground_truth.n_images + len(entries.copied_image)
    categories = matches.category[entries.detection]
    edges = np.searchsorted(categories, np.arange(len(matches.ground_truth.category_ids) + 1)).tolist()
    for area in range(len(AREA_RANGES)):
        true, counted = matches.true[area][entries.detection], matches.counted[area][entries.detection]
        for category, (start, stop) in enumerate(pairwise(edges)):
            part = slice(start, stop)
            if true[part].any():
                yield _ranking(category, area, entries.row[part], true[part], counted[part], n_rows)


def _ranking(category: int, area: int, row: Indices, true: Bits, counted: Bits, n_rows: int) -> _Ranking:
    places = np.flatnonzero(true)
    always = np.flatnonzero(counted == ALL_THRESHOLDS)
    partly = np.flatnonzero((counted != 0) & (counted != ALL_THRESHOLDS))
    places_at, sometimes = [], []
    for index in range(len(IOU_THRESHOLDS)):
        here = np.flatnonzero((true[places] >> index) & 1)
        extra = partly[((counted[partly] >> index) & 1).astype(np.bool_)]
        places_at.append(here)
        sometimes.append(_between(places[here], extra, row, n_rows) if len(here) and len(extra) else None)
    return _Ranking(
        category=category,
        area=area,
        row=row[places],
        always=_between(places, always, row, n_rows),
        places=tuple(places_at),
        sometimes=tuple(sometimes),
    )


def _between(places: Indices, positions: Indices, row: Indices, n_rows: int) -> csr_matrix:
    """Count the given positions by the first place that is not before them, and by weight row."""
    edges = np.searchsorted(positions, places, side="right")
    columns = row[positions[: edges[-1]]]
    starts = np.concatenate([[0], edges])
    return csr_matrix((np.ones(len(columns)), columns, starts), shape=(len(places), n_rows))


def _average_precision(ranking: _Ranking, rows: Floats, n_objects: Floats) -> Floats:
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
