"""Train the filter: crops are coded by VVC and decoded, and what comes out of the filter is judged by teachers.

Each crop of a batch is coded at a QP of its own, drawn so that a batch is spread over all of them. A detector's loss on
what VVC decodes doubles about every six QPs, as VVC's quantisation step does; it is divided by that step, so that all
rates share the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from icm_bench.network.target import Target
from icm_bench.spec import create_codec, resolve_codec
from icm_codecs.bitstream.weights_file import check_same_shape
from icm_codecs.filtered.checkpoint import load_checkpoint, save_checkpoint
from icm_codecs.filtered.network import HIGHEST_QP, LOWEST_QP, FilterNetwork, FilterShape
from icm_codecs.pixel import to_image, to_tensor
from icm_codecs.training.recipe import check, check_tables, loss_and_shape
from icm_codecs.training.ssim_loss import mean_psnr
from icm_codecs.training.task import RecipeTeachers, TaughtModel, with_detectors

_DOUBLES = 6.0
"""The QPs over which VVC's quantisation step doubles."""

_MEAN_QP = 37.0
"""The QP at which a task's loss counts as it is."""

_LEAST_ERROR = 1e-5
"""In squared pixels of 0..1: what VVC loses less of does not matter."""


@dataclass(frozen=True)
class FilterLoss:
    """What is filtered, and how errors of pixels count.

    Attributes:
        codec: The spec of the standard codec; its bitstreams tell their QP.
        lowest: The lowest QP that crops are coded at.
        highest: The highest.
    """

    codec: str = "vvc"
    lowest: int = LOWEST_QP
    highest: int = HIGHEST_QP

    def __post_init__(self) -> None:
        check({"0 <= lowest <= highest <= 63": 0 <= self.lowest <= self.highest <= 63})


class FilterModel(TaughtModel):
    """The network as it is trained; without teachers, the squared error alone judges it."""

    def __init__(self, shape: FilterShape, loss: FilterLoss, teachers: RecipeTeachers | None = None) -> None:
        super().__init__(teachers)
        self.network = FilterNetwork(shape)
        self._loss = loss
        self._spec = resolve_codec(loss.codec)[0]

    @classmethod
    def from_recipe(cls, tables: Mapping[str, Any]) -> Self:
        """Build the untrained network from a recipe's tables."""
        check_tables(tables, "task")
        loss, shape = loss_and_shape(tables, FilterLoss, FilterShape)
        return cls(shape, loss, RecipeTeachers.from_recipe(tables))

    @property
    def needs_a_start(self) -> bool:
        """Return that an untrained filter changes nothing, which is a start."""
        return False

    def guided_losses(self, image: Tensor, targets: list[Target], step: int) -> dict[str, Tensor]:
        """Return ``loss``, and the batch's means of ``psnr``, ``psnr_unfiltered`` and, with teachers, ``task``.

        Args:
            image: N x 3 x H x W in 0..1, sides multiples of 64.
            targets: The objects in each image; none where they are not known.
            step: Counted from 0.
        """
        qp = self._spread(len(image))
        decoded = self._coded(image, qp)
        filtered = self.network(decoded, qp.to(image)).float()
        mse = (filtered - image).square().mean(dim=(1, 2, 3))
        unfiltered = (decoded - image).square().mean(dim=(1, 2, 3))
        distortion = mse / (unfiltered + _LEAST_ERROR)
        found = {"psnr": mean_psnr(mse), "psnr_unfiltered": mean_psnr(unfiltered)}
        if self._teachers is not None:
            share = self._teachers.task.share_at(step)
            seen = self._teachers.loss(filtered, image, targets, step)
            finer = torch.exp2((_MEAN_QP - qp.to(image)) / _DOUBLES)
            distortion = (1.0 - share) * distortion + share * self._teachers.task.scale * finer * seen
            found["task"] = seen.detach().mean()
        return {"loss": distortion.mean(), **found}

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights file that the codec loads, all or nothing."""
        save_checkpoint(self.network, path, with_detectors(facts, self._teachers))

    def start_from(self, path: Path) -> None:
        """Set the parameters to those of a weights file; it raises as :class:`Trainable` says."""
        start = load_checkpoint(path).network
        check_same_shape(start.shape, self.network.shape, path)
        self.network.load_state_dict(start.state_dict())

    def _coded(self, image: Tensor, qps: Tensor) -> Tensor:
        """Return what the standard codec decodes of each image, coded at its QP."""
        _, _, height, width = image.shape

        def code(pixels: Tensor, qp: int) -> Tensor:
            codec = create_codec(self._spec, qp, "cpu")
            return to_tensor(codec.decode(codec.encode(to_image(pixels[None], height, width))), "cpu")

        # Encoders are programs of their own: threads wait for them side by side.
        with ThreadPoolExecutor() as pool:
            decoded = list(pool.map(code, image.cpu(), qps.tolist()))
        return torch.cat(decoded).to(image).contiguous(memory_format=torch.channels_last)

    def _spread(self, n: int) -> Tensor:
        """Draw one QP from each of n equal parts of the range, in random order."""
        parts = (torch.randperm(n) + torch.rand(n)) / n
        return self._loss.lowest + (parts * (self._loss.highest - self._loss.lowest + 1)).long()
