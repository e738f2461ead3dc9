"""Layouts of exported detectors: what they take, how their outputs become boxes, and how each is recognised.

A layout is bound to a graph by its inputs and outputs. Shapes alone do not prove it, so that it then examines what the
network returns for a known image: boxes in other units, boxes already decoded and scores that are no probabilities have
the same shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from icm_bench.detectors.box import Detections, Floats, Indices, corners, grid
from icm_bench.detectors.network_input import Channels, Fit, Placement
from icm_bench.detectors.onnx_model import Port
from icm_bench.image import Image

Outputs: TypeAlias = Mapping[str, NDArray[Any]]
"""What a network returns, by the outputs' names."""

Units: TypeAlias = Literal["cells", "input", "pixels"]
"""Units of YOLOX's boxes: relative to their cells, as the network predicts them; or decoded, as shares of the input or
in its pixels."""

_STRIDES = (8, 16, 32)
_SCORE_TOLERANCE = 1e-3
_NEAR_CELLS = 4.0
"""How far, in cells, a box's centre may be from its cell's."""
_MOST = 0.9
"""The share of an output's boxes that must be as their layout says."""
_FRAME_MARGIN = 0.25
"""How far, in sides of the input, the edges of most boxes may be outside it."""
_SMALLEST_SPREAD = 0.05
"""How much of the input, in its sides, many boxes cover together."""
_MANY = 20


class LayoutMismatch(Exception):  # noqa: N818  (says what was found; callers make it an error with a file's name)
    """A graph, or what it returns, is not of a layout; the message is a clause that says why."""


class SizeMismatch(LayoutMismatch):
    """The size that was asked for is not the graph's, whatever the layout."""


