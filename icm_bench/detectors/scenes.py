"""Detectors of the ten forms of the dataset ``scenes``: torchvision's R-CNNs on a small backbone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from icm_bench.datasets.scenes.form import FORMS
from icm_bench.detector import Prediction, Task
from icm_bench.detectors.device import network_errors, open_device
from icm_bench.detectors.mask import run_lengths
from icm_bench.image import Image
from icm_bench.network.checkpoint import Checkpoint, load_into, read_checkpoint

SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "scenes_rcnn.safetensors"
"""The weights of both detectors: the Faster R-CNN is the Mask R-CNN without its mask head."""

_CHANNELS = 64
_BOX_FEATURES = 160
_MAPS = ("4", "8", "16", "32")
_FINEST = "2"
_FINEST_CHANNELS = 32
_MASK_CELLS = 20


class _ConvNorm(nn.Sequential):
    """A 3 x 3 or 1 x 1 convolution and its batch norm, which folds into the convolution once trained."""

    def __init__(self, n_in: int, n_out: int, *, stride: int = 1, kernel: int = 3) -> None:
        super().__init__(
            nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(n_out, momentum=0.03),
        )

    def fold(self) -> None:
        conv, norm = self
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            self[0], self[1] = fuse_conv_bn_eval(conv.eval(), norm.eval()), nn.Identity()


class _Block(nn.Module):
    """Two convolutions and what skips them."""

    def __init__(self, n_in: int, n_out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = _ConvNorm(n_in, n_out, stride=stride)
        self.second = _ConvNorm(n_out, n_out)
        same = n_in == n_out and stride == 1
        self.skip = nn.Identity() if same else _ConvNorm(n_in, n_out, stride=stride, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.skip(x) + self.second(torch.relu(self.first(x))))


class _Backbone(nn.Module):
    """Features for images of N x 3 x H x W: a pyramid at strides 4, 8, 16 and 32, and edges at stride 2 for masks."""

    out_channels = _CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _ConvNorm(3, _FINEST_CHANNELS, stride=2),
            nn.ReLU(),
            _Block(_FINEST_CHANNELS, 48, stride=2),
            _Block(48, 48),
        )
        self.stages = nn.ModuleList(
            [
                nn.Sequential(_Block(48, 80, stride=2), _Block(80, 80)),
                nn.Sequential(_Block(80, 128, stride=2), _Block(128, 128)),
                nn.Sequential(_Block(128, 128, stride=2)),
            ]
        )
        self.fpn = FeaturePyramidNetwork([48, 80, 128, 128], self.out_channels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        finest = self.stem[:2](x)
        x = self.stem[2:](finest)
        features = OrderedDict({_MAPS[0]: x})
        for name, stage in zip(_MAPS[1:], self.stages, strict=True):
            x = stage(x)
            features[name] = x
        # RoIAlign wants each channel whole, and would bring it about anew at every use.
        maps = {name: map_.contiguous() for name, map_ in self.fpn(features).items()}
        return {**maps, _FINEST: finest}


def build_mask_rcnn() -> MaskRCNN:
    """Build the untrained network, with batch norms.

    Images are neither resized nor normalised to anything but a fixed mean and deviation.
    """
    network = MaskRCNN(
        **_shared_parts(),
        mask_roi_pool=_MaskPooler(),
        mask_head=MaskRCNNHeads(_CHANNELS + 4 * _FINEST_CHANNELS, (_CHANNELS,) * 5, 1),
        mask_predictor=_MaskPredictor(),
    )
    _adapt(network)
    return network


def build_faster_rcnn() -> FasterRCNN:
    """Build the untrained network without a mask head, otherwise the same as the Mask R-CNN."""
    network = FasterRCNN(**_shared_parts())
    _adapt(network)
    return network


def _shared_parts() -> dict[str, Any]:
    return {
        "backbone": _Backbone(),
        "box_roi_pool": _pooler(7, samples=2),
        "box_head": TwoMLPHead(_CHANNELS * 7 * 7, _BOX_FEATURES),
        "box_predictor": _BoxPredictor(),
        "box_batch_size_per_image": 48,
        "box_detections_per_img": 100,
        "box_score_thresh": 0.05,
    }


def _adapt(network: FasterRCNN) -> None:
    """Exchange the parts that torchvision's constructors do not let one choose."""
    anchors = AnchorGenerator(((24, 38), (58, 90), (130, 190)), ((0.5, 1.0, 2.0),) * 3)
    network.transform = _NativeSize()
    network.rpn = _CoarseProposals(
        anchors,
        RPNHead(_CHANNELS, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=128,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 400, "testing": 400},
        post_nms_top_n={"training": 250, "testing": 250},
        nms_thresh=0.7,
    )


