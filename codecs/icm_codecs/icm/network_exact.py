"""The hyper-synthesis of means and scales in integers: see :mod:`icm_codecs.bitstream.integer_layer`."""

from __future__ import annotations

from torch import Tensor

from icm_codecs.bitstream.integer_layer import ACTIVATION_BOUND, MEAN_BITS, rounding_shift
from icm_codecs.hyperprior.network_exact import ExactSynthesis


class ExactHyperSynthesis(ExactSynthesis):
    """The integer twin of :class:`~icm_codecs.icm.network.HyperSynthesis`."""

    def apply(self, hyper: Tensor, quality: int) -> tuple[Tensor, Tensor]:
        """Return scale indices and means: see :class:`ExactSynthesis`."""
        index, mean = self._last_sum(hyper, quality).chunk(2, dim=1)
        mean = rounding_shift(mean, self._places - MEAN_BITS).clamp(-ACTIVATION_BOUND, ACTIVATION_BOUND)
        return self._indices(index), mean.long()
