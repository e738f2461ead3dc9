"""Matching detections to ground truth, once, as COCO does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, pairwise
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from icm_bench.detector import Task
from icm_bench.error import DatasetError, DetectorError, UsageError

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
Bits: TypeAlias = NDArray[np.uint16]
"""One bit an IoU threshold, the lowest threshold in the lowest bit."""

IOU_THRESHOLDS: Final = tuple(float(threshold) for threshold in np.linspace(0.5, 0.95, 10))
ALL_THRESHOLDS: Final = (1 << len(IOU_THRESHOLDS)) - 1
AREA_RANGES: Final[tuple[tuple[str, float, float], ...]] = (
    ("all", 0.0, 1e10),
    ("small", 0.0, 32.0**2),
    ("medium", 32.0**2, 96.0**2),
    ("large", 96.0**2, 1e10),
)
MAX_DETECTIONS: Final = 100
_PAIRS_AT_ONCE: Final = 2_000_000


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Annotated objects, in the order of image and category.

    Attributes:
        image_ids: The images that are scored, sorted; every per-image array and weight follows this order.
        category_ids: The categories that are scored, sorted.
        known_image_ids: Every image of the annotation file, scored or not.
        sizes: Height and width of each scored image, pixels; zeros where the file does not give them.
        image: Of each object, the index of its image.
        category: Of each object, the index of its category.
        boxes: Objects x 4, [x, y, width, height] in pixels.
        areas: Of each object, the annotated area, square pixels.
        crowd: Of each object, whether it is a crowd region.
        segmentations: Of each object, its polygons or run lengths as annotated, or None.
    """

    image_ids: Indices
    category_ids: Indices
    known_image_ids: Indices
    sizes: Indices
    image: Indices
    category: Indices
    boxes: Floats
    areas: Floats
    crowd: Flags
    segmentations: tuple[Any, ...] = field(repr=False)

    @classmethod
    def from_coco(
        cls, ground_truth: Mapping[str, Any], image_ids: Iterable[int] | None = None
    ) -> GroundTruth:
        """Read a COCO annotation file's content.

        Args:
            ground_truth: ``images``, ``categories`` and ``annotations`` in COCO's format.
            image_ids: The images to score; all of the file's where None. Predictions on the file's other
                images are ignored.

        Raises:
            DatasetError: A part is missing or malformed, or an image to score is not in the file.
        """
        try:
            images = {int(image["id"]): image for image in ground_truth["images"]}
            category_ids = np.unique([int(category["id"]) for category in ground_truth["categories"]])
            annotations = list(ground_truth["annotations"])
            known = np.array(sorted(images), dtype=np.int64)
            scored = known if image_ids is None else np.unique(np.array(list(image_ids), dtype=np.int64))
            unknown = np.setdiff1d(scored, known)
            if unknown.size:
                raise DatasetError(f"image {unknown[0]} is not among its images", where="ground truth")
            category_ids = category_ids.astype(np.int64)
            return _ordered(images, annotations, known, scored, category_ids)
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"not COCO annotations ({type(error).__name__}: {error})",
                where="ground truth",
                hint="give images, categories and annotations with id, image_id, category_id, bbox and area",
            ) from error

    @property
    def n_images(self) -> int:
        """Count the scored images."""
        return len(self.image_ids)

    @cached_property
    def groups(self) -> Indices:
        """Number each object's pair of category and image; objects stand in rising order of it."""
        return self.category * self.n_images + self.image

    @cached_property
    def masks(self) -> list[dict[str, Any]]:
        """Return each object's mask as compressed run lengths.

        Raises:
            DatasetError: An object has no segmentation.
        """
        return [
            self._mask(segmentation, image)
            for segmentation, image in zip(self.segmentations, self.image.tolist(), strict=True)
        ]

    def ignored(self, low: float, high: float) -> Flags:
        """Tell which objects are neither found nor missed: crowds, and areas outside [low, high]."""
        return self.crowd | (self.areas < low) | (self.areas > high)

    def _mask(self, segmentation: Any, image: int) -> dict[str, Any]:
        height, width = self.sizes[image].tolist()
        where = f"image {self.image_ids[image]}"
        if not segmentation or not height or not width:
            raise DatasetError("an object without a segmentation, or an image without a size", where=where)
        if isinstance(segmentation, list):
            merged: dict[str, Any] = rle.merge(rle.frPyObjects(segmentation, height, width))
            return merged
        if isinstance(segmentation["counts"], list):
            compressed: dict[str, Any] = rle.frPyObjects(segmentation, height, width)
            return compressed
        return dict(segmentation)


