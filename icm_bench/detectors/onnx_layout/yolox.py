"""The layout of YOLOX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Literal, Self, TypeAlias

import numpy as np

from icm_bench.detectors.box import Detections, Floats, corners
from icm_bench.detectors.network_input import Placement
from icm_bench.detectors.onnx_layout import answer
from icm_bench.detectors.onnx_layout.layout import Defaults, Graph, Layout, LayoutMismatch, Outputs
from icm_bench.detectors.onnx_layout.port import count_outputs, only_image, require_axes

Units: TypeAlias = Literal["cells", "input", "pixels"]
"""Units of YOLOX's boxes: relative to their cells, as the network predicts them; or decoded, as shares of the input or
in its pixels."""


_NEAR_CELLS = 4.0
"""How far, in cells, a box's centre may be from its cell's."""


@dataclass(frozen=True)
class YoloxLayout(Layout):
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
        image = only_image(graph, size, cls.defaults.side)
        (output,) = count_outputs(graph, 1)
        require_axes(output, 1, answer.count_cells(image.size), 5 + n_classes)
        return cls(image, output.name)

    def examine(self, outputs: Outputs, placement: Placement) -> Self:
        """Return the layout with the units of the boxes; refuse scores that are no probabilities."""
        cells = answer.cell_rows(outputs[self.output], placement)
        answer.require_probabilities(cells[:, 4:])
        places, strides = answer.cell_grid(placement)
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
            if np.mean((np.abs(decoded - centres) < reach).all(axis=1)) >= answer.NEARLY_ALL:
                layout = replace(self, units=units)
                answer.require_in_frame(layout._boxes(cells, placement), placement)
                return layout
        raise LayoutMismatch("its boxes are far from their cells, in offsets as in pixels")

    def decode(self, outputs: Outputs, placement: Placement, lowest: float) -> Detections:
        """Return a detection for every cell and class whose score is above the lowest."""
        cells = answer.cell_rows(outputs[self.output], placement)
        answer.require_probabilities(cells[:, 4:])
        return Detections.above(self._boxes(cells, placement), cells[:, 4:5] * cells[:, 5:], lowest)

    def __str__(self) -> str:
        return (
            self.name if self.units == "cells" else f"{self.name} with boxes decoded to {_UNITS[self.units]}"
        )

    def _boxes(self, cells: Floats, placement: Placement) -> Floats:
        if self.units == "cells":
            places, strides = answer.cell_grid(placement)
            with np.errstate(over="ignore"):  # an overflow is a box as large as the image, once it is clipped
                return corners((cells[:, :2] + places) * strides, np.exp(cells[:, 2:4]) * strides)
        if self.units == "input":
            side = np.array([placement.input_width, placement.input_height], np.float32)
            return corners(cells[:, :2] * side, cells[:, 2:4] * side)
        return corners(cells[:, :2], cells[:, 2:4])


_UNITS: Mapping[Units, str] = MappingProxyType({"input": "shares of the input", "pixels": "pixels"})
