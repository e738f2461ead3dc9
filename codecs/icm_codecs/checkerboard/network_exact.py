"""The entropy model in integers: what encoder and decoder must agree on.

As :mod:`icm_codecs.bitstream.integer_layer` has it: integers held in float64, every partial sum below 2^53, so that
devices, libraries and thread counts change nothing. Gains and biases are those of the ladder's rate points: what the
trained network interpolates between its positions is rounded once, when a file is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import cast

import torch
from torch import Tensor, nn

from icm_codecs.bitstream.integer_layer import (
    ACTIVATION_BITS,
    ACTIVATION_BOUND,
    MEAN_BITS,
    ExactLayer,
    check_range,
    doubled,
    fixed_point,
    n_values,
    rounding_shift,
)
from icm_codecs.checkerboard.network import CONTEXT_BOUND, CheckerboardNetwork, ContextPass, checkerboard
from icm_codecs.tucodec.network import LAPLACIAN_SCALES, interpolate

CodePass = Callable[[slice, Tensor, Tensor, Tensor], Tensor]
"""Codes the latents of one pass: the group's channels, the places (rows x columns, bool), their scale indices and means
(channels x places, int64) -> the symbols (channels x places, int64)."""


@dataclass(frozen=True)
class ExactPass:
    """The integer counterpart of :class:`~icm_codecs.checkerboard.network.ContextPass`, layers by the same names."""

    features: ExactLayer
    output: ExactLayer
    anchors: ExactLayer | None
    earlier: ExactLayer | None

    @classmethod
    def of(cls, network: ContextPass, positions: Tensor) -> ExactPass:
        """Convert a trained pass, at the ladder's positions."""
        none = torch.zeros(len(positions), len(network.bias[0]))
        return cls(
            ExactLayer.of(network.features.weight, at(network.bias, positions)),
            ExactLayer.of(network.output.weight, at(network.output_bias, positions)),
            ExactLayer.of(network.anchors.weight, none) if network.anchors is not None else None,
            ExactLayer.of(network.earlier.weight, none) if network.earlier is not None else None,
        )

    def layers(self) -> dict[str, ExactLayer]:
        """Return the layers that there are, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: layer for name, layer in found.items() if layer is not None}

    def expected(
        self, features: Tensor, anchors: Tensor, earlier: Tensor, quality: int
    ) -> tuple[Tensor, Tensor]:
        """Return scale indices, 0 to 63, and means in units of ``2**-MEAN_BITS``: 1 x size x h x w int64 each.

        Args:
            features: The hyperprior's, activations.
            anchors: What is decoded of the group, zero elsewhere, in units of ``2**-MEAN_BITS``.
            earlier: The groups before it, likewise.
            quality: The rate point, from 0.
        """
        x = _apply(self.features, features, quality)
        if self.anchors is not None:
            x = x + _apply(self.anchors, _context(anchors), quality)
        if self.earlier is not None:
            x = x + _apply(self.earlier, _context(earlier), quality)
        last = self.output
        index, mean = last.apply(x.clamp(0, ACTIVATION_BOUND), quality).chunk(2, dim=1)
        mean = rounding_shift(mean, last.shift + ACTIVATION_BITS - MEAN_BITS)
        bounded = mean.clamp(-ACTIVATION_BOUND, ACTIVATION_BOUND)
        return LAPLACIAN_SCALES.indices(index, last.shift + ACTIVATION_BITS), bounded.long()


@dataclass(frozen=True)
class ExactEntropyModel:
    """The integer counterpart of the hyper-synthesis and of all passes.

    Attributes:
        groups: Channels of the latent, group by group.
        gain: Qualities x hyper int64, in units of ``2**-ACTIVATION_BITS``.
        hyper_scale: Qualities x hyper int64, likewise: the hyper-latent's scales.
        first: The first convolution of the hyper-synthesis; depth to space by 2 follows it.
        second: The second one, likewise.
        passes: Two for each group.

    Raises:
        CodecError: The weights are too large for float64 to hold every partial sum exactly.
    """

    groups: tuple[int, ...]
    gain: Tensor
    hyper_scale: Tensor
    first: ExactLayer
    second: ExactLayer
    passes: tuple[ExactPass, ...]

    def __post_init__(self) -> None:
        check_range(self.layers().values())

    @classmethod
    def of(cls, network: CheckerboardNetwork, positions: Sequence[float]) -> ExactEntropyModel:
        """Convert a trained network, at the ladder's positions."""
        where, synthesis = torch.tensor(positions, dtype=torch.float32), network.hyper_synthesis
        with torch.no_grad():
            return cls(
                network.shape.groups,
                fixed_point(at(synthesis.gain, where)),
                fixed_point(at(synthesis.hyper_scale, where)),
                ExactLayer.of(synthesis.first.weight, at(synthesis.first_bias, where)),
                ExactLayer.of(synthesis.second.weight, at(synthesis.second_bias, where)),
                tuple(ExactPass.of(cast(ContextPass, one), where) for one in network.passes),
            )

    def layers(self) -> dict[str, ExactLayer]:
        """Return the convolutions by name."""
        own = {"first": self.first, "second": self.second}
        passes = enumerate(self.passes)
        return own | {
            f"passes.{k}.{name}": layer for k, one in passes for name, layer in one.layers().items()
        }

    def n_values(self) -> int:
        """Count the learned values."""
        return n_values(self.layers().values(), self.gain, self.hyper_scale)

    def hyper_index(self, quality: int) -> Tensor:
        """Return the hyper-latent's scale indices, int64, 0 to 63, one a channel."""
        return LAPLACIAN_SCALES.indices(self.hyper_scale[quality], ACTIVATION_BITS)

    def walk(self, hyper: Tensor, quality: int, size: tuple[int, int], code: CodePass) -> Tensor:
        """Go through the latent in the order of decoding; return it, latent x rows x columns int64, 2^-8 steps.

        Args:
            hyper: Hyper x h x w, whole numbers within ``HYPER_BOUND``.
            quality: The rate point, from 0.
            size: Rows and columns of the latent.
            code: Is given each pass's scale indices and means, and gives its symbols.
        """
        features = doubled(hyper[None], self.gain[quality], (self.first, self.second), quality)
        features = features[..., : size[0], : size[1]]
        anchors = checkerboard(*size, device=hyper.device)
        latent = torch.zeros((1, sum(self.groups), *size), dtype=torch.float64, device=hyper.device)
        passes, start = iter(self.passes), 0
        for group in self.groups:
            channels = slice(start, start + group)
            decoded, earlier = latent[:, channels], latent[:, :start]
            for places in (anchors, ~anchors):
                index, mean = next(passes).expected(features, decoded, earlier, quality)
                index, mean = index[0][:, places], mean[0][:, places]
                symbols = code(channels, places, index, mean)
                decoded[0][:, places] = (symbols * 2**MEAN_BITS + mean).double()
            start += group
        return latent[0].long()


def at(values: Tensor | nn.Parameter, positions: Tensor) -> Tensor:
    """Return what a network has learned at positions: rate points x C -> positions x C."""
    return interpolate(values, positions)[:, :, 0, 0]


def _apply(layer: ExactLayer, x: Tensor, quality: int) -> Tensor:
    return rounding_shift(layer.apply(x, quality), layer.shift)


def _context(latent: Tensor) -> Tensor:
    """Return decoded latents as activations, bounded."""
    bound = CONTEXT_BOUND << MEAN_BITS
    return latent.clamp(-bound, bound) * 2.0 ** (ACTIVATION_BITS - MEAN_BITS)
