"""The networks of the learned codec, in floating point, as they are trained.

Residual convolutional transforms around a mean and scale hyperprior, as in Le et al. (ICASSP 2021, arXiv 2108.09993).
The paper's channels, strides and activations are unpublished: the transforms and the hyper-synthesis are those of
:mod:`icm_codecs.hyperprior.network`; an ROI map, an enhancement layer and a residual layer stand on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_codecs.bitstream.table import SCALES
from icm_codecs.hyperprior import network as hyperprior
from icm_codecs.hyperprior.variable_rate import Estimate, HyperpriorShape, VariableRateNetwork
from icm_codecs.icm.residual import ResidualPoints, ResidualTransform
from icm_codecs.icm.roi import RoiLevels, RoiNetwork, contexts_of, n_contexts
from icm_codecs.layer import Modulation, ResidualBlock, round_through

_MEMORY = 0.999
"""What is left, after a step of training, of how often levels were seen before."""


@dataclass(frozen=True)
class IcmShape(HyperpriorShape):
    """How large the networks are: those of a hyperprior, and what makes them a codec for machines.

    Attributes:
        detail: How many of the latent's channels, the last ones, are an enhancement layer: they hold what the decoded
            image of the others still lacks. 0 where there is none.
        detailed: How many of the highest qualities send them. Their first layer is that of the highest quality
            below, which ``wide`` values for 16x16 pixels hold whatever they cost.
        detail_fine: Channels of the enhancement layer's networks at a quarter of the resolution.
        detail_wide: Their channels at an eighth.
        roi: Channels of the network that says where steps may be coarser; 0 where they are the same everywhere.
        residual_points: How many rate points a residual layer adds above the qualities, see
            :mod:`icm_codecs.icm.residual`; 0 where there is none.
    """

    latent: int = 160
    detail: int = 0
    detailed: int = 0
    detail_fine: int = 32
    detail_wide: int = 64
    roi: int = 0
    residual_points: int = 0

    @property
    def first_layer(self) -> int:
        """Channels of the latent that every quality sends."""
        return self.latent - self.detail

    @property
    def base(self) -> int:
        """The highest quality, counted from 0, that sends one layer: what further layers stand on."""
        return self.qualities - self.detailed - 1

    def sent(self, quality: int) -> int:
        """Return how many channels of the latent, the first ones, a quality, counted from 0, sends."""
        return self.latent if quality > self.base else self.first_layer


class DetailAnalysis(nn.Module):
    """Turn what a decoded image lacks into a latent: N x 3 x 16h x 16w -> N x detail x h x w."""

    def __init__(self, shape: IcmShape) -> None:
        super().__init__()
        self.stem = nn.Conv2d(48, shape.detail_fine, 3, padding=1)
        self.fine = ResidualBlock(shape.detail_fine)
        self.to_eighth = nn.Conv2d(shape.detail_fine, shape.detail_wide, 3, stride=2, padding=1)
        self.eighth = ResidualBlock(shape.detail_wide)
        self.head = nn.Conv2d(shape.detail_wide, shape.detail, 2, stride=2)

    def forward(self, missing: Tensor) -> Tensor:
        """Return the latent, not yet scaled for the quality."""
        x = self.fine(self.stem(functional.pixel_unshuffle(16.0 * missing, 4)))
        return cast(Tensor, self.head(self.eighth(self.to_eighth(x))))


class DetailSynthesis(nn.Module):
    """Turn a latent of detail into what a decoded image lacks: N x detail x h x w -> N x 3 x 16h x 16w."""

    def __init__(self, shape: IcmShape) -> None:
        super().__init__()
        self.stem = nn.Conv2d(shape.detail, 4 * shape.detail_wide, 1)
        self.eighth = ResidualBlock(shape.detail_wide)
        self.to_quarter = nn.Conv2d(shape.detail_wide, 4 * shape.detail_fine, 1)
        self.fine = ResidualBlock(shape.detail_fine)
        self.head = nn.Conv2d(shape.detail_fine, 48, 3, padding=1)

    def forward(self, detail: Tensor) -> Tensor:
        """Return what to add to the image; the latent has been scaled back."""
        x = self.eighth(functional.pixel_shuffle(self.stem(detail), 2))
        x = self.fine(functional.pixel_shuffle(self.to_quarter(x), 2))
        return functional.pixel_shuffle(self.head(x).float(), 4) / 16.0


class Analysis(hyperprior.Analysis):
    """Turn an image into the latent's first layer: N x 3 x 16h x 16w in 0..1 -> N x first_layer x h x w."""

    def __init__(self, shape: IcmShape) -> None:
        super().__init__(shape)
        self.detail = DetailAnalysis(shape) if shape.detail else None
        self.roi = RoiNetwork(shape.roi) if shape.roi else None


