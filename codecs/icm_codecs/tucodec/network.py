"""The networks of the codec after TuCodec, in floating point, as they are trained.

The paper (Zhou et al., "Variational autoencoder for low bit-rate image compression", CLIC 2018) has convolutional
analysis and synthesis networks, a uniform quantiser whose stand-in is additive uniform noise, a prior of Laplacians
whose scales a hyperprior auto-encoder tells, and a convolutional post-filter after decoding. Its layers' shapes are
unpublished: these are our choice. A worked example in its introduction has 96x64x192 latents for 768x512 pixels,
stride 8 and 192 channels, which ``TucodecShape(stride=8, latent=192)`` gives.

One model serves a continuum of rates, which is our choice too. A *position* says where on it: 0 is the lowest trained
rate point, 1 the next, and what a rate point has learned (gains, biases) is interpolated linearly between rate points,
gains in their logarithm. The analysis does not know the position, so an encoder runs it once for all rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_codecs.bitstream.quiet import quiet_import
from icm_codecs.bitstream.table import ScaleLadder
from icm_codecs.layer import (
    Doubling,
    Entries,
    Modulation,
    ResidualBlock,
    round_through,
    start_convolutions,
    start_log_gain,
    start_residuals,
)
from icm_codecs.training.klt_start import begin_with, markov_transforms

with quiet_import():
    from compressai.ops import LowerBound

HYPER_STRIDE = 4
"""Latent positions to a hyper-latent position, in each direction."""

MOST_RATE_POINTS = 8
"""The most rate points between which a bitstream can say a position."""

_START_SCALE = 0.4
"""A step size for which a squared error and a bit balance, to begin with."""

_QUIET = 0.2
"""How much less than usual residual blocks add to begin with, where what they add to is of use already."""

LAPLACIAN_SCALES = ScaleLadder(lowest=0.05, highest=45.0)
"""The scales b of the Laplacians exp(-|x| / b) / 2b, in quantisation steps. Index 0 means "zero, not sent"."""

StandIn = Literal["noise", "rounded"]
"""What the synthesis networks are trained on: uniform noise added, as in the paper, or values rounded straight through.
Rates are always estimated with noise."""


@dataclass(frozen=True)
class TucodecShape(Entries):
    """How large the networks are.

    Attributes:
        rate_points: Positions at which gains and biases are learned, 2 to 8.
        stride: Pixels to a latent position in each direction, 8 or 16.
        fine: Channels at a quarter of the latent's stride.
        wide: Channels at half of the latent's stride and at the latent's.
        latent: Channels of the latent.
        hyper: Channels of the hyper-latent.
        hyper_wide: Channels inside the hyperprior's networks.
        post: Channels inside the post-filter.
    """

    rate_points: int
    stride: int = 16
    fine: int = 64
    wide: int = 128
    latent: int = 128
    hyper: int = 48
    hyper_wide: int = 96
    post: int = 32

    def __post_init__(self) -> None:
        if not 2 <= self.rate_points <= MOST_RATE_POINTS:
            raise ValueError(f"{self.rate_points} rate points are not from 2 to {MOST_RATE_POINTS}")
        if self.stride not in (8, 16):
            raise ValueError(f"stride {self.stride} is neither 8 nor 16")
        if min(self.as_dict().values()) < 1:
            raise ValueError("channels are not positive")

    @property
    def block(self) -> int:
        """Side of the squares of pixels that the first and last convolutions see as channels."""
        return self.stride // 4


def interpolate(values: Tensor, position: Tensor, /) -> Tensor:
    """Return what lies between rate points: rate points x C, N positions in 0..rate_points - 1 -> N x C x 1 x 1."""
    below = position.floor().clamp(0, len(values) - 2).long()
    way = (position - below)[:, None]
    return torch.lerp(values[below], values[below + 1], way)[:, :, None, None]


class PositionModulation(Modulation):
    """Scale and shift the channels by what the position has learned: N x C x H x W, N -> N x C x H x W."""

    at = staticmethod(interpolate)


class Analysis(nn.Module):
    """Turn an image into a latent: N x 3 x sh x sw in 0..1 -> N x latent x h x w, s the stride."""

    def __init__(self, shape: TucodecShape) -> None:
        super().__init__()
        self.block = shape.block
        self.layers = nn.Sequential(
            nn.Conv2d(3 * shape.block**2, shape.fine, 3, padding=1),
            ResidualBlock(shape.fine),
            nn.Conv2d(shape.fine, shape.wide, 3, stride=2, padding=1),
            ResidualBlock(shape.wide),
            ResidualBlock(shape.wide),
            nn.Conv2d(shape.wide, shape.wide, 3, stride=2, padding=1),
            ResidualBlock(shape.wide),
            nn.Conv2d(shape.wide, shape.latent, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the latent, not yet scaled for a position."""
        return cast(Tensor, self.layers(functional.pixel_unshuffle(4.0 * (image - 0.5), self.block)))


