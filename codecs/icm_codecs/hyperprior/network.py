"""The networks of the mean and scale hyperprior, in floating point, as they are trained.

The entropy model is the paper's (Minnen et al., NeurIPS 2018, without its autoregressive part): Gaussians whose means
and standard deviations a hyper-latent tells. The transforms are ours, residual ones in place of convolutions with
divisive normalisation (``mbt2018-mean`` has the paper's): made for speed on a processor, with no convolution above a
quarter of the resolution.

One model serves every rate: a quality scales the latent channel by channel before rounding, and back after it, and
scales and shifts features inside the transforms. The latent has stride 16, the hyper-latent stride 64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_codecs.bitstream.table import SCALES
from icm_codecs.hyperprior.variable_rate import Estimate, HyperpriorShape, VariableRateNetwork
from icm_codecs.layer import (
    Doubling,
    LogHyperAnalysis,
    Modulation,
    ResidualBlock,
    round_through,
    start_convolutions,
    start_residuals,
)


class Analysis(nn.Module):
    """Turn an image into a latent: N x 3 x 16h x 16w in 0..1 -> N x first_layer x h x w."""

    def __init__(self, shape: HyperpriorShape) -> None:
        super().__init__()
        self.stem = nn.Conv2d(48, shape.fine, 3, padding=1)
        self.fine = ResidualBlock(shape.fine)
        self.to_eighth = nn.Conv2d(shape.fine, shape.wide, 3, stride=2, padding=1)
        self.eighth_modulation = Modulation(shape.qualities, shape.wide)
        self.eighth = nn.Sequential(ResidualBlock(shape.wide), ResidualBlock(shape.wide))
        self.to_sixteenth = nn.Conv2d(shape.wide, shape.wide, 3, stride=2, padding=1)
        self.sixteenth_modulation = Modulation(shape.qualities, shape.wide)
        self.sixteenth = ResidualBlock(shape.wide)
        self.head = nn.Conv2d(shape.wide, shape.first_layer - shape.skip, 1)
        self.skip = nn.Conv2d(shape.wide, shape.skip, 2, stride=2) if shape.skip else None

    def forward(self, image: Tensor, quality: Tensor) -> Tensor:
        """Return the latent, not yet scaled for the quality."""
        x = self.stem(functional.pixel_unshuffle(4.0 * (image - 0.5), 4))
        x = self.to_eighth(self.fine(x))
        eighth = self.eighth(self.eighth_modulation(x, quality))
        x = self.sixteenth(self.sixteenth_modulation(self.to_sixteenth(eighth), quality))
        latent = cast(Tensor, self.head(x))
        return latent if self.skip is None else torch.cat([latent, self.skip(eighth)], dim=1)


class Synthesis(nn.Module):
    """Turn a latent into an image: N x first_layer x h x w -> N x 3 x 16h x 16w, about 0..1, not clipped."""

    def __init__(self, shape: HyperpriorShape) -> None:
        super().__init__()
        self._deep = shape.first_layer - shape.skip
        self.stem = nn.Conv2d(self._deep, shape.wide, 1)
        self.skip = nn.Conv2d(shape.skip, 4 * shape.wide, 1, bias=False) if shape.skip else None
        self.sixteenth_modulation = Modulation(shape.qualities, shape.wide)
        self.sixteenth = ResidualBlock(shape.wide)
        self.to_eighth = nn.Conv2d(shape.wide, 4 * shape.wide, 1)
        self.eighth_modulation = Modulation(shape.qualities, shape.wide)
        self.eighth = nn.Sequential(ResidualBlock(shape.wide), ResidualBlock(shape.wide))
        self.to_quarter = nn.Conv2d(shape.wide, 4 * shape.fine, 1)
        self.quarter_modulation = Modulation(shape.qualities, shape.fine)
        self.fine = ResidualBlock(shape.fine)
        self.head = nn.Conv2d(shape.fine, 48, 3, padding=1)

    def forward(self, latent: Tensor, quality: Tensor) -> Tensor:
        """Return the image; the latent has been scaled back."""
        x = self.sixteenth(self.sixteenth_modulation(self.stem(latent[:, : self._deep]), quality))
        x = self.to_eighth(x)
        if self.skip is not None:
            x = x + self.skip(latent[:, self._deep :])
        x = functional.pixel_shuffle(x, 2)
        x = self.eighth(self.eighth_modulation(x, quality))
        x = functional.pixel_shuffle(self.to_quarter(x), 2)
        x = self.fine(self.quarter_modulation(x, quality))
        return functional.pixel_shuffle(self.head(x).float(), 4) / 4.0 + 0.5


class HyperAnalysis(LogHyperAnalysis):
    """Turn a scaled latent into a hyper-latent."""

    def __init__(self, shape: HyperpriorShape) -> None:
        modulation = Modulation(shape.qualities, shape.hyper)
        super().__init__(shape.latent, shape.hyper_wide, shape.hyper, modulation)


class HyperSynthesis(Doubling):
    """Turn a rounded hyper-latent into scale indices and means: N x hyper x h x w -> twice N x latent x 4h x 4w."""

    def __init__(self, shape: HyperpriorShape) -> None:
        super().__init__(shape.qualities, shape.hyper, shape.hyper_wide, shape.hyper_wider)
        self.latent = shape.latent
        self.third = nn.Conv2d(shape.hyper_wider, 2 * shape.latent, 1, bias=False)
        self.third_bias = nn.Parameter(torch.zeros(shape.qualities, 2 * shape.latent))

    def forward(self, hyper: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale indices, see :data:`icm_codecs.bitstream.table.SCALES`, not yet bounded, and means."""
        x = self.third(self.features(hyper, quality)) + self.at(self.third_bias, quality)
        x = x.float()
        return SCALES.per_unit * x[:, : self.latent], x[:, self.latent :]


