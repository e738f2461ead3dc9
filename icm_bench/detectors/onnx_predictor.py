"""From an image through an ONNX network of a known layout to COCO rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icm_bench.detector import Prediction
from icm_bench.detectors.label_map import LabelMap
from icm_bench.detectors.mask import run_lengths
from icm_bench.detectors.network_input import InputForm, Placement
from icm_bench.detectors.onnx_layout import family
from icm_bench.detectors.onnx_layout.layout import Layout, LayoutMismatch, Outputs
from icm_bench.detectors.onnx_model import OnnxModel
from icm_bench.error import DetectorError
from icm_bench.image import Image

MAX_DETECTIONS = 100
"""How many detections an image may have by default, as COCO's evaluation counts them."""

_KINDS: Mapping[str, type[np.generic]] = MappingProxyType(
    {"float": np.float32, "float16": np.float16, "uint8": np.uint8}
)


class OnnxPredictor:
    """A network, its layout and what is done around it: from an image to COCO rows.

    The network proves its layout on a known image first.

    Args:
        model: The network.
        layout: How it takes images and returns boxes.
        form: How an image becomes its input.
        labels: The categories of its labels.
        lowest: The score, in [0, 1], that boxes are above.
        iou: The intersection over union, in [0, 1], above which suppression takes two boxes of a class for one; 1 for
            no suppression.
        most: How many detections an image may have.
        detector: The detector's name, for messages.

    Attributes:
        layout: The layout, as the answer to the known image shows it.

    Raises:
        DetectorError: The network fails on the known image, or its answer is not of the layout.
    """

    def __init__(
        self,
        model: OnnxModel,
        layout: Layout,
        form: InputForm,
        labels: LabelMap,
        *,
        lowest: float,
        iou: float,
        most: int = MAX_DETECTIONS,
        detector: str,
    ) -> None:
        self._model = model
        self._form = form
        self._labels = labels
        self._lowest = lowest
        self._iou = iou
        self._most = most
        self._where = f"detector '{detector}'"
        self.layout = layout
        outputs, placement = self._infer(family.known_image())
        try:
            self.layout = layout.examine(outputs, placement)
        except LayoutMismatch as mismatch:
            raise self._mismatch(mismatch) from mismatch

    def predict(self, image: Image) -> list[Prediction]:
        """Return boxes, and masks where the network draws them, in the image's pixels, best score first.

        Raises:
            DetectorError: The network fails, or returns what is not finite or impossible in its layout.
        """
        outputs, placement = self._infer(image)
        try:
            found = self.layout.decode(outputs, placement, self._lowest)
        except LayoutMismatch as mismatch:
            raise self._mismatch(mismatch) from mismatch
        in_image = replace(found, boxes=placement.to_image(found.boxes))
        best = in_image.clipped(placement.width, placement.height).best(self._most, iou=self._iou)
        try:
            rows = best.rows(self._labels.category_ids)
        except KeyError as error:
            raise self._mismatch(f"label {error} names no category") from error
        if self.layout.has_masks:
            masks = self.layout.masks(outputs, best.sources, best.boxes, placement)
            for row, mask in zip(rows, masks, strict=True):
                row["segmentation"] = run_lengths(mask)
        return rows

    def _infer(self, image: Image) -> tuple[Outputs, Placement]:
        prepared, placement = self._form.prepare(image)
        port = self.layout.image
        pixels = prepared if port.has_batch else prepared[0]
        feeds: dict[str, NDArray[Any]] = {port.name: pixels.astype(_KINDS[port.kind], copy=False)}
        return self._model.run(feeds | self.layout.feeds(placement)), placement

    def _mismatch(self, what: object) -> DetectorError:
        return DetectorError(
            f"the network's outputs are not of the layout {self.layout} ({what})",
            where=self._where,
            hint="check layout, size and categories, or export the model in one of the layouts",
        )