class Graph(Protocol):
    """What a layout reads of a model."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True)
class Defaults:
    """How the detectors of a family are usually run.

    Attributes:
        side: Height and width of the input where the graph leaves them free, in pixels; None for the image's own.
        fit: How an image is brought to that size.
        channels: The order of the channels.
        pixel_max: What the brightest pixel becomes.
        score: The score below which boxes are left out.
        nms: The intersection over union of suppression; 1 where the family needs none.
    """

    side: int | None
    fit: Fit
    channels: Channels
    pixel_max: Literal[1, 255]
    score: float
    nms: float


@dataclass(frozen=True)
class ImageInput:
    """The input that takes the image.

    Attributes:
        name: Its name.
        size: Height and width in pixels, None where both are free.
        kind: The type of its elements.
        channels_last: Whether the channels are its last axis.
        has_batch: Whether its first axis counts images.
    """

    name: str
    size: tuple[int, int] | None
    kind: str
    channels_last: bool = False
    has_batch: bool = True


class Layout(Protocol):
    """How a family of exported detectors takes images and returns boxes.

    Attributes:
        name: Its name on the command line.
        defaults: How the family is usually run.
    """

    name: ClassVar[str]
    defaults: ClassVar[Defaults]

    @property
    def image(self) -> ImageInput:
        """The input that takes the image."""
        ...

    @property
    def has_masks(self) -> bool:
        """Whether the network draws masks."""
        ...

    @classmethod
    def bind(cls, graph: Graph, n_classes: int, size: tuple[int, int] | None) -> Self:
        """Return the layout of a graph.

        Args:
            graph: The model's inputs and outputs.
            n_classes: How many classes it knows.
            size: Height and width of the input in pixels that were asked for, if any.

        Raises:
            LayoutMismatch: The graph is not of this layout.
        """
        ...

    def feeds(self, placement: Placement) -> dict[str, NDArray[Any]]:
        """Return what the network takes beside the image."""
        ...

    def examine(self, outputs: Outputs, placement: Placement) -> Self:
        """Return the layout as the network's answer to a known image shows it.

        Raises:
            LayoutMismatch: No form of the layout explains the answer.
        """
        ...

    def decode(self, outputs: Outputs, placement: Placement, lowest: float) -> Detections:
        """Return the boxes whose score is above the lowest, in the input's pixels.

        Raises:
            LayoutMismatch: The outputs are impossible in this layout.
        """
        ...

    def masks(
        self, outputs: Outputs, sources: Indices, boxes: Floats, placement: Placement
    ) -> list[NDArray[np.bool_]]:
        """Return the masks, height x width of the image each, of detections.

        Args:
            outputs: What the network returned.
            sources: The output rows of the detections.
            boxes: Their boxes in the image's pixels, n x 4.
            placement: Where the image lies in the input.
        """
        ...

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class _Base:
    image: ImageInput

    name: ClassVar[str]

    @property
    def has_masks(self) -> bool:
        """Whether the network draws masks."""
        return False

    def feeds(self, placement: Placement) -> dict[str, NDArray[Any]]:
        """Return what the network takes beside the image: nothing."""
        del placement
        return {}

    def masks(
        self, outputs: Outputs, sources: Indices, boxes: Floats, placement: Placement
    ) -> list[NDArray[np.bool_]]:
        """Return no masks."""
        del outputs, sources, boxes, placement
        return []

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class YoloxLayout(_Base):
    """YOLOX: 1 x cells x (4 + 1 + classes), for grids of strides 8, 16 and 32.

    A row holds the box's centre and size, the probability of an object, and that of each class given an object. The
    score is the product. Exports differ in the boxes' units, which the answer to a known image tells apart.

    Attributes:
        output: The output's name.
        units: The units of its boxes.
    """

    output: str
    units: Units = "cells"

    name: ClassVar[str] = "yolox"
    defaults: ClassVar[Defaults] = Defaults(640, "letterbox", "bgr", 255, 0.001, 0.65)

    @classmethod
    def bind(cls, graph: Graph, n_classes: int, size: tuple[int, int] | None) -> Self:
        """Return the layout of a graph with one image as its input and rows of cells as its output."""
        image = _only_image(graph, size, cls.defaults.side)
        (output,) = _count_outputs(graph, 1)
        _require_axes(output, 1, _n_cells(image.size), 5 + n_classes)
        return cls(image, output.name)

    def examine(self, outputs: Outputs, placement: Placement) -> Self:
        """Return the layout with the units of the boxes; refuse scores that are no probabilities."""
        cells = _rows(outputs[self.output], placement)
        _require_probabilities(cells[:, 4:])
        places, strides = _grid(placement)
        centres = (places + 0.5) * strides
        side = np.array([placement.input_width, placement.input_height], np.float32)
        reach = _NEAR_CELLS * strides
        # In this order: shares of the input, all within 0 to 1, look like offsets in cells too.
        found: tuple[tuple[Units, Floats], ...] = (
            ("pixels", cells[:, :2]),
            ("input", cells[:, :2] * side),
            ("cells", (cells[:, :2] + places) * strides),
        )
        for units, decoded in found:
            if np.mean((np.abs(decoded - centres) < reach).all(axis=1)) >= _MOST:
                layout = replace(self, units=units)
                _require_in_frame(layout._boxes(cells, placement), placement)
                return layout
        raise LayoutMismatch("its boxes are far from their cells, in offsets as in pixels")

    def decode(self, outputs: Outputs, placement: Placement, lowest: float) -> Detections:
        """Return a detection for every cell and class whose score is above the lowest."""
        cells = _rows(outputs[self.output], placement)
        _require_probabilities(cells[:, 4:])
        return Detections.above(self._boxes(cells, placement), cells[:, 4:5] * cells[:, 5:], lowest)

    def __str__(self) -> str:
        return (
            self.name if self.units == "cells" else f"{self.name} with boxes decoded to {_UNITS[self.units]}"
        )

    def _boxes(self, cells: Floats, placement: Placement) -> Floats:
        if self.units == "cells":
            places, strides = _grid(placement)
            with np.errstate(over="ignore"):  # an overflow is a box as large as the image, once it is clipped
                return corners((cells[:, :2] + places) * strides, np.exp(cells[:, 2:4]) * strides)
        if self.units == "input":
            side = np.array([placement.input_width, placement.input_height], np.float32)
            return corners(cells[:, :2] * side, cells[:, 2:4] * side)
        return corners(cells[:, :2], cells[:, 2:4])


_UNITS: Mapping[Units, str] = MappingProxyType({"input": "shares of the input", "pixels": "pixels"})


@dataclass(frozen=True)
class YoloLayout(_Base):
    """YOLOv5u, v8 and v11: 1 x (4 + classes) x cells, or with its last two axes exchanged.

    A column holds the box's centre and size in pixels of the input, and the probability of each class. With masks it
    goes on with the box's coefficients, and a second output holds the prototypes, 1 x coefficients x height x width;
    a mask is where the sigmoid of their product, enlarged to the image, is above 0.5 inside the box.

    Attributes:
        output: The output's name.
        n_classes: How many classes it knows.
        prototypes: The name of the second output, None without masks.
        cells_first: Whether the cells are the second axis instead of the third.
    """

    output: str
    n_classes: int
    prototypes: str | None = None
    cells_first: bool = False

    name: ClassVar[str] = "yolo"
    defaults: ClassVar[Defaults] = Defaults(640, "letterbox-centre", "rgb", 1, 0.001, 0.7)

    @property
    def has_masks(self) -> bool:
        """Whether the network draws masks."""
        return self.prototypes is not None

    @classmethod
    def bind(cls, graph: Graph, n_classes: int, size: tuple[int, int] | None) -> Self:
        """Return the layout of a graph with one image as its input, and one output, or two with masks."""
        image = _only_image(graph, size, cls.defaults.side)
        output, *others = _count_outputs(graph, 1, 2)
        if others and len(output.shape) == 4:
            output, others = others[0], [output]
        n_cells = _n_cells(image.size)
        n_columns = 4 + n_classes
        prototypes = None
        if others:
            _require_axes(others[0], 1, None, None, None)
            prototypes = others[0].name
            n_coefficients = others[0].shape[1]
            if n_coefficients is None:
                raise LayoutMismatch(f"{others[0]} does not say how many prototypes there are")
            n_columns += n_coefficients
        for axes, cells_first in (((n_columns, n_cells), False), ((n_cells, n_columns), True)):
            if output.fits(1, *axes):
                return cls(image, output.name, n_classes, prototypes, cells_first)
        raise LayoutMismatch(f"{output} instead of 1x{n_columns}x{n_cells or 'cells'}")

    def examine(self, outputs: Outputs, placement: Placement) -> Self:
        """Return the layout; refuse scores that are no probabilities, and boxes in other units or of another kind."""
        columns = self._columns(outputs, placement)
        _require_probabilities(columns[:, 4 : 4 + self.n_classes])
        boxes = corners(columns[:, :2], columns[:, 2:4])
        places, strides = _grid(placement)
        centres = (places + 0.5) * strides
        around = ((boxes[:, :2] <= centres + strides) & (boxes[:, 2:] >= centres - strides)).all(axis=1)
        if np.mean(around) < _MOST:
            raise LayoutMismatch(
                "its boxes are not around their cells, as centre and size in pixels of the input"
            )
        _require_in_frame(boxes, placement)
        return self

    def decode(self, outputs: Outputs, placement: Placement, lowest: float) -> Detections:
        """Return a detection for every cell and class whose score is above the lowest."""
        columns = self._columns(outputs, placement)
        scores = columns[:, 4 : 4 + self.n_classes]
        _require_probabilities(scores)
        return Detections.above(corners(columns[:, :2], columns[:, 2:4]), scores, lowest)

    def masks(
        self, outputs: Outputs, sources: Indices, boxes: Floats, placement: Placement
    ) -> list[NDArray[np.bool_]]:
        """Return the masks, height x width of the image each, of detections."""
        if self.prototypes is None:
            return []
        prototypes = outputs[self.prototypes][0]
        coefficients = self._columns(outputs, placement)[sources, 4 + self.n_classes :]
        return [
            _mask(np.tensordot(weights, prototypes, axes=1), box, placement)
            for weights, box in zip(coefficients, boxes, strict=True)
        ]

    def __str__(self) -> str:
        return self.name if self.prototypes is None else f"{self.name} with masks"

    def _columns(self, outputs: Outputs, placement: Placement) -> Floats:
        values = outputs[self.output]
        return _rows(values if self.cells_first else values.transpose(0, 2, 1), placement)


@dataclass(frozen=True)
class _Final(_Base):
    """Labels, boxes (left, top, right, bottom in pixels) and scores, as three outputs, two, or one.

    Attributes:
        labels: The output of labels, None where they are a column of the boxes'.
        boxes: The output of boxes.
        scores: The output of scores, None where they are a column of the boxes'.
        n_classes: How many classes it knows; labels count them from 0.
    """

    labels: str | None
    boxes: str
    scores: str | None
    n_classes: int

    def examine(self, outputs: Outputs, placement: Placement) -> Self:
        """Return the layout; refuse boxes in other units or of another kind, and scores that are no probabilities."""
        found = self.decode(outputs, placement, 0.0)
        _require_in_frame(found.boxes, placement)
        return self

    def decode(self, outputs: Outputs, placement: Placement, lowest: float) -> Detections:
        """Return the detections whose score is above the lowest."""
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
        _require_probabilities(scores)
        kept = np.flatnonzero(scores > lowest)
        found = Detections(boxes[kept], labels[kept].astype(np.intp), scores[kept].astype(np.float32), kept)
        if np.any(found.classes != labels[kept]) or np.any(
            (found.classes < 0) | (found.classes >= self.n_classes)
        ):
            raise LayoutMismatch(
                f"labels from {labels[kept].min():g} to {labels[kept].max():g} instead of 0 to {self.n_classes - 1}"
            )
        if np.any(found.boxes[:, 2:] < found.boxes[:, :2]):
            raise LayoutMismatch("boxes whose right or bottom edge is before their left or top one")
        _require_pixels(found.boxes, placement)
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
        image = _image(graph, size, cls.defaults.side)
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
        image = _only_image(graph, size, cls.defaults.side)
        if len(graph.outputs) == 3:
            labels, boxes, scores = _labels_boxes_scores(graph)
            return cls(image, labels, boxes, scores, n_classes)
        first, *others = _count_outputs(graph, 1, 2, 3)
        if not others:
            if first.shape[-1:] != (6,) or not (first.fits(1, None, 6) or first.fits(None, 6)):
                raise LayoutMismatch(f"{first} instead of 1xboxesx6")
            return cls(image, None, first.name, None, n_classes)
        boxes_, labels_ = (first, others[0]) if first.shape[-1:] == (5,) else (others[0], first)
        if boxes_.shape[-1:] != (5,) or not labels_.kind.startswith("int"):
            raise LayoutMismatch("two outputs that are not boxes with scores, 1xboxesx5, and whole labels")
        return cls(image, labels_.name, boxes_.name, None, n_classes)


LAYOUTS: Mapping[str, type[Layout]] = MappingProxyType(
    {layout.name: layout for layout in (YoloxLayout, DetrLayout, YoloLayout, NmsLayout)}
)
"""The layouts by their names."""


def bind(graph: Graph, name: str | None, n_classes: int, size: tuple[int, int] | None) -> Layout:
    """Return the layout of a graph: the one that is named, or the one that fits alone.

    Args:
        graph: The model's inputs and outputs.
        name: The layout's name, None to guess it.
        n_classes: How many classes the model knows.
        size: Height and width of the input in pixels that were asked for, if any.

    Raises:
        LayoutMismatch: The layout does not fit; or none does, or several do.
    """
    if name is not None:
        return LAYOUTS[name].bind(graph, n_classes, size)
    fitting: list[Layout] = []
    reasons = []
    for layout in LAYOUTS.values():
        try:
            fitting.append(layout.bind(graph, n_classes, size))
        except SizeMismatch:
            raise
        except LayoutMismatch as mismatch:
            reasons.append(f"{layout.name}: {mismatch}")
    if not fitting:
        raise LayoutMismatch("; ".join(reasons))
    if len(fitting) > 1:
        raise LayoutMismatch(f"it may be {' or '.join(layout.name for layout in fitting)}")
    return fitting[0]


def known_image() -> Image:
    """Return the image that layouts are examined on: shaded rectangles, 400 x 300."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 200, (6, 8, 3), dtype=np.uint8)
    image = np.array(PillowImage.fromarray(coarse).resize((400, 300), PillowImage.Resampling.BICUBIC))
    for left, top, width, height in ((40, 60, 90, 180), (170, 30, 60, 60), (220, 150, 150, 110)):
        image[top : top + height, left : left + width] = rng.integers(0, 256, 3, dtype=np.uint8)
    return image


