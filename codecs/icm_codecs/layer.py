"""Layers that the learned codecs' networks share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Entries:
    """What recipes and weights files hold as a table, such as how large networks are."""

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Self:
        """Return what :meth:`as_dict` was called on, lists as tuples.

        Raises:
            TypeError: An entry is unknown, missing or of another kind.
            ValueError: An entry is impossible, or they contradict each other.
        """
        made = cls(**{key: _as_tuples(value) for key, value in entries.items()})
        made.check()
        return made

    def check(self) -> None:
        """Raise ``ValueError`` where entries contradict each other."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def _as_tuples(value: Any) -> Any:
    """Return lists within lists, as JSON and TOML have them, as tuples."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def per_channel(values: Tensor, quality: Tensor, /) -> Tensor:
    """Return each sample's values, one a channel: qualities x C, N -> N x C x 1 x 1."""
    return values[quality][:, :, None, None]


class Modulation(nn.Module):
    """Scale and shift the channels by what the quality has learned: N x C x H x W, N -> N x C x H x W.

    Attributes:
        at: Gives each sample's values out of those of all qualities.
    """

    at = staticmethod(per_channel)

    def __init__(self, n_qualities: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(n_qualities, channels))
        self.shift = nn.Parameter(torch.zeros(n_qualities, channels))

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """Return the modulated features."""
        scale, shift = self.at(self.scale, quality), self.at(self.shift, quality)
        return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))


class LogHyperAnalysis(nn.Module):
    """Turn a scaled latent into a hyper-latent: N x latent x 4h x 4w -> N x hyper x h x w.

    It sees magnitudes by their logarithm, and the same with the signs, which means follow from.
    """

    def __init__(self, latent: int, wide: int, hyper: int, modulation: Modulation) -> None:
        super().__init__()
        self.first = nn.Conv2d(2 * latent, wide, 3, stride=2, padding=1)
        self.second = nn.Conv2d(wide, hyper, 3, stride=2, padding=1)
        self.modulation = modulation

    def forward(self, scaled: Tensor, quality: Tensor) -> Tensor:
        """Return the hyper-latent, not yet rounded."""
        magnitude = torch.log1p(scaled.abs())
        x = torch.cat([magnitude, torch.sign(scaled) * magnitude], dim=1)
        x = self.second(functional.leaky_relu(self.first(x), 0.1))
        return cast(Tensor, self.modulation(x, quality)).float()


class Doubling(nn.Module):
    """The start of a hyper-synthesis: N x hyper x h x w, N -> N x wider x 4h x 4w.

    Only operations that have an integer twin are used: scaling, convolution, a bias per quality, ReLU, depth to space.

    Attributes:
        at: Gives each sample's values out of those of all qualities.
    """

    at = staticmethod(per_channel)

    def __init__(self, n_qualities: int, hyper: int, wide: int, wider: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(n_qualities, hyper))
        self.first = nn.Conv2d(hyper, 4 * wide, 3, padding=1, bias=False)
        self.second = nn.Conv2d(wide, 4 * wider, 3, padding=1, bias=False)
        self.first_bias = nn.Parameter(torch.zeros(n_qualities, 4 * wide))
        self.second_bias = nn.Parameter(torch.zeros(n_qualities, 4 * wider))

    def features(self, hyper: Tensor, quality: Tensor) -> Tensor:
        """Return what a rounded hyper-latent says, at the latent's resolution."""
        x = hyper * self.at(self.gain, quality)
        x = self.first(x) + self.at(self.first_bias, quality)
        x = functional.pixel_shuffle(functional.relu(x), 2)
        x = self.second(x) + self.at(self.second_bias, quality)
        return functional.pixel_shuffle(functional.relu(x), 2)


class ResidualBlock(nn.Module):
    """Add to the features what two 3x3 convolutions make of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        inner = functional.leaky_relu(self.first(functional.leaky_relu(x, 0.1)), 0.1)
        return x + cast(Tensor, self.second(inner))


def start_convolutions(modules: Iterable[nn.Module], nonlinearity: Literal["linear", "relu"]) -> None:
    """Draw the weights of convolutions by He et al.'s rule, and set their biases to zero."""
    for module in modules:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity=nonlinearity)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def start_residuals(modules: Iterable[nn.Module], kind: type[nn.Module]) -> None:
    """Draw small weights for the last convolution, ``second``, of residual blocks of a kind."""
    for module in modules:
        if isinstance(module, kind):
            weight = cast(nn.Conv2d, module.second).weight
            nn.init.normal_(weight, std=0.1 * weight[0].numel() ** -0.5)


def round_through(x: Tensor) -> Tensor:
    """Round to whole numbers, and pass gradients as if nothing had been done."""
    return x + (torch.round(x) - x).detach()


def n_parameters(module: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def start_log_gain(lambdas: Sequence[float], channels: int) -> Tensor:
    """Return the logarithm of the latent's first scaling: lambdas x channels.

    Rate-distortion theory: a step size goes with the root of the squared error's lambda.
    """
    relative = torch.tensor([0.5 * math.log(value / lambdas[-1]) for value in lambdas])
    return math.log(6.0) + relative[:, None].repeat(1, channels)
