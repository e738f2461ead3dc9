"""Lossless entropy coding of the bits: an adaptive context model in integers, and asymmetric numeral systems.

The paper sends its bits as they are. They are not quite random, and this model, which is ours, learns how from the
bits already coded, of this image alone: counts in six contexts each predict the next bit, and weights that are
learned likewise mix the predictions in the logistic domain. Everything is integer arithmetic, so that encoder and
decoder agree on every machine.

Bits are visited by ``column + 2 row + channel``: those of one number see their left, upper left, upper and upper
right neighbours, and the two channels before them, so they are predicted, and learned from, together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from icm_bench.error import CodecError
from icm_codecs.bitstream.table import PRECISION_BITS, Decoder, Encoder, Tables, joined
from icm_codecs.rnn_gdn.network import BITS, ITERATIONS

Plane = NDArray[np.uint8]
"""One iteration's bits, 32 x rows x columns, each 0 or 1."""

_Integers = NDArray[np.int64]

LOGIT_UNIT = 256
"""Logits are whole numbers of 1/256."""

_MOST_LOGIT = 1240
_LEVEL_LOGITS = 20
_COUNT_ONE = 64
_MOST_COUNT = 255 * _COUNT_ONE
_WEIGHT_ONE = 1 << 16
_RATE_SHIFT = 16
_OUTSIDE = 2


def stretch_table() -> _Integers:
    """Return the logit of each probability ``k / 4096``; of 0, that of 1/4096."""
    return np.array([round(LOGIT_UNIT * math.log(k / (4096 - k))) for k in [1, *range(1, 4096)]])


def squash_table() -> _Integers:
    """Return the probability, in ``2**-16``, of each logit from ``-1240`` to ``1240``."""
    logits = range(-_MOST_LOGIT, _MOST_LOGIT + 1)
    return np.array([round(65536 / (1 + math.exp(-logit / LOGIT_UNIT))) for logit in logits])


