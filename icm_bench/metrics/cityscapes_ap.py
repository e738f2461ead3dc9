"""Average precision of instance masks as Cityscapes' own evaluation defines it, beside COCO's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from pycocotools import mask as rle

from icm_bench.detector import Task
from icm_bench.metrics import coco_ap
from icm_bench.metrics.bootstrap import resample_slices
from icm_bench.metrics.coco_ap import Weights, checked_weights, defined_or_none, mean_over_categories
from icm_bench.metrics.coco_match import masks_of, rank_detections
from icm_bench.metrics.coco_overlap import Pairs, first_of_each, mask_areas, mask_pairs
from icm_bench.metrics.coco_truth import Flags, Floats, GroundTruth, Indices

METRICS: Final = ("map-cityscapes", "map50-cityscapes")
"""Cityscapes' AP over IoU 0.50 to 0.95 and at 0.50, of masks alone; not COCO's, and under other names for that."""

MIN_PIXELS: Final = 100
"""An object of fewer pixels is neither found nor missed."""

# As the published evaluation computes them: comparisons are strict, so the last bit counts.
_THRESHOLDS: Final = tuple(np.arange(0.5, 1.0, 0.05).tolist())


@dataclass(frozen=True, eq=False)
class StreetTruth:
    """Annotated objects of images in which some pixels are void.

    Attributes:
        objects: The annotated objects; a crowd is a region that holds a group of objects.
        void: Of each image, its void pixels as compressed run lengths, or None.
    """

    objects: GroundTruth
    void: tuple[Mapping[str, Any] | None, ...]

    @classmethod
    def from_rows(cls, ground_truth: Mapping[str, Any]) -> StreetTruth:
        """Read COCO's object format, with an image's void pixels as its ``void``.

        Raises:
            DatasetError: A part is missing or malformed.
        """
        objects = GroundTruth.from_coco(ground_truth)
        void = {row["id"]: row.get("void") for row in ground_truth["images"]}
        return cls(objects, tuple(void[key] for key in objects.image_ids.tolist()))


def score(
    truth: StreetTruth, predictions: Sequence[Mapping[str, Any]], task: Task
) -> coco_ap.Scorer | StreetScorer:
    """Match predictions to ground truth once, ready to be scored on the data set and on its resamples.

    Boxes are scored by COCO's rules alone: Cityscapes has none for them. Masks are scored by both. Cityscapes' rules:
    a mask finds an object by an IoU above the threshold, and the mask of the highest score makes it true, the others
    are false. A mask that finds nothing is false, unless more than the threshold's share of it lies on void pixels, on
    groups or on objects below 100 pixels; one that finds a group or such a small object is ignored.

    Args:
        truth: The annotated objects and what is void.
        predictions: COCO result rows, see :func:`icm_bench.metrics.coco_match.match`; may be empty.
        task: Whether boxes or masks are compared.

    Raises:
        DetectorError: A prediction is malformed or belongs to an image that the ground truth does not have.
        UsageError: The task is neither detection nor segmentation.
    """
    coco = coco_ap.score(truth.objects, predictions, task)
    if task == "detection":
        return coco
    objects = truth.objects
    kept, image, category, scores, _ = rank_detections(objects, predictions, most=None)
    masks = masks_of(objects, [predictions[index] for index in kept.tolist()], image)
    n_pixels = mask_areas(masks)
    some = np.flatnonzero(n_pixels > 0)
    masks = [masks[index] for index in some.tolist()]
    n_pixels, image, category, scores = n_pixels[some], image[some], category[some], scores[some]
    groups = category * objects.n_images + image
    inside = mask_pairs(
        objects, groups, masks, np.ones(len(objects.crowd), dtype=np.bool_), np.nextafter(0.0, 1.0)
    )
    shared = np.rint(inside.iou * n_pixels[inside.detection])
    n_object_pixels = mask_areas(objects.masks)
    small = n_object_pixels < MIN_PIXELS
    union = n_object_pixels[inside.object] + n_pixels[inside.detection] - shared
    # A small group counts twice here, as it does in the published evaluation.
    lost = shared * (objects.crowd.astype(np.float64) + small)[inside.object]
    ignored = _void_pixels(truth, image, masks, n_pixels)
    ignored += np.bincount(inside.detection, weights=lost, minlength=len(masks))
    counts = ~(objects.crowd | small)
    true, counted = _outcomes(
        Pairs(inside.detection, inside.object, shared / union), counts, ignored / n_pixels
    )
    return StreetScorer(coco, counts, image, category, scores, true, counted)


@dataclass(frozen=True, eq=False)
class StreetScorer:
    """The accuracy of one set of predictions, in percent: COCO's values of masks, and Cityscapes'.

    Cityscapes' average precision is the area under the curve of recall and precision by straight lines between its
    points, one point a score, from a precision of 1 at no recall on; nothing makes precision fall. The mean is over the
    categories with an object and the ten thresholds.

    Attributes:
        coco: What COCO's rules give.
        counts: Of each annotated object, whether it can be found or missed.
        image: Of each detection, the index of its image.
        category: Of each, the index of its category.
        scores: Of each, its score.
        true: Thresholds x detections, whether it is true.
        counted: Thresholds x detections, whether it is true or false.
    """

    coco: coco_ap.Scorer
    counts: Flags
    image: Indices
    category: Indices
    scores: Floats
    true: Flags
    counted: Flags

    def metrics(self) -> dict[str, float | None]:
        """Return all metrics, 0 to 100; None where no object counts."""
        own = self._own(np.ones((1, self._objects.n_images), dtype=np.int64))
        return self.coco.metrics() | {name: defined_or_none(float(own[name][0])) for name in METRICS}

    def per_category(self) -> dict[int, float | None]:
        """Return COCO's average precision of each category id, 0 to 100; None where it has no object."""
        return self.coco.per_category()

    def resampled(self, weights: Weights) -> dict[str, Floats]:
        """Return all metrics on resamples of the images; see :meth:`icm_bench.metrics.coco_ap.Scorer.resampled`."""
        return self.coco.resampled(weights) | self._own(weights)

    @property
    def _objects(self) -> GroundTruth:
        return self.coco.matches.ground_truth

    def _own(self, weights: Weights) -> dict[str, Floats]:
        precisions = self._precisions(checked_weights(weights, self._objects.n_images))
        mean = mean_over_categories(precisions.swapaxes(0, 1))
        return {METRICS[0]: 100.0 * mean.mean(axis=0), METRICS[1]: 100.0 * mean[0]}

    def _precisions(self, weights: Weights) -> Floats:
        """Return categories x thresholds x resamples, 0 to 1; NaN where a category has no object that counts."""
        columns = np.ascontiguousarray(weights.T, dtype=np.float64)
        n_categories = len(self._objects.category_ids)
        areas = np.full((n_categories, len(_THRESHOLDS), columns.shape[1]), np.nan)
        order = np.lexsort((-self.scores, self.category))
        edges = np.searchsorted(self.category[order], np.arange(n_categories + 1)).tolist()
        for index, (start, stop) in enumerate(pairwise(edges)):
            mine = self.counts & (self._objects.category == index)
            n_objects = np.bincount(self._objects.image[mine], minlength=len(columns)) @ columns
            areas[index, :, n_objects > 0] = 0.0
            for part in resample_slices(columns.shape[1], max(1, stop - start)) if stop > start else ():
                areas[index, :, part] = self._areas(order[start:stop], columns[:, part], n_objects[part])
        return areas

    def _areas(self, ranked: Indices, columns: Floats, n_objects: Floats) -> Floats:
        """Return the area at each threshold, of ranked detections of one category: thresholds x resamples."""
        weight = columns[self.image[ranked]]
        # Detections that tie in score are one point.
        last = np.append(np.flatnonzero(np.diff(self.scores[ranked])), len(ranked) - 1)
        precision = np.ones((len(last) + 1, columns.shape[1]))
        recall = np.zeros_like(precision)
        areas = np.full((len(_THRESHOLDS), columns.shape[1]), np.nan)
        for area, true, counted in zip(areas, self.true[:, ranked], self.counted[:, ranked], strict=True):
            n_true = np.cumsum(weight * true[:, np.newaxis], axis=0)[last]
            n_counted = np.cumsum(weight * counted[:, np.newaxis], axis=0)[last]
            precision[1:] = 1.0
            np.divide(n_true, n_counted, out=precision[1:], where=n_counted > 0)
            np.divide(n_true, n_objects, out=recall[1:], where=n_objects > 0)
            steps = np.diff(recall, axis=0) * (precision[1:] + precision[:-1]) / 2.0
            np.copyto(area, steps.sum(axis=0), where=n_objects > 0)
        return areas


