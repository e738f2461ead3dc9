"""Integer probability tables, and the entropy coder that reads them (asymmetric numeral systems, as in Le et al.)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from icm_codecs.bitstream.integer_layer import rounding_shift
from icm_codecs.bitstream.quiet import quiet_import

with quiet_import():
    from compressai.ans import BufferedRansEncoder, RansDecoder

PRECISION_BITS = 16
"""Binary places of a probability, fixed by the coder."""

_TAIL = 1e-6
_SYMBOL_BOUND = 255


@dataclass(frozen=True)
class ScaleLadder:
    """The standard deviations that the conditional Gaussians may have: ``lowest * exp(step * index)``.

    A network output of ``o`` means index ``per_unit * o``. Index 0 is narrow enough to mean "zero, not sent".
    """

    n_scales: int = 64
    lowest: float = 0.11
    highest: float = 64.0
    per_unit: int = 8

    @property
    def step(self) -> float:
        """Natural logarithm of the ratio of neighbouring scales."""
        return math.log(self.highest / self.lowest) / (self.n_scales - 1)

    def scale(self, index: int) -> float:
        """Return the standard deviation of one index, in quantisation steps."""
        return self.lowest * math.exp(self.step * index)

    def indices(self, outputs: Tensor, places: int) -> Tensor:
        """Return the indices, int64, that a network's outputs mean, integers in units of ``2**-places``."""
        index = rounding_shift(outputs.double() * self.per_unit, places)
        return index.clamp(0, self.n_scales - 1).long()


SCALES = ScaleLadder()


@dataclass(frozen=True)
class Tables:
    """Frequencies of consecutive integer symbols, one table after the other.

    The last frequency of each table is the escape's, for symbols outside; a table's frequencies sum to ``2**16``.

    Attributes:
        frequencies: All tables' frequencies, int64, each at least 1.
        sizes: How many frequencies each table has, the escape's included.
        offsets: The symbol that each table begins with.
    """

    frequencies: NDArray[np.int64]
    sizes: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @cached_property
    def cumulative(self) -> list[list[int]]:
        """Each table's cumulative frequencies, from 0 to ``2**16``."""
        ends = np.cumsum(self.sizes)
        pieces = np.split(self.frequencies, ends[:-1])
        return [[0, *np.cumsum(piece).tolist()] for piece in pieces]

    def is_valid(self) -> bool:
        """Tell whether the coder may use the tables."""
        if (
            len(self.sizes) != len(self.offsets)
            or self.sizes.sum() != len(self.frequencies)
            or self.sizes.min() < 2
        ):
            return False
        return self.frequencies.min() >= 1 and all(c[-1] == 2**PRECISION_BITS for c in self.cumulative)

    def select(self, start: int, stop: int) -> Tables:
        """Return the tables from ``start`` up to ``stop``."""
        ends = np.concatenate([[0], np.cumsum(self.sizes)])
        return Tables(
            self.frequencies[ends[start] : ends[stop]], self.sizes[start:stop], self.offsets[start:stop]
        )


def quantise(pmf: NDArray[np.float64], escape: float) -> NDArray[np.int64]:
    """Round consecutive symbols' probabilities and the escape's to frequencies of at least 1 with sum ``2**16``."""
    masses: NDArray[np.float64] = np.append(np.maximum(pmf, 0.0), max(escape, 0.0))
    masses = masses / masses.sum()
    spare = 2**PRECISION_BITS - len(masses)
    frequencies: NDArray[np.int64] = 1 + np.floor(masses * spare).astype(np.int64)
    frequencies[int(np.argmax(masses))] += 2**PRECISION_BITS - int(frequencies.sum())
    return frequencies


def gaussian_tables() -> Tables:
    """Return the tables of zero-mean Gaussians of every scale, integrated over unit intervals around the integers."""
    pieces, offsets = [], []
    for index in range(SCALES.n_scales):
        scale = SCALES.scale(index)
        reach = max(1, math.ceil(scale * 4.9))
        edges = np.array(
            [0.5 * math.erfc(-(k - 0.5) / (scale * math.sqrt(2))) for k in range(-reach, reach + 2)]
        )
        pieces.append(quantise(np.diff(edges), 1.0 - float(edges[-1] - edges[0])))
        offsets.append(-reach)
    return joined(pieces, offsets)


class HasPrior(Protocol):
    """A network whose hyper-latent has a factorised prior: CompressAI's ``EntropyBottleneck``."""

    prior: Any


def prior_tables(network: HasPrior) -> Tables:
    """Return the hyper-latent's tables, quality by quality and channel by channel."""
    symbols = torch.arange(-_SYMBOL_BOUND, _SYMBOL_BOUND + 1, dtype=torch.float32)
    with torch.no_grad():
        _, likelihood = network.prior(symbols.repeat(1, network.prior.channels, 1)[..., None], training=False)
    pieces, offsets = [], []
    for pmf in likelihood[0, :, :, 0].double().numpy():
        kept = np.flatnonzero(pmf > _TAIL)
        first, last = (int(kept[0]), int(kept[-1])) if kept.size else (_SYMBOL_BOUND, _SYMBOL_BOUND)
        inside = pmf[first : last + 1]
        pieces.append(quantise(inside, 1.0 - float(inside.sum())))
        offsets.append(first - _SYMBOL_BOUND)
    return joined(pieces, offsets)


def joined(pieces: Sequence[NDArray[np.int64]], offsets: Sequence[int]) -> Tables:
    """Put tables together, each given by its frequencies and the symbol that it begins with."""
    sizes = np.array([len(piece) for piece in pieces], dtype=np.int64)
    return Tables(np.concatenate(pieces), sizes, np.array(offsets, dtype=np.int64))


class Encoder:
    """Gather symbols, then write them as one stream."""

    def __init__(self) -> None:
        self._encoder = BufferedRansEncoder()

    def put(self, symbols: Tensor, indices: Tensor, tables: Tables) -> None:
        """Add symbols, each coded with the table of its index; both flat, int64."""
        if len(symbols):
            self._encoder.encode_with_indexes(
                symbols.tolist(),
                indices.tolist(),
                tables.cumulative,
                [size + 1 for size in tables.sizes.tolist()],
                tables.offsets.tolist(),
            )

    def bytes(self) -> bytes:
        """Return the stream."""
        return bytes(self._encoder.flush())


class Decoder:
    """Read symbols back in the order in which they were put."""

    def __init__(self, stream: bytes, *, most_symbols: int) -> None:
        # The coder trusts its input and reads on past the end: zeros there keep a damaged stream inside the buffer.
        self._decoder = RansDecoder()
        self._decoder.set_stream(stream + bytes(4 * most_symbols + 64))

    def take(self, indices: Tensor, tables: Tables) -> Tensor:
        """Return as many symbols as there are indices, int64."""
        if not len(indices):
            return torch.zeros(0, dtype=torch.int64)
        symbols = self._decoder.decode_stream(
            indices.tolist(),
            tables.cumulative,
            [size + 1 for size in tables.sizes.tolist()],
            tables.offsets.tolist(),
        )
        return torch.tensor(symbols, dtype=torch.int64)