class _NativeSize(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision is untyped
    """Normalises images, and leaves them their size, which torchvision's transform changes in evaluation."""

    def __init__(self) -> None:
        super().__init__(min_size=0, max_size=0, image_mean=[0.42, 0.42, 0.42], image_std=[0.2, 0.2, 0.2])

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


class _CoarseProposals(RegionProposalNetwork):  # type: ignore[misc]  # torchvision is untyped
    """Proposes boxes from strides 8, 16 and 32: no form is small enough to need the finest features' cost."""

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        coarse = {name: features[name] for name in _MAPS[1:]}
        proposals: tuple[list[Tensor], dict[str, Tensor]] = super().forward(images, coarse, targets)
        return proposals


def _pooler(side: int, *, samples: int) -> MultiScaleRoIAlign:
    return MultiScaleRoIAlign(list(_MAPS), side, samples, canonical_scale=112, canonical_level=4)


class _MaskPooler(MultiScaleRoIAlign):  # type: ignore[misc]  # torchvision is untyped
    """Pools 20 x 20 cells of a box from the finest of the pyramid, and 40 x 40 of the edges, four in a cell's channels.

    Thin parts of an object, such as a ladder's rungs, are lost on coarser maps.
    """

    def __init__(self) -> None:
        super().__init__([_MAPS[0]], _MASK_CELLS, 1)
        self.edges = MultiScaleRoIAlign([_FINEST], 2 * _MASK_CELLS, 1)

    def forward(
        self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        forms = super().forward(features, boxes, image_shapes)
        edges = self.edges(features, boxes, image_shapes)
        # Pixel unshuffling, which torch gets wrong where there is no box.
        shape = (len(edges), _FINEST_CHANNELS, _MASK_CELLS, 2, _MASK_CELLS, 2)
        return torch.cat((forms, edges.reshape(shape).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)), dim=1)


class _BoxPredictor(nn.Module):
    """Class scores and box corrections from box features; the corrections are the same for every class."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_score = nn.Linear(_BOX_FEATURES, len(FORMS) + 1)
        self.bbox_pred = nn.Linear(_BOX_FEATURES, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x), self.bbox_pred(x).repeat(1, len(FORMS) + 1)


class _MaskPredictor(nn.Module):
    """Masks of 40 x 40 from mask features of 20 x 20, four values a cell; they are the same for every class.

    On a CPU, convolutions of single cells take a fifth of the time of a transposed one of two by two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enlarge = nn.Conv2d(_CHANNELS, 4 * _CHANNELS, 1)
        self.logits = nn.Conv2d(4 * _CHANNELS, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        four: Tensor = self.logits(torch.relu(self.enlarge(x)))
        return functional.pixel_shuffle(four, 2).expand(-1, len(FORMS) + 1, -1, -1)


def fold_norms(network: nn.Module) -> None:
    """Fold every batch norm into its convolution, in place: the network that is shipped has none."""
    for module in network.modules():
        if isinstance(module, _ConvNorm):
            module.fold()


class FasterRcnnScenes:
    """The Faster R-CNN of ``scenes`` (Ren et al., arXiv 1506.01497; Lin et al., arXiv 1612.03144).

    It sees an image at its native size, alone. Its weights are stored in half precision, and its predictions are those
    of the stored values, computed in single precision.

    Args:
        weights: A ``.safetensors`` file that ``icm_bench.detectors.scenes_training`` wrote; by default the one that the
            package carries.
        device: ``cpu`` or ``cuda``, or ``cuda:1`` and so on.

    Raises:
        DetectorError: The device is missing, or the weights are not this network's.
    """

    name: ClassVar[str] = "fasterrcnn_scenes"
    tasks: ClassVar[tuple[Task, ...]] = ("detection",)
    categories: ClassVar[Mapping[int, str]] = MappingProxyType(dict(enumerate(FORMS, start=1)))
    published: ClassVar[Mapping[Task, float]] = MappingProxyType({})

    def __init__(self, *, weights: Path | None = None, device: str = "cpu") -> None:
        path = SHIPPED_WEIGHTS if weights is None else weights
        self._device = open_device(device, self.name)
        self._network = self._load(path).to(self._device)
        self._version = (
            f"torchvision {torchvision.__version__}, torch {torch.__version__}, "
            f"weights {read_checkpoint(path).sha256[:12]}, {self._device}"
        )

    @classmethod
    def network(cls, *, weights: Path | None = None) -> FasterRCNN:
        """Return the frozen torchvision network, its labels the category ids, to train a codec through."""
        return cls._load(SHIPPED_WEIGHTS if weights is None else weights)

    @staticmethod
    def _load(path: Path) -> FasterRCNN:
        return load_faster_rcnn(path)

    def predict(self, image: Image) -> list[Prediction]:
        """Return the objects found in an image of height x width x 3, best first: at most 100, scores above 0.05.

        Raises:
            DetectorError: The network fails, for instance for want of memory.
        """
        with network_errors(self.name, image):
            return _rows(self._infer(image))

    def version(self) -> str:
        """Name torchvision's, torch's and the weights' version, and the device."""
        return self._version

    def _infer(self, image: Image) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            pixels = torch.tensor(image, device=self._device).permute(2, 0, 1).contiguous().float() / 255
            (found,) = self._network([pixels])
            return {name: tensor.cpu().numpy() for name, tensor in found.items()}


class MaskRcnnScenes(FasterRcnnScenes):
    """The Mask R-CNN of ``scenes`` (He et al., arXiv 1703.06870): the Faster R-CNN's boxes, and masks."""

    name: ClassVar[str] = "maskrcnn_scenes"
    tasks: ClassVar[tuple[Task, ...]] = ("detection", "segmentation")

    @staticmethod
    def _load(path: Path) -> FasterRCNN:
        return load_mask_rcnn(path)


def load_mask_rcnn(path: Path = SHIPPED_WEIGHTS) -> MaskRCNN:
    """Return the frozen Mask R-CNN: norms folded, in evaluation mode, no gradients to its weights.

    Gradients to the image flow, so that a codec can be trained through it; its training mode differs in what it returns
    alone.

    Raises:
        DetectorError: The weights are missing or are not this network's.
    """
    network = build_mask_rcnn()
    _freeze(network, read_checkpoint(path), path)
    return network


def load_faster_rcnn(path: Path = SHIPPED_WEIGHTS) -> FasterRCNN:
    """Return the frozen Faster R-CNN, from the weights of the Mask R-CNN.

    Raises:
        DetectorError: The weights are missing or are not this network's.
    """
    network = build_faster_rcnn()
    both = read_checkpoint(path)
    boxes = {name: tensor for name, tensor in both.state.items() if ".mask_" not in name}
    _freeze(network, Checkpoint(boxes, both.sha256), path)
    return network


def _freeze(network: nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    network.eval()
    fold_norms(network)
    load_into(network, checkpoint, path)
    network.requires_grad_(False)
    network.to(memory_format=torch.channels_last)  # a third faster on a CPU


def _rows(found: dict[str, NDArray[Any]]) -> list[Prediction]:
    """Return torchvision's detections as COCO result rows."""
    rows: list[Prediction] = []
    for k in np.argsort(-found["scores"], kind="stable"):
        left, top, right, bottom = (float(value) for value in found["boxes"][k])
        row: Prediction = {
            "category_id": int(found["labels"][k]),
            "bbox": [left, top, right - left, bottom - top],
            "score": float(found["scores"][k]),
        }
        if "masks" in found:
            row["segmentation"] = run_lengths(found["masks"][k, 0] > 0.5)
        rows.append(row)
    return rows
