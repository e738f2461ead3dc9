"""What the answers of exported detectors have in common: rows of cells, and checks that refuse other layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from icm_bench.detectors.box import Floats, grid
from icm_bench.detectors.network_input import Placement
from icm_bench.detectors.onnx_layout.layout import LayoutMismatch

_STRIDES = (8, 16, 32)
_SCORE_TOLERANCE = 1e-3


NEARLY_ALL = 0.9
"""The share of an output's boxes that must be as their layout says."""
_FRAME_MARGIN = 0.25
"""How far, in sides of the input, the edges of most boxes may be outside it."""
_SMALLEST_SPREAD = 0.05
"""How much of the input, in its sides, many boxes cover together."""
_MANY = 20


def count_cells(size: tuple[int, int] | None) -> int | None:
    """Return the number of cells of an input of a height and width; None where they are free."""
    if size is None:
        return None
    return sum((size[0] // stride) * (size[1] // stride) for stride in _STRIDES)


def cell_grid(placement: Placement) -> tuple[Floats, Floats]:
    """Return each cell's column and row, n x 2, and its side in pixels, n x 1."""
    return grid((placement.input_height, placement.input_width), _STRIDES)


def cell_rows(values: NDArray[Any], placement: Placement) -> Floats:
    """Return an output's rows, cells x columns; free axes are checked here, when they are known."""
    n_cells = count_cells((placement.input_height, placement.input_width))
    if values.ndim != 3 or values.shape[:2] != (1, n_cells):
        raise LayoutMismatch(f"{'x'.join(map(str, values.shape))} instead of 1x{n_cells} rows")
    rows: Floats = values[0]
    return rows


def require_probabilities(values: NDArray[Any]) -> None:
    """Refuse scores that are no probabilities."""
    if values.size:
        low, high = float(values.min()), float(values.max())
        if low < -_SCORE_TOLERANCE or high > 1.0 + _SCORE_TOLERANCE:
            raise LayoutMismatch(
                f"its scores run from {low:.3g} to {high:.3g}, so that they are no probabilities"
            )


def require_in_frame(boxes: Floats, placement: Placement) -> None:
    """Refuse boxes of which many are outside the input, or which all crowd into a corner of it."""
    if len(boxes) < _MANY:
        return
    side = np.array([placement.input_width, placement.input_height] * 2, np.float32)
    shares = boxes / side
    inside = (shares > -_FRAME_MARGIN) & (shares < 1.0 + _FRAME_MARGIN)
    if np.mean(inside.all(axis=1)) < NEARLY_ALL:
        raise LayoutMismatch("many of its boxes stick far out of the input")
    spread = shares[:, 2:].max(axis=0) - shares[:, :2].min(axis=0)
    if float(spread.min()) < _SMALLEST_SPREAD:
        raise LayoutMismatch("its boxes crowd into a corner, as if their units were not pixels")


def require_pixels(boxes: Floats, placement: Placement) -> None:
    """Refuse boxes that are all within the first pixel: shares of the input instead of pixels."""
    if (
        len(boxes) > 2
        and min(placement.input_width, placement.input_height) > 16
        and float(boxes.max()) <= 1.5
    ):
        raise LayoutMismatch("its boxes are shares of the input, not pixels")
