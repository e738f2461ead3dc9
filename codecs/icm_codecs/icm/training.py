"""What a training of ``icm`` minimises: Le et al.'s L = w_rate L_rate + w_mse L_mse + w_task L_task.

Bits per pixel, squared error, and optionally the loss of a frozen task network on the decoded images. Rounding is
replaced by additive uniform noise where rates are estimated and passed straight through where images are decoded; the
latter is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_bench import registry
from icm_bench.error import TrainingError
from icm_bench.network.target import Target
from icm_codecs.hyperprior.variable_rate import LATENT_STRIDE
from icm_codecs.icm import stage
from icm_codecs.icm.checkpoint import save_checkpoint
from icm_codecs.icm.network import IcmNetwork
from icm_codecs.icm.recipe import IcmRecipe, recipe_of
from icm_codecs.icm.roi import RoiNetwork
from icm_codecs.training.detector_loss import FrozenDetector, focus_on
from icm_codecs.training.images import Source


class IcmModel(IcmNetwork):
    """The networks with their loss: see :class:`icm_codecs.training.trainable.GuidedTrainable`.

    Args:
        recipe: What to train and how.
    """

    def __init__(self, recipe: IcmRecipe) -> None:
        super().__init__(recipe.shape, recipe.loss.lambdas, recipe.roi.levels, recipe.residual)
        if recipe.roi.learned:
            stage.learn_roi(self)
        elif recipe.shape.detail:
            stage.learn_enhancement_layer(self)
        else:
            stage.learn_all_but_roi(self)
        self._recipe = recipe
        self._source: Source | None = None
        self._detector_weights: Path | None = None
        # No module of this one: its weights are not saved, and nobody may set it to training mode.
        self._detector: FrozenDetector | None = None

    @classmethod
    def from_recipe(cls, tables: Mapping[str, Any]) -> Self:
        """Build the untrained networks from a recipe's tables: see :mod:`icm_codecs.icm.recipe`."""
        return cls(recipe_of(tables))

    @property
    def needs_objects(self) -> bool:
        """Whether the losses need to know the objects in the images."""
        recipe = self._recipe
        by_losses = recipe.task is not None and recipe.task.losses > 0.0
        return recipe.roi.learned or recipe.loss.background < 1.0 or by_losses

    @property
    def needs_a_start(self) -> bool:
        """Whether there are layers that stand on a trained first one."""
        return bool(self.shape.detail or self.shape.residual_points)

    def prepare(self, source: Source, detector_weights: Path | None) -> None:
        """Remember what a training goes by, and begin the ROI network as the recipe says.

        Raises:
            TrainingError: The ROI network cannot begin with that detector.
        """
        self._source, self._detector_weights = source, detector_weights
        if self._recipe.roi.begin:
            self._begin_roi(self._recipe.roi.begin)

    def _begin_roi(self, detector: str) -> None:
        cls = registry.load("detector", detector)
        backbone = getattr(cls, "network", lambda **_: nn.Module())(weights=None)
        try:
            cast(RoiNetwork, self.analysis.roi).begin_with(backbone.get_submodule("backbone"))
        except (AttributeError, RuntimeError) as error:
            raise TrainingError(
                "the ROI network cannot begin with the layers of this detector",
                where=f"detector '{detector}'",
                hint="name a detector of scenes, or none",
            ) from error

    def start_from(self, path: Path) -> None:
        """Set the parameters to those of a weights file, which may lack layers; measure a new residual layer.

        Raises:
            CodecError: The file is missing, damaged, or of another kind or shape.
            TrainingError: No image is large enough to measure on, or the detector cannot be used.
        """
        stage.start_staged(self, path)
        if self.shape.residual_points and self._recipe.task is not None and self._source is not None:
            stage.fit_residual(
                self, self._source, FrozenDetector(self._recipe.task, weights=self._detector_weights)
            )

    def losses(self, image: Tensor, step: int) -> dict[str, Tensor]:
        """Return the losses of images without objects: see :meth:`guided_losses`."""
        return self.guided_losses(image, [], step)

    def guided_losses(self, image: Tensor, targets: list[Target], step: int) -> dict[str, Tensor]:
        """Return ``loss``, ``task`` where it counts, and ``bpp`` and ``psnr`` of each quality as ``bpp/1`` and so on.

        Args:
            image: N x 3 x H x W in 0..1, sides multiples of 64, N a multiple of the number of qualities.
            targets: The objects in each image; none where nothing is known of them.
            step: Counted from 0; says what the schedule weighs.
        """
        if self._recipe.roi.learned:
            return {"loss": self._roi_loss(image, targets)}
        estimate = self(image)
        quality = self.coded_at(image)
        bpp = estimate.bits / (image.shape[2] * image.shape[3])
        error = (estimate.image - image).square().mean(dim=1, keepdim=True)
        weights, loss_of = self._recipe.schedule.weights(step), self._recipe.loss
        shares = torch.tensor(loss_of.quality_weights()).to(error)[quality]
        lambdas = torch.tensor(loss_of.lambdas).to(error)[quality] * 255.0**2
        focus = focus_on(targets, loss_of.background, like=error)
        mse = (focus * error).mean(dim=(1, 2, 3))
        found = {"loss": (shares * (weights.rate * bpp + weights.mse * lambdas * mse)).mean()}
        detector = self._frozen_detector(image.device)
        if detector is not None and self._recipe.task is not None and weights.task != 0.0:
            task_lambdas = shares * torch.tensor(self._recipe.task.lambdas).to(error)[quality]
            found["task"] = detector.loss(estimate.image, image, targets, lambdas=task_lambdas, focus=focus)
            found["loss"] = found["loss"] + weights.task * found["task"]
        psnr = -10.0 * torch.log10(error.detach().mean(dim=(1, 2, 3)))
        for index in sorted(set(quality.tolist())):
            found[f"bpp/{index + 1}"] = bpp.detach()[quality == index].mean()
            found[f"psnr/{index + 1}"] = psnr[quality == index].mean()
        return found

    def _roi_loss(self, image: Tensor, targets: list[Target]) -> Tensor:
        """Return the cross-entropy between where objects seem to be and where they, or what is near them, are."""
        self.levels_of(image)
        logits = cast(RoiNetwork, self.analysis.roi)(image)
        near = focus_on(targets, 0.0, like=image[:, :1])
        wanted = functional.max_pool2d(near, LATENT_STRIDE)
        return functional.binary_cross_entropy_with_logits(logits, wanted)

    def _frozen_detector(self, device: torch.device) -> FrozenDetector | None:
        if self._detector is None and self._recipe.task is not None:
            self._detector = FrozenDetector(self._recipe.task, weights=self._detector_weights, device=device)
        return self._detector

    def finish(self) -> None:
        """Check that the detector stayed frozen.

        Raises:
            TrainingError: It has changed.
        """
        if self._detector is not None and self._detector.has_moved():
            raise TrainingError(
                "the frozen detector has changed", hint="report this as an error of the package"
            )

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights file that the codec loads, all or nothing."""
        save_checkpoint(self, path, facts)
