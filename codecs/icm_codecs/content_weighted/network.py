"""Encoder, binariser, importance map and decoder, after Li et al. (CVPR 2018, arXiv 1703.10553).

Layers, strides and gradients are the paper's and its released code's; ``width`` 128 gives their channels. Ours is that
one model serves every rate: a quality scales and shifts features, and the importance map's bias, so that a ladder
costs little more than a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_codecs.layer import Entries, Modulation, start_convolutions, start_residuals

STRIDE = 8
"""Pixels to a position of the code, in each direction."""

MaskRule = Literal["floor", "floor+1"]
"""How many levels' channels a level keeps: itself (the paper's: it may be none), or one more (released models')."""

_RULES = ("floor", "floor+1")
_FINEST = 32


@dataclass(frozen=True)
class ContentWeightedShape(Entries):
    """How large the networks are.

    Attributes:
        qualities: How many rate points the model serves.
        width: Channels of the first layer; the others are multiples of it. The paper's is 128. A multiple of 8.
        code: Channels of the code, n; the paper's are 64 for low rates and 128. A multiple of ``levels``.
        levels: Levels of the importance map, L; the paper's are 16 and 32. A power of two.
        mask_rule: How many channels a level keeps.
        context: Channels inside the context models.

    Raises:
        ValueError: A size is impossible.
    """

    qualities: int = 6
    width: int = 64
    code: int = 128
    levels: int = 32
    mask_rule: MaskRule = "floor"
    context: int = 32

    def __post_init__(self) -> None:
        requirements = {
            "width is a positive multiple of 8": self.width > 0 and self.width % 8 == 0,
            "levels is a power of two, 2 to 256": self.levels in [2**bits for bits in range(1, 9)],
            "code is a positive multiple of levels": self.code > 0 and self.code % self.levels == 0,
            f"mask_rule is one of {', '.join(_RULES)}": self.mask_rule in _RULES,
            "qualities is from 1 to 16": 1 <= self.qualities <= 16,
            "context is positive": self.context > 0,
        }
        broken = [requirement for requirement, holds in requirements.items() if not holds]
        if broken:
            raise ValueError(f"it must hold that {broken[0]}")

    @property
    def bit_planes(self) -> int:
        """Bits of a level of the importance map."""
        return self.levels.bit_length() - 1


class Residual(nn.Module):
    """Add to the features what two 3x3 convolutions, each with a ReLU, make of them, and rectify the sum."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, inner, 3, padding=1)
        self.second = nn.Conv2d(inner, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return functional.relu(x + functional.relu(self.second(functional.relu(self.first(x)))))


class Encoding(NamedTuple):
    """What the encoder makes of images: N x code x h x w and N x h x w, float32, both in 0..1."""

    code: Tensor
    importance: Tensor


class Encoder(nn.Module):
    """Turn an image into a code, not yet binary, and its importance map: N x 3 x 8h x 8w in 0..1 -> :class:`Encoding`.

    The targets are the importance that each quality begins with.
    """

    def __init__(self, shape: ContentWeightedShape, targets: Sequence[float]) -> None:
        super().__init__()
        width = shape.width
        self.stem = nn.Conv2d(3, width, 8, stride=4, padding=2)
        self.quarter = Residual(width, width)
        self.to_eighth = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.modulation = Modulation(shape.qualities, 2 * width)
        self.eighth = Residual(2 * width, width)
        self.middle = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.last = Residual(2 * width, width)
        self.feature_modulation = Modulation(shape.qualities, 2 * width)
        self.code_head = nn.Conv2d(2 * width, shape.code, 1)
        self.map_inner = nn.Conv2d(2 * width, width, 3, padding=1)
        self.map_head = nn.Conv2d(width, 1, 1, bias=False)
        self.map_bias = nn.Parameter(torch.tensor([math.log(target / (1.0 - target)) for target in targets]))
        _initialise(self)
        nn.init.normal_(self.map_head.weight, std=0.1 * width**-0.5)

    def forward(self, image: Tensor, quality: Tensor) -> Encoding:
        """Return the code and its importance."""
        x = self.quarter(functional.relu(self.stem(4.0 * (image - 0.5))))
        x = self.eighth(self.modulation(functional.relu(self.to_eighth(x)), quality))
        x = self.last(functional.relu(self.middle(x)))
        x = self.feature_modulation(x, quality)
        importance = self.map_head(functional.relu(self.map_inner(x)))[:, 0].float()
        return Encoding(
            torch.sigmoid(self.code_head(x).float()),
            torch.sigmoid(importance + self.map_bias[quality][:, None, None]),
        )


class Decoder(nn.Module):
    """Turn a masked binary code into an image: N x code x h x w -> N x 3 x 8h x 8w, about 0..1, not clipped."""

    def __init__(self, shape: ContentWeightedShape) -> None:
        super().__init__()
        width = shape.width
        self.stem = nn.Conv2d(shape.code, 4 * width, 3, padding=1)
        self.modulation = Modulation(shape.qualities, 4 * width)
        self.first = Residual(4 * width, width)
        self.middle = nn.Conv2d(4 * width, 4 * width, 3, padding=1)
        self.second = Residual(4 * width, width)
        self.to_quarter = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.quarter_modulation = Modulation(shape.qualities, 2 * width)
        self.quarter = Residual(2 * width, width)
        self.fine = nn.Conv2d(2 * width // 16, _FINEST, 3, padding=1)
        self.head = nn.Conv2d(_FINEST, 3, 1)
        _initialise(self)
        nn.init.normal_(self.head.weight, std=0.1 * _FINEST**-0.5)

    def forward(self, code: Tensor, quality: Tensor) -> Tensor:
        """Return the image."""
        x = self.first(self.modulation(functional.relu(self.stem(code)), quality))
        x = self.second(functional.relu(self.middle(x)))
        x = functional.relu(self.to_quarter(functional.pixel_shuffle(x, 2)))
        x = self.quarter(self.quarter_modulation(x, quality))
        x = functional.relu(self.fine(functional.pixel_shuffle(x, 4)))
        return cast(Tensor, self.head(x)).float() + 0.5


class _Binarise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, code: Tensor) -> Tensor:
        ctx.save_for_backward(code)
        return (code > 0.5).to(code.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (code,) = ctx.saved_tensors
        pushed_down = torch.where(code > 1.0, gradient.clamp(min=0.0), gradient)
        return torch.where(code < 0.0, gradient.clamp(max=0.0), pushed_down)


def binarise(code: Tensor) -> Tensor:
    """Return 1 where the code exceeds a half, else 0.

    The gradient passes straight through within 0..1; outside, only what pushes back does (the paper's).
    """
    return cast(Tensor, _Binarise.apply(code))


def level_of(importance: Tensor, shape: ContentWeightedShape) -> Tensor:
    """Return the importance map's levels, floor(p L), int64, 0 to L - 1."""
    return torch.floor(importance * shape.levels).clamp(0, shape.levels - 1).long()


def n_kept(level: Tensor, shape: ContentWeightedShape) -> Tensor:
    """Return how many channels of the code levels keep, the first ones, by the mask rule."""
    return (level + (shape.mask_rule == "floor+1")) * (shape.code // shape.levels)


def mask_of(level: Tensor, shape: ContentWeightedShape) -> Tensor:
    """Return which channels levels keep: N x h x w -> N x code x h x w, bool."""
    channel = torch.arange(shape.code, device=level.device)[:, None, None]
    return channel < n_kept(level, shape)[:, None]


class _Mask(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, importance: Tensor, shape: ContentWeightedShape) -> Tensor:
        level = level_of(importance, shape)
        ctx.save_for_backward(n_kept(level, shape))
        ctx.shape = shape
        return mask_of(level, shape).to(importance.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        per_level = ctx.shape.code // ctx.shape.levels
        distance = torch.arange(ctx.shape.code, device=kept.device)[:, None, None] - kept[:, None]
        near = (distance >= -per_level) & (distance < per_level)
        return ctx.shape.levels * (gradient * near).sum(dim=1), None


def importance_mask(importance: Tensor, shape: ContentWeightedShape) -> Tensor:
    """Return the mask of an importance map: N x h x w in 0..1 -> N x code x h x w of zeros and ones.

    The gradient is the paper's: ``levels`` times the sum of the mask's over the two levels around the boundary.
    """
    return cast(Tensor, _Mask.apply(importance, shape))


def _initialise(module: nn.Module) -> None:
    start_convolutions(module.modules(), "relu")
    start_residuals(module.modules(), Residual)
