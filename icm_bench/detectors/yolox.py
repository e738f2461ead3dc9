"""YOLOX-Nano through ONNX Runtime: a small detector that needs no torch and no GPU."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image as PillowImage

from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.detector import Prediction, Task
from icm_bench.error import DetectorError
from icm_bench.image import Image, printable

_SIDE = 416
_STRIDES = (8, 16, 32)
_N_CELLS = sum((_SIDE // stride) ** 2 for stride in _STRIDES)
_PADDING = 114
_LOWEST_SCORE = 0.001
_NMS_IOU = 0.65
_MOST_DETECTIONS = 100
_PROVIDERS: Mapping[str, str] = MappingProxyType(
    {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
)

_Array = NDArray[np.float32]


class YoloxNano:
    """YOLOX-Nano for COCO's 80 categories, 416x416 (Ge et al., arXiv 2107.08430), from an ONNX file.

    Several categories may be named for one box; boxes are clipped to the image.

    Args:
        weights: The ONNX file, with input 1x3x416x416 (BGR, 0 to 255) and output 1x3549x85 (boxes relative to
            their grid cells, objectness and categories as probabilities).
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
        if weights is None:
            raise DetectorError(
                "needs the weights of YOLOX-Nano as an ONNX file",
                where=f"detector '{self.name}'",
                hint="give --detector-weights FILE.onnx",
            )
        runtime = _import_runtime(self.name)
        data = _read(weights)
        self._session = _open_session(runtime, data, weights, device)
        digest = hashlib.sha256(data).hexdigest()[:12]
        self._version = (
            f"onnxruntime {runtime.__version__}, pillow {PIL.__version__}, weights {digest}, {device}"
        )

    def predict(self, image: Image) -> list[Prediction]:
        """Return at most 100 boxes in the image's pixels, best score first.

        Raises:
            DetectorError: The network fails or returns what is not finite.
        """
        letterbox, scale = _letterbox(image)
        found = _select(_detections(self._infer(letterbox), scale, image.shape))
        category_ids = np.array(list(CATEGORIES))[found.classes]
        return [
            {
                "category_id": int(category_id),
                "bbox": [float(left), float(top), float(right - left), float(bottom - top)],
                "score": float(score),
            }
            for category_id, (left, top, right, bottom), score in zip(
                category_ids, found.boxes, found.scores, strict=True
            )
        ]

    def version(self) -> str:
        """Name ONNX Runtime's, Pillow's and the weights' version, and the device."""
        return self._version

    def _infer(self, letterbox: _Array) -> _Array:
        try:
            (output,) = self._session.run(None, {"images": letterbox})
        except Exception as error:  # ONNX Runtime's own exceptions share no public ancestor
            raise DetectorError(
                f"ONNX Runtime failed ({_one_line(error)})",
                where=f"detector '{self.name}'",
                hint="check the weights and the device",
            ) from error
        cells: _Array = output[0]
        if not np.isfinite(cells).all():
            raise DetectorError(
                "the network returned numbers that are not finite",
                where=f"detector '{self.name}'",
                hint="check the weights",
            )
        return cells


@dataclass(frozen=True)
class _Found:
    """Boxes as left, top, right, bottom; their class indices; their scores."""

    boxes: _Array
    classes: NDArray[np.intp]
    scores: _Array

    def take(self, index: NDArray[np.intp]) -> _Found:
        return _Found(self.boxes[index], self.classes[index], self.scores[index])


def _letterbox(image: Image) -> tuple[_Array, float]:
    """Return the network's input, the image scaled into its top-left corner, and the scale."""
    height, width = image.shape[:2]
    scale = min(_SIDE / width, _SIDE / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = np.asarray(PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BILINEAR))
    canvas = np.full((_SIDE, _SIDE, 3), _PADDING, dtype=np.uint8)
    canvas[: size[1], : size[0]] = resized
    bgr = canvas[:, :, ::-1].transpose(2, 0, 1)
    return np.ascontiguousarray(bgr, dtype=np.float32)[None], scale


