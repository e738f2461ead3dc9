"""The scale synthesis in integers, at any position between rate points: what encoder and decoder must agree on.

As :mod:`icm_codecs.bitstream.integer_layer` has it: integers held in float64, every partial sum below 2^53, so that
devices, libraries and thread counts change nothing. Interpolation between rate points is integer arithmetic as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from icm_codecs.bitstream.integer_layer import ACTIVATION_BITS, ExactDoubling, ExactLayer, doubled
from icm_codecs.tucodec.network import LAPLACIAN_SCALES

STEP_BITS = 9
"""Binary places of a position: there are ``2**STEP_BITS`` steps from a rate point to the next."""


@dataclass(frozen=True)
class ExactScales(ExactDoubling):
    """The integer twin of :class:`~icm_codecs.tucodec.network.ScaleSynthesis`.

    Attributes:
        hyper_scale: Rate points x hyper int64, in units of ``2**-ACTIVATION_BITS``: the hyper-latent's scales.
    """

    hyper_scale: Tensor

    def hyper_index(self, position: int) -> Tensor:
        """Return the hyper-latent's scale indices, int64, 0 to 63, one a channel.

        Args:
            position: In units of ``2**-STEP_BITS`` of a rate point, from 0.
        """
        return LAPLACIAN_SCALES.indices(interpolate_exactly(self.hyper_scale, position), ACTIVATION_BITS)

    def apply(self, hyper: Tensor, position: int) -> Tensor:
        """Return the latent's scale indices, int64, 0 to 63: N x latent x 4h x 4w.

        Args:
            hyper: N x hyper x h x w, whole numbers within ``HYPER_BOUND``, of any type.
            position: In units of ``2**-STEP_BITS`` of a rate point, from 0.
        """
        first, second, third = (
            ExactLayer(layer.weight, interpolate_exactly(layer.bias, position)[None], layer.shift)
            for layer in self.layers
        )
        x = doubled(hyper, interpolate_exactly(self.gain, position), (first, second), 0)
        return LAPLACIAN_SCALES.indices(third.apply(x, 0), third.shift + ACTIVATION_BITS)


def interpolate_exactly(values: Tensor, position: int) -> Tensor:
    """Return what lies between rate points, halves rounded up: rate points x C int64 -> C int64, below 2^53."""
    below = min(position >> STEP_BITS, len(values) - 2)
    way = position - (below << STEP_BITS)
    total = values[below] * ((1 << STEP_BITS) - way) + values[below + 1] * way
    return (total + (1 << (STEP_BITS - 1))) >> STEP_BITS
