"""Detections in the order of their scores, as far as average precision depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from icm_bench.metrics.coco_match import ALL_THRESHOLDS, AREA_RANGES, Bits, Matches
from icm_bench.metrics.coco_overlap import IOU_THRESHOLDS
from icm_bench.metrics.coco_truth import Floats, Indices


@dataclass(frozen=True, eq=False)
class Entries:
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


def ordered(matches: Matches, most_copies: Indices) -> Entries:
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
    return Entries(detection, row, copied // width, copied % width)


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
class Ranking:
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


def rankings_of(matches: Matches, entries: Entries) -> Iterator[Ranking]:
    """Yield the ranking of each category and area range that has a true positive."""
    n_rows = matches.ground_truth.n_images + len(entries.copied_image)
    categories = matches.category[entries.detection]
    edges = np.searchsorted(categories, np.arange(len(matches.ground_truth.category_ids) + 1)).tolist()
    for area in range(len(AREA_RANGES)):
        true, counted = matches.true[area][entries.detection], matches.counted[area][entries.detection]
        for category, (start, stop) in enumerate(pairwise(edges)):
            part = slice(start, stop)
            if true[part].any():
                yield _ranking(category, area, entries.row[part], true[part], counted[part], n_rows)


def _ranking(category: int, area: int, row: Indices, true: Bits, counted: Bits, n_rows: int) -> Ranking:
    places = np.flatnonzero(true)
    always = np.flatnonzero(counted == ALL_THRESHOLDS)
    partly = np.flatnonzero((counted != 0) & (counted != ALL_THRESHOLDS))
    places_at, sometimes = [], []
    for index in range(len(IOU_THRESHOLDS)):
        here = np.flatnonzero((true[places] >> index) & 1)
        extra = partly[((counted[partly] >> index) & 1).astype(np.bool_)]
        places_at.append(here)
        sometimes.append(_between(places[here], extra, row, n_rows) if len(here) and len(extra) else None)
    return Ranking(
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