class Synthesis(hyperprior.Synthesis):
    """Turn a latent into an image: N x latent x h x w -> N x 3 x 16h x 16w, about 0..1, not clipped."""

    def __init__(self, shape: IcmShape) -> None:
        super().__init__(shape)
        self.first_layer = shape.first_layer
        self.detail = DetailSynthesis(shape) if shape.detail else None
        self.residual = ResidualTransform() if shape.residual_points else None

    def forward(self, latent: Tensor, quality: Tensor) -> Tensor:
        """Return the image of a latent that has been scaled back, of the first layer or of both."""
        image = super().forward(latent[:, : self.first_layer], quality)
        if self.detail is None or latent.shape[1] == self.first_layer:
            return image
        return image + cast(Tensor, self.detail(latent[:, self.first_layer :]))


class HyperAnalysis(nn.Module):
    """Turn the latent's first layer, scaled, into a hyper-latent: N x first_layer x 4h x 4w -> N x hyper x h x w."""

    def __init__(self, shape: IcmShape) -> None:
        super().__init__()
        self.first = nn.Conv2d(shape.first_layer, shape.hyper_wide, 3, stride=2, padding=1)
        self.second = nn.Conv2d(shape.hyper_wide, shape.hyper, 3, stride=2, padding=1)
        self.modulation = Modulation(shape.qualities, shape.hyper)

    def forward(self, scaled: Tensor, quality: Tensor) -> Tensor:
        """Return the hyper-latent, not yet rounded."""
        x = self.second(functional.leaky_relu(self.first(scaled), 0.1))
        return cast(Tensor, self.modulation(x, quality))