def _image(graph: Graph, size: tuple[int, int] | None, side: int | None) -> ImageInput:
    """Return the image's input, with the size that the graph fixes, else the one asked for, else the family's."""
    for port in graph.inputs:
        if port.kind not in ("float", "float16", "uint8"):
            continue
        for axes, last, batch in (
            ((1, 3, None, None), False, True),
            ((1, None, None, 3), True, True),
            ((3, None, None), False, False),
        ):
            if port.fits(*axes):
                height, width = port.shape[1:3] if last else port.shape[-2:]
                if size is not None:
                    if not port.fits(*((1, *size, 3) if last else (*axes[:-2], *size))):
                        raise SizeMismatch(f"its input is {port}, not {size[1]} wide and {size[0]} high")
                    fixed: tuple[int, int] | None = size
                elif height is None or width is None:
                    fixed = None if side is None else (height or side, width or side)
                else:
                    fixed = (height, width)
                return ImageInput(port.name, fixed, port.kind, last, batch)
    raise LayoutMismatch("no input takes an image of three channels")


def _only_image(graph: Graph, size: tuple[int, int] | None, side: int | None) -> ImageInput:
    if len(graph.inputs) != 1:
        raise LayoutMismatch(f"{len(graph.inputs)} inputs instead of the image alone")
    return _image(graph, size, side)


