"""The networks of the scale hyperprior, in floating point, as they are trained.

The paper's (Ballé et al., ICLR 2018): four 5x5 convolutions of stride 2 with generalised divisive normalisation
between them, their mirror image, a hyperprior that sees the latent's magnitudes, zero-mean Gaussians whose standard
deviations it sends. Ours: one model for every rate, by a scaling of the latent channel by channel before rounding and
another after it, biases of the hyper-synthesis and a factorised prior for each quality; a hyper-synthesis that gives
the logarithms of the standard deviations; fewer channels, so that the weights are small. ``width = 128, latent = 192``
is the paper's network for low rates, ``width = 192, latent = 320`` the one for high rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_codecs.bitstream.quiet import quiet_import
from icm_codecs.bitstream.table import SCALES
from icm_codecs.hyperprior.variable_rate import Estimate, VariableRateNetwork
from icm_codecs.layer import Entries, per_channel, round_through
from icm_codecs.training.klt_start import begin_with, markov_transforms

with quiet_import():
    from compressai.layers import GDN

_START_SCALE = 1.7
"""A step size for which a squared error and a bit balance, to begin with."""


@dataclass(frozen=True)
class HyperpriorShape(Entries):
    """How large the networks are.

    Attributes:
        qualities: How many rate points the model serves.
        width: Channels inside the transforms and of the hyper-latent, the paper's N.
        latent: Channels of the latent, the paper's M.
    """

    qualities: int = 8
    width: int = 96
    latent: int = 144

    def __post_init__(self) -> None:
        if not all(isinstance(size, int) and size > 0 for size in self.as_dict().values()):
            raise ValueError("qualities, width and latent must be positive whole numbers")

    @property
    def hyper(self) -> int:
        """Channels of the hyper-latent."""
        return self.width

    def sent(self, quality: int) -> int:
        """Return how many channels of the latent a quality sends: all."""
        del quality
        return self.latent


class Analysis(nn.Module):
    """Turn an image into a latent: N x 3 x 16h x 16w in 0..1 -> N x latent x h x w."""

    def __init__(self, shape: HyperpriorShape) -> None:
        super().__init__()
        width = shape.width
        self.layers = nn.Sequential(
            _halving(3, width),
            GDN(width),
            _halving(width, width),
            GDN(width),
            _halving(width, width),
            GDN(width),
            _halving(width, shape.latent),
        )

    def forward(self, image: Tensor, _quality: Tensor) -> Tensor:
        """Return the latent, not yet scaled for the quality."""
        return cast(Tensor, self.layers(image))


class Synthesis(nn.Module):
    """Turn a latent into an image: N x latent x h x w -> N x 3 x 16h x 16w, about 0..1, not clipped."""

    def __init__(self, shape: HyperpriorShape) -> None:
        super().__init__()
        width = shape.width
        self.layers = nn.Sequential(
            _doubling(shape.latent, width),
            GDN(width, inverse=True),
            _doubling(width, width),
            GDN(width, inverse=True),
            _doubling(width, width),
            GDN(width, inverse=True),
            _doubling(width, 3),
        )

    def forward(self, latent: Tensor, _quality: Tensor) -> Tensor:
        """Return the image; the latent has been scaled back."""
        return cast(Tensor, self.layers(latent)).float()


class HyperAnalysis(nn.Module):
    """Turn a scaled latent's magnitudes into a hyper-latent: N x latent x 4h x 4w -> N x width x h x w."""

    def __init__(self, shape: HyperpriorShape) -> None:
        super().__init__()
        self.first = nn.Conv2d(shape.latent, shape.width, 3, padding=1)
        self.second = _halving(shape.width, shape.width)
        self.third = _halving(shape.width, shape.width)

    def forward(self, scaled: Tensor, _quality: Tensor) -> Tensor:
        """Return the hyper-latent, not yet rounded."""
        x = functional.relu(self.first(torch.abs(scaled)))
        return cast(Tensor, self.third(functional.relu(self.second(x))))


