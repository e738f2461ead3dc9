"""Where a training's transforms start: at the Karhunen-Loève transform of a model of images, stage by stage.

From random weights a transform takes most of a short training to become as good as the linear ones that are known
in advance. So strided convolutions begin as those: each maps squares of its input to the directions of most variance
that images have there, if their pixels follow a first-order Markov process along rows and columns (Ahmed, Natarajan &
Rao 1974 derive the DCT from it) and their colours correlate as photographs' do. That this is where training starts,
and the model's three constants, are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_NEIGHBOURS = 0.95
"""Correlation of neighbouring pixels."""

PIXEL_VARIANCE = 0.05
"""Of pixels in 0..1."""

_COLOURS = ((1.0, 0.95, 0.88), (0.95, 1.0, 0.95), (0.88, 0.95, 1.0))
"""Correlation of red, green and blue."""


def markov_transforms(channels: Sequence[int], *, first: int = 2) -> tuple[list[Tensor], Tensor]:
    """Return the transforms of stages that each halve the resolution, but for the first.

    Args:
        channels: How many channels each stage keeps; one that could keep all keeps no more.
        first: Side of the squares of pixels that the first stage sees; the others see 2 x 2 positions.

    Returns:
        For each stage outputs x inputs x side x side, float64, orthonormal; and the variances of the last stage's
        outputs, falling, where pixels have :data:`PIXEL_VARIANCE`.
    """
    n = first * 2 ** (len(channels) - 1)
    place = torch.arange(n, dtype=torch.float64)
    along = _NEIGHBOURS ** (place[:, None] - place).abs()
    colours = torch.tensor(_COLOURS, dtype=torch.float64)
    # Row, column, channel; row, column, channel.
    covariance = torch.einsum("ab,cd,ef->acebdf", along, along, colours)
    found = []
    for stage, most in enumerate(channels):
        side = first if stage == 0 else 2
        inputs = covariance.shape[2]
        square = covariance[:side, :side, :, :side, :side].reshape(side * side * inputs, -1)
        _, directions = torch.linalg.eigh(square)
        kept = directions.flip(1)[:, :most].T.reshape(-1, side, side, inputs)
        n //= side
        grid = covariance.reshape(n, side, n, side, inputs, n, side, n, side, inputs)
        covariance = torch.einsum("kabi,yaxbizcwdj,lcdj->yxkzwl", kept, grid, kept)
        found.append(kept.permute(0, 3, 1, 2))
    return found, PIXEL_VARIANCE * covariance.flatten().reshape(found[-1].shape[0], -1).diagonal()


def begin_with(weight: Tensor, transform: Tensor, *, at: int) -> None:
    """Make a transform what a convolution's first results are, of its first sources alone.

    Args:
        weight: Results x sources x kernel x kernel; of a transposed convolution, transposed.
        transform: No more results and sources x side x side.
        at: The tap, down and right, where the squares begin.
    """
    results, sources, side, _ = transform.shape
    with torch.no_grad():
        weight[:results] = 0.0
        weight[:results, :sources, at : at + side, at : at + side] = transform.to(weight)
