"""The families of exported detectors, and which of them a graph belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image as PillowImage

from icm_bench.detectors.onnx_layout.final import DetrLayout, NmsLayout
from icm_bench.detectors.onnx_layout.layout import Graph, Layout, LayoutMismatch, SizeMismatch
from icm_bench.detectors.onnx_layout.yolo import YoloLayout
from icm_bench.detectors.onnx_layout.yolox import YoloxLayout
from icm_bench.image import Image

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
