"""Layouts whose boxes are final: DETR and its successors, and exports that end in suppression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from icm_bench.detectors.box import Detections
from icm_bench.detectors.network_input import Placement
from icm_bench.detectors.onnx_layout import answer
from icm_bench.detectors.onnx_layout.layout import Defaults, Graph, Layout, LayoutMismatch, Outputs
from icm_bench.detectors.onnx_layout.port import count_outputs, image_input, only_image


@dataclass(frozen=True)
class _Final(Layout):
    """Labels, boxes (left, top, right, bottom in pixels) and scores, as three outputs, two, or one."""

    labels: str | None  # None where they are a column of the boxes'
    boxes: str
    scores: str | None  # likewise
    n_classes: int  # labels count them from 0

    def examine(self, outputs: Outputs, placement: Placement) -> Self:
        """Return the layout; refuse boxes in other units or of another kind, and scores that are no probabilities."""
        found = self.decode(outputs, placement, 0.0)
        answer.require_in_frame(found.boxes, placement)
        return self

    def decode(self, outputs: Outputs, placement: Placement, lowest: float) -> Detections:
        """Return the detections whose score is above the lowest, without boxes that end before they begin."""
        rows = outputs[self.boxes]
        if rows.ndim == 3:
            rows = rows[0] if len(rows) else rows.reshape(0, rows.shape[2])
        if rows.ndim != 2:
            raise LayoutMismatch(f"{self.boxes} has {rows.ndim} axes instead of boxes x 4")
        boxes = rows[:, :4].astype(np.float32)
        scores = rows[:, 4] if self.scores is None else outputs[self.scores].reshape(-1)
        labels = rows[:, 5] if self.labels is None else outputs[self.labels].reshape(-1)
        if not len(boxes) == len(scores) == len(labels):
            raise LayoutMismatch(
                f"{len(labels)} labels, {len(boxes)} boxes and {len(scores)} scores for an image"
            )
        answer.require_probabilities(scores)
        # Networks without a bound on a box's sides make a weak one of negative size now and then.
        upright = np.all(boxes[:, 2:] >= boxes[:, :2], axis=1)
        scored = upright[scores > 0.0]
        if len(scored) and np.mean(scored) < answer.NEARLY_ALL:
            raise LayoutMismatch("boxes whose right or bottom edge is before their left or top one")
        kept = np.flatnonzero((scores > lowest) & upright)
        found = Detections(boxes[kept], labels[kept].astype(np.intp), scores[kept].astype(np.float32), kept)
        if np.any(found.classes != labels[kept]) or np.any(
            (found.classes < 0) | (found.classes >= self.n_classes)
        ):
            raise LayoutMismatch(
                f"labels from {labels[kept].min():g} to {labels[kept].max():g} instead of 0 to {self.n_classes - 1}"
            )
        answer.require_pixels(found.boxes, placement)
        return found


@dataclass(frozen=True)
class DetrLayout(_Final):
    """RT-DETR, D-FINE and DEIM with their last step: labels, boxes and scores of the queries, without suppression.

    A second input takes the size, width and height, that the boxes are to be scaled to.

    Attributes:
        sizes: The second input's name.
        sizes_kind: The type of its elements.
    """

    sizes: str = "orig_target_sizes"
    sizes_kind: str = "int64"

    name: ClassVar[str] = "detr"
    defaults: ClassVar[Defaults] = Defaults(640, "stretch", "rgb", 1, 0.0, 1.0)

    @classmethod
    def bind(cls, graph: Graph, n_classes: int, size: tuple[int, int] | None) -> Self:
        """Return the layout of a graph with an image and a size as its inputs, and three outputs."""
        sizes = [port for port in graph.inputs if port.kind in ("int64", "int32") and port.fits(1, 2)]
        if len(graph.inputs) != 2 or len(sizes) != 1:
            raise LayoutMismatch("no input for an image with one for the size, 1x2 integers, beside it")
        image = image_input(graph, size, cls.defaults.side)
        labels, boxes, scores = _labels_boxes_scores(graph)
        return cls(image, labels, boxes, scores, n_classes, sizes[0].name, sizes[0].kind)

    def feeds(self, placement: Placement) -> dict[str, NDArray[Any]]:
        """Return the input's own size: boxes are brought to the image's as those of every layout."""
        size = [[placement.input_width, placement.input_height]]
        return {self.sizes: np.array(size, dtype=self.sizes_kind)}


@dataclass(frozen=True)
class NmsLayout(_Final):
    """Exports that end in suppression: boxes, scores and labels are final, in pixels of the input.

    One output of 1 x n x 6 (box, score, label), two (boxes with scores n x 5, labels), or three.
    """

    name: ClassVar[str] = "nms"
    defaults: ClassVar[Defaults] = Defaults(None, "none", "rgb", 1, 0.0, 1.0)

    @classmethod
    def bind(cls, graph: Graph, n_classes: int, size: tuple[int, int] | None) -> Self:
        """Return the layout of a graph with one image as its input."""
        image = only_image(graph, size, cls.defaults.side)
        if len(graph.outputs) == 3:
            labels, boxes, scores = _labels_boxes_scores(graph)
            return cls(image, labels, boxes, scores, n_classes)
        first, *others = count_outputs(graph, 1, 2, 3)
        if not others:
            if first.shape[-1:] != (6,) or not (first.fits(1, None, 6) or first.fits(None, 6)):
                raise LayoutMismatch(f"{first} instead of 1xboxesx6")
            return cls(image, None, first.name, None, n_classes)
        boxes_, labels_ = (first, others[0]) if first.shape[-1:] == (5,) else (others[0], first)
        if boxes_.shape[-1:] != (5,) or not labels_.kind.startswith("int"):
            raise LayoutMismatch("two outputs that are not boxes with scores, 1xboxesx5, and whole labels")
        return cls(image, labels_.name, boxes_.name, None, n_classes)


def _labels_boxes_scores(graph: Graph) -> tuple[str, str, str]:
    """Return the three outputs' names: boxes have a last axis of 4; labels are whole numbers, or named so."""
    if len(graph.outputs) != 3:
        raise LayoutMismatch(f"{len(graph.outputs)} outputs instead of labels, boxes and scores")
    boxes = [port for port in graph.outputs if port.shape[-1:] == (4,)]
    labels = [port for port in graph.outputs if port.kind.startswith("int")] or [
        port for port in graph.outputs if "label" in port.name or "class" in port.name
    ]
    scores = [port for port in graph.outputs if port not in boxes and port not in labels]
    if not len(boxes) == len(labels) == len(scores) == 1:
        raise LayoutMismatch("its outputs are not labels, boxes with a last axis of 4, and scores")
    return labels[0].name, boxes[0].name, scores[0].name
