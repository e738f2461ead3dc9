"""CenterNet with MobileNetV3 (Zhou et al., arXiv 1904.07850): a heat map of centres, and the box around each."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy import ndimage

from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.detector import Prediction
from icm_bench.detectors.box import Detections, Floats
from icm_bench.detectors.network_input import InputForm
from icm_bench.error import DetectorError
from icm_bench.image import Image
from icm_bench_example_detectors.coco_model import MAX_DETECTIONS, CocoModel

_SIDE = 512
_STRIDE = 4
_LOWEST_SCORE = 0.01


class CenterNet(CocoModel):
    """CenterNet with MobileNetV3 for COCO's 80 categories, 512x512, from an ONNX file.

    Args:
        weights: The ONNX file: 1x512x512x3 (RGB, 0 to 255) to a heat map 1x128x128x80, and the distances from each cell
            to the box's left, top, right and bottom edge, 1x128x128x4, in pixels of the input.
        device: ``cpu`` or ``cuda``.

    Raises:
        DetectorError: ONNX Runtime or the device is missing, no weights were given, or they are not such a file.
    """

    name: ClassVar[str] = "centernet_mobilenetv3"
    rule: ClassVar[str] = "centernet 1"

    def __init__(self, *, weights: Path | None = None, device: str = "cpu") -> None:
        super().__init__(weights=weights, device=device)
        n = _SIDE // _STRIDE
        forms = [(1, _SIDE, _SIDE, 3)], [(1, n, n, len(CATEGORIES)), (1, n, n, 4)]
        if (
            tuple([port.shape for port in ports] for ports in (self._model.inputs, self._model.outputs))
            != forms
        ):
            raise DetectorError(
                f"the model {self._model}, which is not CenterNet",
                where=weights,
                hint="give the ONNX file of CenterNet",
            )
        self._form = InputForm((_SIDE, _SIDE), "stretch", pixel_max=255, channels_last=True)

    def predict(self, image: Image) -> list[Prediction]:
        """Return at most 100 boxes in the image's pixels, best score first.

        Raises:
            DetectorError: The network fails or returns what is not finite.
        """
        pixels, placement = self._form.prepare(image)
        heat, edges = self._model.run({self._model.inputs[0].name: pixels}).values()
        found = _peaks(heat[0], edges[0]).best(MAX_DETECTIONS)
        return self._rows(found, placement)


def _peaks(heat: Floats, edges: Floats) -> Detections:
    """Return the boxes of the cells that are the highest of their category among their eight neighbours.

    Args:
        heat: Rows x columns x categories.
        edges: Rows x columns x 4.
    """
    highest = ndimage.maximum_filter(heat, size=(3, 3, 1), mode="nearest")
    y, x, classes = np.nonzero((heat == highest) & (heat > _LOWEST_SCORE))
    centres = np.stack([x, y], axis=1).astype(np.float32) * _STRIDE
    near, far = edges[y, x, :2], edges[y, x, 2:]
    boxes = np.concatenate([centres - near, centres + far], axis=1)
    return Detections(boxes, classes, heat[y, x, classes], y * heat.shape[1] + x)
