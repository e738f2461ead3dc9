"""YOLOX-Nano through ONNX Runtime: a small detector that needs no torch and no GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.detector import Prediction, Task
from icm_bench.detectors.label_map import COCO_80, LabelMap
from icm_bench.detectors.network_input import InputForm
from icm_bench.detectors.onnx_layout.layout import LayoutMismatch
from icm_bench.detectors.onnx_layout.yolox import YoloxLayout
from icm_bench.detectors.onnx_model import OnnxModel
from icm_bench.detectors.onnx_predictor import OnnxPredictor
from icm_bench.error import DetectorError
from icm_bench.image import Image, printable

_SIDE = 416


class YoloxNano:
    """YOLOX-Nano for COCO's 80 categories, 416x416 (Ge et al., arXiv 2107.08430), from an ONNX file.

    Several categories may be named for one box; boxes are clipped to the image.

    Args:
        weights: The ONNX file, with input 1x3x416x416 (BGR, 0 to 255) and output 1x3549x85 (boxes, objectness and
            categories as probabilities); boxes may be relative to their grid cells or decoded.
        device: ``cpu`` (one thread) or ``cuda``.

    Raises:
        DetectorError: ONNX Runtime or the device is missing, no weights were given, or they are not such a
            file.
    """

    name: ClassVar[str] = "yolox"
    tasks: ClassVar[tuple[Task, ...]] = ("detection",)
    categories: ClassVar[Mapping[int, str]] = CATEGORIES
    published: ClassVar[Mapping[Task, float]] = MappingProxyType({"detection": 25.8})

    def __init__(self, *, weights: Path | None = None, device: str = "cpu") -> None:
        model = OnnxModel(weights, device=device, detector=self.name)
        labels = LabelMap.coco(COCO_80)
        try:
            layout = YoloxLayout.bind(model, labels.n_labels, (_SIDE, _SIDE))
        except LayoutMismatch as mismatch:
            raise DetectorError(
                f"the model {model}, which is not YOLOX-Nano at {_SIDE}x{_SIDE}",
                where=printable(weights),
                hint="give the ONNX file of YOLOX-Nano",
            ) from mismatch
        usual = layout.defaults
        form = InputForm((_SIDE, _SIDE), usual.fit, channels=usual.channels, pixel_max=usual.pixel_max)
        self._predictor = OnnxPredictor(
            model, layout, form, labels, lowest=usual.score, iou=usual.nms, detector=self.name
        )
        found = self._predictor.layout
        decoded = "" if found == layout else f", {found}"
        self._version = f"{model.version}{decoded}, {device}"

    def predict(self, image: Image) -> list[Prediction]:
        """Return at most 100 boxes in the image's pixels, best score first.

        Raises:
            DetectorError: The network fails or returns what is not finite.
        """
        return self._predictor.predict(image)

    def version(self) -> str:
        """Name ONNX Runtime's, Pillow's and the weights' version, and the device."""
        return self._version
