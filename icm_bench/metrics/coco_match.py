"""Matching detections to ground truth, once, as COCO does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from icm_bench.detector import Task
from icm_bench.error import DetectorError, UsageError
from icm_bench.metrics import coco_overlap
from icm_bench.metrics.coco_truth import Flags, Floats, GroundTruth, Indices, positions_among

Bits: TypeAlias = NDArray[np.uint16]
"""One bit an IoU threshold, the lowest threshold in the lowest bit."""

ALL_THRESHOLDS: Final = (1 << len(coco_overlap.IOU_THRESHOLDS)) - 1
AREA_RANGES: Final[tuple[tuple[str, float, float], ...]] = (
    ("all", 0.0, 1e10),
    ("small", 0.0, 32.0**2),
    ("medium", 32.0**2, 96.0**2),
    ("large", 96.0**2, 1e10),
)
MAX_DETECTIONS: Final = 100


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of each detection.

    Detections stand in the order of category, image and falling score; at most 100 of each category and image
    are kept. Ties keep the order in which they were predicted.

    Attributes:
        ground_truth: What was matched against.
        image: Of each detection, the index of its image.
        category: Of each detection, the index of its category.
        scores: Of each detection, its score.
        rank: Of each detection, how many of its category and image have a better score.
        true: Area ranges x detections; the thresholds at which the detection found a counted object.
        counted: Area ranges x detections; the thresholds at which it is a true or a false positive, not
            ignored.
    """

    ground_truth: GroundTruth
    image: Indices
    category: Indices
    scores: Floats
    rank: Indices
    true: Bits
    counted: Bits


def match(ground_truth: GroundTruth, predictions: Sequence[Mapping[str, Any]], task: Task) -> Matches:
    """Match detections to objects, greedily by falling score, as COCO's reference evaluation does.

    Each area range and IoU threshold is matched on its own; crowds may be matched many times; a detection
    prefers the best object that counts over any that is ignored; of equal overlaps, the later object is
    taken. Unlike the reference, an annotation whose id is 0 can be found like any other.

    Args:
        ground_truth: The annotated objects.
        predictions: COCO result rows: ``image_id``, ``category_id``, ``score`` and ``bbox`` [x, y, width,
            height] in pixels, or for segmentation ``segmentation`` as compressed run lengths.
        task: Whether boxes or masks are compared; a mask's size class is that of its own area, not of its
            box.

    Raises:
        DetectorError: A prediction is malformed or belongs to an image that the annotation file does not
            have.
        UsageError: The task is neither detection nor segmentation.
    """
    if task not in ("detection", "segmentation"):
        raise UsageError(f"unknown task {task!r}", hint="choose detection or segmentation")
    kept, image, category, scores, rank = rank_detections(ground_truth, predictions)
    rows = [predictions[index] for index in kept.tolist()]
    groups = category * ground_truth.n_images + image
    if task == "detection":
        boxes = boxes_of(rows)
        areas = boxes[:, 2] * boxes[:, 3]
        pairs = coco_overlap.box_pairs(ground_truth, groups, boxes)
    else:
        masks = masks_of(ground_truth, rows, image)
        areas = coco_overlap.mask_areas(masks)
        pairs = coco_overlap.mask_pairs(ground_truth, groups, masks)
    true, counted = _outcomes(ground_truth, areas, pairs)
    return Matches(ground_truth, image, category, scores, rank, true, counted)


