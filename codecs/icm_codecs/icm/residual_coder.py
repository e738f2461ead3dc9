"""Code the coefficients of the residual layer: see :mod:`icm_codecs.icm.residual`.

Every coefficient has a scale of its own, and every block says how much more or less there is in it. Both are measured
in the image that is coded and go into the stream, so nothing need be learned of either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from icm_codecs.bitstream.table import SCALES, Decoder, Encoder, Tables
from icm_codecs.icm.residual import COEFFICIENTS, ResidualTransform, of_blocks
from icm_codecs.icm.roi import MOST_COARSENING

_ROUNDING = 0.25
"""A magnitude is rounded up from here below the next whole number: below a half, for bits that are worth more."""

_CENTRE = 0.18
"""How far above a symbol's magnitude the mean of what is rounded to it lies, measured on scenes."""

_OFFSET_PLACES = 5
"""Scale indices from one offset of a block to the next."""

_MOST_OFFSET = 5
"""The largest offset of a block, up or down."""

_LARGE = 64
"""The magnitude from which on all symbols count as equally dear when scales are chosen."""

_BOUND = 2**15 - 1
_WIDEST = SCALES.n_scales - 1
_FITS = 2
"""How often scales and offsets are chosen anew, each for the other."""


@dataclass(frozen=True)
class ResidualCoder:
    """Codes the residual layer at one rate.

    Attributes:
        step: The finest quantisation step, in levels of a pixel (of 255).
        coarser: How much coarser it is at each ROI level, in scale indices.
        transform: What its coefficients mean, on the device of the networks.
        tables: One for each scale.
    """

    step: float
    coarser: tuple[int, ...]
    transform: ResidualTransform
    tables: Tables

    def quantise(self, missing: Tensor, levels: Tensor) -> Tensor:
        """Return the symbols of what a decoded image lacks.

        Args:
            missing: 1 x 3 x 16h x 16w, about -1..1.
            levels: The map of levels, h x w.

        Returns:
            192 x 2h x 2w int64, 0 where nothing is sent.
        """
        scaled = self.transform.analyse(missing)[0] / self._steps(levels).to(missing)
        magnitude = torch.floor(scaled.abs() + _ROUNDING).clamp(max=_BOUND)
        symbols = (magnitude * scaled.sign()).long().cpu()
        return symbols * self._sent(levels)

    def missing(self, symbols: Tensor, levels: Tensor) -> Tensor:
        """Return what symbols, 192 x 2h x 2w, add to an image: 1 x 3 x 16h x 16w."""
        steps = self._steps(levels).to(self.transform.basis)
        centres = symbols.to(steps) + _CENTRE * symbols.sign().to(steps)
        added: Tensor = self.transform((centres * steps)[None])
        return added

    def put(self, encoder: Encoder, symbols: Tensor, levels: Tensor) -> None:
        """Add the symbols of an image."""
        sent = symbols[:, self._sent(levels)]
        scales, offsets = self._scales_of(sent)
        for values in (scales, offsets):
            self._put_smooth(encoder, values)
        index = _index_of(scales, offsets)
        encoder.put(sent[index > 0], index[index > 0], self.tables)

    def take(self, decoder: Decoder, levels: Tensor) -> Tensor:
        """Return the symbols of an image, whatever the stream holds."""
        is_sent = self._sent(levels)
        n_sent = int(is_sent.sum())
        scales = self._take_smooth(decoder, COEFFICIENTS).clamp(0, _WIDEST)
        offsets = self._take_smooth(decoder, n_sent).clamp(-_MOST_OFFSET, _MOST_OFFSET)
        index = _index_of(scales, offsets)
        sent = torch.zeros_like(index)
        sent[index > 0] = decoder.take(index[index > 0], self.tables).clamp(-_BOUND, _BOUND)
        symbols = torch.zeros(COEFFICIENTS, *is_sent.shape, dtype=torch.int64)
        symbols[:, is_sent] = sent
        return symbols

    @staticmethod
    def most_symbols(rows: int, columns: int) -> int:
        """Return how many symbols an image has at most, of so many positions of the latent."""
        return (COEFFICIENTS + 1) * (4 * rows * columns + 1) + 1

    def _sent(self, levels: Tensor) -> Tensor:
        """Return which blocks are sent, 2h x 2w."""
        return self._coarser(levels) < MOST_COARSENING

    def _steps(self, levels: Tensor) -> Tensor:
        """Return the steps of each block, 2h x 2w float64."""
        return self.step / 255.0 * torch.exp(SCALES.step * self._coarser(levels).double())

    def _coarser(self, levels: Tensor) -> Tensor:
        return of_blocks(torch.tensor(self.coarser)[levels.cpu()])

    def _scales_of(self, sent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scale of each coefficient, and the offset of each block, that make symbols cheap: both int64."""
        magnitudes = sent.abs().clamp(max=_LARGE)
        offsets = torch.zeros(sent.shape[1], dtype=torch.int64)
        scales = self._cheapest_scales(magnitudes, offsets)
        coefficient, block = magnitudes.nonzero(as_tuple=True)
        magnitude = magnitudes[coefficient, block]
        choices = torch.arange(-_MOST_OFFSET, _MOST_OFFSET + 1)
        for _ in range(_FITS):
            bits = torch.empty(len(choices), sent.shape[1], dtype=torch.float64)
            for row, choice in zip(bits, choices, strict=True):
                index = _index_of(scales, choice[None])[:, 0]
                # Most symbols are 0: what one of another magnitude costs more is all that differs between blocks.
                of_zero = self._bits[index, 0]
                more = self._bits[index[coefficient], magnitude] - of_zero[coefficient]
                row.fill_(of_zero.sum()).index_add_(0, block, more)
            offsets = choices[bits.argmin(dim=0)]
            scales = self._cheapest_scales(magnitudes, offsets)
        return scales, offsets

    def _cheapest_scales(self, magnitudes: Tensor, offsets: Tensor) -> Tensor:
        """Return the scale of each coefficient for given offsets."""
        n_offsets, n_magnitudes = 2 * _MOST_OFFSET + 1, _LARGE + 1
        kinds = (offsets + _MOST_OFFSET) * n_magnitudes + magnitudes
        kinds += torch.arange(len(kinds))[:, None] * n_offsets * n_magnitudes
        counts = torch.bincount(kinds.flatten(), minlength=len(kinds) * n_offsets * n_magnitudes)
        # What each scale would cost for each kind of symbol: scales x offsets x magnitudes.
        choices = torch.arange(-_MOST_OFFSET, _MOST_OFFSET + 1)
        costs = self._bits[_index_of(torch.arange(SCALES.n_scales), choices)]
        return (counts.reshape(len(kinds), -1).double() @ costs.flatten(1).T).argmin(dim=1)

    def _put_smooth(self, encoder: Encoder, values: Tensor) -> None:
        """Add whole numbers that differ little from each to the next."""
        steps = torch.diff(values, prepend=torch.zeros(1, dtype=torch.int64))
        index = self._bits[:, steps.abs().clamp(max=_LARGE)].sum(dim=1).argmin()[None]
        encoder.put(index, torch.tensor([_WIDEST]), self.tables)
        encoder.put(steps, index.expand(len(steps)), self.tables)

    def _take_smooth(self, decoder: Decoder, count: int) -> Tensor:
        index = decoder.take(torch.tensor([_WIDEST]), self.tables).clamp(0, _WIDEST)
        return decoder.take(index.expand(count), self.tables).clamp(-_BOUND, _BOUND).cumsum(dim=0)

    @cached_property
    def _bits(self) -> Tensor:
        """What a symbol costs: scales x magnitudes, 0 to ``_LARGE``, float64. Of scale 0 nothing but 0 can be sent."""
        bits = torch.empty(len(self.tables.sizes), _LARGE + 1, dtype=torch.float64)
        for row, (cumulative, offset) in enumerate(
            zip(self.tables.cumulative, self.tables.offsets.tolist(), strict=True)
        ):
            cost = -np.log2(np.diff(cumulative) / cumulative[-1])
            inside = torch.from_numpy(cost[-offset:-1][: _LARGE + 1])
            # An escape, and as many bits as its number has.
            bits[row] = cost[-1] + 2.0 * torch.log2(torch.arange(_LARGE + 1.0, dtype=torch.float64) + 1.0)
            bits[row, : len(inside)] = inside
        bits[0, 0] = 0.0
        bits[0, 1:] = 1e6
        return bits


def _index_of(scales: Tensor, offsets: Tensor) -> Tensor:
    """Return the scale index of each coefficient of each block: scales x offsets."""
    return (scales[:, None] + _OFFSET_PLACES * offsets).clamp(0, _WIDEST)