class ContextModel:
    """Codes the iterations of one image of so many blocks, one after the other, and learns from each."""

    def __init__(self, rows: int, columns: int) -> None:
        self._shape = (BITS, rows, columns)
        # Two channels before the first, a row above, and a column on either side, all of them outside.
        self._padded = (BITS + 2, rows + 2, columns + 2)
        self._groups = _groups(rows, columns)
        self._iteration = 0
        outside = np.full(math.prod(self._padded), _OUTSIDE, np.int64)
        self._seen = (outside, outside)
        self._stretch, self._squash = stretch_table(), squash_table()
        sizes = _context_sizes()
        self._bases = np.concatenate([[0], np.cumsum(sizes)[:-1]])[:, None]
        self._counts = np.zeros((int(sizes.sum()), 2), np.int64)
        self._weights = np.full((BITS, len(sizes)), _WEIGHT_ONE * 2 // 5, np.int64)

    def encode(self, bits: Plane) -> bytes:
        """Return the stream of the next iteration's bits."""
        given = self._grown(bits)
        levels, symbols = [], []
        for group, level, coded in self._walk():
            coded[:] = given[group]
            levels.append(level)
            symbols.append(coded)
        encoder = Encoder()
        encoder.put(_flat(symbols), _flat(levels), _tables())
        return encoder.bytes()

    def decode(self, stream: bytes) -> Plane:
        """Return the next iteration's bits from their stream.

        Raises:
            CodecError: The stream is no such stream.
        """
        tables, decoder = _tables(), Decoder(stream, most_symbols=math.prod(self._shape))
        for _, level, coded in self._walk():
            coded[:] = decoder.take(torch.from_numpy(level), tables).numpy()
            if ((coded != 0) & (coded != 1)).any():
                raise CodecError(
                    "the bitstream is damaged", hint="give the bytes that encode returned, whole"
                )
        return self._latest()

    def learn(self, bits: Plane) -> None:
        """Take note of the next iteration's bits, which were sent as they are."""
        given = self._grown(bits)
        for group, _, coded in self._walk():
            coded[:] = given[group]

    def _walk(self) -> Iterator[tuple[_Integers, _Integers, _Integers]]:
        """Yield positions, levels and the place for the bits of each group; learn what has been put there."""
        now = np.full(math.prod(self._padded), _OUTSIDE, np.int64)
        before, earlier = self._seen
        iteration, self._iteration = self._iteration, min(self._iteration + 1, ITERATIONS - 1)
        for group, channel in self._groups:
            places = self._contexts(now, before, earlier, group, channel, iteration) + self._bases
            logits = self._logits(places)
            mixed = (self._weights[channel].T * logits).sum(axis=0) // _WEIGHT_ONE
            mixed = np.clip(mixed, -_MOST_LOGIT, _MOST_LOGIT)
            coded = np.zeros(len(group), np.int64)
            yield group, (mixed + _MOST_LOGIT) // _LEVEL_LOGITS, coded
            now[group] = coded
            self._learn(places, logits, mixed, channel, coded)
        self._seen = (now, before)

    def _contexts(
        self,
        now: _Integers,
        before: _Integers,
        earlier: _Integers,
        group: _Integers,
        channel: _Integers,
        iteration: int,
    ) -> _Integers:
        """Return 6 x group: which context each bit is in, numbered within its kind."""
        row = self._padded[2]
        plane = self._padded[1] * row
        left, up, upper_left, upper_right = (now[group - step] for step in (1, row, row + 1, row - 1))
        last, last_but_one = now[group - plane], now[group - 2 * plane]
        same = before[group]
        left_agrees = (now[group - 1 - plane] == last) * 1 + (now[group - 1 - 2 * plane] == last_but_one)
        up_agrees = (now[group - row - plane] == last) * 1 + (now[group - row - 2 * plane] == last_but_one)
        return np.stack(
            [
                iteration * BITS + channel,
                _number(channel, left, up, upper_left, upper_right),
                _number(channel, same, earlier[group], left),
                _number(channel, last, last_but_one, same),
                _number(left_agrees * 3 + up_agrees, left, up, same, before[group - 1], before[group - row]),
                _number(channel, same, before[group + 1], before[group + row], left, up),
            ]
        )

    def _logits(self, places: _Integers) -> _Integers:
        zeros, ones = self._counts[places, 0], self._counts[places, 1]
        half = _COUNT_ONE // 2
        logits: _Integers = self._stretch[(ones + half) * 4096 // (zeros + ones + 2 * half)]
        return logits

    def _learn(
        self, places: _Integers, logits: _Integers, mixed: _Integers, channel: _Integers, coded: _Integers
    ) -> None:
        error = (coded << PRECISION_BITS) - self._squash[mixed + _MOST_LOGIT]
        np.add.at(self._weights, channel, (logits * error >> _RATE_SHIFT).T)
        np.add.at(self._counts, (places, coded[None, :]), _COUNT_ONE)
        full = self._counts[places].sum(axis=2) > _MOST_COUNT
        if full.any():
            crowded = np.unique(places[full])
            self._counts[crowded] >>= 1

    def _grown(self, bits: Plane) -> _Integers:
        grown = np.full(self._padded, _OUTSIDE, np.int64)
        grown[2:, 1:-1, 1:-1] = bits
        return grown.ravel()

    def _latest(self) -> Plane:
        inside = self._seen[0].reshape(self._padded)[2:, 1:-1, 1:-1]
        return inside.astype(np.uint8)


def _number(first: _Integers, *ternary: _Integers) -> _Integers:
    number = first
    for digit in ternary:
        number = 3 * number + digit
    return number


def _context_sizes() -> _Integers:
    return np.array(
        [ITERATIONS * BITS, BITS * 3**4, BITS * 3**3, BITS * 3**3, 9 * 3**5, BITS * 3**5], np.int64
    )


def _groups(rows: int, columns: int) -> list[tuple[_Integers, _Integers]]:
    """Return the padded positions that are coded together, and their channels, group by group."""
    channel, row, column = (axis.ravel() for axis in np.indices((BITS, rows, columns)))
    turn = column + 2 * row + channel
    order = np.argsort(turn, kind="stable")
    ends = np.cumsum(np.bincount(turn))[:-1]
    position = ((channel + 2) * (rows + 2) + row + 1) * (columns + 2) + column + 1
    return list(zip(np.split(position[order], ends), np.split(channel[order], ends), strict=True))


def _flat(pieces: list[_Integers]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(pieces))


@cache
def _tables() -> Tables:
    """Return the tables of a bit by its level; their third frequency is the coder's escape, never used."""
    squash = squash_table()
    ones = squash[_LEVEL_LOGITS // 2 :: _LEVEL_LOGITS]
    ones = np.append(ones, squash[-1])[: 2 * _MOST_LOGIT // _LEVEL_LOGITS + 1]
    total = 1 << PRECISION_BITS
    return joined([np.array([total - 1 - one, one, 1]) for one in ones.tolist()], [0] * len(ones))