def _detections(cells: _Array, scale: float, shape: tuple[int, ...]) -> _Found:
    """Return a detection for every cell and category whose score is above the lowest."""
    of_cell, classes = np.nonzero(cells[:, 4:5] * cells[:, 5:] > _LOWEST_SCORE)
    scores = cells[of_cell, 4] * cells[of_cell, 5 + classes]
    corners, strides = _grid()
    centre = (cells[:, 0:2] + corners) * strides
    with np.errstate(over="ignore"):  # an overflow is a box as large as the image, once it is clipped
        half = np.exp(cells[:, 2:4]) * strides / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1) / np.float32(scale)
    height, width = shape[:2]
    limits = np.array([width, height, width, height], dtype=np.float32)
    return _Found(np.clip(boxes, 0, limits)[of_cell], classes, scores)


def _grid() -> tuple[_Array, _Array]:
    """Return each cell's corner in cells (3549 x 2) and its stride in pixels (3549 x 1)."""
    corners, strides = [], []
    for stride in _STRIDES:
        n = _SIDE // stride
        y, x = np.mgrid[:n, :n]
        corners.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((n * n, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _select(found: _Found) -> _Found:
    """Return the best detections that no better one of the same class overlaps, best first."""
    by_score = found.take(np.argsort(-found.scores, kind="stable"))
    kept = []
    for index in np.unique(by_score.classes):
        members = np.flatnonzero(by_score.classes == index)
        kept.append(members[_suppress(by_score.boxes[members])])
    best = np.sort(np.concatenate(kept))[:_MOST_DETECTIONS] if kept else np.empty(0, dtype=np.intp)
    return by_score.take(best)


def _suppress(boxes: _Array) -> NDArray[np.intp]:
    """Return which boxes, given best first, greedy non-maximum suppression keeps."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    left = np.arange(len(boxes))
    kept = []
    while left.size:
        best, rest = left[0], left[1:]
        kept.append(best)
        overlap = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = np.prod(np.maximum(overlap, 0), axis=1)
        # Compared without dividing: boxes outside the image have been clipped to no area at all.
        left = rest[shared <= _NMS_IOU * (areas[best] + areas[rest] - shared)]
    return np.array(kept, dtype=np.intp)


def _import_runtime(name: str) -> Any:
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise DetectorError(
            "ONNX Runtime is not installed",
            where=f"detector '{name}'",
            hint="run pip install icm-bench[onnx]",
        ) from error


def _read(weights: Path) -> bytes:
    try:
        return weights.read_bytes()
    except (OSError, ValueError) as error:
        raise DetectorError(
            f"the weights cannot be read ({_one_line(error)})",
            where=printable(weights),
            hint="check the path given to --detector-weights",
        ) from error


def _open_session(runtime: Any, data: bytes, weights: Path, device: str) -> Any:
    if device not in _PROVIDERS:
        raise DetectorError(f"knows no device '{device}'", where="detector 'yolox'", hint="use cpu or cuda")
    provider = _PROVIDERS[device]
    if provider not in runtime.get_available_providers():
        raise DetectorError(
            f"this ONNX Runtime has no {provider}",
            where="detector 'yolox'",
            hint="install onnxruntime-gpu in place of onnxruntime, or use --device cpu",
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(data, options, providers=[provider])
    except Exception as error:  # ONNX Runtime's own exceptions share no public ancestor
        raise DetectorError(
            f"the weights are not an ONNX model that can be loaded ({_one_line(error)})",
            where=printable(weights),
            hint="give the ONNX file of YOLOX-Nano",
        ) from error
    _check_session(session, weights, provider)
    return session


def _check_session(session: Any, weights: Path, provider: str) -> None:
    inputs = [(node.name, list(node.shape)) for node in session.get_inputs()]
    outputs = [list(node.shape) for node in session.get_outputs()]
    if inputs != [("images", [1, 3, _SIDE, _SIDE])] or outputs != [[1, _N_CELLS, 5 + len(CATEGORIES)]]:
        raise DetectorError(
            f"the model takes {inputs} and returns {outputs}, which is not YOLOX-Nano at {_SIDE}x{_SIDE}",
            where=printable(weights),
            hint="give the ONNX file of YOLOX-Nano",
        )
    if session.get_providers()[0] != provider:
        raise DetectorError(
            f"ONNX Runtime fell back from {provider} to {session.get_providers()[0]}",
            where="detector 'yolox'",
            hint="hint the CUDA installation, or use --device cpu",
        )


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:200]
