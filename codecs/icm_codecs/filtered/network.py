"""The filter: a residual network at a half, a quarter and an eighth of the size, which is told the QP.

It begins as nothing: an untrained network returns its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_codecs.layer import Entries

STRIDE = 8
"""What the sides of images are multiples of."""

LOWEST_QP, HIGHEST_QP = 20, 53
"""The QPs that the network tells apart; beyond them it does what it does there."""

_SLOPE = 0.1
_MEAN_QP, _QP_UNIT = 37.0, 15.0


@dataclass(frozen=True)
class FilterShape(Entries):
    """How large the network is.

    Attributes:
        half: Channels at a half of the size.
        quarter: Channels at a quarter.
        eighth: Channels at an eighth.
        blocks: Residual blocks: at a half, a quarter, an eighth, and again at a quarter and a half on the way back.
        embedding: Values that the QP becomes.
    """

    half: int = 32
    quarter: int = 64
    eighth: int = 96
    blocks: tuple[int, ...] = (1, 1, 3, 2, 1)
    embedding: int = 32

    def __post_init__(self) -> None:
        if len(self.blocks) != 5:
            raise ValueError(f"blocks are {len(self.blocks)} numbers, not 5")
        if min(self.half, self.quarter, self.eighth, self.embedding, *self.blocks) < 1:
            raise ValueError("a size is below 1")


class FilterBlock(nn.Module):
    """Two convolutions and a way around them; between the two, the QP scales and shifts each channel."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Return N x channels x h x w for the same, and for the QPs' code, N x embedding."""
        scale, shift = self.modulation(code)[:, :, None, None].chunk(2, dim=1)
        inner = self.first(x) * (1.0 + scale) + shift
        return x + cast(Tensor, self.second(functional.leaky_relu(inner, _SLOPE)))


class FilterNetwork(nn.Module):
    """Decoded image and QP -> image for machines."""

    def __init__(self, shape: FilterShape) -> None:
        super().__init__()
        self.shape = shape
        half, quarter, eighth, code = shape.half, shape.quarter, shape.eighth, shape.embedding
        counts = shape.blocks
        self.embed = nn.Sequential(nn.Linear(1, code), nn.SiLU(), nn.Linear(code, code), nn.SiLU())
        self.stem = nn.Conv2d(12, half, 3, padding=1)
        self.half_in = _blocks(counts[0], half, code)
        self.quarter_in = _blocks(counts[1], quarter, code)
        self.eighth_all = _blocks(counts[2], eighth, code)
        self.quarter_out = _blocks(counts[3], quarter, code)
        self.half_out = _blocks(counts[4], half, code)
        self.to_quarter = nn.Conv2d(half, quarter, 3, 2, 1)
        self.to_eighth = nn.Conv2d(quarter, eighth, 3, 2, 1)
        self.from_eighth = nn.Conv2d(eighth, 4 * quarter, 1)
        self.from_quarter = nn.Conv2d(quarter, 4 * half, 1)
        self.head = nn.Conv2d(half, 12, 3, padding=1)
        self._initialise()

    def forward(self, image: Tensor, qp: Tensor) -> Tensor:
        """Return N x 3 x H x W, about 0..1, for the same, sides multiples of ``STRIDE``, and for the QPs, N."""
        code = self.embed((qp.clamp(LOWEST_QP, HIGHEST_QP)[:, None] - _MEAN_QP) / _QP_UNIT)
        half = _run(self.half_in, self.stem(functional.pixel_unshuffle(image - 0.5, 2)), code)
        quarter = _run(self.quarter_in, self.to_quarter(half), code)
        eighth = _run(self.eighth_all, self.to_eighth(quarter), code)
        quarter = quarter + functional.pixel_shuffle(self.from_eighth(eighth), 2)
        quarter = _run(self.quarter_out, quarter, code)
        half = half + functional.pixel_shuffle(self.from_quarter(quarter), 2)
        half = _run(self.half_out, half, code)
        return image + functional.pixel_shuffle(self.head(half), 2)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE)
                nn.init.zeros_(cast(Tensor, module.bias))
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, FilterBlock):
                    module.second.weight.mul_(0.1)
                    nn.init.zeros_(module.modulation.weight)
                    nn.init.zeros_(module.modulation.bias)
            self.from_eighth.weight.mul_(0.5)
            self.from_quarter.weight.mul_(0.5)
        nn.init.zeros_(self.head.weight)


def _blocks(count: int, channels: int, embedding: int) -> nn.ModuleList:
    return nn.ModuleList(FilterBlock(channels, embedding) for _ in range(count))


def _run(blocks: nn.ModuleList, x: Tensor, code: Tensor) -> Tensor:
    for block in cast(Sequence[FilterBlock], blocks):
        x = block(x, code)
    return x
