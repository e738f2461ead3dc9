"""Train content-weighted image compression.

Stages by step, as in the paper: first without the importance map, then with it. Ours are the details. Without the map
every position keeps the share of channels that its quality aims at, so that channels come to be ordered by importance,
while the map learns to say just that; and the context models are trained along with the rest, on codes whose
gradients they do not touch, where the paper trains them afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from icm_codecs.bitstream.weights_file import check_same_shape
from icm_codecs.content_weighted.checkpoint import code_rules, load_checkpoint, map_rules, save_checkpoint
from icm_codecs.content_weighted.context import ContextNetwork
from icm_codecs.content_weighted.klt_start import start_at_a_transform
from icm_codecs.content_weighted.network import (
    ContentWeightedShape,
    Decoder,
    Encoder,
    binarise,
    importance_mask,
    level_of,
)
from icm_codecs.training.recipe import check, loss_and_shape
from icm_codecs.training.ssim_loss import with_structure


@dataclass(frozen=True)
class ContentWeightedLoss:
    """What is minimised: squared error + gamma * R, R the importance where it exceeds a quality's target, else 0.

    The paper sums in units that are unpublished; ours are means, the importance relative to its target, and a squared
    error of 100 squared levels counting 1.

    Attributes:
        targets: Each quality's share of the code's channels, r, rising, above 0 and below 1.
        gamma: The weight of R.
        balance: Each quality's loss is weighed by target ** balance: 0 favours low rates, 1 high ones.
        map_from: The step from which the importance map is used.
        memory: How much of the measured shares is remembered from step to step, 0 to below 1. The paper compares the
            batch's own share with r, which is 0; a batch that holds few images of each quality wants more.
        every: The context models learn from one in so many bits of a batch.
        structure: Share of the structural dissimilarity in the distortion, 0 to 1; the paper has none.
        structure_from: The step from which it has that share.

    Raises:
        ValueError: An entry is impossible.
    """

    targets: tuple[float, ...] = (0.07, 0.105, 0.16, 0.24, 0.36, 0.52)
    gamma: float = 2.0
    balance: float = 0.5
    map_from: int = 1500
    memory: float = 0.9
    every: int = 8
    structure: float = 0.0
    structure_from: int = 0

    def __post_init__(self) -> None:
        check(
            {
                "targets rise, above 0 and below 1": list(self.targets) == sorted(set(self.targets))
                and min(self.targets, default=0.0) > 0.0
                and max(self.targets) < 1.0,
                "gamma is positive": self.gamma > 0.0,
                "memory is from 0 to below 1": 0.0 <= self.memory < 1.0,
                "every is positive": self.every > 0,
                "structure is from 0 to 1": 0.0 <= self.structure <= 1.0,
            }
        )

    def structure_at(self, step: int) -> float:
        """Return what share structure has at a step, counted from 0."""
        return self.structure if step >= self.structure_from else 0.0

    def shares(self) -> list[float]:
        """Return each quality's weight in the loss, 1 on average."""
        raw = [target**self.balance for target in self.targets]
        return [value * len(raw) / sum(raw) for value in raw]


