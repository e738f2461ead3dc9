"""The context model: how probable each bit is, given those that were coded before it.

As in the paper, a small network looks at the causal part of a cube of ``depth`` x 5 x 5 bits around the one to code,
which ends with the bit's own plane. All contexts of a front are evaluated at once: with the bits (plane k, row i,
column j) coded in the order of 9 k + 3 i + j, those of one sum depend on smaller sums only. The paper has no fronts
and evaluates bit by bit; layers and the learned biases (of plane, importance and quality) are ours.

The decoder must come to the encoder's probabilities exactly, on any machine: the trained network is turned into
integers, held in float64 and multiplied as matrices (see :mod:`icm_codecs.bitstream.integer_layer`), and ends in one of
a few stored tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from icm_bench.error import CodecError
from icm_codecs.bitstream.integer_layer import ACTIVATION_BITS, EXACT_BOUND, ExactLayer
from icm_codecs.bitstream.table import Tables, quantise

CODE_DEPTH = 4
"""Planes of the cube around a bit of the code, the paper's."""

_REACH = 2
_SIDE = 2 * _REACH + 1
_PLANE_STEP, _ROW_STEP = 9, 3
_STEPS_PER_UNIT = 8
_STEPS = 80
_ACTIVATION_BOUND = 2**20 - 1
_GAIN_BOUND = 2**13 - 1
_CHUNK = 2**15


def n_neighbours(depth: int) -> int:
    """Return how many bits the causal part of a cube has."""
    return (depth - 1) * _SIDE**2 + _SIDE * _REACH + _REACH


def offsets(depth: int, padded_rows: int, padded_columns: int) -> NDArray[np.int64]:
    """Return where a bit's neighbours lie from it in a flat padded volume, the farthest plane first."""
    plane, row, column = np.mgrid[1 - depth : 1, -_REACH : _REACH + 1, -_REACH : _REACH + 1].reshape(3, -1)
    is_causal = (plane < 0) | (row < 0) | ((row == 0) & (column < 0))
    flat = (plane * padded_rows + row) * padded_columns + column
    causal: NDArray[np.int64] = flat[is_causal].astype(np.int64)
    return causal


class Rules(NamedTuple):
    """How large a context model is: planes of the volume, of the cube, values of the side information, ..."""

    planes: int
    depth: int
    sides: int
    qualities: int
    width: int


class ContextNetwork(nn.Module):
    """Estimate what bits cost; the floating-point twin of :class:`ExactContext`, as it is trained."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.rules = rules
        n, width = n_neighbours(rules.depth), rules.width
        self.gain = nn.Parameter(torch.ones(rules.planes, n))
        self.first = nn.Linear(n, width, bias=False)
        self.plane_bias = nn.Parameter(torch.zeros(rules.planes, width))
        self.side_bias = nn.Parameter(torch.zeros(rules.sides, width))
        self.quality_bias = nn.Parameter(0.1 * torch.randn(rules.qualities, width))
        self.second = nn.Linear(width, width)
        self.third = nn.Linear(width, 1)
        nn.init.zeros_(self.third.weight)
        nn.init.zeros_(self.third.bias)

    def forward(
        self, volume: Tensor, side: Tensor, quality: Tensor, *, every: int = 1, start: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Return what every ``every``-th coded bit costs, and in which sample it lies.

        Args:
            volume: N x planes x h x w: -1 and 1 for the bits 0 and 1, 0 for what is not coded.
            side: N x h x w int64, what is known of each position beforehand.
            quality: N, the rate points.
            every: Look at one in so many bits.
            start: Which bit to begin with.

        Returns:
            Bits and indices of samples, one of each for each bit looked at.
        """
        sample, plane, row, column = torch.nonzero(volume, as_tuple=True)
        chosen = slice(start % every, None, every)
        sample, plane, row, column = sample[chosen], plane[chosen], row[chosen], column[chosen]
        padded = functional.pad(volume.float(), (_REACH, _REACH, _REACH, _REACH, self.rules.depth - 1, 0))
        _, planes, rows, columns = padded.shape
        index = (sample * planes + plane + self.rules.depth - 1) * rows + row + _REACH
        index = index * columns + column + _REACH
        steps = torch.from_numpy(offsets(self.rules.depth, rows, columns)).to(index.device)
        flat = padded.flatten()
        neighbours = flat[index[:, None] + steps]
        logits = self._logits(neighbours, plane, side[sample, row, column], quality[sample])
        return functional.softplus(-logits * flat[index]) / math.log(2.0), sample

    def _logits(self, neighbours: Tensor, plane: Tensor, side: Tensor, quality: Tensor) -> Tensor:
        bias = self.plane_bias[plane] + self.side_bias[side] + self.quality_bias[quality]
        x = functional.relu(self.first(neighbours * self.gain[plane]) + bias)
        logits: Tensor = self.third(functional.relu(self.second(x)))[:, 0]
        return logits.clamp(-_STEPS / _STEPS_PER_UNIT, _STEPS / _STEPS_PER_UNIT)


