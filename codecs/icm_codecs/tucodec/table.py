"""Integer probability tables of zero-mean Laplacians."""

from __future__ import annotations

import math

import numpy as np

from icm_codecs.bitstream.table import Tables, joined, quantise
from icm_codecs.tucodec.network import LAPLACIAN_SCALES

_REACH = 11.0


def laplacian_tables() -> Tables:
    """Return the tables of zero-mean Laplacians of every scale, integrated over unit intervals around the integers."""
    pieces, offsets = [], []
    for index in range(LAPLACIAN_SCALES.n_scales):
        scale = LAPLACIAN_SCALES.scale(index)
        reach = max(1, math.ceil(scale * _REACH))
        side = [-0.5 * math.expm1(-1.0 / scale) * math.exp(-(k - 0.5) / scale) for k in range(1, reach + 1)]
        pmf = np.array([*reversed(side), -math.expm1(-0.5 / scale), *side])
        pieces.append(quantise(pmf, math.exp(-(reach + 0.5) / scale)))
        offsets.append(-reach)
    return joined(pieces, offsets)
