"""Average precision as the Open Images Challenge defines it, of a data set and of its resamples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from pycocotools import mask as rle
from scipy.sparse import csr_matrix

from icm_bench.detector import Task
from icm_bench.error import DatasetError, UsageError
from icm_bench.metrics.bootstrap import resample_slices
from icm_bench.metrics.coco_ap import Weights, checked_weights, defined_or_none, mean_over_categories
from icm_bench.metrics.coco_match import boxes_of, masks_of, rank_detections
from icm_bench.metrics.coco_overlap import Pairs, box_pairs, first_of_each, mask_pairs, rank_in_run
from icm_bench.metrics.coco_truth import Flags, Floats, GroundTruth, Indices

METRICS: Final = ("map50-oic",)
"""The challenge's figure, mean average precision at IoU 0.5: not COCO's AP50, and under another name for that."""


@dataclass(frozen=True, eq=False)
class VerifiedTruth:
    """Annotated objects of images in which the presence of some categories, and not of all, is known.

    Attributes:
        objects: The annotated objects; a crowd is a box that holds a group of objects.
        verified: The pairs of category and image whose detections are scored, sorted: the category's index times the
            number of images plus the image's index.
    """

    objects: GroundTruth
    verified: Indices

    @classmethod
    def from_rows(cls, ground_truth: Mapping[str, Any]) -> VerifiedTruth:
        """Read COCO's object format with each image's ``pos_category_ids`` and ``neg_category_ids``.

        A category is verified in an image that lists it as present or as absent, or that has a box of it.

        Raises:
            DatasetError: A part is missing or malformed.
        """
        objects = GroundTruth.from_coco(ground_truth)
        category_of = {int(key): index for index, key in enumerate(objects.category_ids)}
        image_of = {int(key): index for index, key in enumerate(objects.image_ids)}
        try:
            listed = [
                category_of[category] * objects.n_images + image_of[row["id"]]
                for row in ground_truth["images"]
                for category in (*row["pos_category_ids"], *row["neg_category_ids"])
            ]
        except (KeyError, TypeError) as error:
            raise DatasetError(
                f"an image without proper pos_category_ids and neg_category_ids ({type(error).__name__}: {error})",
                where="ground truth",
            ) from error
        return cls(objects, np.unique(np.concatenate([np.array(listed, dtype=np.int64), objects.groups])))


def score(truth: VerifiedTruth, predictions: Sequence[Mapping[str, Any]], task: Task) -> ChallengeScorer:
    """Match predictions to ground truth once, ready to be scored on the data set and on its resamples.

    The Open Images Challenge's rules of 2018 and 2019. A detection of a category that is not verified in its image is
    ignored. In the order of falling score a detection is true where the object that it overlaps most, by an IoU of 0.5
    or more, is not taken yet. One that is not true, and lies by half of its area or more within a box that holds a
    group, belongs to that box: the best of a box is one true positive, the others are ignored. All other detections
    are false. Boxes without an area are left out.

    Of masks, only objects that have one are found or missed, and groups are neither. A mask that is not true is ignored
    where it lies by half of its area or more within a group's mask; where the box around it is the first to have an IoU
    of 0.5 or more with the box of an object without a mask; and where that box lies by half within a group's.

    Args:
        truth: The annotated objects and what is known of each image.
        predictions: COCO result rows, see :func:`icm_bench.metrics.coco_match.match`; may be empty.
        task: Whether boxes or masks are compared.

    Raises:
        DetectorError: A prediction is malformed or belongs to an image that the ground truth does not have.
        UsageError: The task is neither detection nor segmentation.
    """
    if task not in ("detection", "segmentation"):
        raise UsageError(f"unknown task {task!r}", hint="choose detection or segmentation")
    objects = truth.objects
    kept, image, category, scores, _ = rank_detections(objects, predictions, most=None)
    rows = [predictions[index] for index in kept.tolist()]
    masks = masks_of(objects, rows, image) if task == "segmentation" else []
    boxes = np.array([rle.toBbox(mask) for mask in masks]).reshape(-1, 4) if masks else boxes_of(rows)
    group = category * objects.n_images + image
    scored = np.isin(group, truth.verified) & (boxes[:, 2:] > 0).all(axis=1)
    group, boxes = group[scored], boxes[scored]
    if task == "detection":
        counts = np.ones(len(objects.crowd), dtype=np.bool_)
        true, counted = _outcomes(box_pairs(objects, group, boxes), objects.crowd, len(group))
    else:
        has_mask = np.array([bool(item) for item in objects.segmentations], dtype=np.bool_)
        counts = has_mask & ~objects.crowd
        masked, boxed = objects.some(has_mask), objects.some(~has_mask)
        seen = [masks[place] for place in np.flatnonzero(scored).tolist()]
        found = _Overlaps(mask_pairs(masked, group, seen), masked.crowd)
        true, counted = _mask_outcomes(
            found, _Overlaps(box_pairs(boxed, group, boxes), boxed.crowd), len(group)
        )
    return ChallengeScorer(
        objects,
        counts,
        image[scored][counted],
        category[scored][counted],
        scores[scored][counted],
        true[counted],
    )


@dataclass(frozen=True, eq=False)
class ChallengeScorer:
    """The accuracy of one set of predictions, in percent.

    Average precision is the area under the precision-recall curve over all its points, with precision made to fall
    (PASCAL VOC 2010); a box that holds a group counts as one object. The mean is over the categories with an object.
    Detections that tie in score stand in the order of their images, then as they were predicted.

    Attributes:
        objects: The annotated objects.
        counts: Of each, whether it is found or missed.
        image: Of each detection that is true or false, the index of its image.
        category: Of each, the index of its category.
        scores: Of each, its score.
        true: Of each, whether it is true.
    """

    objects: GroundTruth
    counts: Flags
    image: Indices
    category: Indices
    scores: Floats
    true: Flags

    def metrics(self) -> dict[str, float | None]:
        """Return the mean average precision, 0 to 100; None where there is no object."""
        (value,) = self.resampled(self._once())[METRICS[0]].tolist()
        return {METRICS[0]: defined_or_none(value)}

    def per_category(self) -> dict[int, float | None]:
        """Return the average precision of each category id, 0 to 100; None where it has no object."""
        values = 100 * self._precisions(self._once())[:, 0]
        ids = self.objects.category_ids.tolist()
        return {key: defined_or_none(value) for key, value in zip(ids, values.tolist(), strict=True)}

    def resampled(self, weights: Weights) -> dict[str, Floats]:
        """Return the mean average precision on resamples of the images, asked for as COCO's figures are."""
        checked = checked_weights(weights, self.objects.n_images)
        percent: Floats = 100.0 * mean_over_categories(self._precisions(checked)[np.newaxis])[0]
        return {METRICS[0]: percent}

    def _precisions(self, weights: Weights) -> Floats:
        """Return the average precision of each category: categories x resamples, NaN where it has no object."""
        columns = np.ascontiguousarray(weights.T, dtype=np.float64)
        figures = np.full((len(self.objects.category_ids), columns.shape[1]), np.nan)
        order = np.lexsort((-self.scores, self.category))
        edges = np.searchsorted(self.category[order], np.arange(len(figures) + 1)).tolist()
        object_edges = np.searchsorted(self.objects.category, np.arange(len(figures) + 1)).tolist()
        parts = zip(figures, pairwise(edges), pairwise(object_edges), strict=True)
        for figure, (start, stop), (first, last) in parts:
            n_objects = _total(columns, self.objects.image[first:last][self.counts[first:last]])
            detections = order[start:stop]
            area = _areas(self.image[detections], self.true[detections], columns)
            np.divide(area, n_objects, out=figure, where=n_objects > 0)
        return figures

    def _once(self) -> Weights:
        return np.ones((1, self.objects.n_images), dtype=np.int64)


