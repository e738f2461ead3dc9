"""Detectors exported to ONNX, by file: YOLOX, the real-time DETRs, YOLOv5u to v11, and exports that end in NMS."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from icm_bench.detector import Prediction, Task
from icm_bench.detectors.label_map import COCO_80, COCO_91, LabelMap
from icm_bench.detectors.network_input import Channels, Fit, InputForm
from icm_bench.detectors.onnx_layout import family
from icm_bench.detectors.onnx_layout.layout import Layout, LayoutMismatch
from icm_bench.detectors.onnx_model import OnnxModel, digest, read_weights
from icm_bench.detectors.onnx_predictor import MAX_DETECTIONS, OnnxPredictor
from icm_bench.error import DetectorError, UsageError
from icm_bench.image import Image, printable

_NAME_DIGITS = 8
_LARGEST_SIDE = 8192


class Onnx:
    """Any detector that was exported to ONNX in one of four layouts, its weights in one file.

    Options that are left out follow from the layout, a layout that is left out from the graph's inputs and outputs.
    The version says what was chosen.

    Args:
        weights: The ONNX file.
        device: ``cpu`` (one thread) or ``cuda``.
        model: The file's name and the first digits of its SHA-256, as results are named by them; checked where given.
        layout: ``yolox``; ``detr`` (RT-DETR, D-FINE, DEIM); ``yolo`` (v5u, v8, v11; with masks too); ``nms`` (boxes,
            scores and labels are final).
        size: The input's side in pixels, or HEIGHTxWIDTH; by default the graph's, or 640 where it is free (``nms``:
            each image's own).
        fit: How an image is brought to that size.
        padding: What fills the rest of a letterbox, 0 to 255.
        channels: The order of the channels.
        pixel_max: What the brightest pixel becomes.
        mean: What is subtracted from the channels, as three numbers with commas, in their order and range.
        std: What the channels are then divided by, in the same form.
        score: Boxes up to this score, in [0, 1], are left out.
        nms: The intersection over union, in [0, 1], of suppression by class; 1 for none.
        max_detections: How many detections an image may have.
        categories: ``coco80`` (labels 0 to 79), ``coco91`` (labels are COCO's ids), or a JSON file beside the weights;
            :meth:`icm_bench.detectors.label_map.LabelMap.read` says its form.

    Raises:
        UsageError: An option's value does not fit.
        DetectorError: ONNX Runtime or the device is missing; no weights were given, or they are not of the layout; or
            the file of categories is missing or malformed.
    """

    name: ClassVar[str] = "onnx"
    published: ClassVar[Mapping[Task, float]] = MappingProxyType({})
    tasks: tuple[Task, ...] = ("detection", "segmentation")
    """What one or another network does; of an instance, what its own does."""
    categories: Mapping[int, str] = MappingProxyType({})
    """Of an instance, those of its option."""

    def __init__(
        self,
        *,
        model: str | None = None,
        layout: Literal["yolox", "detr", "yolo", "nms"] | None = None,
        size: str | None = None,
        fit: Fit | None = None,
        padding: int = 114,
        channels: Channels | None = None,
        pixel_max: Literal[1, 255] | None = None,
        mean: str = "0,0,0",
        std: str = "1,1,1",
        score: float | None = None,
        nms: float | None = None,
        max_detections: int = MAX_DETECTIONS,
        categories: str = COCO_80,
        weights: Path | None = None,
        device: str = "cpu",
    ) -> None:
        _check_range("padding", padding, 0, 255)
        _check_range("max_detections", max_detections, 1, 10_000)
        asked_size = None if size is None else _size(size)
        means, stds = _three("mean", mean), _three("std", std)
        if min(stds) <= 0:
            raise UsageError("a deviation that is not above 0", where=f"onnx:std={std}")
        network = OnnxModel(weights, device=device, detector=self.name)
        if weights is None:  # which the line above refuses
            raise AssertionError
        _check_name(model, weights, network.digest)
        labels, labels_named = _labels(categories, weights)
        bound = _bind(network, layout, labels.n_labels, asked_size, weights)
        usual = bound.defaults
        is_bytes = bound.image.kind == "uint8"
        form = InputForm(
            size=bound.image.size,
            fit=fit or _usual_fit(bound),
            padding=padding,
            channels=channels or usual.channels,
            pixel_max=pixel_max or (255 if is_bytes else usual.pixel_max),
            mean=means,
            std=stds,
            channels_last=bound.image.channels_last,
        )
        if is_bytes and (form.pixel_max != 255 or any(means) or set(stds) != {1.0}):
            raise UsageError(
                "the network takes bytes", where="detector 'onnx'", hint="leave out pixel_max, mean and std"
            )
        lowest = usual.score if score is None else score
        iou = usual.nms if nms is None else nms
        _check_range("score", lowest, 0, 1)
        _check_range("nms", iou, 0, 1)
        self._predictor = OnnxPredictor(
            network, bound, form, labels, lowest=lowest, iou=iou, most=max_detections, detector=self.name
        )
        self.tasks = ("detection", "segmentation") if bound.has_masks else ("detection",)
        self.categories = labels.categories
        self._version = (
            f"{network.version}, layout {self._predictor.layout}{'' if layout else ' by its graph'}, {form}, "
            f"score {lowest:g}, nms {iou:g}, at most {max_detections}, {labels_named}, {device}"
        )

    @classmethod
    def name_by_weights(cls, options: Mapping[str, str], *, weights: Path | None) -> dict[str, str]:
        """Return options with the name of the model: that of its file and its hash.

        Raises:
            DetectorError: No weights were given, or they cannot be read.
        """
        if weights is None or "model" in options:
            return dict(options)
        return {**options, "model": _name(weights, digest(read_weights(weights)))}

    def predict(self, image: Image) -> list[Prediction]:
        """Return boxes, and masks where the network draws them, in the image's pixels, best score first.

        Raises:
            DetectorError: The network fails, or returns what is not finite or impossible in its layout.
        """
        return self._predictor.predict(image)

    def version(self) -> str:
        """Name ONNX Runtime's, Pillow's and the weights' version, the layout, every option's value, and the device."""
        return self._version


def _bind(
    network: OnnxModel, layout: str | None, n_labels: int, size: tuple[int, int] | None, weights: Path
) -> Layout:
    try:
        return family.bind(network, layout, n_labels, size)
    except LayoutMismatch as mismatch:
        wanted = "of no layout" if layout is None else f"not of the layout {layout}"
        raise DetectorError(
            f"the model {network}, which is {wanted} for {n_labels} classes ({mismatch})",
            where=printable(weights),
            hint="give the right layout=, size= or categories=, or export the model in one of the layouts",
        ) from mismatch


def _usual_fit(bound: Layout) -> Fit:
    # A network with suppression that takes images of one size gets them as most exports of that kind want them.
    usual = bound.defaults.fit
    return "letterbox-centre" if usual == "none" and bound.image.size is not None else usual


def _labels(categories: str, weights: Path) -> tuple[LabelMap, str]:
    """Return the label map of an option, and how the version names it."""
    if categories in (COCO_80, COCO_91):
        return LabelMap.coco(categories), categories
    path = weights.parent / categories
    labels = LabelMap.read(path)
    return labels, f"categories {digest(path.read_bytes())}"


def _name(weights: Path, sha256: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9._]+", "-", weights.stem).strip("-.") or "model"
    return f"{stem}-{sha256[:_NAME_DIGITS]}"


def _check_name(model: str | None, weights: Path, sha256: str) -> None:
    # The digits alone count: the same file may have another name elsewhere.
    if model is not None and model.rpartition("-")[2] != sha256[:_NAME_DIGITS]:
        raise DetectorError(
            f"the weights are {_name(weights, sha256)}, not {model}",
            where=printable(weights),
            hint="leave out model=, or give the file that it names",
        )


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
    if found is None:
        raise UsageError("not a size", where=f"onnx:size={text}", hint="give pixels, as in 640 or 384x640")
    height = int(found[1])
    size = (height, int(found[2] or height))
    for side in size:
        _check_range("size", side, 1, _LARGEST_SIDE)
    return size


def _three(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise UsageError(
            "not three numbers",
            where=f"onnx:{option}={text}",
            hint="separate them by commas, as in 0.5,0.5,0.5",
        )
    return numbers


def _check_range(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"not from {low:g} to {high:g}", where=f"onnx:{option}={value:g}")