@dataclass(frozen=True)
class Walk:
    """The coded bits of a volume in the order in which they are coded.

    Attributes:
        position: Where each lies in the flat padded volume, int64.
        plane: The plane of each, int64.
        side: The side information of each, int64.
        fronts: Where each front begins, and the end, int64.
    """

    position: NDArray[np.int64]
    plane: NDArray[np.int64]
    side: NDArray[np.int64]
    fronts: NDArray[np.int64]


def walk(mask: NDArray[np.bool_], side: NDArray[np.int64], depth: int) -> Walk:
    """Return the way through the coded bits of a volume.

    Args:
        mask: planes x h x w, which bits are coded.
        side: h x w, what is known of each position beforehand.
        depth: Planes of the context's cube.
    """
    plane, row, column = np.nonzero(mask)
    time = _PLANE_STEP * plane + _ROW_STEP * row + column
    order = np.argsort(time, kind="stable")
    plane, row, column, time = plane[order], row[order], column[order], time[order]
    rows, columns = mask.shape[1] + 2 * _REACH, mask.shape[2] + 2 * _REACH
    position: NDArray[np.int64] = ((plane + depth - 1) * rows + row + _REACH) * columns + column + _REACH
    begins = np.flatnonzero(np.diff(time, prepend=-1))
    return Walk(position, plane, side[row, column], np.append(begins, len(time)).astype(np.int64))


@dataclass(frozen=True)
class ExactContext:
    """A context model in integers.

    Attributes:
        depth: Planes of the cube.
        gain: planes x neighbours int16, in units of ``2**-ACTIVATION_BITS``.
        layers: The three layers, as 1x1 convolutions; the first one's biases are the planes', the side
            information's and the qualities', one after the other.
        n_sides: Values of the side information.

    Raises:
        CodecError: The weights are too large for float64 to hold every partial sum exactly.
    """

    depth: int
    gain: Tensor
    layers: tuple[ExactLayer, ExactLayer, ExactLayer]
    n_sides: int

    def __post_init__(self) -> None:
        # Three biases are added to the first layer's sum.
        if 3 * max(layer.largest_sum() for layer in self.layers) >= EXACT_BOUND:
            raise CodecError("the weights leave the range of exact arithmetic", hint="export them again")
        n, width = n_neighbours(self.depth), self.layers[0].weight.shape[0]
        sizes = [tuple(layer.weight.shape) for layer in self.layers]
        if self.gain.shape[1] != n or sizes != [(width, n, 1, 1), (width, width, 1, 1), (1, width, 1, 1)]:
            raise ValueError("its context model is malformed")

    @classmethod
    def of(cls, network: ContextNetwork) -> ExactContext:
        """Convert a trained network."""
        with torch.no_grad():
            gain = torch.round(network.gain.double() * 2**ACTIVATION_BITS).clamp(-_GAIN_BOUND, _GAIN_BOUND)
            bias = torch.cat([network.plane_bias, network.side_bias, network.quality_bias])
            layers = (
                ExactLayer.of(network.first.weight[:, :, None, None], bias),
                ExactLayer.of(network.second.weight[:, :, None, None], network.second.bias[None]),
                ExactLayer.of(network.third.weight[:, :, None, None], network.third.bias[None]),
            )
        return cls(network.rules.depth, gain.to(torch.int16), layers, network.rules.sides)

    def copy_to(self, network: ContextNetwork) -> None:
        """Set a floating-point network's parameters to these, as a training's start."""
        rules = network.rules
        first, second, third = self.layers
        biases = (first.bias * 2.0 ** -(first.shift + ACTIVATION_BITS)).float()
        plane, side, quality = torch.split(biases, [rules.planes, rules.sides, rules.qualities])
        with torch.no_grad():
            network.gain.copy_(self.gain * 2.0**-ACTIVATION_BITS)
            network.plane_bias.copy_(plane)
            network.side_bias.copy_(side)
            network.quality_bias.copy_(quality)
            for layer, linear in ((first, network.first), (second, network.second), (third, network.third)):
                linear.weight.copy_(layer.weight[:, :, 0, 0] * 2.0**-layer.shift)
            network.second.bias.copy_(second.bias[0] * 2.0 ** -(second.shift + ACTIVATION_BITS))
            network.third.bias.copy_(third.bias[0] * 2.0 ** -(third.shift + ACTIVATION_BITS))

    def at(self, quality: int) -> ContextRun:
        """Return the model at one rate point, ready to run."""
        return ContextRun(self, quality)

    def n_values(self) -> int:
        """Count the learned values."""
        return self.gain.numel() + sum(layer.weight.numel() + layer.bias.numel() for layer in self.layers)