class ContentWeightedModel(nn.Module):
    """The networks as they are trained."""

    def __init__(self, shape: ContentWeightedShape, loss: ContentWeightedLoss) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape, loss.targets)
        self.decoder = Decoder(shape)
        self.code_context = ContextNetwork(code_rules(shape))
        self.map_context = ContextNetwork(map_rules(shape))
        start_at_a_transform(self.encoder, self.decoder, shape, loss.targets)
        self._loss = loss
        self.register_buffer("targets", torch.tensor(loss.targets), persistent=False)
        self.register_buffer("shares", torch.tensor(loss.shares()), persistent=False)
        self.register_buffer("kept", torch.tensor(loss.targets))
        self.targets: Tensor
        self.shares: Tensor
        self.kept: Tensor

    @classmethod
    def from_recipe(cls, tables: Mapping[str, Any]) -> Self:
        """Build the untrained networks from ``[network]``, the shape, and ``[loss]``, :class:`ContentWeightedLoss`."""
        loss, shape = loss_and_shape(tables, ContentWeightedLoss, ContentWeightedShape, qualities="targets")
        return cls(shape, loss)

    def losses(self, image: Tensor, step: int) -> dict[str, Tensor]:
        """Return scalars by name for a batch N x 3 x H x W in 0..1, sides multiples of 8.

        ``loss`` is minimised. ``bpp`` (estimated), ``psnr`` in dB and ``kept`` (share of the code) are of all
        qualities, and of each under ``name/quality``. Sample ``i`` is coded at quality ``(i + step) % qualities``.
        """
        quality = (torch.arange(len(image), device=image.device) + step) % self.shape.qualities
        target = self.targets[quality]
        encoding = self.encoder(image, quality)
        uses_map = step >= self._loss.map_from
        importance = encoding.importance if uses_map else target[:, None, None].expand_as(encoding.importance)
        mask = importance_mask(importance, self.shape)
        bits = binarise(encoding.code)
        decoded = self.decoder(mask * bits, quality)
        squared = (decoded - image).square().mean(dim=(1, 2, 3))
        error = with_structure(squared, decoded, image, self._loss.structure_at(step))
        kept = mask.detach().mean(dim=(1, 2, 3))
        self._remember(kept, quality)
        rate = (
            self._rate(encoding.importance, quality)
            if uses_map
            else (encoding.importance - target[:, None, None]).square().mean(dim=(1, 2))
        )
        share = self.shares[quality]
        distortion = 255.0**2 / 100.0 * error
        context, bpp = self._context(mask.detach(), bits.detach(), importance.detach(), quality, step)
        loss = (share * (distortion + rate)).mean() + context
        measured = {"bpp": bpp / (image.shape[2] * image.shape[3]), "psnr": -10.0 * torch.log10(squared)}
        return {"loss": loss, **_by_quality({**measured, "kept": kept}, quality)}

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights file that the codec loads, all or nothing, the facts in its metadata."""
        networks, contexts = (self.encoder, self.decoder), (self.code_context, self.map_context)
        save_checkpoint(path, self.shape, networks, contexts, facts)

    def start_from(self, path: Path) -> None:
        """Set the parameters to those of a weights file; it raises as :class:`Trainable` says."""
        checkpoint = load_checkpoint(path)
        check_same_shape(checkpoint.shape, self.shape, path)
        self.encoder.load_state_dict(checkpoint.encoder.state_dict())
        self.decoder.load_state_dict(checkpoint.decoder.state_dict())
        checkpoint.code_context.copy_to(self.code_context)
        checkpoint.map_context.copy_to(self.map_context)

    def _rate(self, importance: Tensor, quality: Tensor) -> Tensor:
        exceeds = (self.kept > self.targets)[quality]
        relative = importance.mean(dim=(1, 2)) / self.targets[quality]
        return self._loss.gamma * relative * exceeds

    def _remember(self, kept: Tensor, quality: Tensor) -> None:
        belongs = torch.nn.functional.one_hot(quality, self.shape.qualities).to(kept)
        count = belongs.sum(dim=0)
        mean = (kept @ belongs) / count.clamp(min=1.0)
        blended = self._loss.memory * self.kept + (1.0 - self._loss.memory) * mean
        self.kept.copy_(torch.where(count > 0, blended, self.kept))

    def _context(
        self, mask: Tensor, bits: Tensor, importance: Tensor, quality: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        """Return the context models' loss, bits a coded bit, and the estimated bits of each sample."""
        level = level_of(importance, self.shape)
        places = torch.arange(self.shape.bit_planes - 1, -1, -1, device=level.device)[:, None, None]
        planes = 2 * ((level[:, None] >> places) & 1) - 1
        code = (2.0 * bits - 1.0) * mask
        with torch.autocast(mask.device.type, enabled=False):
            of_code = self._cost(self.code_context, code, level, quality, step)
            of_map = self._cost(self.map_context, planes, torch.zeros_like(level), quality, step)
        return of_code[0] + of_map[0], of_code[1] + of_map[1]

    def _cost(
        self, network: ContextNetwork, volume: Tensor, side: Tensor, quality: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        cost, sample = network(volume, side, quality, every=self._loss.every, start=step)
        zeros = torch.zeros(len(quality), device=cost.device)
        total = zeros.index_add(0, sample, cost.detach())
        seen = zeros.index_add(0, sample, torch.ones_like(cost))
        coded = (volume != 0).sum(dim=(1, 2, 3))
        # A batch that keeps no bit has nothing to teach.
        return cost.sum() / max(len(cost), 1), total / seen.clamp(min=1.0) * coded


def _by_quality(measured: Mapping[str, Tensor], quality: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, values in measured.items():
        values = values.detach()
        found[name] = values.mean()
        for one in sorted(set(quality.tolist())):
            found[f"{name}/{one + 1}"] = values[quality == one].mean()
    return found
