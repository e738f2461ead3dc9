"""What detectors of COCO's 80 categories from ONNX files share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.detector import Prediction, Task
from icm_bench.detectors.box import Detections
from icm_bench.detectors.network_input import Placement
from icm_bench.detectors.onnx_model import OnnxModel

NMS_IOU = 0.6
MAX_DETECTIONS = 100


class CocoModel:
    """A detector of COCO's 80 categories.

    Args:
        weights: The ONNX file.
        device: ``cpu`` or ``cuda``.

    Raises:
        DetectorError: ONNX Runtime or the device is missing, or no weights were given.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[Task, ...]] = ("detection",)
    categories: ClassVar[Mapping[int, str]] = CATEGORIES
    published: ClassVar[Mapping[Task, float]] = MappingProxyType({})
    rule: ClassVar[str]
    """The name and the version of how outputs become boxes."""

    def __init__(self, *, weights: Path | None = None, device: str = "cpu") -> None:
        self._model = OnnxModel(weights, device=device, detector=self.name)
        self._version = f"{self.rule}, {self._model.version}, {device}"

    def version(self) -> str:
        """Name this rule, ONNX Runtime's, Pillow's and the weights' version, and the device."""
        return self._version

    def _rows(self, found: Detections, placement: Placement) -> list[Prediction]:
        """Return at most 100 of the boxes in the network's input, as boxes in the image."""
        in_image = replace(found, boxes=placement.to_image(found.boxes))
        inside = in_image.clipped(placement.width, placement.height)
        return inside.best(MAX_DETECTIONS, iou=NMS_IOU).rows(dict(enumerate(CATEGORIES)))
