"""The layout of YOLOv5u, v8 and v11, with and without masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from icm_bench.detectors.box import Detections, Floats, Indices, corners
from icm_bench.detectors.network_input import Placement
from icm_bench.detectors.onnx_layout import answer
from icm_bench.detectors.onnx_layout.layout import Defaults, Graph, Layout, LayoutMismatch, Outputs
from icm_bench.detectors.onnx_layout.port import count_outputs, only_image, require_axes


@dataclass(frozen=True)
class YoloLayout(Layout):
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
        image = only_image(graph, size, cls.defaults.side)
        output, *others = count_outputs(graph, 1, 2)
        if others and len(output.shape) == 4:
            output, others = others[0], [output]
        n_cells = answer.count_cells(image.size)
        n_columns = 4 + n_classes
        prototypes = None
        if others:
            require_axes(others[0], 1, None, None, None)
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
        answer.require_probabilities(columns[:, 4 : 4 + self.n_classes])
        boxes = corners(columns[:, :2], columns[:, 2:4])
        places, strides = answer.cell_grid(placement)
        centres = (places + 0.5) * strides
        around = ((boxes[:, :2] <= centres + strides) & (boxes[:, 2:] >= centres - strides)).all(axis=1)
        if np.mean(around) < answer.NEARLY_ALL:
            raise LayoutMismatch(
                "its boxes are not around their cells, as centre and size in pixels of the input"
            )
        answer.require_in_frame(boxes, placement)
        return self

    def decode(self, outputs: Outputs, placement: Placement, lowest: float) -> Detections:
        """Return a detection for every cell and class whose score is above the lowest."""
        columns = self._columns(outputs, placement)
        scores = columns[:, 4 : 4 + self.n_classes]
        answer.require_probabilities(scores)
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
        return answer.cell_rows(values if self.cells_first else values.transpose(0, 2, 1), placement)


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
