"""Piecewise cubic curves through many sets of points at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Interpolant:
    """One curve a set: cubic between breaks.

    Attributes:
        breaks: Sets x (pieces + 1), strictly rising.
        coefficients: Sets x pieces x 4, of rising powers of the distance from the piece's first break.
    """

    breaks: Floats
    coefficients: Floats

    def at(self, x: Floats) -> Floats:
        """Return each set's value at its own x; of fewer x than sets, of the first sets."""
        piece, distance = self._locate(x)
        c0, c1, c2, c3 = np.moveaxis(self._coefficients_of(piece), -1, 0)
        return np.asarray(c0 + distance * (c1 + distance * (c2 + distance * c3)))

    def integral(self, low: Floats, high: Floats) -> Floats:
        """Return each set's integral between its own limits."""
        return self._integral_to(high) - self._integral_to(low)

    def falls(self, low: Floats, high: Floats) -> NDArray[np.bool_]:
        """Return which sets' curves fall somewhere between their own limits."""
        breaks = self.breaks[: len(low)]
        starts, ends = breaks[:, :-1], breaks[:, 1:]
        first, last = (np.clip(limit[:, np.newaxis], starts, ends) - starts for limit in (low, high))
        _, c1, c2, c3 = np.moveaxis(self.coefficients[: len(low)], -1, 0)
        # A parabola is least at an end, or where its own slope is zero.
        lowest = np.clip(-c2 / np.where(c3 == 0, np.nan, 3 * c3), first, last)
        slopes = [c1 + d * (2 * c2 + d * 3 * c3) for d in (first, last, np.where(c3 == 0, first, lowest))]
        return np.asarray(((np.minimum.reduce(slopes) < 0) & (last > first)).any(axis=1))

    @cached_property
    def _whole(self) -> Floats:
        """The integral from a set's first break to each."""
        whole = np.zeros_like(self.breaks)
        np.cumsum(_antiderivative(self.coefficients, np.diff(self.breaks, axis=1)), axis=1, out=whole[:, 1:])
        return whole

    def _integral_to(self, x: Floats) -> Floats:
        piece, distance = self._locate(x)
        before = self._whole[np.arange(len(x)), piece]
        return np.asarray(before + _antiderivative(self._coefficients_of(piece), distance))

    def _locate(self, x: Floats) -> tuple[NDArray[np.int64], Floats]:
        n_pieces = self.coefficients.shape[1]
        # Of more sets than arguments, the first are meant.
        breaks = self.breaks[: len(x)]
        piece = np.minimum((breaks[:, 1:] <= x[:, np.newaxis]).sum(axis=1), n_pieces - 1)
        return piece, x - breaks[np.arange(len(x)), piece]

    def _coefficients_of(self, piece: NDArray[np.int64]) -> Floats:
        return np.asarray(self.coefficients[np.arange(len(piece)), piece])


def _antiderivative(coefficients: Floats, distance: Floats) -> Floats:
    c0, c1, c2, c3 = np.moveaxis(coefficients, -1, 0)
    return np.asarray(distance * (c0 + distance * (c1 / 2 + distance * (c2 / 3 + distance * c3 / 4))))


Maker: TypeAlias = Callable[[Floats, Floats], Interpolant]
"""Makes an interpolant of x and y, both sets x points, x strictly rising along each set."""


def through(x: Floats, y: Floats, kept: NDArray[np.bool_], make: Maker, n_least: int) -> Interpolant:
    """Return the interpolants of sets that keep points of their own, as one.

    ``x``, ``y`` and ``kept`` are sets x points; x rises strictly along those that a set keeps. Sets that keep fewer
    than ``n_least`` have NaN everywhere.
    """
    n_points = kept.sum(axis=1)
    n_breaks = max(x.shape[1], 2)
    breaks = np.full((len(x), n_breaks), np.nan)
    coefficients = np.full((len(x), n_breaks - 1, 4), np.nan)
    for n in np.unique(n_points[n_points >= n_least]).tolist():
        alike = np.flatnonzero(n_points == n)
        own_x, own_y = (values[alike][kept[alike]].reshape(-1, n) for values in (x, y))
        made = make(own_x, own_y)
        n_pieces = made.coefficients.shape[1]
        breaks[alike] = made.breaks[:, -1:]
        breaks[alike, : n_pieces + 1] = made.breaks
        # Pieces of no width at the end hold the last value, so that all sets have as many.
        coefficients[alike] = 0.0
        coefficients[alike, :, 0] = made.at(made.breaks[:, -1])[:, np.newaxis]
        coefficients[alike, :n_pieces] = made.coefficients
    return Interpolant(breaks, coefficients)


def linear(x: Floats, y: Floats) -> Interpolant:
    """Join two or more points by straight lines."""
    slopes = np.diff(y, axis=1) / np.diff(x, axis=1)
    zeros = np.zeros_like(slopes)
    return Interpolant(x, np.stack([y[:, :-1], slopes, zeros, zeros], axis=-1))