class ContextRun:
    """A context model at one rate point: bits' neighbours to probability tables' indices."""

    def __init__(self, model: ExactContext, quality: int) -> None:
        self.depth = model.depth
        first = model.layers[0]
        planes = model.gain.shape[0]
        plane_bias, side_bias, quality_bias = torch.split(
            first.bias.double(), [planes, model.n_sides, len(first.bias) - planes - model.n_sides]
        )
        self._gain = model.gain.double().numpy()
        self._plane_bias = (plane_bias + quality_bias[quality]).numpy()
        self._side_bias = side_bias.numpy()
        self._weights = [layer.weight[:, :, 0, 0].double().numpy().T.copy() for layer in model.layers]
        self._biases = [layer.bias[0].double().numpy() for layer in model.layers]
        self._shifts = [layer.shift for layer in model.layers]

    def index(
        self, neighbours: NDArray[np.int8], plane: NDArray[np.int64], side: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the index of each bit's probability table."""
        x = (neighbours * self._gain[plane]) @ self._weights[0]
        x += self._plane_bias[plane]
        x += self._side_bias[side]
        x = self._rectify(x, 0)
        x = self._rectify(x @ self._weights[1] + self._biases[1], 1)
        logit = (x @ self._weights[2] + self._biases[2])[:, 0]
        steps = np.floor(logit * (_STEPS_PER_UNIT * 2.0 ** -(self._shifts[2] + ACTIVATION_BITS)) + 0.5)
        found: NDArray[np.int64] = np.clip(steps, -_STEPS, _STEPS).astype(np.int64) + _STEPS
        return found

    def index_all(self, volume: NDArray[np.int8], way: Walk, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices of all coded bits of a flat padded volume that is known."""
        found = [
            self.index(
                volume[way.position[start : start + _CHUNK, None] + steps],
                way.plane[start : start + _CHUNK],
                way.side[start : start + _CHUNK],
            )
            for start in range(0, len(way.position), _CHUNK)
        ]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def _rectify(self, x: NDArray[np.float64], layer: int) -> NDArray[np.float64]:
        # Scaling by a power of two, adding a half and flooring are exact: nothing needs more than 53 bits.
        shifted = np.floor(x * 2.0 ** -self._shifts[layer] + 0.5)
        bounded: NDArray[np.float64] = np.clip(shifted, 0, _ACTIVATION_BOUND)
        return bounded


def bit_tables() -> Tables:
    """Return the frequencies of 0 and 1 for every logit that a context model can name, and the coder's escape."""
    logits = np.arange(-_STEPS, _STEPS + 1) / _STEPS_PER_UNIT
    pieces = [quantise(np.array([1.0, math.exp(logit)]) / (1.0 + math.exp(logit)), 0.0) for logit in logits]
    count = len(pieces)
    return Tables(np.concatenate(pieces), np.full(count, 3, dtype=np.int64), np.zeros(count, dtype=np.int64))


N_TABLES = 2 * _STEPS + 1
"""How many probability tables there are."""