def _count_outputs(graph: Graph, *numbers: int) -> tuple[Port, ...]:
    if len(graph.outputs) not in numbers:
        raise LayoutMismatch(f"{len(graph.outputs)} outputs instead of {' or '.join(map(str, numbers))}")
    return graph.outputs


def _require_axes(port: Port, *axes: int | None) -> None:
    if not port.fits(*axes):
        wanted = "x".join("?" if axis is None else str(axis) for axis in axes)
        raise LayoutMismatch(f"{port} instead of {wanted}")


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


def _n_cells(size: tuple[int, int] | None) -> int | None:
    if size is None:
        return None
    return sum((size[0] // stride) * (size[1] // stride) for stride in _STRIDES)


def _grid(placement: Placement) -> tuple[Floats, Floats]:
    return grid((placement.input_height, placement.input_width), _STRIDES)


def _rows(values: NDArray[Any], placement: Placement) -> Floats:
    """Return an output's rows, cells x columns; free axes are checked here, when they are known."""
    n_cells = _n_cells((placement.input_height, placement.input_width))
    if values.ndim != 3 or values.shape[:2] != (1, n_cells):
        raise LayoutMismatch(f"{'x'.join(map(str, values.shape))} instead of 1x{n_cells} rows")
    rows: Floats = values[0]
    return rows


def _require_probabilities(values: NDArray[Any]) -> None:
    if values.size:
        low, high = float(values.min()), float(values.max())
        if low < -_SCORE_TOLERANCE or high > 1.0 + _SCORE_TOLERANCE:
            raise LayoutMismatch(
                f"its scores run from {low:.3g} to {high:.3g}, so that they are no probabilities"
            )


def _require_in_frame(boxes: Floats, placement: Placement) -> None:
    """Refuse boxes of which many are outside the input, or which all crowd into a corner of it."""
    if len(boxes) < _MANY:
        return
    side = np.array([placement.input_width, placement.input_height] * 2, np.float32)
    shares = boxes / side
    inside = (shares > -_FRAME_MARGIN) & (shares < 1.0 + _FRAME_MARGIN)
    if np.mean(inside.all(axis=1)) < _MOST:
        raise LayoutMismatch("many of its boxes stick far out of the input")
    spread = shares[:, 2:].max(axis=0) - shares[:, :2].min(axis=0)
    if float(spread.min()) < _SMALLEST_SPREAD:
        raise LayoutMismatch("its boxes crowd into a corner, as if their units were not pixels")


def _require_pixels(boxes: Floats, placement: Placement) -> None:
    """Refuse boxes that are all within the first pixel: shares of the input instead of pixels."""
    if (
        len(boxes) > 2
        and min(placement.input_width, placement.input_height) > 16
        and float(boxes.max()) <= 1.5
    ):
        raise LayoutMismatch("its boxes are shares of the input, not pixels")


def _mask(product: Floats, box: Floats, placement: Placement) -> NDArray[np.bool_]:
    """Return a box's mask: the sigmoid of prototypes' weighted sum, enlarged to the image, above 0.5 in the box."""
    mask = np.zeros((placement.height, placement.width), dtype=np.bool_)
    # The pixels whose centres are in the box.
    left, top, right, bottom = (int(edge) for edge in np.ceil(box - 0.5))
    right, bottom = min(right, placement.width), min(bottom, placement.height)
    if right <= left or bottom <= top:
        return mask
    with np.errstate(over="ignore"):
        sigmoid = PillowImage.fromarray((1.0 / (1.0 + np.exp(-product))).astype(np.float32))
    # The letterbox's part of the prototypes alone is enlarged.
    cells = np.array([sigmoid.width / placement.input_width, sigmoid.height / placement.input_height])
    edges = np.array([[left, top], [right, bottom]]) * placement.scale + placement.offset
    part = np.minimum(edges * cells, sigmoid.size)
    enlarged = sigmoid.resize(
        (right - left, bottom - top), PillowImage.Resampling.BILINEAR, box=tuple(part.ravel().tolist())
    )
    mask[top:bottom, left:right] = np.asarray(enlarged) > 0.5
    return mask
