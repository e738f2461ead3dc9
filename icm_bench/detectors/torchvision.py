"""torchvision's Faster R-CNN and Mask R-CNN, as published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops.misc import FrozenBatchNorm2d

from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.detector import Prediction, Task
from icm_bench.detectors.device import network_errors, open_device
from icm_bench.detectors.mask import run_lengths
from icm_bench.error import DetectorError
from icm_bench.image import Image, printable
from icm_bench.network.checkpoint import cached_checkpoint, fetch_checkpoint, load_into, read_checkpoint

_MASK_THRESHOLD = 0.5
_N_CLASSES = 91


class _TorchvisionRcnn:
    """What torchvision's R-CNNs share.

    Boxes with a score above 0.05, at most 100 an image, as for the published figures; batches of one image.

    Args:
        weights: A ``.pth`` or ``.safetensors`` file of the model's state dictionary; by default torchvision's
            published checkpoint for COCO, fetched once into ``$ICM_BENCH_CACHE`` (``~/.cache/icm-bench``).
        device: ``cpu`` or ``cuda``, or ``cuda:1`` and so on.

    Raises:
        DetectorError: The device is missing, or the weights are not this model's.
        DownloadError: The published checkpoint cannot be fetched.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[Task, ...]] = ("detection",)
    categories: ClassVar[Mapping[int, str]] = CATEGORIES
    published: ClassVar[Mapping[Task, float]]
    _published_weights: ClassVar[Any]
    _frozen_norm_eps: ClassVar[float | None] = 0.0
    """The published model's epsilon of its frozen batch normalisation; None where it is not the frozen kind."""

    def __init__(self, *, weights: Path | None = None, device: str = "cpu") -> None:
        self._device = open_device(device, self.name)
        model, sha256 = self._load(weights)
        self._model = model.to(self._device)
        self._version = (
            f"torchvision {torchvision.__version__}, torch {torch.__version__}, "
            f"weights {sha256[:12]}, {self._device}"
        )

    @classmethod
    def network(cls, *, weights: Path | None = None) -> nn.Module:
        """Return the frozen torchvision network, its labels the category ids, to train a codec through.

        Raises:
            DetectorError: The weights are not this model's.
            DownloadError: The published checkpoint cannot be fetched.
        """
        return cls._load(weights)[0]

    @classmethod
    def cached_weights(cls) -> Path:
        """Return where the published checkpoint is kept, or will be once it is fetched."""
        return cached_checkpoint(cls._published_weights.url)

    @classmethod
    def _load(cls, weights: Path | None) -> tuple[nn.Module, str]:
        path = fetch_checkpoint(cls._published_weights.url) if weights is None else weights
        checkpoint = read_checkpoint(path)
        model = _build(cls.name, cls._frozen_norm_eps)
        load_into(model, checkpoint, path)
        _check_norms(model, path)
        return model.eval().requires_grad_(False), checkpoint.sha256

    def predict(self, image: Image) -> list[Prediction]:
        """Return at most 100 boxes, and masks where the model has them, in the image's pixels, best first.

        Raises:
            DetectorError: The network fails, for instance for want of memory.
        """
        found = self._infer(image)
        labels = found["labels"].tolist()
        scores = found["scores"].tolist()
        boxes = found["boxes"].double().tolist()
        rows: list[Prediction] = [
            {"category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
            for label, (x0, y0, x1, y1), score in zip(labels, boxes, scores, strict=True)
        ]
        if "masks" in found:
            for row, mask in zip(rows, found["masks"], strict=True):
                row["segmentation"] = run_lengths((mask[0] > _MASK_THRESHOLD).numpy())
        # torchvision numbers 91 classes, of which COCO annotates 80.
        return [row for row in rows if row["category_id"] in CATEGORIES]

    def version(self) -> str:
        """Name torchvision's, torch's and the weights' version, and the device."""
        return self._version

    def _infer(self, image: Image) -> dict[str, Tensor]:
        with (
            network_errors(self.name, image),
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            pixels = torch.tensor(image, device=self._device).permute(2, 0, 1).contiguous().float() / 255
            (found,) = self._model([pixels])
            return {key: tensor.cpu() for key, tensor in found.items()}


class FasterRcnnResNet50Fpn(_TorchvisionRcnn):
    """Faster R-CNN with ResNet-50 and FPN (Ren et al., arXiv 1506.01497; Lin et al., arXiv 1612.03144)."""

    name: ClassVar[str] = "fasterrcnn_resnet50_fpn"
    published: ClassVar[Mapping[Task, float]] = MappingProxyType({"detection": 37.0})
    _published_weights: ClassVar[Any] = detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1


class FasterRcnnResNet50FpnV2(_TorchvisionRcnn):
    """Faster R-CNN with ResNet-50 and FPN, trained for longer with a deeper head (Li et al., arXiv 2111.11429)."""

    name: ClassVar[str] = "fasterrcnn_resnet50_fpn_v2"
    published: ClassVar[Mapping[Task, float]] = MappingProxyType({"detection": 46.7})
    _published_weights: ClassVar[Any] = detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1
    _frozen_norm_eps: ClassVar[float | None] = None


class FasterRcnnMobileNetV3Large320Fpn(_TorchvisionRcnn):
    """Faster R-CNN with MobileNetV3-Large and FPN, for images of 320 pixels: quick on a CPU."""

    name: ClassVar[str] = "fasterrcnn_mobilenet_v3_large_320_fpn"
    published: ClassVar[Mapping[Task, float]] = MappingProxyType({"detection": 22.8})
    _published_weights: ClassVar[Any] = detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1
    _frozen_norm_eps: ClassVar[float | None] = 1e-5


class MaskRcnnResNet50Fpn(_TorchvisionRcnn):
    """Mask R-CNN with ResNet-50 and FPN (He et al., arXiv 1703.06870)."""

    name: ClassVar[str] = "maskrcnn_resnet50_fpn"
    tasks: ClassVar[tuple[Task, ...]] = ("detection", "segmentation")
    published: ClassVar[Mapping[Task, float]] = MappingProxyType({"detection": 37.9, "segmentation": 34.6})
    _published_weights: ClassVar[Any] = detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1


class MaskRcnnResNet50FpnV2(_TorchvisionRcnn):
    """Mask R-CNN with ResNet-50 and FPN, trained for longer with a deeper head (Li et al., arXiv 2111.11429)."""

    name: ClassVar[str] = "maskrcnn_resnet50_fpn_v2"
    tasks: ClassVar[tuple[Task, ...]] = ("detection", "segmentation")
    published: ClassVar[Mapping[Task, float]] = MappingProxyType({"detection": 47.4, "segmentation": 41.8})
    _published_weights: ClassVar[Any] = detection.MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1
    _frozen_norm_eps: ClassVar[float | None] = None


def _build(name: str, frozen_norm_eps: float | None) -> nn.Module:
    """Return the published model's architecture, without weights and without a network.

    torchvision only freezes normalisation, and changes its epsilon, where it loads the weights itself.
    """
    builder: Callable[..., nn.Module] = getattr(detection, name)
    model = builder(weights=None, weights_backbone=None, num_classes=_N_CLASSES)
    if frozen_norm_eps is not None:
        _freeze_norms(model, frozen_norm_eps)
    return model


def _freeze_norms(module: nn.Module, eps: float) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps=eps))
        else:
            _freeze_norms(child, eps)


def _check_norms(model: nn.Module, weights: Path) -> None:
    for module in model.modules():
        # Scores that are not numbers pass no threshold, and the detector would silently see nothing.
        if isinstance(module, FrozenBatchNorm2d) and bool((module.running_var + module.eps <= 0).any()):
            raise DetectorError(
                "the weights normalise by a variance of 0",
                where=printable(weights),
                hint="give weights that were trained with this detector's normalisation",
            )
