"""The networks of the codec for photographs, in floating point, as they are trained.

The transforms and the post-filter are those of :mod:`icm_codecs.tucodec.network`. The entropy model has means and
scales from a hyperprior (Minnen et al., NeurIPS 2018), a checkerboard context model (He et al., CVPR 2021) and uneven
channel groups (He et al., ELIC, CVPR 2022): each group is decoded in two passes, first the anchors, which see the
hyperprior and the earlier groups, then the others, which see the anchors around them as well. Laplacians, and one model
for a continuum of rates, are taken from :mod:`icm_codecs.tucodec`; a *position* means the same there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_codecs.bitstream.quiet import quiet_import
from icm_codecs.layer import Entries, LogHyperAnalysis, round_through
from icm_codecs.tucodec.network import (
    LAPLACIAN_SCALES,
    Estimate,
    PositionDoubling,
    PositionModulation,
    TucodecNetwork,
    TucodecShape,
    add_noise,
    index_of,
    interpolate,
    sample_bits,
)

with quiet_import():
    from compressai.ops import LowerBound

CONTEXT_BOUND = 16
"""Largest magnitude of a decoded latent as the context model sees it, in quantisation steps."""

_QUIET = 0.3
"""How much less than usual the context's convolutions add to begin with: the hyperprior is learned first."""


@dataclass(frozen=True)
class CheckerboardShape(Entries):
    """How large the networks are.

    Attributes:
        rate_points: Positions at which gains and biases are learned, 2 to 8.
        fine: Channels of the transforms at a quarter of the latent's stride, which is 16 pixels.
        wide: Channels of the transforms at half of the latent's stride and at the latent's.
        groups: Channels of the latent, group by group, in the order of decoding.
        hyper: Channels of the hyper-latent.
        hyper_wide: Channels inside the hyperprior's networks.
        hidden: Channels inside the context model.
        kernel: Side of the neighbourhood whose anchors a latent sees, odd.
        post: Channels inside the post-filter.
    """

    rate_points: int
    fine: int = 64
    wide: int = 128
    groups: tuple[int, ...] = (32, 96)
    hyper: int = 48
    hyper_wide: int = 96
    hidden: int = 128
    kernel: int = 5
    post: int = 32

    def __post_init__(self) -> None:
        if not self.groups or min(self.groups) < 1 or self.hidden < 1:
            raise ValueError("channels are not positive")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is not odd")
        _ = self.transforms

    @property
    def latent(self) -> int:
        """Channels of the latent."""
        return sum(self.groups)

    @property
    def transforms(self) -> TucodecShape:
        """The shape of the networks that are tucodec's."""
        return TucodecShape(
            self.rate_points,
            fine=self.fine,
            wide=self.wide,
            latent=self.latent,
            hyper=self.hyper,
            hyper_wide=self.hyper_wide,
            post=self.post,
        )


class HyperAnalysis(LogHyperAnalysis):
    """Turn a scaled latent into a hyper-latent."""

    def __init__(self, shape: CheckerboardShape) -> None:
        modulation = PositionModulation(shape.rate_points, shape.hyper)
        super().__init__(shape.latent, shape.hyper_wide, shape.hyper, modulation)