class Synthesis(nn.Module):
    """Turn a latent into an image: N x latent x h x w -> N x 3 x sh x sw, about 0..1, not clipped."""

    def __init__(self, shape: TucodecShape) -> None:
        super().__init__()
        self.block = shape.block
        self.stem = nn.Conv2d(shape.latent, shape.wide, 1)
        self.wide_modulation = PositionModulation(shape.rate_points, shape.wide)
        self.wide = ResidualBlock(shape.wide)
        self.to_wider = nn.Conv2d(shape.wide, 4 * shape.wide, 1)
        self.wider_modulation = PositionModulation(shape.rate_points, shape.wide)
        self.wider = nn.Sequential(ResidualBlock(shape.wide), ResidualBlock(shape.wide))
        self.to_fine = nn.Conv2d(shape.wide, 4 * shape.fine, 1)
        self.fine_modulation = PositionModulation(shape.rate_points, shape.fine)
        self.fine = ResidualBlock(shape.fine)
        self.head = nn.Conv2d(shape.fine, 3 * shape.block**2, 3, padding=1)

    def forward(self, latent: Tensor, position: Tensor) -> Tensor:
        """Return the image; the latent has been scaled back."""
        x = self.wide(self.wide_modulation(self.stem(latent), position))
        x = functional.pixel_shuffle(self.to_wider(x), 2)
        x = self.wider(self.wider_modulation(x, position))
        x = functional.pixel_shuffle(self.to_fine(x), 2)
        x = self.fine(self.fine_modulation(x, position))
        return functional.pixel_shuffle(self.head(x).float(), self.block) / 4.0 + 0.5


class PostFilter(nn.Module):
    """Mend a decoded image: N x 3 x 2h x 2w -> the same. Before training it changes nothing."""

    def __init__(self, shape: TucodecShape) -> None:
        super().__init__()
        self.stem = nn.Conv2d(12, shape.post, 3, padding=1)
        self.modulation = PositionModulation(shape.rate_points, shape.post)
        self.body = ResidualBlock(shape.post)
        self.head = nn.Conv2d(shape.post, 12, 3, padding=1)

    def forward(self, image: Tensor, position: Tensor) -> Tensor:
        """Return the image with what the filter adds."""
        x = self.modulation(self.stem(functional.pixel_unshuffle(4.0 * (image - 0.5), 2)), position)
        x = self.head(functional.leaky_relu(self.body(x), 0.1))
        return image + functional.pixel_shuffle(x.float(), 2) / 4.0


class HyperAnalysis(nn.Module):
    """Turn a scaled latent into a hyper-latent: N x latent x 4h x 4w -> N x hyper x h x w.

    The Laplacians have no means to tell, so magnitudes are all that matters; a scale is told by its logarithm.
    """

    def __init__(self, shape: TucodecShape) -> None:
        super().__init__()
        self.first = nn.Conv2d(shape.latent, shape.hyper_wide, 3, stride=2, padding=1)
        self.second = nn.Conv2d(shape.hyper_wide, shape.hyper, 3, stride=2, padding=1)
        self.modulation = PositionModulation(shape.rate_points, shape.hyper)

    def forward(self, scaled: Tensor, position: Tensor) -> Tensor:
        """Return the hyper-latent, not yet rounded."""
        x = self.second(functional.leaky_relu(self.first(torch.log1p(scaled.abs())), 0.1))
        return cast(Tensor, self.modulation(x, position))


