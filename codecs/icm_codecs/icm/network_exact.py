"""The hyper-synthesis of means and scales in integers: see :mod:`icm_codecs.bitstream.integer_layer`."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from icm_codecs.bitstream.integer_layer import (
    ACTIVATION_BITS,
    ACTIVATION_BOUND,
    MEAN_BITS,
    copy_layers,
    exact_layers,
    fixed_point,
    rounding_shift,
)
from icm_codecs.hyperprior.network_exact import ExactSynthesis
from icm_codecs.icm.network import HyperSynthesis


class ExactHyperSynthesis(ExactSynthesis):
    """The integer twin of :class:`~icm_codecs.icm.network.HyperSynthesis`."""

    @classmethod
    def of(cls, network: HyperSynthesis) -> Self:
        """Convert a trained network."""
        with torch.no_grad():
            return cls(fixed_point(network.gain), exact_layers(network))

    def copy_to(self, network: HyperSynthesis) -> None:
        """Set a floating-point network's parameters to these, as a training's start."""
        with torch.no_grad():
            network.gain.copy_(self.gain * 2.0**-ACTIVATION_BITS)
            copy_layers(self.layers, network)

    def apply(self, hyper: Tensor, quality: int) -> tuple[Tensor, Tensor]:
        """Return scale indices and means: see :class:`ExactSynthesis`."""
        index, mean = self._last_sum(hyper, quality).chunk(2, dim=1)
        mean = rounding_shift(mean, self._places - MEAN_BITS).clamp(-ACTIVATION_BOUND, ACTIVATION_BOUND)
        return self._indices(index), mean.long()