def _ordered(
    images: Mapping[int, Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    known: Indices,
    scored: Indices,
    category_ids: Indices,
) -> GroundTruth:
    ids = [annotation["id"] for annotation in annotations if "id" in annotation]
    if len(set(ids)) != len(ids):
        raise DatasetError("two annotations share one id", where="ground truth")
    image, image_known = _positions(scored, [annotation["image_id"] for annotation in annotations])
    category, category_known = _positions(
        category_ids, [annotation["category_id"] for annotation in annotations]
    )
    kept = np.flatnonzero(image_known & category_known)
    kept = kept[np.argsort(category[kept] * len(scored) + image[kept], kind="stable")]
    chosen = [annotations[index] for index in kept.tolist()]
    areas = np.array([annotation["area"] for annotation in chosen], dtype=np.float64)
    boxes = np.array([annotation["bbox"] for annotation in chosen], dtype=np.float64).reshape(-1, 4)
    if not (np.isfinite(areas).all() and np.isfinite(boxes).all()):
        raise DatasetError("an area or a box that is not finite", where="ground truth")
    return GroundTruth(
        image_ids=scored,
        category_ids=category_ids,
        known_image_ids=known,
        sizes=np.array(
            [[images[key].get("height", 0), images[key].get("width", 0)] for key in scored.tolist()],
            dtype=np.int64,
        ).reshape(-1, 2),
        image=image[kept],
        category=category[kept],
        boxes=boxes,
        areas=areas,
        crowd=np.array([bool(annotation.get("iscrowd", 0)) for annotation in chosen], dtype=np.bool_),
        segmentations=tuple(annotation.get("segmentation") for annotation in chosen),
    )


def _positions(sorted_ids: Indices, ids: Sequence[int] | Indices) -> tuple[Indices, Flags]:
    """Return where each id stands among the sorted ones, and whether it stands there at all."""
    wanted = np.array(ids, dtype=np.int64)
    if not sorted_ids.size:
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=np.bool_)
    position = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
    return position, sorted_ids[position] == wanted


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
        pairs = box_pairs(ground_truth, groups, boxes)
    else:
        masks = _masks(ground_truth, rows, image)
        # One by one: pycocotools puts the length of a list into eight bits.
        areas = np.array([rle.area(mask) for mask in masks], dtype=np.float64)
        pairs = _mask_pairs(ground_truth, groups, masks)
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
        category, category_known = _positions(
            ground_truth.category_ids, [row["category_id"] for row in predictions]
        )
        scores = np.array([row["score"] for row in predictions], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise DetectorError(
            f"a prediction without a proper image_id, category_id or score ({type(error).__name__}: {error})"
        ) from error
    _, in_file = _positions(ground_truth.known_image_ids, ids)
    if not in_file.all():
        raise DetectorError(
            f"predictions on image {ids[~in_file][0]}, which the ground truth does not have",
            hint="score predictions against the annotations of the same data set",
        )
    if not np.isfinite(scores).all():
        raise DetectorError("a score is not finite", where=f"image {ids[~np.isfinite(scores)][0]}")
    image, image_scored = _positions(ground_truth.image_ids, ids)
    kept = np.flatnonzero(category_known & image_scored)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    kept = kept[np.argsort(category[kept] * ground_truth.n_images + image[kept], kind="stable")]
    rank = rank_in_run(category[kept] * ground_truth.n_images + image[kept])
    best = rank < (len(rank) if most is None else most)
    kept = kept[best]
    return kept, image[kept], category[kept], scores[kept], rank[best]


def rank_in_run(keys: Indices) -> Indices:
    """Return the number of each element within its run of equal keys, from zero."""
    position = np.arange(len(keys))
    starts = np.ones(len(keys), dtype=np.bool_)
    starts[1:] = keys[1:] != keys[:-1]
    first: Indices = np.maximum.accumulate(np.where(starts, position, 0))
    return position - first


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


def _masks(
    ground_truth: GroundTruth, rows: Sequence[Mapping[str, Any]], image: Indices
) -> list[Mapping[str, Any]]:
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


def _mask_pairs(ground_truth: GroundTruth, groups: Indices, masks: Sequence[Mapping[str, Any]]) -> Pairs:
    detections, objects, ious = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    shared = np.intersect1d(groups, ground_truth.groups)
    detection_edges = np.searchsorted(groups, [shared, shared + 1]).T.tolist()
    object_edges = np.searchsorted(ground_truth.groups, [shared, shared + 1]).T.tolist()
    annotated = ground_truth.masks if len(shared) else []
    crowd = ground_truth.crowd.astype(np.uint8).tolist()
    for (d0, d1), (g0, g1) in zip(detection_edges, object_edges, strict=True):
        iou = rle.iou(list(masks[d0:d1]), annotated[g0:g1], crowd[g0:g1])
        d, g = np.nonzero(iou >= IOU_THRESHOLDS[0])
        detections.append(d + d0)
        objects.append(g + g0)
        ious.append(iou[d, g])
    return Pairs(np.concatenate(detections), np.concatenate(objects), np.concatenate(ious))


def _outcomes(ground_truth: GroundTruth, areas: Floats, pairs: Pairs) -> tuple[Bits, Bits]:
    """Return the thresholds at which each detection is true, and at which it counts, for each area range."""
    n_ranges = len(AREA_RANGES)
    ignored = np.stack([ground_truth.ignored(low, high) for _, low, high in AREA_RANGES])
    inside = np.stack([(areas >= low) & (areas <= high) for _, low, high in AREA_RANGES])
    matched, matched_ignored = _greedy(pairs, ignored, ground_truth.crowd, len(areas))
    matched = matched.reshape(n_ranges, -1)
    true = matched & ~matched_ignored.reshape(n_ranges, -1)
    false = np.where(inside, ~matched & np.uint16(ALL_THRESHOLDS), np.uint16(0))
    return true, true | false


def _greedy(pairs: Pairs, ignored: Flags, crowd: Flags, n_detections: int) -> tuple[Bits, Bits]:
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
    reached = (1 << np.searchsorted(IOU_THRESHOLDS, iou, side="right")) - 1
    turns, sources, ranges = [], [], []
    for index in range(n_ranges):
        order = np.argsort(detection * 2 + ignored[index][object_], kind="stable")
        order = order[np.argsort(component[order], kind="stable")]
        turns.append(rank_in_run(component[order]))
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
