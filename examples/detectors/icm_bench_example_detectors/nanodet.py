"""NanoDet-g (RangiLyu, github.com/RangiLyu/nanodet): anchor-free, with distances as distributions over bins."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.detector import Prediction
from icm_bench.detectors.box import Detections, Floats, grid
from icm_bench.detectors.network_input import InputForm
from icm_bench.error import DetectorError
from icm_bench.image import Image
from icm_bench_example_detectors.coco_model import CocoModel

_SIDE = 416
_STRIDES = (8, 16, 32)
_BINS = 11
_MEAN = (103.53, 116.28, 123.675)
_STD = (57.375, 57.12, 58.395)
_LOWEST_SCORE = 0.02


class NanoDet(CocoModel):
    """NanoDet-g for COCO's 80 categories, 416x416, from an ONNX file.

    Args:
        weights: The ONNX file: 1x3x416x416 (BGR, normalised) to the scores, 1 x cells x 80, and the distances to the
            four edges, 1 x cells x 44, of the grids of strides 8, 16 and 32.
        device: ``cpu`` or ``cuda``.

    Raises:
        DetectorError: ONNX Runtime or the device is missing, no weights were given, or they are not such a file.
    """

    name: ClassVar[str] = "nanodet_g"
    rule: ClassVar[str] = "nanodet 1"

    def __init__(self, *, weights: Path | None = None, device: str = "cpu") -> None:
        super().__init__(weights=weights, device=device)
        n_cells = [(_SIDE // stride) ** 2 for stride in _STRIDES]
        wanted = [(1, n, columns) for n in n_cells for columns in (len(CATEGORIES), 4 * _BINS)]
        if [port.shape for port in self._model.outputs] != wanted or len(self._model.inputs) != 1:
            raise DetectorError(
                f"the model {self._model}, which is not NanoDet-g",
                where=weights,
                hint="give the ONNX file of NanoDet-g",
            )
        self._form = InputForm((_SIDE, _SIDE), "stretch", channels="bgr", pixel_max=255, mean=_MEAN, std=_STD)

    def predict(self, image: Image) -> list[Prediction]:
        """Return at most 100 boxes in the image's pixels, best score first.

        Raises:
            DetectorError: The network fails or returns what is not finite.
        """
        pixels, placement = self._form.prepare(image)
        outputs = list(self._model.run({self._model.inputs[0].name: pixels}).values())
        scores = np.concatenate([output[0] for output in outputs[0::2]])
        bins = np.concatenate([output[0] for output in outputs[1::2]])
        found = Detections.above(_boxes(bins), scores, _LOWEST_SCORE)
        return self._rows(found, placement)


def _boxes(bins: Floats) -> Floats:
    """Return each cell's box in pixels of the input, cells x 4, given the logits of its distances, cells x 44."""
    logits = bins.reshape(len(bins), 4, _BINS)
    weights = np.exp(logits - logits.max(axis=2, keepdims=True))
    distances = (weights * np.arange(_BINS, dtype=np.float32)).sum(axis=2) / weights.sum(axis=2)
    places, strides = grid((_SIDE, _SIDE), _STRIDES)
    centres = (places + 0.5) * strides
    edges = distances * strides
    return np.concatenate([centres - edges[:, :2], centres + edges[:, 2:]], axis=1)