class IcmNetwork(VariableRateNetwork):
    """Estimate the decoded images and their rates: see :class:`VariableRateNetwork`."""

    shape: IcmShape
    analysis: Analysis
    synthesis: Synthesis
    hyper_synthesis: hyperprior.HyperSynthesis

    def __init__(
        self,
        shape: IcmShape,
        lambdas: tuple[float, ...],
        levels: RoiLevels = RoiLevels(),  # noqa: B008 - frozen
        residual_points: ResidualPoints = ResidualPoints(),  # noqa: B008 - frozen
    ) -> None:
        networks = (Analysis(shape), Synthesis(shape), HyperAnalysis(shape), hyperprior.HyperSynthesis(shape))
        super().__init__(shape, lambdas, *networks)
        hyperprior.start_networks(
            self, (module for name, module in self.named_modules() if "roi" not in name)
        )
        self.levels, self.residual_points = levels, residual_points
        if shape.roi:
            self.register_buffer("level_counts", torch.zeros(n_contexts(len(levels)), len(levels)))

    def forward(self, image: Tensor) -> Estimate:
        """Code a batch N x 3 x H x W in 0..1, sides multiples of 64, N a multiple of the number of qualities.

        Where there is an enhancement layer, N is a multiple of the number of qualities that send it, all of
        which the batch holds; the bits are the enhancement layer's alone, and no gradient reaches the first.
        """
        quality, levels = self.coded_at(image), self.levels_of(image)
        if not self.shape.detail:
            hyper, scaled = self._analyse(image, quality)
            index, mean = self.hyper_synthesis(round_through(hyper), quality)
            rounded, bits = self._quantise(scaled, index, mean, self._coarser(0, levels, quality))
            decoded = self.synthesis(rounded * self.inverse_gain(quality), quality)
            with torch.autocast(image.device.type, enabled=False):
                bits = bits + self._hyper_bits(hyper)
            return Estimate(decoded, bits)
        return self._enhancement_layer(image, quality, levels)

    def levels_of(self, image: Tensor) -> Tensor | None:
        """Return how little each position matters, N x 1 x h x w int64, by the ROI network; count what is seen."""
        if self.analysis.roi is None:
            return None
        with torch.no_grad():
            levels = self.levels.of(self.analysis.roi(image))
            if self.training:
                seen = contexts_of(levels, len(self.levels)) * len(self.levels) + levels
                counts = cast(Tensor, self.level_counts)
                now = torch.bincount(seen.flatten(), minlength=counts.numel()).reshape(counts.shape)
                counts.mul_(_MEMORY).add_(now)
        return levels

    def _coarser(self, layer: int, levels: Tensor | None, quality: Tensor) -> Tensor:
        """Return how many scale indices a layer's steps are coarser, N x 1 x h x w, or 0."""
        if levels is None:
            return torch.zeros((), device=quality.device)
        places = self.levels.coarsening(self.shape.qualities)[layer].to(levels.device)[quality]
        return places.gather(1, levels.flatten(1)).reshape(levels.shape).float()

    def _quantise(
        self, scaled: Tensor, index: Tensor, mean: Tensor, coarser: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the quantised latent, still scaled for the quality, and its bits."""
        share = torch.exp(-SCALES.step * coarser)
        scaled, index, mean = scaled * share, index - coarser, mean * share
        with torch.autocast(scaled.device.type, enabled=False):
            bits = self._latent_bits(scaled, index, mean)
        return (mean + round_through(scaled - mean)) / share, bits

    def coded_at(self, batch: Tensor) -> Tensor:
        """Return the index of the quality at which each sample of a batch is coded, N."""
        number = torch.arange(len(batch), device=batch.device)
        if not self.shape.detail:
            return number % self.shape.qualities
        return self.shape.base + 1 + number % self.shape.detailed

    def _analyse(self, image: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        gain = self.gain(quality)[:, : self.shape.first_layer]
        scaled = self.analysis(image, quality).float() * gain
        return self.hyper_analysis(scaled, quality).float(), scaled

    def _enhancement_layer(self, image: Tensor, quality: Tensor, levels: Tensor | None) -> Estimate:
        first = self.shape.first_layer
        if self.analysis.detail is None or self.synthesis.detail is None:
            raise ValueError("there is no enhancement layer")
        gain, inverse_gain = self.gain(quality), self.inverse_gain(quality)
        decoded, index, mean = self._first_layer(image, quality, levels)
        scaled = self.analysis.detail(image - decoded).float() * gain[:, first:]
        rounded, bits = self._quantise(
            scaled, index[:, first:], mean[:, first:], self._coarser(1, levels, quality)
        )
        missing = self.synthesis.detail(rounded * inverse_gain[:, first:])
        return Estimate(decoded + missing, bits)

    def _first_layer(
        self, image: Tensor, quality: Tensor, levels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the image of the first layer, frozen, and what is expected of the latent of all layers."""
        first = self.shape.first_layer
        with torch.no_grad():
            hyper, scaled = self._analyse(image, quality)
        index, mean = self.hyper_synthesis(torch.round(hyper), quality)
        with torch.no_grad():
            coarser = self._coarser(0, levels, quality)
            rounded, _ = self._quantise(scaled, index[:, :first], mean[:, :first], coarser)
            decoded = self.synthesis(rounded * self.inverse_gain(quality)[:, :first], quality)
        return decoded, index, mean

    @torch.no_grad()
    def missing(self, image: Tensor, levels: Tensor | None) -> Tensor:
        """Return what the image lacks that further layers stand on: N x 3 x H x W."""
        base = torch.full((len(image),), self.shape.base, device=image.device)
        return image - self._first_layer(image, base, levels)[0]