def _outcomes(pairs: Pairs, group_of: Flags, n_detections: int) -> tuple[Flags, Flags]:
    """Return of each detection, in the order of category, image and falling score, whether it is true and counts."""
    true = np.zeros(n_detections, dtype=np.bool_)
    single = ~group_of[pairs.object]
    detection, object_ = _nearest(pairs, single)
    true[first_of_each(detection, object_)] = True
    inside, group = _nearest(pairs, ~single & ~true[pairs.detection])
    counted = np.ones(n_detections, dtype=np.bool_)
    counted[inside] = False
    best = first_of_each(inside, group)
    true[best] = counted[best] = True
    return true, counted


@dataclass(frozen=True, eq=False)
class _Overlaps:
    """Detections and objects that overlap by half or more, and which objects are groups."""

    pairs: Pairs
    group_of: Flags

    def nearest(self, among: Flags, *, groups: bool) -> tuple[Indices, Indices]:
        """Return some of the detections, each once and in order, and the group or object that each overlaps most."""
        wanted = self.group_of[self.pairs.object] == groups
        return _nearest(self.pairs, wanted & among[self.pairs.detection])


def _mask_outcomes(masked: _Overlaps, boxed: _Overlaps, n_detections: int) -> tuple[Flags, Flags]:
    """Return of each mask, in the order of category, image and falling score, whether it is true and counts.

    Args:
        masked: Overlaps of masks, with the objects that have one.
        boxed: Overlaps of the boxes around the masks, with the objects that have none.
        n_detections: The number of masks.
    """
    true = np.zeros(n_detections, dtype=np.bool_)
    counted = np.ones(n_detections, dtype=np.bool_)
    true[first_of_each(*masked.nearest(counted, groups=False))] = True
    counted[masked.nearest(~true, groups=True)[0]] = False
    counted[first_of_each(*boxed.nearest(~true & counted, groups=False))] = False
    counted[boxed.nearest(~true & counted, groups=True)[0]] = False
    return true, counted


