"""What networks with a hyperprior share that serve every rate: gains, priors and the estimate of bits."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from icm_codecs.bitstream.quiet import quiet_import

with quiet_import():
    from compressai.entropy_models import EntropyBottleneck, GaussianConditional
    from compressai.ops import LowerBound

from icm_codecs.bitstream.table import SCALES
from icm_codecs.layer import per_channel, start_log_gain

LATENT_STRIDE = 16
"""Pixels to a latent position, in each direction."""

HYPER_STRIDE = 4
"""Latent positions to a hyper-latent position, in each direction."""


class Estimate(NamedTuple):
    """What a training step needs of one forward pass: images, N x 3 x H x W about 0..1, and bits per sample, N."""

    image: Tensor
    bits: Tensor


class Sizes(Protocol):
    """How many rate points networks serve, and how many channels the latents have."""

    @property
    def qualities(self) -> int: ...  # noqa: D102 - named
    @property
    def latent(self) -> int: ...  # noqa: D102 - named
    @property
    def hyper(self) -> int: ...  # noqa: D102 - named

    def sent(self, quality: int) -> int:
        """Return how many channels of the latent, the first ones, a quality, counted from 0, sends."""
        ...

    def as_dict(self) -> dict[str, int]:
        """Return the fields by name."""
        ...


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
        shape: Sizes,
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
