"""Hyper-syntheses in integers, identical on every machine: see :mod:`icm_codecs.bitstream.integer_layer`.

The base that codecs with a hyperprior share, and the scale hyperprior's. There, a transposed convolution of stride 2 is
a convolution of stride 1 with four times the outputs, followed by depth to space: output 2i + p sees input j through
tap 2(i - j) + 2 + p. So the layers of :mod:`icm_codecs.bitstream.integer_layer` serve.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from icm_codecs.bitstream.integer_layer import (
    ACTIVATION_BITS,
    ExactDoubling,
    ExactLayer,
    doubled,
    fixed_point,
)
from icm_codecs.bitstream.table import SCALES
from icm_codecs.hyperprior.network import HyperSynthesis


class ExactSynthesis(ExactDoubling, ABC):
    """The integer twin of a hyper-synthesis of scales and means."""

    @abstractmethod
    def apply(self, hyper: Tensor, quality: int) -> tuple[Tensor, Tensor]:
        """Return what the latent's distribution is, from the hyper-latent.

        Args:
            hyper: N x hyper x h x w, whole numbers within ``HYPER_BOUND``, of any type.
            quality: The rate point, from 0.

        Returns:
            Scale indices, int64, 0 to 63, and means, int64, in units of ``2**-MEAN_BITS``: N x latent x 4h x 4w each.
        """

    def _last_sum(self, hyper: Tensor, quality: int) -> Tensor:
        """Return what the last layer gives, in units of ``2**-_places``, not yet shifted."""
        return self.layers[2].apply(doubled(hyper, self.gain[quality], self.layers[:2], quality), quality)

    @property
    def _places(self) -> int:
        return self.layers[2].shift + ACTIVATION_BITS

    def _indices(self, values: Tensor) -> Tensor:
        """Return scale indices, int64, from sums of the last layer."""
        return SCALES.indices(values, self._places)


def as_convolution(weight: Tensor) -> Tensor:
    """Return the 3x3 convolution that, before depth to space by 2, equals a transposed one of stride 2 and padding 2.

    Args:
        weight: Inputs x outputs x 5 x 5.

    Returns:
        4 outputs x inputs x 3 x 3.
    """
    inputs, outputs = weight.shape[:2]
    # Tap 2(i - j) + 2 + p of input j = i - 1, i, i + 1; tap 5 of the odd phase's first does not exist.
    extended = functional.pad(weight, (0, 1, 0, 1))
    phases = [
        extended[:, :, [4 + down, 2 + down, down]][..., [4 + right, 2 + right, right]]
        for down in (0, 1)
        for right in (0, 1)
    ]
    return torch.stack(phases, dim=2).permute(1, 2, 0, 3, 4).reshape(4 * outputs, inputs, 3, 3)


def as_transposed(weight: Tensor) -> Tensor:
    """Return the transposed convolution that :func:`as_convolution` made this one of."""
    outputs, inputs = weight.shape[0] // 4, weight.shape[1]
    phases = weight.reshape(outputs, 2, 2, inputs, 3, 3)
    extended = weight.new_zeros(inputs, outputs, 6, 6)
    for down in (0, 1):
        for right in (0, 1):
            extended[:, :, down::2, right::2] = phases[:, down, right].transpose(0, 1).flip(2, 3)
    return extended[:, :, :5, :5]


class ExactScaleSynthesis(ExactSynthesis):
    """The integer twin of :class:`~icm_codecs.hyperprior.network.HyperSynthesis`; its means are all zero.

    The transposed layers are convolutions with four times the outputs.
    """

    @classmethod
    def of(cls, network: HyperSynthesis) -> Self:
        """Convert a trained network."""
        with torch.no_grad():
            layers = (
                ExactLayer.of(as_convolution(network.first.weight), _for_phases(network.first_bias)),
                ExactLayer.of(as_convolution(network.second.weight), _for_phases(network.second_bias)),
                ExactLayer.of(network.third.weight, network.third_bias),
            )
            return cls(fixed_point(network.gain), layers)

    def copy_to(self, network: HyperSynthesis) -> None:
        """Set a floating-point network's parameters to these, as a training's start."""
        first, second, third = (layer.weight * 2.0**-layer.shift for layer in self.layers)
        biases = [layer.bias * 2.0 ** -(layer.shift + ACTIVATION_BITS) for layer in self.layers]
        with torch.no_grad():
            network.gain.copy_(self.gain * 2.0**-ACTIVATION_BITS)
            network.first.weight.copy_(as_transposed(first))
            network.second.weight.copy_(as_transposed(second))
            network.third.weight.copy_(third)
            network.first_bias.copy_(biases[0][:, ::4])
            network.second_bias.copy_(biases[1][:, ::4])
            network.third_bias.copy_(biases[2])

    def apply(self, hyper: Tensor, quality: int) -> tuple[Tensor, Tensor]:
        """Return scale indices and means: see :class:`ExactSynthesis`."""
        index = self._indices(self._last_sum(hyper, quality))
        return index, torch.zeros_like(index)


def _for_phases(bias: Tensor) -> Tensor:
    return bias.repeat_interleave(4, dim=1)