def pchip(x: Floats, y: Floats) -> Interpolant:
    """Join two or more points by cubics that rise and fall only as the points do.

    Slopes by Fritsch and Butland (SIAM J. Sci. Stat. Comput. 5, 1984); at the ends the one-sided three-point
    estimate, kept from overshooting (Moler, Numerical Computing with MATLAB, 3.6).
    """
    if x.shape[1] == 2:
        return linear(x, y)
    widths = np.diff(x, axis=1)
    slopes = np.diff(y, axis=1) / widths
    left, right = slopes[:, :-1], slopes[:, 1:]
    left_weight = 2 * widths[:, 1:] + widths[:, :-1]
    right_weight = widths[:, 1:] + 2 * widths[:, :-1]
    agree = left * right > 0
    safe_left, safe_right = np.where(agree, left, 1.0), np.where(agree, right, 1.0)
    mean = (left_weight + right_weight) / (left_weight / safe_left + right_weight / safe_right)
    inner = np.where(agree, mean, 0.0)
    first = _end_slope(widths[:, 0], widths[:, 1], slopes[:, 0], slopes[:, 1])
    last = _end_slope(widths[:, -1], widths[:, -2], slopes[:, -1], slopes[:, -2])
    return _hermite(x, y, np.concatenate([first[:, np.newaxis], inner, last[:, np.newaxis]], axis=1))


def _end_slope(width: Floats, next_width: Floats, slope: Floats, next_slope: Floats) -> Floats:
    estimate = ((2 * width + next_width) * slope - width * next_slope) / (width + next_width)
    turned = np.sign(estimate) != np.sign(slope)
    steep = (np.sign(slope) != np.sign(next_slope)) & (np.abs(estimate) > 3 * np.abs(slope))
    return np.where(turned, 0.0, np.where(steep, 3 * slope, estimate))


def akima(x: Floats, y: Floats) -> Interpolant:
    """Join two or more points by Akima's cubics (J. ACM 17, 1970), which follow a bend without ringing."""
    if x.shape[1] == 2:
        return linear(x, y)
    slopes = np.diff(y, axis=1) / np.diff(x, axis=1)
    before = 2 * slopes[:, 0] - slopes[:, 1]
    after = 2 * slopes[:, -1] - slopes[:, -2]
    padded = np.column_stack([2 * before - slopes[:, 0], before, slopes, after, 2 * after - slopes[:, -1]])
    bends = np.abs(np.diff(padded, axis=1))
    left_bend, right_bend = bends[:, :-2], bends[:, 2:]
    total = left_bend + right_bend
    straight = total <= 1e-9 * total.max(axis=1, keepdims=True)
    share = left_bend / np.where(straight, 1.0, total)
    bent = padded[:, 1:-2] + share * (padded[:, 2:-1] - padded[:, 1:-2])
    return _hermite(x, y, np.where(straight, (padded[:, 3:] + padded[:, :-3]) / 2, bent))


def _hermite(x: Floats, y: Floats, slopes: Floats) -> Interpolant:
    widths = np.diff(x, axis=1)
    secant = np.diff(y, axis=1) / widths
    excess = (slopes[:, :-1] + slopes[:, 1:] - 2 * secant) / widths
    c2 = (secant - slopes[:, :-1]) / widths - excess
    return Interpolant(x, np.stack([y[:, :-1], slopes[:, :-1], c2, excess / widths], axis=-1))


def cubic_spline(x: Floats, y: Floats) -> Interpolant:
    """Join four or more points by cubics with continuous curvature, the outer two on each side being one cubic."""
    n_sets, n_points = x.shape
    widths = np.diff(x, axis=1)
    secant = np.diff(y, axis=1) / widths
    system = np.zeros((n_sets, n_points, n_points))
    right = np.zeros((n_sets, n_points))
    for k in range(1, n_points - 1):
        system[:, k, k - 1] = widths[:, k]
        system[:, k, k] = 2 * (widths[:, k - 1] + widths[:, k])
        system[:, k, k + 1] = widths[:, k - 1]
        right[:, k] = 3 * (widths[:, k] * secant[:, k - 1] + widths[:, k - 1] * secant[:, k])
    for row, near, far, step in ((0, 0, 1, 1), (n_points - 1, -1, -2, -1)):
        h, g = widths[:, near], widths[:, far]
        system[:, row, row] = g
        system[:, row, row + step] = h + g
        right[:, row] = ((h + 2 * (h + g)) * g * secant[:, near] + h**2 * secant[:, far]) / (h + g)
    return _hermite(x, y, solve_each(system, right))


def cubic(x: Floats, y: Floats) -> Interpolant:
    """Fit one cubic to four or more points by least squares: Bjontegaard's own (VCEG-M33), through four points."""
    start, width = x[:, :1], x[:, -1:] - x[:, :1]
    powers = ((x - start) / width)[..., np.newaxis] ** np.arange(4)
    q, r = np.linalg.qr(powers)
    fitted = solve_each(r, np.einsum("spk,sp->sk", q, y))
    coefficients = fitted / width ** np.arange(4)
    return Interpolant(x[:, [0, -1]], coefficients[:, np.newaxis, :])


def solve_each(systems: Floats, right: Floats) -> Floats:
    """Solve many linear systems: sets x n x n, sets x n; NaN where a system is singular."""
    try:
        return np.asarray(np.linalg.solve(systems, right[..., np.newaxis])[..., 0])
    except np.linalg.LinAlgError:
        if len(systems) == 1:
            return np.full_like(right, np.nan)
        ones = (slice(index, index + 1) for index in range(len(systems)))
        return np.concatenate([solve_each(systems[one], right[one]) for one in ones])