def _nearest(pairs: Pairs, among: Flags) -> tuple[Indices, Indices]:
    """Return the detections of some of the pairs, each once and in order, and the object that each overlaps most."""
    detection, object_, iou = pairs.detection[among], pairs.object[among], pairs.iou[among]
    order = np.lexsort((object_, -iou, detection))
    first = order[rank_in_run(detection[order]) == 0]
    return detection[first], object_[first]


def _total(columns: Floats, image: Indices) -> Floats:
    """Sum the weights, images x resamples, over the images that are named, each as often as it is."""
    counts = np.bincount(image, minlength=len(columns)).astype(np.float64)
    return np.asarray(counts @ columns)


def _areas(image: Indices, true: Flags, columns: Floats) -> Floats:
    """Return the area under the curve of true positives and precision, of ranked detections: one a resample.

    Precision can only be highest where a detection is true, so that it is computed there alone.

    Args:
        image: Of each detection by falling score, the index of its image.
        true: Of each, whether it is true.
        columns: Images x resamples, how often each image appears.
    """
    places = np.flatnonzero(true)
    areas = np.zeros(columns.shape[1])
    if not len(places):
        return areas
    false = np.flatnonzero(~true)
    edges = np.searchsorted(false, places)
    before = csr_matrix(
        (np.ones(edges[-1]), image[false[: edges[-1]]], np.concatenate([[0], edges])),
        shape=(len(places), len(columns)),
    )
    for part in resample_slices(columns.shape[1], len(places)):
        weight = columns[image[places], part]
        n_true = np.cumsum(weight, axis=0)
        n_false = np.cumsum(before @ columns[:, part], axis=0)
        n_all = n_true + n_false
        precision = np.divide(n_true, n_all, out=np.zeros_like(n_all), where=n_all > 0)
        falling = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        areas[part] = np.einsum("pr,pr->r", weight, falling)
    return areas
