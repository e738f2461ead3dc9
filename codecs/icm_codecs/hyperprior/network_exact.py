"""The hyper-synthesis of means and scales in integers: see :mod:`icm_codecs.bitstream.integer_layer`."""

from __future__ import annotations

from torch import Tensor

from icm_codecs.bitstream.integer_layer import (
    ACTIVATION_BITS,
    ACTIVATION_BOUND,
    MEAN_BITS,
    ExactDoubling,
    doubled,
    rounding_shift,
)
from icm_codecs.bitstream.table import SCALES


class ExactHyperSynthesis(ExactDoubling):
    """The integer twin of :class:`~icm_codecs.hyperprior.network.HyperSynthesis`."""

    def apply(self, hyper: Tensor, quality: int) -> tuple[Tensor, Tensor]:
        """Return what the latent's distribution is, from the hyper-latent.

        Args:
            hyper: N x hyper x h x w, whole numbers within ``HYPER_BOUND``, of any type.
            quality: The rate point, from 0.

        Returns:
            Scale indices, int64, 0 to 63, and means, int64, in units of ``2**-MEAN_BITS``: N x latent x 4h x 4w each.
        """
        *doubling, last = self.layers
        features = doubled(hyper, self.gain[quality], doubling, quality)
        places = last.shift + ACTIVATION_BITS
        index, mean = last.apply(features, quality).chunk(2, dim=1)
        mean = rounding_shift(mean, places - MEAN_BITS).clamp(-ACTIVATION_BOUND, ACTIVATION_BOUND)
        return SCALES.indices(index, places), mean.long()
