"""Layers in integers: what encoder and decoder must agree on, identical on every machine.

Scales and means of the latent come out of a network. In floating point that network gives other last bits on
other devices, libraries or thread counts; a scale index that flips then desynchronises the entropy coder. Here
weights are 16-bit integers with a power-of-two scale, activations are fixed-point integers, and every layer ends
with a rounding shift and a clamp.

The integers are held in float64 and multiplied as matrices. Every product and every partial sum is an integer below
2^53, which float64 represents exactly, so the order of summation, fused multiply-adds, threads, batching and the device
change nothing. The bound is checked when a network is built.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from icm_bench.error import CodecError

ACTIVATION_BITS = 10
"""Binary places of an activation."""

MEAN_BITS = 8
"""Binary places of a mean."""

HYPER_BOUND = 2**12 - 1
"""Largest magnitude of a hyper-latent symbol; the encoder clamps to it."""

ACTIVATION_BOUND = 2**20 - 1
"""Largest magnitude of an activation."""

EXACT_BOUND = 2**53
"""Whole numbers below it are exact in float64."""

_WEIGHT_BOUND = 2**15 - 1
_LEAST_SHIFT, _MOST_SHIFT = 4, 20


@dataclass(frozen=True)
class ExactLayer:
    """One convolution with integer weights and zero padding, before its rounding shift.

    Attributes:
        weight: Outputs x inputs x k x k int16, in units of ``2**-shift``.
        bias: Qualities x outputs int64, in units of ``2**-(shift + ACTIVATION_BITS)``.
        shift: Binary places of the weights.
    """

    weight: Tensor
    bias: Tensor
    shift: int

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor) -> ExactLayer:
        """Round floating-point weights (outputs x inputs x k x k) and biases (qualities x outputs).

        Raises:
            CodecError: A weight is too large.
        """
        largest = max(float(weight.abs().max()), float(_WEIGHT_BOUND) * 2.0**-_MOST_SHIFT)
        shift = math.floor(math.log2(_WEIGHT_BOUND / largest))
        if shift < _LEAST_SHIFT:
            raise CodecError(f"a weight of {largest:.0f} is too large for 16 bits", hint="train again")
        rounded = torch.round(weight.double() * 2**shift).clamp(-_WEIGHT_BOUND, _WEIGHT_BOUND)
        scaled_bias = torch.round(bias.double() * 2 ** (shift + ACTIVATION_BITS))
        return cls(rounded.to(torch.int16), scaled_bias.to(torch.int64), shift)

    def to(self, device: str) -> ExactLayer:
        """Return the same layer with its tensors on a device."""
        return ExactLayer(self.weight.to(device), self.bias.to(device), self.shift)

    def largest_sum(self) -> int:
        """Bound the magnitude of every partial sum, for activations within their clamp."""
        products = self.weight.long().abs().sum(dim=(1, 2, 3)) * ACTIVATION_BOUND
        return int((products + self.bias.abs().max(dim=0).values).max())

    def apply(self, x: Tensor, quality: int) -> Tensor:
        """Convolve integers held in float64: N x inputs x h x w -> N x outputs x h x w, not yet shifted."""
        n, _, height, width = x.shape
        side = self.weight.shape[2]
        margin = side // 2
        padded = functional.pad(x, (margin, margin, margin, margin))
        weight = self.weight.to(x)
        total = self.bias[quality].to(x)[None, :, None].expand(n, -1, height * width)
        for row in range(side):
            for column in range(side):
                window = padded[:, :, row : row + height, column : column + width]
                total = total + weight[:, :, row, column] @ window.reshape(n, -1, height * width)
        return total.reshape(n, -1, height, width)


def check_range(layers: Iterable[ExactLayer]) -> None:
    """Raise ``CodecError`` where float64 does not hold every partial sum of the layers exactly."""
    if max(layer.largest_sum() for layer in layers) >= EXACT_BOUND:
        raise CodecError("the weights leave the range of exact arithmetic", hint="export them again")


@dataclass(frozen=True)
class ExactDoubling:
    """The integer twin of a hyper-synthesis: a gain, two layers that double the resolution, and a last one.

    Attributes:
        gain: Rate points x hyper int64, in units of ``2**-ACTIVATION_BITS``.
        layers: The three convolutions, with a bias for each rate point; depth to space by 2 follows the first two.

    Raises:
        CodecError: The weights are too large for float64 to hold every partial sum exactly.
    """

    gain: Tensor
    layers: tuple[ExactLayer, ExactLayer, ExactLayer]

    def __post_init__(self) -> None:
        check_range(self.layers)

    @classmethod
    def of(cls, network: Any) -> Self:
        """Convert a trained network, whose parameters have the names of the fields."""
        names = [field.name for field in fields(cls) if field.name != "layers"]
        with torch.no_grad():
            scalings = {name: fixed_point(getattr(network, name)) for name in names}
            return cls(layers=exact_layers(network), **scalings)

    def copy_to(self, network: Any) -> None:
        """Set a floating-point network's parameters to these, as a training's start."""
        with torch.no_grad():
            for name, value in self._tensors().items():
                getattr(network, name).copy_(value * 2.0**-ACTIVATION_BITS)
            copy_layers(self.layers, network)

    def _tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def to(self, device: str) -> Self:
        """Return the same network with its tensors on a device."""
        moved = {name: value.to(device) for name, value in self._tensors().items()}
        first, second, third = (layer.to(device) for layer in self.layers)
        return replace(self, layers=(first, second, third), **moved)

    def n_values(self) -> int:
        """Count the learned values."""
        return n_values(self.layers, *self._tensors().values())


def n_values(layers: Iterable[ExactLayer], *others: Tensor) -> int:
    """Count the learned values of layers and other tensors."""
    own = sum(layer.weight.numel() + layer.bias.numel() for layer in layers)
    return own + sum(tensor.numel() for tensor in others)


def doubled(hyper: Tensor, gain: Tensor, layers: Sequence[ExactLayer], quality: int) -> Tensor:
    """Scale a hyper-latent, and send it through layers after each of which depth to space doubles the resolution.

    Args:
        hyper: N x hyper x h x w, whole numbers within ``HYPER_BOUND``, of any type.
        gain: One for each channel, in units of ``2**-ACTIVATION_BITS``.
        layers: The convolutions.
        quality: Whose biases are taken, from 0.
    """
    bounded = hyper.double().clamp(-HYPER_BOUND, HYPER_BOUND)
    x = (bounded * gain.to(bounded)[:, None, None]).clamp(-ACTIVATION_BOUND, ACTIVATION_BOUND)
    for layer in layers:
        x = rounding_shift(layer.apply(x, quality), layer.shift).clamp(0, ACTIVATION_BOUND)
        x = functional.pixel_shuffle(x, 2)
    return x


def exact_layers(network: Any) -> tuple[ExactLayer, ExactLayer, ExactLayer]:
    """Round a network's convolutions ``first``, ``second`` and ``third``, and their biases rate point by rate point."""
    return (
        ExactLayer.of(network.first.weight, network.first_bias),
        ExactLayer.of(network.second.weight, network.second_bias),
        ExactLayer.of(network.third.weight, network.third_bias),
    )


def copy_layers(layers: tuple[ExactLayer, ExactLayer, ExactLayer], network: Any) -> None:
    """Set the parameters that :func:`exact_layers` rounds to what the layers hold."""
    convolutions = (network.first, network.second, network.third)
    biases = (network.first_bias, network.second_bias, network.third_bias)
    for layer, convolution, bias in zip(layers, convolutions, biases, strict=True):
        convolution.weight.copy_(layer.weight * 2.0**-layer.shift)
        bias.copy_(layer.bias * 2.0 ** -(layer.shift + ACTIVATION_BITS))


def fixed_point(values: Tensor) -> Tensor:
    """Return values in units of ``2**-ACTIVATION_BITS``, rounded, int64."""
    return torch.round(values.double() * 2**ACTIVATION_BITS).to(torch.int64)


def rounding_shift(x: Tensor, places: int) -> Tensor:
    """Divide integers held in float64 by ``2**places``, rounding to the nearest, halves up."""
    # Scaling by a power of two, adding a half and flooring are exact: nothing needs more than 53 bits.
    return torch.floor(x * 2.0**-places + 0.5)
