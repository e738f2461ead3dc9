"""Piecewise cubic curves through many sets of points at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
        """Return each set's value at its own x."""
        piece, distance = self._locate(x)
        c0, c1, c2, c3 = np.moveaxis(self._coefficients_of(piece), -1, 0)
        return np.asarray(c0 + distance * (c1 + distance * (c2 + distance * c3)))

    def integral(self, low: Floats, high: Floats) -> Floats:
        """Return each set's integral between its own limits."""
        return self._integral_to(high) - self._integral_to(low)

    def _integral_to(self, x: Floats) -> Floats:
        widths = np.diff(self.breaks, axis=1)
        whole = np.zeros_like(self.breaks)
        np.cumsum(_antiderivative(self.coefficients, widths), axis=1, out=whole[:, 1:])
        piece, distance = self._locate(x)
        before = np.take_along_axis(whole, piece[:, np.newaxis], axis=1)[:, 0]
        return np.asarray(before + _antiderivative(self._coefficients_of(piece), distance))

    def _locate(self, x: Floats) -> tuple[NDArray[np.int64], Floats]:
        n_pieces = self.coefficients.shape[1]
        piece = np.minimum((self.breaks[:, 1:] <= x[:, np.newaxis]).sum(axis=1), n_pieces - 1)
        return piece, x - np.take_along_axis(self.breaks, piece[:, np.newaxis], axis=1)[:, 0]

    def _coefficients_of(self, piece: NDArray[np.int64]) -> Floats:
        return np.take_along_axis(self.coefficients, piece[:, np.newaxis, np.newaxis], axis=1)[:, 0]


def _antiderivative(coefficients: Floats, distance: Floats) -> Floats:
    c0, c1, c2, c3 = np.moveaxis(coefficients, -1, 0)
    return np.asarray(distance * (c0 + distance * (c1 / 2 + distance * (c2 / 3 + distance * c3 / 4))))


Maker: TypeAlias = Callable[[Floats, Floats], Interpolant]
"""Makes an interpolant of x and y, both sets x points, x strictly rising along each set."""


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
        return np.concatenate(
            [
                solve_each(systems[index : index + 1], right[index : index + 1])
                for index in range(len(systems))
            ]
        )