class HyperSynthesis(nn.Module):
    """Turn a rounded hyper-latent into scale indices: N x width x h x w -> N x latent x 4h x 4w.

    Only operations that have an integer twin are used: scaling, (transposed) convolution, a bias per quality, ReLU.
    """

    def __init__(self, shape: HyperpriorShape) -> None:
        super().__init__()
        width = shape.width
        self.gain = nn.Parameter(torch.ones(shape.qualities, width))
        self.first = _doubling(width, width, bias=False)
        self.second = _doubling(width, width, bias=False)
        self.third = nn.Conv2d(width, shape.latent, 3, padding=1, bias=False)
        self.first_bias = nn.Parameter(torch.zeros(shape.qualities, width))
        self.second_bias = nn.Parameter(torch.zeros(shape.qualities, width))
        self.third_bias = nn.Parameter(torch.zeros(shape.qualities, shape.latent))

    def forward(self, hyper: Tensor, quality: Tensor) -> Tensor:
        """Return scale indices, see :data:`icm_codecs.bitstream.table.SCALES`, not yet bounded."""
        x = hyper * per_channel(self.gain, quality)
        x = functional.relu(self.first(x) + per_channel(self.first_bias, quality))
        x = functional.relu(self.second(x) + per_channel(self.second_bias, quality))
        x = (self.third(x) + per_channel(self.third_bias, quality)).float()
        return cast(Tensor, SCALES.per_unit * x)


class HyperpriorNetwork(VariableRateNetwork):
    """Estimate the decoded images and their rates: see :class:`VariableRateNetwork`."""

    shape: HyperpriorShape
    analysis: Analysis
    synthesis: Synthesis
    hyper_synthesis: HyperSynthesis

    def __init__(self, shape: HyperpriorShape, lambdas: tuple[float, ...]) -> None:
        networks = (Analysis(shape), Synthesis(shape), HyperAnalysis(shape), HyperSynthesis(shape))
        super().__init__(shape, lambdas, *networks)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        self._start_transforms()
        for layer in (self.hyper_synthesis.first, self.hyper_synthesis.second):
            # A transposed convolution of stride 2 sums a quarter of its taps at each position.
            nn.init.normal_(layer.weight, std=math.sqrt(2.0 / (self.shape.width * 25 / 4)))
        with torch.no_grad():
            nn.init.normal_(self.hyper_synthesis.third.weight, std=0.1 / math.sqrt(9 * self.shape.width))
            start_index = -math.log(SCALES.lowest) / SCALES.step
            self.hyper_synthesis.third_bias.fill_(start_index / SCALES.per_unit)

    def _start_transforms(self) -> None:
        width, latent = self.shape.width, self.shape.latent
        stages, _ = markov_transforms((width, width, width, latent))
        # Between stages a flat image keeps its value, so that it passes normalisations nearly as it is.
        scales = (0.5, 0.5, 0.5, 8.0 * _START_SCALE)
        for number, (transform, scale) in enumerate(zip(stages, scales, strict=True)):
            down = cast(nn.Conv2d, self.analysis.layers[2 * number])
            up = cast(nn.ConvTranspose2d, self.synthesis.layers[6 - 2 * number])
            begin_with(down.weight, scale * transform, at=2)
            begin_with(up.weight.transpose(0, 1), transform.transpose(0, 1) / scale, at=2)
        first, last = (
            cast(nn.Conv2d, self.analysis.layers[0]),
            cast(nn.ConvTranspose2d, self.synthesis.layers[6]),
        )
        with torch.no_grad():
            cast(Tensor, first.bias).copy_(-0.5 * first.weight.sum(dim=(1, 2, 3)))
            cast(Tensor, last.bias).fill_(0.5)

    def forward(self, image: Tensor) -> Estimate:
        """Code a batch N x 3 x H x W in 0..1, sides multiples of 64, N a multiple of the number of qualities.

        Rates are estimated under additive uniform noise, the paper's; the image is decoded from rounded latents, their
        gradient passed straight through, which is our choice.
        """
        quality = torch.arange(len(image), device=image.device) % self.shape.qualities
        scaled = self.analysis(image, quality).float() * self.gain(quality)
        hyper = self.hyper_analysis(scaled, quality).float()
        index = self.hyper_synthesis(round_through(hyper), quality)
        decoded = self.synthesis(round_through(scaled) * self.inverse_gain(quality), quality)
        with torch.autocast(image.device.type, enabled=False):
            bits = self._latent_bits(scaled, index) + self._hyper_bits(hyper)
        return Estimate(decoded, bits)


def _halving(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)


def _doubling(inputs: int, outputs: int, *, bias: bool = True) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1, bias=bias)
