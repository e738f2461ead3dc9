"""Boxes as networks return them, and the selection of the best: clipping, suppression of overlaps, COCO's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from icm_bench.detector import Prediction

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Detections:
    """Scored boxes of one image, in any order.

    Attributes:
        boxes: n x 4, left, top, right, bottom in pixels.
        classes: n indices of classes, from 0.
        scores: n scores in [0, 1].
        sources: n indices of the network's output rows that the boxes come from; several boxes may share one.
    """

    boxes: Floats
    classes: Indices
    scores: Floats
    sources: Indices

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def above(cls, boxes: Floats, scores: Floats, lowest: float) -> Detections:
        """Return a detection for every box and class whose score is above the lowest.

        Args:
            boxes: m x 4, left, top, right, bottom.
            scores: m x classes.
            lowest: A score in [0, 1].
        """
        sources, classes = np.nonzero(scores > lowest)
        return cls(boxes[sources], classes, scores[sources, classes], sources)

    def take(self, index: Indices) -> Detections:
        """Return the detections of these indices, in their order."""
        return Detections(self.boxes[index], self.classes[index], self.scores[index], self.sources[index])

    def clipped(self, width: int, height: int) -> Detections:
        """Return the detections with their boxes clipped to an image of this size in pixels."""
        limits = np.array([width, height, width, height], dtype=np.float32)
        return replace(self, boxes=np.clip(self.boxes, 0, limits))

    def best(self, n: int, *, iou: float = 1.0) -> Detections:
        """Return at most n detections that no better one of the same class overlaps, best first.

        Args:
            n: The number of detections.
            iou: The intersection over union, in [0, 1], above which two boxes of a class overlap; 1 keeps all.
        """
        by_score = self.take(np.argsort(-self.scores, kind="stable"))
        if iou >= 1.0:
            return by_score.take(np.arange(min(n, len(by_score))))
        kept = []
        for index in np.unique(by_score.classes):
            members = np.flatnonzero(by_score.classes == index)
            kept.append(members[_suppress(by_score.boxes[members], iou)])
        return by_score.take(np.sort(np.concatenate(kept))[:n] if kept else np.empty(0, dtype=np.intp))

    def rows(self, category_ids: Mapping[int, int]) -> list[Prediction]:
        """Return the detections as COCO rows, given the category ids by class.

        Raises:
            KeyError: A class has no category id.
        """
        return [
            {
                "category_id": category_ids[int(index)],
                "bbox": [float(left), float(top), float(right - left), float(bottom - top)],
                "score": min(float(score), 1.0),
            }
            for index, (left, top, right, bottom), score in zip(
                self.classes, self.boxes, self.scores, strict=True
            )
        ]


def corners(centre: Floats, size: Floats) -> Floats:
    """Return boxes as left, top, right, bottom, n x 4, given their centres and their sizes, each n x 2."""
    half = size / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def grid(size: tuple[int, int], strides: Sequence[int]) -> tuple[Floats, Floats]:
    """Return the cells of a pyramid of grids, one grid after the other, each row by row.

    Args:
        size: Height and width of the network's input in pixels.
        strides: The sides of the grids' cells in pixels.

    Returns:
        Each cell's column and row (n x 2), and the side of the cell in pixels (n x 1).
    """
    places, sides = [], []
    for stride in strides:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        places.append(np.stack([x.ravel(), y.ravel()], axis=1))
        sides.append(np.full((x.size, 1), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(sides).astype(np.float32)


def _suppress(boxes: Floats, iou: float) -> Indices:
    """Return which boxes, given best first, greedy non-maximum suppression keeps."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    left = np.arange(len(boxes))
    kept = []
    while left.size:
        best, rest = left[0], left[1:]
        kept.append(best)
        overlap = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = np.prod(np.maximum(overlap, 0), axis=1)
        # Compared without a division: boxes outside the image have been clipped to no area at all.
        left = rest[shared <= iou * (areas[best] + areas[rest] - shared)]
    return np.array(kept, dtype=np.intp)
