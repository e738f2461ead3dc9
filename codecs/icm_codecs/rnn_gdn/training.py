"""Train the recurrent codec: the mean over the iterations of |r_t|, Islam et al.'s loss.

The paper runs all iterations from the first step on. Stages of ever more iterations, an option and our choice, spend
a short training on what all iterations share before it pays for the late ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from icm_codecs.bitstream.weights_file import check_same_shape
from icm_codecs.rnn_gdn.checkpoint import load_checkpoint, save_checkpoint
from icm_codecs.rnn_gdn.network import BITS, STRIDE, RnnNetwork, RnnShape
from icm_codecs.training.recipe import check, loss_and_shape

_BPP = BITS / STRIDE**2


@dataclass(frozen=True)
class RnnLoss:
    """When how many iterations are trained, and how: see :class:`RnnModel`."""

    stages: tuple[Sequence[int], ...] = ()
    drawn: int | None = None

    def __post_init__(self) -> None:
        check(
            {
                "each of stages is a step and a number of iterations": all(
                    len(stage) == 2 and all(isinstance(n, int) for n in stage) for stage in self.stages
                ),
                "drawn is a number of steps": self.drawn is None
                or (isinstance(self.drawn, int) and self.drawn >= 0),
            }
        )


class RnnModel(nn.Module):
    """The networks as they are trained.

    Args:
        shape: How large they are, and which variant.
        stages: Steps, counted from 0 and rising, and how many iterations are run from each on; all of the shape's
            iterations from the first step on where there is none.
        drawn: For how many steps bits are drawn at random; all of them where it is None, as in the paper. Afterwards
            they are the signs that are coded.
    """

    def __init__(
        self, shape: RnnShape, stages: Sequence[tuple[int, int]] = (), drawn: int | None = None
    ) -> None:
        super().__init__()
        self._drawn = drawn
        self.network = RnnNetwork(shape)
        self._stages = tuple(stages) or ((0, shape.iterations),)
        starts = [start for start, _ in self._stages]
        if starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError("it must hold that stages begin at step 0 and rise")
        if not all(1 <= iterations <= shape.iterations for _, iterations in self._stages):
            raise ValueError(f"it must hold that a stage has 1 to {shape.iterations} iterations")

    @classmethod
    def from_recipe(cls, tables: Mapping[str, Any]) -> Self:
        """Build the untrained networks from a recipe's tables.

        ``[network]`` has the fields of :class:`~icm_codecs.rnn_gdn.network.RnnShape`, ``[loss]`` none or ``stages``, a
        list of pairs as in the constructor, and ``drawn``.
        """
        loss, shape = loss_and_shape(tables, RnnLoss, RnnShape)
        return cls(shape, [(start, iterations) for start, iterations in loss.stages], loss.drawn)

    def losses(self, image: Tensor, step: int) -> dict[str, Tensor]:
        """Return ``loss``, and the PSNR in dB after some of the iterations, by their rate in bit per pixel.

        Args:
            image: Batch x 3 x H x W in 0..1, sides multiples of 16.
            step: Counted from 0; says which stage it is.
        """
        centred = image - 0.5
        drawn = self._drawn is None or step < self._drawn
        images = self.network(centred, self.iterations(step), drawn=drawn)
        loss = torch.stack([(centred - seen).abs().mean() for seen in images]).mean()
        curves = {"loss": loss}
        for iteration, seen in enumerate(images, start=1):
            if iteration in (1, 2, 4, 8, len(images)):
                mse = (centred - seen).detach().square().mean(dim=(1, 2, 3))
                curves[f"psnr/{iteration * _BPP:g}bpp"] = (-10.0 * torch.log10(mse)).mean()
        return curves

    def iterations(self, step: int) -> int:
        """Return how many iterations a step, counted from 0, runs."""
        return next(iterations for start, iterations in reversed(self._stages) if start <= step)

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights file that the codec loads, in half precision, all or nothing."""
        save_checkpoint(self.network, path, facts)

    def start_from(self, path: Path) -> None:
        """Set the parameters to those of a weights file; it raises as :class:`Trainable` says."""
        trained = load_checkpoint(path).network
        trained_as, wanted = ((shape.width, shape.gdn) for shape in (trained.shape, self.network.shape))
        check_same_shape(trained_as, wanted, path)
        self.network.load_state_dict(trained.state_dict())
