"""Train the codec after TuCodec: bits per pixel plus lambda times the distortion, at all positions at once.

The distortion is the squared error or, in part, structural dissimilarity: what the paper trained for is unpublished.

Each sample of a batch is coded at a position of its own, drawn so that a batch is spread over all of them; lambda
there is interpolated in its logarithm. So what lies between rate points is trained as the rate points are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

import torch
from torch import Tensor, nn

from icm_codecs.bitstream.weights_file import check_same_shape
from icm_codecs.training.recipe import check_lambdas, check_shares, loss_and_shape
from icm_codecs.training.ssim_loss import mean_psnr, with_structure
from icm_codecs.tucodec.checkpoint import NETWORKS, load_checkpoint, save_checkpoint
from icm_codecs.tucodec.network import StandIn, TucodecNetwork, TucodecShape, interpolate


@dataclass(frozen=True)
class TucodecLoss:
    """The lambda of the squared error at each rate point, and how positions share the gradient.

    Attributes:
        lambdas: One a rate point, rising; the loss at a rate point is bpp + lambda * 255^2 * MSE (pixels in 0..1).
        balance: Each sample's loss is weighed by lambda ** -balance: 0 favours high rates, 1 low ones.
        unfiltered: Share of the squared error that is taken before the post-filter, 0 to 1.
        stand_in: What the synthesis is trained on: "noise", as in the paper, or "rounded" straight through.
        structure: Share of the structural dissimilarity in the distortion, 0 to 1.
        structure_from: The step from which it has that share.
    """

    lambdas: tuple[float, ...]
    balance: float = 0.5
    unfiltered: float = 0.2
    stand_in: StandIn = "noise"
    structure: float = 0.0
    structure_from: int = 0

    def __post_init__(self) -> None:
        check_lambdas(self.lambdas)
        check_shares(unfiltered=self.unfiltered, structure=self.structure)
        if self.stand_in not in get_args(StandIn):
            raise ValueError(f"stand_in is {self.stand_in!r}, not one of {', '.join(get_args(StandIn))}")

    def structure_at(self, step: int) -> float:
        """Return what share structure has at a step, counted from 0."""
        return self.structure if step >= self.structure_from else 0.0


class TucodecModel(nn.Module):
    """The networks as they are trained."""

    def __init__(self, shape: TucodecShape, loss: TucodecLoss) -> None:
        super().__init__()
        self.network = TucodecNetwork(shape, loss.lambdas, loss.stand_in)
        self._loss = loss
        self._log_lambdas: Tensor
        self.register_buffer("_log_lambdas", torch.tensor(loss.lambdas).log()[:, None], persistent=False)

    @classmethod
    def from_recipe(cls, tables: Mapping[str, Any]) -> Self:
        """Build the untrained networks from a recipe's ``[network]`` and ``[loss]``."""
        loss, shape = loss_and_shape(tables, TucodecLoss, TucodecShape, rate_points="lambdas")
        return cls(shape, loss)

    def losses(self, image: Tensor, step: int) -> dict[str, Tensor]:
        """Return ``loss``, and the means over the batch of ``bpp``, ``psnr`` and ``psnr_unfiltered``.

        Args:
            image: N x 3 x H x W in 0..1, sides multiples of 64.
            step: Counted from 0; says whether structure has its share yet.
        """
        position = spread(torch.arange(len(image), device=image.device), self.network.shape.rate_points)
        estimate = self.network(image, position)
        bpp = estimate.bits / (image.shape[2] * image.shape[3])
        mse = (estimate.image - image).square().mean(dim=(1, 2, 3))
        unfiltered = (estimate.unfiltered - image).square().mean(dim=(1, 2, 3))
        lambdas = torch.exp(interpolate(self._log_lambdas, position))[:, 0, 0, 0]
        # Weighed as their mean over all positions would have it, not over this batch.
        weights = lambdas**-self._loss.balance / torch.exp(-self._loss.balance * self._log_lambdas).mean()
        error = torch.lerp(mse, unfiltered, self._loss.unfiltered)
        error = with_structure(error, estimate.image, image, self._loss.structure_at(step))
        return {
            "loss": (weights * (bpp + lambdas * 255.0**2 * error)).mean(),
            "bpp": bpp.detach().mean(),
            "psnr": mean_psnr(mse),
            "psnr_unfiltered": mean_psnr(unfiltered),
        }

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights file that the codec loads, all or nothing."""
        save_checkpoint(self.network, path, facts)

    def start_from(self, path: Path) -> None:
        """Set the parameters to those of a weights file; it raises as :class:`Trainable` says."""
        checkpoint, network = load_checkpoint(path), self.network
        check_same_shape(checkpoint.shape, network.shape, path)
        with torch.no_grad():
            for name in NETWORKS:
                getattr(network, name).load_state_dict(getattr(checkpoint, name).state_dict())
            network.log_gain.copy_(checkpoint.log_gain)
            network.log_inverse_gain.copy_(checkpoint.log_inverse_gain)
            checkpoint.scales.copy_to(network.scale_synthesis)


def spread(parts: Tensor, rate_points: int) -> Tensor:
    """Draw a position from each of N equal parts of the range between rate points, the parts in any order: N."""
    drawn = parts + torch.rand(len(parts), device=parts.device)
    return drawn * ((rate_points - 1) / len(parts))