def start_networks(network: VariableRateNetwork, modules: Iterable[nn.Module]) -> None:
    """Draw a network's first weights, of its convolutions among the given modules, and its first scales."""
    start_convolutions(modules, "linear")
    start_residuals(network.modules(), ResidualBlock)
    synthesis = cast(HyperSynthesis, network.hyper_synthesis)
    for layer in (synthesis.first, synthesis.second):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    with torch.no_grad():
        synthesis.third.weight.mul_(0.1)
        start_index = -math.log(SCALES.lowest) / SCALES.step
        synthesis.third_bias[:, : network.shape.latent] = start_index / SCALES.per_unit


class HyperpriorNetwork(VariableRateNetwork):
    """Estimate the decoded images and their rates: see :class:`VariableRateNetwork`."""

    shape: HyperpriorShape
    analysis: Analysis
    synthesis: Synthesis
    hyper_synthesis: HyperSynthesis

    def __init__(self, shape: HyperpriorShape, lambdas: tuple[float, ...]) -> None:
        networks = (Analysis(shape), Synthesis(shape), HyperAnalysis(shape), HyperSynthesis(shape))
        super().__init__(shape, lambdas, *networks)
        start_networks(self, self.modules())

    def forward(self, image: Tensor) -> Estimate:
        """Code a batch N x 3 x H x W in 0..1, sides multiples of 64, N a multiple of the number of qualities.

        Rates are estimated under additive uniform noise, the paper's; the image is decoded from rounded latents, their
        gradient passed straight through, which is our choice.
        """
        quality = torch.arange(len(image), device=image.device) % self.shape.qualities
        scaled = self.analysis(image, quality).float() * self.gain(quality)
        hyper = self.hyper_analysis(scaled, quality)
        index, mean = self.hyper_synthesis(round_through(hyper), quality)
        rounded = mean + round_through(scaled - mean)
        decoded = self.synthesis(rounded * self.inverse_gain(quality), quality)
        with torch.autocast(image.device.type, enabled=False):
            bits = self._latent_bits(scaled, index, mean) + self._hyper_bits(hyper)
        return Estimate(decoded, bits)