class ContextPass(nn.Module):
    """Tell the scales and means of the latents that are decoded together.

    Args:
        shape: How large the networks are.
        size: Channels of the group.
        earlier: Channels of the groups before it, which are all decoded.
        sees_anchors: Whether the group's anchors are decoded.
    """

    def __init__(self, shape: CheckerboardShape, size: int, earlier: int, *, sees_anchors: bool) -> None:
        super().__init__()
        hidden, kernel = shape.hidden, shape.kernel
        self.features = nn.Conv2d(shape.hyper_wide, hidden, 1, bias=False)
        self.anchors = _convolution(size, hidden, kernel) if sees_anchors else None
        self.earlier = _convolution(earlier, hidden, 3) if earlier else None
        self.output = nn.Conv2d(hidden, 2 * size, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(shape.rate_points, hidden))
        self.output_bias = nn.Parameter(torch.zeros(shape.rate_points, 2 * size))
        with torch.no_grad():
            self.output.weight.mul_(0.1)
            self.output_bias[:, :size] = index_of(1.0) / LAPLACIAN_SCALES.per_unit

    def forward(
        self, features: Tensor, anchors: Tensor, earlier: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return scale indices, not yet bounded, and means in steps, both N x size x h x w.

        Args:
            features: The hyperprior's, N x wide x h x w.
            anchors: What is decoded of the group, zero elsewhere, N x size x h x w.
            earlier: The groups before it, N x earlier x h x w.
            position: N.
        """
        x = self.features(features) + interpolate(self.bias, position)
        if self.anchors is not None:
            x = x + self.anchors(anchors.clamp(-CONTEXT_BOUND, CONTEXT_BOUND))
        if self.earlier is not None:
            x = x + self.earlier(earlier.clamp(-CONTEXT_BOUND, CONTEXT_BOUND))
        x = (self.output(functional.relu(x)) + interpolate(self.output_bias, position)).float()
        index, mean = x.chunk(2, dim=1)
        return LAPLACIAN_SCALES.per_unit * index, mean


def _convolution(inputs: int, outputs: int, side: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)
    with torch.no_grad():
        layer.weight.mul_(_QUIET)
    return layer


class Coded(NamedTuple):
    """What the entropy model makes of a scaled latent.

    Attributes:
        hyper: N x hyper x h x w, not rounded.
        scale_index: Not bounded: N x latent x H x W.
        mean: In steps, likewise.
        decoded: What the decoder has of the latent, likewise.
    """

    hyper: Tensor
    scale_index: Tensor
    mean: Tensor
    decoded: Tensor


class CheckerboardNetwork(nn.Module):
    """Estimate the decoded images and their rates.

    The lambdas weigh the squared error at each rate point, rising: the first step sizes follow from them.
    """

    def __init__(self, shape: CheckerboardShape, lambdas: Sequence[float]) -> None:
        super().__init__()
        self.shape = shape
        start = TucodecNetwork(shape.transforms, tuple(lambdas))
        self.analysis, self.synthesis, self.post_filter = start.analysis, start.synthesis, start.post_filter
        self.log_gain, self.log_inverse_gain = start.log_gain, start.log_inverse_gain
        self.hyper_analysis = HyperAnalysis(shape)
        self.hyper_synthesis = PositionDoubling(shape.rate_points, shape.hyper, shape.hyper_wide)
        self.passes = nn.ModuleList()
        earlier = 0
        for size in shape.groups:
            for sees_anchors in (False, True):
                self.passes.append(ContextPass(shape, size, earlier, sees_anchors=sees_anchors))
            earlier += size
        for layer in (self.hyper_analysis.first, self.hyper_analysis.second):
            nn.init.zeros_(cast(Tensor, layer.bias))
        self.lowest_index = LowerBound(0.0)

    def entropy_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the entropy model, which are none of the transforms'."""
        parts = (self.hyper_analysis, self.hyper_synthesis, self.passes)
        return [parameter for part in parts for parameter in part.parameters()]

    def scale(self, image: Tensor, position: Tensor) -> Tensor:
        """Return the latent in quantisation steps: N x 3 x 16h x 16w in 0..1 -> N x latent x h x w."""
        return cast(Tensor, self.analysis(image)).float() * torch.exp(interpolate(self.log_gain, position))

    def code(
        self,
        scaled: Tensor,
        position: Tensor,
        *,
        hyper: Tensor | None = None,
        rounding: Callable[[Tensor], Tensor] = round_through,
    ) -> Coded:
        """Quantise a scaled latent, sides multiples of 4, pass after pass.

        Args:
            scaled: N x latent x H x W.
            position: N.
            hyper: The hyper-latent; by default what the latent gives.
            rounding: How the latent is rounded; by default gradients pass straight through.
        """
        hyper = self.hyper_analysis(scaled, position) if hyper is None else hyper
        features = self.hyper_synthesis.features(round_through(hyper), position)
        anchors = checkerboard(*scaled.shape[2:], device=scaled.device).to(scaled)
        passes, groups = iter(self.passes), []
        earlier = scaled[:, :0]
        for wanted in torch.split(scaled, list(self.shape.groups), dim=1):
            index = mean = decoded = torch.zeros_like(wanted)
            for here in (anchors, 1.0 - anchors):
                new_index, new_mean = next(passes)(features, decoded, earlier, position)
                index, mean = index + here * new_index, mean + here * new_mean
                decoded = decoded + here * (new_mean + rounding(wanted - new_mean))
            groups.append((index, mean, decoded))
            earlier = torch.cat([earlier, decoded], dim=1)
        index, mean, decoded = (torch.cat(parts, dim=1) for parts in zip(*groups, strict=True))
        return Coded(hyper, index, mean, decoded)

    def bits(
        self, scaled: Tensor, coded: Coded, position: Tensor, stand_in: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return how many bits each sample takes, N.

        Args:
            scaled: What :meth:`scale` returned.
            coded: What :meth:`code` returned for it.
            position: N.
            stand_in: ``add_noise`` for a gradient, ``torch.round`` for the rate of real symbols.
        """
        with torch.autocast(scaled.device.type, enabled=False):
            latent = self._bits(stand_in(scaled - coded.mean), coded.scale_index)
            hyper_index = self.hyper_synthesis.hyper_index(position)
            return latent + self._bits(stand_in(coded.hyper), hyper_index)

    def decode(self, latent: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images before and after the post-filter, N x 3 x 16h x 16w each, about 0..1."""
        unfiltered = self.synthesis(
            latent * torch.exp(interpolate(self.log_inverse_gain, position)), position
        )
        return unfiltered, self.post_filter(unfiltered, position)

    def forward(self, image: Tensor, position: Tensor) -> Estimate:
        """Code a batch N x 3 x H x W in 0..1, sides multiples of 64, each sample at its position, N floats."""
        scaled = self.scale(image, position)
        coded = self.code(scaled, position)
        unfiltered, decoded = self.decode(coded.decoded, position)
        return Estimate(decoded, unfiltered, self.bits(scaled, coded, position, add_noise))

    def _bits(self, values: Tensor, index: Tensor) -> Tensor:
        return sample_bits(values, self.lowest_index(index.float()))


def checkerboard(rows: int, columns: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Return where the anchors are, rows x columns, bool: the upper left is one, its neighbours are none."""
    row, column = torch.arange(rows, device=device), torch.arange(columns, device=device)
    return (row[:, None] + column) % 2 == 0
