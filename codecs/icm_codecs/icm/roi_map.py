"""Code the map of levels that says where a latent's steps are coarser, and what it changes: all of it in integers.

See :mod:`icm_codecs.icm.roi`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from icm_codecs.bitstream.table import SCALES, Decoder, Encoder, Tables, joined, quantise
from icm_codecs.icm.network import IcmShape
from icm_codecs.icm.roi import MOST_COARSENING, RoiLevels, context_number, contexts_of

_SHARE_BITS = 16
"""Binary places of what means are multiplied by where steps are coarser."""

_PRIOR_COUNT = 0.5
"""How often each level counts as seen in each context before any was."""


@dataclass(frozen=True)
class MapCoder:
    """Codes maps of levels, each level by its neighbours left, above, and above to the right.

    Attributes:
        tables: One for each context, see :func:`contexts_of`.
        n_levels: How many levels there are.
    """

    tables: Tables
    n_levels: int

    def counts(self) -> Tensor:
        """Return how often each level may have been seen in each context, for :func:`map_tables`."""
        frequencies = self.tables.frequencies.reshape(-1, self.n_levels + 1)[:, :-1]
        return torch.from_numpy(frequencies / 64.0)

    def put(self, encoder: Encoder, levels: Tensor) -> None:
        """Add a map, rows x columns int64."""
        order = np.concatenate(list(self._fronts(*levels.shape)))
        contexts = contexts_of(levels, self.n_levels).flatten()[order]
        encoder.put(levels.flatten()[order], contexts, self.tables)

    def take(self, decoder: Decoder, rows: int, columns: int) -> Tensor:
        """Return a map of a size, whatever the stream holds."""
        padded = torch.full((rows + 1, columns + 2), self.n_levels, dtype=torch.int64)
        for front in self._fronts(rows, columns):
            y, x = np.divmod(front, columns)
            near = (padded[y + 1, x], padded[y, x + 1], padded[y, x + 2])
            contexts = context_number(near, self.n_levels + 1)
            padded[y + 1, x + 1] = decoder.take(contexts, self.tables).clamp(0, self.n_levels - 1)
        return padded[1:, 1:-1]

    @staticmethod
    def _fronts(rows: int, columns: int) -> Iterator[NDArray[np.int64]]:
        """Deal the positions, row by row numbered, such that all that a front's contexts need has gone before."""
        y, x = np.divmod(np.arange(rows * columns), columns)
        front = x + 2 * y
        order = np.argsort(front, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(front[order])) + 1)


@dataclass(frozen=True)
class RoiSteps:
    """What a decoder must know of the ROI map.

    Attributes:
        levels: How much coarser each level's steps are.
        map: Codes the maps of them.
        coarser: The same for each quality and channel, qualities x latent x levels int64, in scale indices.
        shares: What a mean is multiplied by for it, in units of ``2**-16``, likewise.
    """

    levels: RoiLevels
    map: MapCoder
    coarser: Tensor
    shares: Tensor

    @classmethod
    def of(cls, levels: RoiLevels, tables: Tables, shape: IcmShape) -> Self:
        """Say it of networks of a size."""
        first, second = levels.coarsening(shape.qualities)[:, :, None]
        sizes = (shape.first_layer, shape.latent - shape.first_layer)
        coarser = torch.cat([first.expand(-1, sizes[0], -1), second.expand(-1, sizes[1], -1)], dim=1)
        shares = torch.tensor([share_of(place) for place in range(MOST_COARSENING + 1)])[coarser]
        return cls(levels, MapCoder(tables, len(levels)), coarser, shares)

    def to(self, device: str) -> Self:
        """Return the same with its tensors on a device."""
        return type(self)(self.levels, self.map, self.coarser.to(device), self.shares.to(device))

    def expected(self, index: Tensor, mean: Tensor, quality: int, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale indices and means in the steps of the levels, of N x channels x rows x columns int64."""
        channels, levels = index.shape[1], levels.to(index.device)
        shares = self.shares[quality, :channels][:, levels]
        scaled = (mean * shares + 2 ** (_SHARE_BITS - 1)) >> _SHARE_BITS
        return (index - self.coarser[quality, :channels][:, levels]).clamp(min=0), scaled

    def share(self, channels: int, quality: int, levels: Tensor) -> Tensor:
        """Return what the latent is multiplied by: channels x rows x columns float32."""
        shares = self.shares[quality, :channels].float() * 2.0**-_SHARE_BITS
        return shares[:, levels.to(shares.device)]


def share_of(places: int) -> int:
    """Return what steps coarser by so many scale indices leave of a value, in units of ``2**-16``."""
    share: float = 2**_SHARE_BITS * math.exp(-SCALES.step * places)
    return round(share)


def map_tables(counts: Tensor) -> Tables:
    """Return the tables for maps from how often each level was seen in each context: contexts x levels."""
    seen = counts.double().cpu().numpy() + _PRIOR_COUNT
    return joined([quantise(row / row.sum(), 0.0) for row in seen], [0] * len(seen))
