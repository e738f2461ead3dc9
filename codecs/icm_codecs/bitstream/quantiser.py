"""The rounding of an encoder that weighs the bits of a symbol against its error."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from icm_codecs.bitstream.table import Tables

SYMBOL_BOUND = 2**15 - 1
"""Largest magnitude of a latent's symbol."""

_LARGE = 16
"""A magnitude at which no symbol is dear enough to be changed."""


class Quantiser:
    """Round to whole numbers: the nearest, or the next towards zero where the bits saved are worth the error.

    Args:
        tables: The symbols' tables, scale by scale, symmetric about zero.
        rdoq_lambda: The squared error, in quantisation steps, that a bit is worth: lambda's inverse.
        device: Where the values lie.
    """

    def __init__(self, tables: Tables, rdoq_lambda: float, device: str) -> None:
        self._saved_bits = _saved_bits(tables).to(device)
        self._rdoq_lambda = rdoq_lambda

    def apply(self, values: Tensor, index: Tensor) -> Tensor:
        """Return symbols, int64.

        Args:
            values: In quantisation steps, without their means, float64.
            index: The scale index of each, int64.
        """
        nearest = torch.round(values).clamp(-SYMBOL_BOUND, SYMBOL_BOUND)
        growth = 1.0 + 2.0 * (values - nearest) * nearest.sign()
        saved = self._saved_bits[index.clamp(min=0), nearest.abs().clamp(max=_LARGE).long()]
        is_dear = growth < self._rdoq_lambda * saved
        return (nearest - nearest.sign() * is_dear).long()


def _saved_bits(tables: Tables) -> Tensor:
    """Return how many bits a symbol's next one towards zero saves: scales x magnitudes, 0 to ``_LARGE``.

    What the first and the last magnitude of a table save counts as nothing.
    """
    saved = torch.zeros(len(tables.sizes), _LARGE + 1, dtype=torch.float64)
    for row, (cumulative, offset) in enumerate(zip(tables.cumulative, tables.offsets.tolist(), strict=True)):
        frequencies = np.diff(cumulative)[-offset:-1][:_LARGE]
        saved[row, 1 : len(frequencies)] = torch.from_numpy(-np.diff(np.log2(frequencies)))
    return saved
