"""The rising cubic is the constrained least-squares optimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from icm_bench.curves.rising_cubic import rising_cubic

Floats = NDArray[np.float64]


def _sets() -> tuple[Floats, Floats]:
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(-3, 1, (60, 6)), axis=1)
    y = 30 + 8 * x - 2 * x**2 + rng.normal(0, 3, x.shape)
    y[:15] = 95 + 4 * np.tanh(x[:15]) + rng.normal(0, 2, (15, 6))
    y[15:25] = 3 + 3 * np.tanh(x[15:25]) + rng.normal(0, 2, (10, 6))
    y[25:35] = rng.uniform(0, 100, (10, 6))
    y[35:45] = -np.sort(-rng.uniform(0, 100, (10, 6)), axis=1)
    return x, y


def _optimum(x: Floats, y: Floats) -> Floats:
    """Fit with a general solver, constraints at every point."""
    unit = (x - x[0]) / (x[-1] - x[0])
    powers = unit[:, None] ** np.arange(4)
    constraints = [
        {"type": "ineq", "fun": lambda b: b[1] + 2 * b[2] * unit + 3 * b[3] * unit**2},
        {"type": "ineq", "fun": lambda b: -2 * b[2] - 6 * b[3] * unit},
        {"type": "ineq", "fun": lambda b: b[0]},
        {"type": "ineq", "fun": lambda b: 100 - b.sum()},
    ]
    solve: Any = minimize
    solution = solve(
        lambda b: ((powers @ b - y) ** 2).sum(),
        np.array([y.mean(), 1.0, -1.0, 0.0]),
        jac=lambda b: 2 * powers.T @ (powers @ b - y),
        method="SLSQP",
        constraints=constraints,
        options={"ftol": 1e-13, "maxiter": 1000},
    )
    return np.asarray(powers @ solution.x)


def test_the_fit_equals_a_general_solvers() -> None:
    x, y = _sets()
    fitted = rising_cubic(x, y)
    for index in range(len(x)):
        np.testing.assert_allclose(fitted[index], _optimum(x[index], y[index]), atol=1e-3)


def test_the_fit_rises_flattens_and_stays_within_bounds() -> None:
    x, y = _sets()
    fitted = rising_cubic(x, y)
    slopes = np.diff(fitted, axis=1) / np.diff(x, axis=1)
    assert (slopes >= -1e-6).all()
    assert (np.diff(slopes, axis=1) <= 1e-6 * np.abs(slopes).max()).all()
    assert fitted.min() >= -1e-6
    assert fitted.max() <= 100 + 1e-6


def test_points_on_a_rising_cubic_are_kept() -> None:
    x = np.array([[0.0, 0.5, 1.0, 2.0, 3.0]])
    y = 20 + 12 * x - 2 * x**2 + 0.05 * x**3
    np.testing.assert_allclose(rising_cubic(x, y), y, atol=1e-9)


def test_a_falling_curve_becomes_its_mean() -> None:
    fitted = rising_cubic(np.array([[0.0, 1.0, 2.0, 3.0]]), np.array([[40.0, 30.0, 20.0, 10.0]]))
    assert fitted[0] == pytest.approx([25.0] * 4)
