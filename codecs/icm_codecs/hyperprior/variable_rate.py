"""What networks with a hyperprior share that serve every rate: gains, priors and the estimate of bits."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn

from icm_codecs.bitstream.quiet import quiet_import

with quiet_import():
    from compressai.entropy_models import EntropyBottleneck, GaussianConditional
    from compressai.ops import LowerBound

from icm_codecs.bitstream.table import SCALES
from icm_codecs.layer import Entries, per_channel, start_log_gain

LATENT_STRIDE = 16
"""Pixels to a latent position, in each direction."""

HYPER_STRIDE = 4
"""Latent positions to a hyper-latent position, in each direction."""


class Estimate(NamedTuple):
    """What a training step needs of one forward pass: images, N x 3 x H x W about 0..1, and bits per sample, N."""

    image: Tensor
    bits: Tensor


@dataclass(frozen=True)
class HyperpriorShape(Entries):
    """How large the networks are.

    Attributes:
        qualities: How many rate points the model serves.
        fine: Channels at a quarter of the resolution.
        wide: Channels at an eighth and a sixteenth of the resolution.
        latent: Channels of the latent.
        hyper: Channels of the hyper-latent.
        hyper_wide: Channels inside the hyper-synthesis at strides 32 and 16 (the latter a third more).
        skip: How many of the latent's channels, the last ones, are made of the features at an eighth of the resolution,
            and decoded into them: ``wide`` values for 16x16 pixels hold no fine detail, whatever they cost.
    """

    qualities: int = 8
    fine: int = 64
    wide: int = 128
    latent: int = 256
    hyper: int = 64
    hyper_wide: int = 96
    skip: int = 0

    def __post_init__(self) -> None:
        sizes = [getattr(self, field.name) for field in fields(HyperpriorShape)]
        if not all(isinstance(size, int) for size in sizes) or min(sizes[:-1]) < 1:
            raise ValueError("qualities and channels must be positive whole numbers")
        if not 0 <= self.skip < self.latent:
            raise ValueError(f"skip is from 0 to {self.latent - 1}")

    @property
    def hyper_wider(self) -> int:
        """Channels of the hyper-synthesis at stride 16."""
        return self.hyper_wide * 4 // 3

    @property
    def first_layer(self) -> int:
        """Channels of the latent that every quality sends."""
        return self.latent

    def sent(self, quality: int) -> int:
        """Return how many channels of the latent, the first ones, a quality, counted from 0, sends."""
        del quality
        return self.latent


class VariableRateNetwork(nn.Module):
    """A hyperprior codec's networks with what one model for every rate needs beside them.

    A batch holds every quality: sample ``i`` is coded at quality ``i % qualities``, because each quality has a
    factorised prior of its own for the hyper-latent.

    Args:
        shape: How large the networks are.
        lambdas: The weight of the squared error at each quality, rising: the latent's first step sizes follow from it.
        analysis: Image and quality -> latent.
        synthesis: Latent and quality -> image.
        hyper_analysis: Scaled latent and quality -> hyper-latent.
        hyper_synthesis: Rounded hyper-latent and quality -> what the latent's distribution is.
    """

    def __init__(
        self,
        shape: HyperpriorShape,
        lambdas: tuple[float, ...],
        analysis: nn.Module,
        synthesis: nn.Module,
        hyper_analysis: nn.Module,
        hyper_synthesis: nn.Module,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.analysis = analysis
        self.synthesis = synthesis
        self.hyper_analysis = hyper_analysis
        self.hyper_synthesis = hyper_synthesis
        self.prior = EntropyBottleneck(shape.qualities * shape.hyper)
        # The tables are built from the likelihood at the integers, so the quantiles have nothing to learn.
        self.prior.quantiles.requires_grad_(False)
        self.conditional = GaussianConditional(None)
        self.lowest_index = LowerBound(0.0)
        start = start_log_gain(lambdas, shape.latent)
        self.log_gain = nn.Parameter(start)
        self.log_inverse_gain = nn.Parameter(-start)

    def gain(self, quality: Tensor) -> Tensor:
        """Return the latent's scaling per sample and channel: N x latent x 1 x 1."""
        return per_channel(torch.exp(self.log_gain), quality)

    def inverse_gain(self, quality: Tensor) -> Tensor:
        """Return the scaling that precedes the synthesis: N x latent x 1 x 1."""
        return per_channel(torch.exp(self.log_inverse_gain), quality)

    def _latent_bits(self, scaled: Tensor, index: Tensor, mean: Tensor | None = None) -> Tensor:
        bounded = self.lowest_index(index).clamp(max=float(SCALES.n_scales - 1))
        scales = SCALES.lowest * torch.exp(SCALES.step * bounded)
        _, likelihood = self.conditional(scaled, scales, means=mean, training=True)
        return _bits(likelihood)

    def _hyper_bits(self, hyper: Tensor) -> Tensor:
        n_qualities, channels = self.shape.qualities, self.shape.hyper
        side_by_side = hyper.reshape(-1, n_qualities * channels, *hyper.shape[2:])
        _, likelihood = self.prior(side_by_side, training=True)
        return _bits(likelihood.reshape(hyper.shape))


def _bits(likelihood: Tensor) -> Tensor:
    return -torch.log2(likelihood).sum(dim=(1, 2, 3))
