"""Which detections and objects overlap, as boxes and as masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from pycocotools import mask as rle

from icm_bench.metrics.coco_truth import Flags, Floats, GroundTruth, Indices

IOU_THRESHOLDS: Final = tuple(float(threshold) for threshold in np.linspace(0.5, 0.95, 10))

_PAIRS_AT_ONCE: Final = 2_000_000


def rank_in_run(keys: Indices) -> Indices:
    """Return the number of each element within its run of equal keys, from zero."""
    position = np.arange(len(keys))
    starts = np.ones(len(keys), dtype=np.bool_)
    starts[1:] = keys[1:] != keys[:-1]
    first: Indices = np.maximum.accumulate(np.where(starts, position, 0))
    return position - first


@dataclass(frozen=True, eq=False)
class Pairs:
    """Detections and objects of one image and category that overlap by the lowest threshold or more."""

    detection: Indices
    object: Indices
    iou: Floats


def box_pairs(ground_truth: GroundTruth, groups: Indices, boxes: Floats) -> Pairs:
    """Return the detections and objects of one category and image that overlap by the lowest threshold or more.

    With a crowd the overlap is the share of the detection that lies inside it.

    Args:
        ground_truth: The annotated objects.
        groups: Of each detection, its category's index times the number of images plus its image's index.
        boxes: Detections x 4, [x, y, width, height] in pixels.
    """
    first = np.searchsorted(ground_truth.groups, groups, side="left")
    n_objects = np.searchsorted(ground_truth.groups, groups, side="right") - first
    found = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for some in _slices(n_objects, _PAIRS_AT_ONCE):
        detection = np.repeat(np.arange(some.start, some.stop), n_objects[some])
        object_ = np.repeat(first[some], n_objects[some]) + rank_in_run(detection)
        iou = _box_iou(boxes[detection], ground_truth.boxes[object_], ground_truth.crowd[object_])
        near = iou >= IOU_THRESHOLDS[0]
        found.append(Pairs(detection[near], object_[near], iou[near]))
    return Pairs(
        np.concatenate([pairs.detection for pairs in found]),
        np.concatenate([pairs.object for pairs in found]),
        np.concatenate([pairs.iou for pairs in found]),
    )


def _slices(counts: Indices, most: int) -> Iterator[slice]:
    """Cut the range of the counts so that the counts of each slice sum to about ``most``."""
    if not counts.size:
        return
    part = np.cumsum(counts) // most
    cuts = np.flatnonzero(part[1:] != part[:-1]) + 1
    edges = [0, *cuts.tolist(), len(counts)]
    for start, stop in pairwise(edges):
        yield slice(start, stop)


def _box_iou(detected: Floats, annotated: Floats, crowd: Flags) -> Floats:
    """Return the overlap of each pair; with a crowd, the share of the detection that lies inside it."""
    detected_area = detected[:, 2] * detected[:, 3]
    width = np.minimum(detected[:, 0] + detected[:, 2], annotated[:, 0] + annotated[:, 2])
    width -= np.maximum(detected[:, 0], annotated[:, 0])
    height = np.minimum(detected[:, 1] + detected[:, 3], annotated[:, 1] + annotated[:, 3])
    height -= np.maximum(detected[:, 1], annotated[:, 1])
    shared = width * height
    union = np.where(crowd, detected_area, detected_area + annotated[:, 2] * annotated[:, 3] - shared)
    overlaps = (width > 0) & (height > 0)
    return np.divide(shared, union, out=np.zeros(len(shared)), where=overlaps)


def mask_pairs(
    ground_truth: GroundTruth,
    groups: Indices,
    masks: Sequence[Mapping[str, Any]],
    crowd: Flags | None = None,
    least: float = IOU_THRESHOLDS[0],
) -> Pairs:
    """Return the detections and objects of one category and image whose masks overlap.

    Args:
        ground_truth: The annotated objects.
        groups: Of each detection, its category's index times the number of images plus its image's index; sorted.
        masks: Of each detection, its mask.
        crowd: Of each object, whether its overlap is the share of the detection that lies inside it; by default that
            of crowds.
        least: The overlap from which on a pair is returned.
    """
    detections, objects, ious = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    shared = np.intersect1d(groups, ground_truth.groups)
    detection_edges = np.searchsorted(groups, [shared, shared + 1]).T.tolist()
    object_edges = np.searchsorted(ground_truth.groups, [shared, shared + 1]).T.tolist()
    annotated = ground_truth.masks if len(shared) else []
    is_crowd = (ground_truth.crowd if crowd is None else crowd).astype(np.uint8).tolist()
    for (d0, d1), (g0, g1) in zip(detection_edges, object_edges, strict=True):
        iou = rle.iou(list(masks[d0:d1]), annotated[g0:g1], is_crowd[g0:g1])
        d, g = np.nonzero(iou >= least)
        detections.append(d + d0)
        objects.append(g + g0)
        ious.append(iou[d, g])
    return Pairs(np.concatenate(detections), np.concatenate(objects), np.concatenate(ious))


def mask_areas(masks: Sequence[Mapping[str, Any]]) -> Floats:
    """Return how many pixels each mask covers."""
    # One by one: pycocotools puts the length of a list into eight bits.
    return np.array([rle.area(mask) for mask in masks], dtype=np.float64)


def first_of_each(detection: Indices, object_: Indices) -> Indices:
    """Return the first detection of each object, of pairs of the two."""
    order = np.lexsort((detection, object_))
    first: Indices = detection[order[rank_in_run(object_[order]) == 0]]
    return first
