"""Train the codec for photographs: bits per pixel plus lambda times a distortion, at all positions at once.

First the entropy model alone, on the frozen transforms of tucodec; then everything, with a distortion that is in part
the loss of frozen teachers (:mod:`icm_codecs.training.teacher`). As in :mod:`icm_codecs.tucodec.training`, each sample
of a batch is coded at a position of its own, drawn so that a batch is spread over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from icm_bench.network.target import Target
from icm_codecs.checkerboard.checkpoint import save_checkpoint, start_from
from icm_codecs.checkerboard.network import CheckerboardNetwork, CheckerboardShape
from icm_codecs.training.recipe import (
    check,
    check_lambdas,
    check_shares,
    check_tables,
    loss_and_shape,
    table_of,
)
from icm_codecs.training.ssim_loss import mean_psnr, with_structure
from icm_codecs.training.task import RecipeTeachers, TaughtModel, with_detectors
from icm_codecs.tucodec.network import Estimate, add_noise, interpolate
from icm_codecs.tucodec.training import spread

Stage = Literal["entropy", "all"]
"""What is learned: the entropy model alone, on frozen transforms, or everything."""

_LEAST_BPP = 0.02
"""Below it, a sample's rate is no longer weighed by its inverse where the entropy model is learned alone."""


@dataclass(frozen=True)
class CheckerboardLoss:
    """What is minimised.

    Attributes:
        lambdas: One a trained rate point, rising; the loss is bpp + lambda * 255^2 * distortion (pixels in 0..1).
        balance: Each sample's loss is weighed by lambda ** -balance: 0 favours high rates, 1 low ones.
        unfiltered: Share of the squared error that is taken before the post-filter, 0 to 1.
        structure: Share of the structural dissimilarity in the fidelity's distortion, 0 to 1.
        stage: What is learned.
        entropy_rate: How many times faster than the rest the entropy model learns.
    """

    lambdas: tuple[float, ...]
    balance: float = 0.5
    unfiltered: float = 0.2
    structure: float = 0.7
    stage: Stage = "all"
    entropy_rate: float = 1.0

    def __post_init__(self) -> None:
        check_lambdas(self.lambdas)
        check_shares(unfiltered=self.unfiltered, structure=self.structure)
        if self.stage not in get_args(Stage):
            raise ValueError(f"stage is {self.stage!r}, not one of {', '.join(get_args(Stage))}")
        check({"entropy_rate is positive": self.entropy_rate > 0.0})


@dataclass(frozen=True)
class Ladder:
    """Which rate points the weights serve: where they lie between those that are trained."""

    positions: tuple[float, ...] = ()


class CheckerboardModel(TaughtModel):
    """The networks as they are trained; the rate points that are exported are the trained ones by default."""

    def __init__(
        self,
        shape: CheckerboardShape,
        loss: CheckerboardLoss,
        teachers: RecipeTeachers | None = None,
        ladder: Ladder = Ladder(),
    ) -> None:
        super().__init__(teachers)
        self.network = CheckerboardNetwork(shape, loss.lambdas)
        self._loss = loss
        self._positions = ladder.positions or tuple(float(k) for k in range(shape.rate_points))
        self._log_lambdas: Tensor
        self.register_buffer("_log_lambdas", torch.tensor(loss.lambdas).log()[:, None], persistent=False)
        if loss.stage == "entropy":
            self.network.requires_grad_(False)
            for parameter in self.network.entropy_parameters():
                parameter.requires_grad_(True)

    @classmethod
    def from_recipe(cls, tables: Mapping[str, Any]) -> Self:
        """Build the untrained networks from a recipe's tables."""
        check_tables(tables, "task", "ladder")
        loss, shape = loss_and_shape(tables, CheckerboardLoss, CheckerboardShape, rate_points="lambdas")
        ladder = table_of(Ladder, tables.get("ladder", {}), "ladder")
        return cls(shape, loss, RecipeTeachers.from_recipe(tables), ladder)

    @property
    def needs_a_start(self) -> bool:
        """Whether a training must start from weights: frozen transforms are those of weights."""
        return self._loss.stage == "entropy"

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """Return what learns at the recipe's learning rate, and the entropy model, which learns at its own."""
        entropy = {id(parameter) for parameter in self.network.entropy_parameters()}
        learned = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        groups = (
            {"params": [one for one in learned if (id(one) in entropy) == is_entropy], "lr": own * rate}
            for is_entropy, own in ((False, 1.0), (True, self._loss.entropy_rate))
        )
        return [group for group in groups if group["params"]]

    def guided_losses(self, image: Tensor, targets: list[Target], step: int) -> dict[str, Tensor]:
        """Return ``loss``, and the means over the batch of ``bpp``, ``psnr`` and, where teachers are asked, ``task``.

        Args:
            image: N x 3 x H x W in 0..1, sides multiples of 64.
            targets: The objects in each image; none where they are not known.
            step: Counted from 0.
        """
        parts = torch.randperm(len(image), device=image.device)
        position = spread(parts, self.network.shape.rate_points)
        n_pixels = image.shape[2] * image.shape[3]
        if self._loss.stage == "entropy":
            with torch.no_grad():
                scaled = self.network.scale(image, position)
            coded = self.network.code(scaled, position)
            bpp = self.network.bits(scaled, coded, position, add_noise) / n_pixels
            return {"loss": (bpp / bpp.detach().clamp(min=_LEAST_BPP)).mean(), "bpp": bpp.detach().mean()}
        estimate = self.network(image, position)
        bpp = estimate.bits / n_pixels
        distortion, found = self.distortion(estimate, image, targets, step)
        lambdas = self.lambdas_at(position)
        weights = lambdas**-self._loss.balance / torch.exp(-self._loss.balance * self._log_lambdas).mean()
        loss = (weights * (bpp + lambdas * 255.0**2 * distortion)).mean()
        return {"loss": loss, "bpp": bpp.detach().mean(), **found}

    def lambdas_at(self, position: Tensor) -> Tensor:
        """Return what a squared error weighs next to a bit, N, at positions, N."""
        return torch.exp(interpolate(self._log_lambdas, position))[:, 0, 0, 0]

    def distortion(
        self, estimate: Estimate, image: Tensor, targets: list[Target], step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return each image's distortion, N, and the means of ``psnr`` and, where teachers are asked, ``task``.

        Args:
            estimate: What the networks make of the images.
            image: N x 3 x H x W in 0..1, sides at least 112.
            targets: The objects in each image; none where they are not known.
            step: Counted from 0; says which teacher is asked.
        """
        mse = (estimate.image - image).square().mean(dim=(1, 2, 3))
        unfiltered = (estimate.unfiltered - image).square().mean(dim=(1, 2, 3))
        error = torch.lerp(mse, unfiltered, self._loss.unfiltered)
        distortion = with_structure(error, estimate.image, image, self._loss.structure)
        found = {"psnr": mean_psnr(mse)}
        if self._teachers is not None:
            share = self._teachers.task.share_at(step)
            seen = self._teachers.loss(estimate.image, image, targets, step)
            distortion = (1.0 - share) * distortion + share * self._teachers.task.scale * seen
            found["task"] = seen.detach().mean()
        return distortion, found

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights file that the codec loads, all or nothing."""
        save_checkpoint(self.network, path, with_detectors(facts, self._teachers), self._positions)

    def start_from(self, path: Path) -> None:
        """Set the parameters to those of a weights file of this codec's or, of the transforms alone, of tucodec's."""
        start_from(self.network, path)