class PositionDoubling(Doubling):
    """The start of a hyper-synthesis at a position, and the hyper-latent's own Laplacians.

    Gains and biases are interpolated between rate points, which has an integer twin as well.
    """

    at = staticmethod(interpolate)

    def __init__(self, rate_points: int, hyper: int, wide: int) -> None:
        super().__init__(rate_points, hyper, wide, wide)
        # One scale a rate point and channel.
        start = index_of(2.0) / LAPLACIAN_SCALES.per_unit
        self.hyper_scale = nn.Parameter(torch.full((rate_points, hyper), start))

    def hyper_index(self, position: Tensor) -> Tensor:
        """Return the hyper-latent's scale indices, not yet bounded: N x hyper x 1 x 1."""
        return LAPLACIAN_SCALES.per_unit * interpolate(self.hyper_scale, position)


class ScaleSynthesis(PositionDoubling):
    """Turn a rounded hyper-latent into scale indices: N x hyper x h x w -> N x latent x 4h x 4w."""

    def __init__(self, shape: TucodecShape) -> None:
        super().__init__(shape.rate_points, shape.hyper, shape.hyper_wide)
        self.third = nn.Conv2d(shape.hyper_wide, shape.latent, 1, bias=False)
        self.third_bias = nn.Parameter(torch.zeros(shape.rate_points, shape.latent))

    def forward(self, hyper: Tensor, position: Tensor) -> Tensor:
        """Return the latent's scale indices, not yet bounded."""
        x = self.third(self.features(hyper, position)) + interpolate(self.third_bias, position)
        return LAPLACIAN_SCALES.per_unit * cast(Tensor, x.float())


class Estimate(NamedTuple):
    """What a training step needs of one forward pass.

    Attributes:
        image: N x 3 x H x W about 0..1, after the post-filter.
        unfiltered: The same before it.
        bits: Per sample, N.
    """

    image: Tensor
    unfiltered: Tensor
    bits: Tensor


