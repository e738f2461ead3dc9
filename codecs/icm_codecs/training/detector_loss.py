"""The loss of a frozen detector on decoded images: what a codec for machines is trained with.

Le et al. take the task network's own training loss, with gradients to the codec alone. The label-free alternative,
the squared error between the features of the decoded and of the original image, is that of the later transfer
codecs (for example TransTIC).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from icm_bench import registry
from icm_bench.error import TrainingError
from icm_bench.network.precision import lower_precision
from icm_bench.network.target import Target

_NEAR = 8
"""Pixels around an object that matter as much as it does: its outline lies between the two."""


@dataclass(frozen=True)
class Task:
    """The task that a codec is trained for.

    Attributes:
        detector: The name of a detector that is a torchvision R-CNN.
        lambdas: The weight of the task's loss at each quality.
        losses: The weight of the detector's own training losses, which need objects, within the task's loss.
        features: The weight of the label-free feature loss within it.
        enlarge: How much larger the detector sees crops. For COCO's published detectors, which see images at a
            short side of 800, about 1.67; those of ``scenes`` see them as they are.
    """

    detector: str
    lambdas: tuple[float, ...]
    losses: float = 1.0
    features: float = 0.0
    enlarge: float = 1.0


class FrozenDetector:
    """A torchvision R-CNN that is trained through and never changes.

    Args:
        task: Which, and what its losses weigh.
        weights: A weights file; by default the detector's own.
        device: Where it computes.

    Raises:
        TrainingError: There is no such detector, or none that gradients can pass.
    """

    def __init__(
        self, task: Task, *, weights: Path | None = None, device: torch.device | str = "cpu"
    ) -> None:
        cls = registry.load("detector", task.detector)
        if not hasattr(cls, "network"):
            raise TrainingError(
                "gradients cannot pass this detector",
                where=f"detector '{task.detector}'",
                hint="choose one of torchvision's R-CNNs or of the dataset scenes",
            )
        self.network: Any = cls.network(weights=weights).to(device)
        self._task = task
        self._state_before = _fingerprint(self.network)
        _return_losses(self.network)
        _compute_in_bfloat16(self.network)

    def loss(
        self,
        decoded: Tensor,
        original: Tensor,
        targets: list[Target],
        *,
        lambdas: Tensor,
        focus: Tensor | None = None,
    ) -> Tensor:
        """Return the task's loss of a batch.

        Args:
            decoded: N x 3 x H x W, about 0..1.
            original: The same before coding.
            targets: The objects in each image; not used where the losses weigh nothing.
            lambdas: What each image weighs, N: its gradient is scaled by it. The loss that is returned is not
                weighted, since a detector's losses are means over all that the batch shows.
            focus: What the loss of features weighs in each place, N x 1 x H x W; by default 1.
        """
        height, width = decoded.shape[2:]
        self.network.transform.fixed_size = (
            round(width * self._task.enlarge),
            round(height * self._task.enlarge),
        )
        with torch.autocast(decoded.device.type, enabled=False):
            images, objects = self.network.transform(list(_weigh(decoded, lambdas)), targets or None)
            features: dict[str, Tensor] = self.network.backbone(images.tensors)
            total = decoded.new_zeros(())
            if self._task.features > 0.0:
                total = total + self._task.features * self._feature_loss(features, original, focus)
            if self._task.losses > 0.0:
                total = total + self._task.losses * self._detector_loss(images, features, objects)
        return total

    def gradient(self, image: Tensor) -> Tensor:
        """Return a random direction's gradient in the features: N x 3 x H x W.

        The mean outer product of many of them is how the loss of features curves, where nothing is lost.

        Args:
            image: N x 3 x H x W in 0..1.
        """
        height, width = image.shape[2:]
        self.network.transform.fixed_size = (width, height)
        image = image.clone().requires_grad_()
        with torch.autocast(image.device.type, enabled=False):
            images, _ = self.network.transform(list(image), None)
            features: dict[str, Tensor] = self.network.backbone(images.tensors)
        total = image.new_zeros(())
        for level in self.network.roi_heads.box_roi_pool.featmap_names:
            value = features[level]
            deviation = value.detach().var(dim=(0, 2, 3)).mean().sqrt()
            total = total + (value * torch.randn_like(value)).sum() / (deviation * value.numel() ** 0.5)
        (gradient,) = torch.autograd.grad(total, image)
        return gradient

    def _feature_loss(self, features: dict[str, Tensor], original: Tensor, focus: Tensor | None) -> Tensor:
        """Return the share of the features' variance that is lost, a mean over images and pyramid levels."""
        with torch.no_grad():
            images, _ = self.network.transform(list(original), None)
            wanted: dict[str, Tensor] = self.network.backbone(images.tensors)
        lost = []
        for level in self.network.roi_heads.box_roi_pool.featmap_names:
            value = wanted[level]
            error = (features[level] - value).square().mean(dim=1, keepdim=True)
            if focus is not None:
                error = error * functional.adaptive_max_pool2d(focus, error.shape[2:])
            lost.append(error.mean() / value.var(dim=(0, 2, 3)).mean())
        return torch.stack(lost).mean()

    def _detector_loss(self, images: Any, features: dict[str, Tensor], objects: list[Target]) -> Tensor:
        proposals, proposal_losses = self.network.rpn(images, features, objects)
        _, losses = self.network.roi_heads(features, proposals, images.image_sizes, objects)
        return torch.stack([*proposal_losses.values(), *losses.values()]).sum()

    def has_moved(self) -> bool:
        """Whether any weight or statistic differs from what was loaded."""
        return _fingerprint(self.network) != self._state_before


def focus_on(targets: list[Target], background: float, *, like: Tensor) -> Tensor:
    """Return what errors weigh in each place: 1 on objects and near them, ``background`` elsewhere.

    Args:
        targets: The objects in each image; none where nothing is known of them.
        background: 0 to 1.
        like: N x 1 x H x W, gives the result's size, device and type.
    """
    if background == 1.0:
        return torch.ones_like(like)
    covered = torch.stack(
        [target["masks"].amax(dim=0) if len(target["masks"]) else _none(target) for target in targets]
    )
    near = functional.max_pool2d(covered[:, None].to(like), 2 * _NEAR + 1, stride=1, padding=_NEAR)
    return background + (1.0 - background) * near


def _none(target: Target) -> Tensor:
    return target["masks"].new_zeros(target["masks"].shape[1:])


def _fingerprint(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _return_losses(network: Any) -> None:
    """Make an R-CNN return its losses, while its layers stay in evaluation mode: no statistic may follow the images."""
    network.eval()
    for module in (network, network.transform, network.rpn, network.roi_heads):
        module.training = True


def _compute_in_bfloat16(network: Any) -> None:
    """Run the layers in bfloat16; what goes in and comes out, and boxes, stay in single precision."""
    roi = network.roi_heads
    layers = (network.backbone, network.rpn.head, roi.box_head, getattr(roi, "mask_head", None))
    for module in layers:
        if module is not None:
            lower_precision(module)


class _Weigh(Function):
    """Leave images as they are; scale the gradients of each."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(weights)
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        return gradients[0] * weights[:, None, None, None], None


def _weigh(images: Tensor, weights: Tensor) -> Tensor:
    return cast(Tensor, _Weigh.apply(images, weights))