def _void_pixels(
    truth: StreetTruth, image: Indices, masks: Sequence[Mapping[str, Any]], n_pixels: Floats
) -> Floats:
    """Return how many of each mask's pixels are void."""
    found = np.zeros(len(masks))
    for index, void in enumerate(truth.void):
        mine = np.flatnonzero(image == index)
        if void is not None and mine.size:
            share = rle.iou([masks[number] for number in mine.tolist()], [void], [1])
            found[mine] = np.rint(share[:, 0] * n_pixels[mine])
    return found


def _outcomes(pairs: Pairs, counts: Flags, ignored: Floats) -> tuple[Flags, Flags]:
    """Return whether each detection is true, and whether it is true or false: thresholds x detections.

    Args:
        pairs: The detections, of one category and image by falling score, and objects that share pixels.
        counts: Of each object, whether it can be found or missed.
        ignored: Of each detection, which share of it lies where nothing counts.
    """
    true = np.zeros((len(_THRESHOLDS), len(ignored)), dtype=np.bool_)
    counted = ignored <= np.array(_THRESHOLDS)[:, np.newaxis]
    for index, threshold in enumerate(_THRESHOLDS):
        finds = pairs.iou > threshold
        detection, object_ = pairs.detection[finds], pairs.object[finds]
        real = counts[object_]
        counted[index, detection] = False
        counted[index, detection[real]] = True
        true[index, first_of_each(detection[real], object_[real])] = True
    return true, counted