class TucodecNetwork(nn.Module):
    """Estimate the decoded images and their rates.

    Args:
        shape: How large the networks are.
        lambdas: The weight of the squared error at each rate point, rising: the latent's first step sizes follow from
            it.
        stand_in: What stands in for rounding where images are decoded.
    """

    def __init__(self, shape: TucodecShape, lambdas: tuple[float, ...], stand_in: StandIn = "noise") -> None:
        super().__init__()
        self.shape = shape
        self.analysis = Analysis(shape)
        self.synthesis = Synthesis(shape)
        self.post_filter = PostFilter(shape)
        self.hyper_analysis = HyperAnalysis(shape)
        self.scale_synthesis = ScaleSynthesis(shape)
        self.lowest_index = LowerBound(0.0)
        self._stand_in = add_noise if stand_in == "noise" else round_through
        start = start_log_gain(lambdas, shape.latent)
        self.log_gain = nn.Parameter(start)
        self.log_inverse_gain = nn.Parameter(-start)
        self._initialise()

    def _initialise(self) -> None:
        start_convolutions(self.modules(), "linear")
        start_residuals(self.modules(), ResidualBlock)
        nn.init.zeros_(self.post_filter.head.weight)
        for layer in (self.scale_synthesis.first, self.scale_synthesis.second):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        with torch.no_grad():
            self.scale_synthesis.third.weight.mul_(0.1)
            self.scale_synthesis.third_bias.fill_(index_of(1.0) / LAPLACIAN_SCALES.per_unit)
        self._start_transforms()

    def _start_transforms(self) -> None:
        shape, synthesis = self.shape, self.synthesis
        to_fine, to_half, to_whole, head = (
            cast(nn.Conv2d, self.analysis.layers[number]) for number in (0, 2, 5, 7)
        )
        stages, variances = markov_transforms((shape.fine, shape.wide, shape.wide), first=shape.block)
        first = stages[0].flatten(1)[:, :, None, None]
        begin_with(to_fine.weight, first, at=1)
        begin_with(synthesis.head.weight, first.transpose(0, 1), at=1)
        for down, up, transform in (
            (to_half, synthesis.to_fine, stages[1]),
            (to_whole, synthesis.to_wider, stages[2]),
        ):
            begin_with(down.weight, transform, at=1)
            begin_with(up.weight, transform.flatten(1).T[:, :, None, None], at=0)
        same = torch.eye(shape.latent, len(stages[2]))[:, :, None, None]
        begin_with(head.weight, _START_SCALE * same, at=0)
        begin_with(synthesis.stem.weight, same.transpose(0, 1) / _START_SCALE, at=0)
        with torch.no_grad():
            for module in (*self.analysis.modules(), *synthesis.modules()):
                if isinstance(module, ResidualBlock):
                    module.second.weight.mul_(_QUIET)
        self._start_gains((4.0 * _START_SCALE) ** 2 * variances.float()[: shape.latent])

    def _start_gains(self, variances: Tensor) -> None:
        """Start with the scales of such latents, and with Wiener's gains against the noise of their rounding."""
        with torch.no_grad():
            n = len(variances)
            power = variances * torch.exp(2.0 * self.log_gain[:, :n])
            self.log_inverse_gain[:, :n] += torch.log(power / (power + 1.0 / 12.0)).clamp(min=-4.0)
            scale = (power / 2.0).sqrt().clamp(LAPLACIAN_SCALES.lowest, LAPLACIAN_SCALES.highest)
            self.scale_synthesis.third_bias[:, :n] = (
                torch.log(scale / LAPLACIAN_SCALES.lowest) / LAPLACIAN_SCALES.step / LAPLACIAN_SCALES.per_unit
            )

    def forward(self, image: Tensor, position: Tensor) -> Estimate:
        """Code a batch N x 3 x H x W in 0..1, sides multiples of 64, each sample at its position, N floats."""
        scaled = self.analysis(image).float() * torch.exp(interpolate(self.log_gain, position))
        hyper = self.hyper_analysis(scaled, position).float()
        index = self.scale_synthesis(self._stand_in(hyper), position)
        latent = self._stand_in(scaled) * torch.exp(interpolate(self.log_inverse_gain, position))
        unfiltered = self.synthesis(latent, position)
        decoded = self.post_filter(unfiltered, position)
        with torch.autocast(image.device.type, enabled=False):
            hyper_index = self.scale_synthesis.hyper_index(position)
            bits = self._bits(scaled, index) + self._bits(hyper, hyper_index)
        return Estimate(decoded, unfiltered, bits)

    def _bits(self, values: Tensor, index: Tensor) -> Tensor:
        return sample_bits(add_noise(values), self.lowest_index(index.float()))


def sample_bits(values: Tensor, index: Tensor) -> Tensor:
    """Return what each sample's values cost in bits, N, by their Laplacians' scale indices, from 0."""
    bounded = index.clamp(max=float(LAPLACIAN_SCALES.n_scales - 1))
    scale = LAPLACIAN_SCALES.lowest * torch.exp(LAPLACIAN_SCALES.step * bounded)
    return laplacian_bits(values, scale).sum(dim=(1, 2, 3))


def laplacian_bits(values: Tensor, scale: Tensor) -> Tensor:
    """Return what values cost in bits: -log2 of the mass that a zero-mean Laplacian has within half a step of them.

    Args:
        values: Of any shape, in quantisation steps.
        scale: The Laplacian's b, positive, of a shape that broadcasts to that of the values.
    """
    distance = values.abs()
    # Both halves are formed so that neither they nor their gradients overflow where the other one is meant.
    inner, outer = distance.clamp(max=0.5), distance.clamp(min=0.5)
    near = torch.log(-0.5 * (torch.expm1((inner - 0.5) / scale) + torch.expm1(-(inner + 0.5) / scale)))
    far = math.log(0.5) - (outer - 0.5) / scale + torch.log(-torch.expm1(-1.0 / scale))
    return torch.where(distance < 0.5, near, far) / -math.log(2.0)


def index_of(scale: float) -> float:
    """Return where on the ladder of scales a Laplacian's b lies, from 0 for the lowest."""
    return math.log(scale / LAPLACIAN_SCALES.lowest) / LAPLACIAN_SCALES.step


def add_noise(x: Tensor) -> Tensor:
    """Add uniform noise of a step's width, which stands in for rounding where rates are estimated."""
    return x + torch.rand_like(x) - 0.5
