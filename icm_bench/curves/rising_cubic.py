"""The least-squares cubic that rises and flattens, as MPEG's video coding for machines fits mAP curves."""

from __future__ import annotations

from itertools import combinations
from typing import Final

import numpy as np

from icm_bench.curves.interpolant import Floats, solve_each

_N_COEFFICIENTS: Final = 4
_N_CONSTRAINTS: Final = 5
_TOLERANCE: Final = 1e-9


def rising_cubic(log_rate: Floats, accuracy: Floats, lowest: float = 0.0, highest: float = 100.0) -> Floats:
    """Return the accuracies that the fitted cubics have at the points.

    Each is the cubic in log-rate with the least squared error among those whose slope is not negative and
    whose curvature is not positive at the points, and whose values stay within bounds (Wang et al.,
    Improvements of the BD-rate metrics using monotonic curve-fitting methods, PCS 2024). Curvature is linear
    in log-rate, and slope falls where curvature is not positive, so the constraints bind at the outer points
    only: five in all, and the exact optimum is the best feasible of the few fits that meet some of them with
    equality.

    Args:
        log_rate: Sets x points, four or more, rising along each set.
        accuracy: Sets x points, percent.
        lowest: The least value at the first point.
        highest: The greatest value at the last point.

    Returns:
        Sets x points, percent; NaN where points lie too close together for a cubic to be told.
    """
    start, width = log_rate[:, :1], log_rate[:, -1:] - log_rate[:, :1]
    scale = highest - lowest
    powers = ((log_rate - start) / width)[..., np.newaxis] ** np.arange(_N_COEFFICIENTS)
    target = (accuracy - lowest) / scale
    # Rows of A b >= c over [0, 1]: curvature at both ends, slope at the last, value at the first and the last.
    rows = np.array(
        [[0, 0, -2, 0], [0, 0, -2, -6], [0, 1, 2, 3], [1, 0, 0, 0], [-1, -1, -1, -1]], dtype=np.float64
    )
    bounds = np.array([0.0, 0.0, 0.0, 0.0, -1.0])
    normal = np.einsum("spi,spj->sij", powers, powers)
    moment = np.einsum("spi,sp->si", powers, target)
    coefficients = np.full((len(powers), _N_COEFFICIENTS), np.nan)
    open_ = np.arange(len(powers))
    for active in _active_sets():
        fitted, pull = _fit_with_equalities(normal[open_], moment[open_], rows[active], bounds[active])
        feasible = (fitted @ rows.T >= bounds - _TOLERANCE).all(axis=1)
        optimal = feasible & (pull >= -_TOLERANCE).all(axis=1)
        coefficients[open_[optimal]] = fitted[optimal]
        open_ = open_[~optimal]
        if not open_.size:
            break
    return np.asarray(np.einsum("spi,si->sp", powers, coefficients) * scale + lowest)


def _active_sets() -> list[list[int]]:
    """List the sets of constraints that can hold with equality: no more than there are coefficients."""
    return [
        list(active)
        for n_active in range(_N_COEFFICIENTS + 1)
        for active in combinations(range(_N_CONSTRAINTS), n_active)
    ]


def _fit_with_equalities(
    normal: Floats, moment: Floats, rows: Floats, bounds: Floats
) -> tuple[Floats, Floats]:
    """Solve the least-squares problem of each set with some constraints as equations.

    Returns:
        The coefficients, and the constraints' multipliers: where one is negative, the fit would be better without.
    """
    n_sets, n_rows = len(normal), len(rows)
    size = _N_COEFFICIENTS + n_rows
    system = np.zeros((n_sets, size, size))
    system[:, :_N_COEFFICIENTS, :_N_COEFFICIENTS] = normal
    system[:, :_N_COEFFICIENTS, _N_COEFFICIENTS:] = -rows.T
    system[:, _N_COEFFICIENTS:, :_N_COEFFICIENTS] = rows
    right = np.concatenate([moment, np.broadcast_to(bounds, (n_sets, n_rows))], axis=1)
    solution = solve_each(system, right)
    return solution[:, :_N_COEFFICIENTS], solution[:, _N_COEFFICIENTS:]