def rank_detections(
    ground_truth: GroundTruth, predictions: Sequence[Mapping[str, Any]], most: int | None = MAX_DETECTIONS
) -> tuple[Indices, Indices, Indices, Floats, Indices]:
    """Pick the rows that are scored, in the order of category, image and falling score.

    Args:
        ground_truth: The annotated objects.
        predictions: COCO result rows.
        most: How many of one category and image to pick; None for all.

    Returns:
        Of each picked row: its place among the predictions, the index of its image, the index of its category, its
        score, and how many of its category and image have a better score.

    Raises:
        DetectorError: A prediction is malformed or belongs to an image that the annotation file does not have.
    """
    try:
        ids = np.array([row["image_id"] for row in predictions], dtype=np.int64)
        category, category_known = positions_among(
            ground_truth.category_ids, [row["category_id"] for row in predictions]
        )
        scores = np.array([row["score"] for row in predictions], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise DetectorError(
            f"a prediction without a proper image_id, category_id or score ({type(error).__name__}: {error})"
        ) from error
    _, in_file = positions_among(ground_truth.known_image_ids, ids)
    if not in_file.all():
        raise DetectorError(
            f"predictions on image {ids[~in_file][0]}, which the ground truth does not have",
            hint="score predictions against the annotations of the same data set",
        )
    if not np.isfinite(scores).all():
        raise DetectorError("a score is not finite", where=f"image {ids[~np.isfinite(scores)][0]}")
    image, image_scored = positions_among(ground_truth.image_ids, ids)
    kept = np.flatnonzero(category_known & image_scored)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    kept = kept[np.argsort(category[kept] * ground_truth.n_images + image[kept], kind="stable")]
    rank = coco_overlap.rank_in_run(category[kept] * ground_truth.n_images + image[kept])
    best = rank < (len(rank) if most is None else most)
    kept = kept[best]
    return kept, image[kept], category[kept], scores[kept], rank[best]


def boxes_of(rows: Sequence[Mapping[str, Any]]) -> Floats:
    """Return the boxes of predictions, rows x 4, [x, y, width, height] in pixels.

    Raises:
        DetectorError: A box is malformed or not finite.
    """
    try:
        flat = np.fromiter(chain.from_iterable(row["bbox"] for row in rows), dtype=np.float64)
        boxes = flat.reshape(len(rows), 4)
    except (KeyError, TypeError, ValueError) as error:
        raise DetectorError(
            f"a prediction without a proper bbox ({type(error).__name__}: {error})"
        ) from error
    if not np.isfinite(boxes).all():
        raise DetectorError("a box is not finite")
    return boxes


def masks_of(
    ground_truth: GroundTruth, rows: Sequence[Mapping[str, Any]], image: Indices
) -> list[Mapping[str, Any]]:
    """Return the masks of predictions as compressed run lengths.

    Args:
        ground_truth: The annotated objects.
        rows: The predictions.
        image: Of each, the index of its image.

    Raises:
        DetectorError: A mask is missing, malformed or not of its image's size.
    """
    masks: list[Mapping[str, Any]] = []
    for row, index in zip(rows, image.tolist(), strict=True):
        mask = row.get("segmentation")
        where = f"image {row['image_id']}"
        if not isinstance(mask, Mapping) or not isinstance(mask.get("counts"), str | bytes):
            raise DetectorError("a prediction without a mask as compressed run lengths", where=where)
        if tuple(mask["size"]) != tuple(ground_truth.sizes[index].tolist()):
            raise DetectorError(f"a mask of {mask['size']}, not of the image's size", where=where)
        masks.append(mask)
    return masks


def _outcomes(ground_truth: GroundTruth, areas: Floats, pairs: coco_overlap.Pairs) -> tuple[Bits, Bits]:
    """Return the thresholds at which each detection is true, and at which it counts, for each area range."""
    n_ranges = len(AREA_RANGES)
    ignored = np.stack([ground_truth.ignored(low, high) for _, low, high in AREA_RANGES])
    inside = np.stack([(areas >= low) & (areas <= high) for _, low, high in AREA_RANGES])
    matched, matched_ignored = _greedy(pairs, ignored, ground_truth.crowd, len(areas))
    matched = matched.reshape(n_ranges, -1)
    true = matched & ~matched_ignored.reshape(n_ranges, -1)
    false = np.where(inside, ~matched & np.uint16(ALL_THRESHOLDS), np.uint16(0))
    return true, true | false


def _greedy(pairs: coco_overlap.Pairs, ignored: Flags, crowd: Flags, n_detections: int) -> tuple[Bits, Bits]:
    """Take the pairs of each area range in turn, all thresholds and all independent pairs at once.

    Pairs that share no detection and no object, even through others, cannot affect each other: the n-th pair
    of every such component is settled in one step. Crowds are never used up, so they tie nothing together.

    Returns:
        Of each area range and detection, one after the other: the thresholds at which it is matched, and at
        which it is matched to an ignored object.
    """
    n_ranges, n_objects = ignored.shape
    taking = np.lexsort((-pairs.object, -pairs.iou, pairs.detection))
    detection, object_, iou = pairs.detection[taking], pairs.object[taking], pairs.iou[taking]
    component = _components(detection, object_, crowd, n_detections)[detection]
    reached = (1 << np.searchsorted(coco_overlap.IOU_THRESHOLDS, iou, side="right")) - 1
    turns, sources, ranges = [], [], []
    for index in range(n_ranges):
        order = np.argsort(detection * 2 + ignored[index][object_], kind="stable")
        order = order[np.argsort(component[order], kind="stable")]
        turns.append(coco_overlap.rank_in_run(component[order]))
        sources.append(order)
        ranges.append(np.full(len(order), index))
    turn, source, range_ = np.concatenate(turns), np.concatenate(sources), np.concatenate(ranges)
    by_turn = np.argsort(turn, kind="stable")
    edges = np.searchsorted(turn[by_turn], np.arange(turn.max(initial=-1) + 2)).tolist()
    source, range_ = source[by_turn], range_[by_turn]

    of_detection = range_ * n_detections + detection[source]
    of_object = range_ * n_objects + object_[source]
    reachable = reached[source].astype(np.uint16)
    always_free = np.where(crowd[object_[source]], np.uint16(ALL_THRESHOLDS), np.uint16(0))
    lost = np.where(ignored.reshape(-1)[of_object], np.uint16(ALL_THRESHOLDS), np.uint16(0))
    matched = np.zeros(n_ranges * n_detections, dtype=np.uint16)
    matched_ignored = np.zeros_like(matched)
    taken = np.zeros(n_ranges * n_objects, dtype=np.uint16)
    for start, stop in pairwise(edges):
        d, g = of_detection[start:stop], of_object[start:stop]
        already, gone = matched[d], taken[g]
        now = reachable[start:stop] & ~already & (~gone | always_free[start:stop])
        matched[d] = already | now
        taken[g] = gone | now
        matched_ignored[d] |= now & lost[start:stop]
    return matched, matched_ignored


def _components(detection: Indices, object_: Indices, crowd: Flags, n_detections: int) -> Indices:
    """Label detections so that two have one label only if a chain of single objects ties them together."""
    single = ~crowd[object_]
    edges = (detection[single], object_[single] + n_detections)
    n_nodes = n_detections + len(crowd)
    graph = csr_matrix((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(n_nodes, n_nodes))
    _, labels = connected_components(graph, directed=False)
    return np.asarray(labels[:n_detections], dtype=np.int64)
