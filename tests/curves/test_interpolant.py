"""Interpolants equal SciPy's, many sets at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator, CubicSpline, PchipInterpolator, make_interp_spline

from icm_bench.curves import interpolant
from icm_bench.curves.interpolant import Maker

Floats = NDArray[np.float64]


def _line(x: Floats, y: Floats) -> Any:
    return make_interp_spline(x, y, k=1)


PAIRS = [
    (interpolant.linear, _line),
    (interpolant.pchip, PchipInterpolator),
    (interpolant.akima, Akima1DInterpolator),
    (interpolant.cubic_spline, CubicSpline),
]


def _sets(n_points: int, shape: str) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(n_points)
    x = np.cumsum(rng.uniform(0.05, 3, (40, n_points)), axis=1)
    y = {
        "rising": np.cumsum(rng.uniform(0.01, 2, x.shape), axis=1),
        "wild": rng.normal(0, 5, x.shape),
        "steps": np.cumsum(rng.integers(0, 2, x.shape), axis=1).astype(np.float64),
        "flat": np.full(x.shape, 3.0),
        "straight": 2 * x,
    }[shape]
    return x, y


CASES = [
    (make, reference, n_points)
    for make, reference in PAIRS
    for n_points in (2, 3, 4, 5, 9)
    if make is not interpolant.cubic_spline or n_points >= 4
]


@pytest.mark.parametrize(("make", "reference", "n_points"), CASES)
@pytest.mark.parametrize("shape", ["rising", "wild", "steps", "flat", "straight"])
def test_values_and_integrals_equal_scipys(
    make: Maker, reference: Callable[[Floats, Floats], Any], n_points: int, shape: str
) -> None:
    x, y = _sets(n_points, shape)
    if make is interpolant.akima and n_points == 2:
        reference = _line
    curves = make(x, y)
    for share in (0.0, 0.13, 0.5, 0.77, 1.0):
        at = np.minimum(x[:, 0] + share * (x[:, -1] - x[:, 0]), x[:, -1])
        expected = [float(reference(a, b)(c)) for a, b, c in zip(x, y, at, strict=True)]
        np.testing.assert_allclose(curves.at(at), expected, rtol=1e-9, atol=1e-9)
    low, high = 0.9 * x[:, 0] + 0.1 * x[:, -1], 0.3 * x[:, 0] + 0.7 * x[:, -1]
    areas = [float(reference(a, b).integrate(c, d)) for a, b, c, d in zip(x, y, low, high, strict=True)]
    np.testing.assert_allclose(curves.integral(low, high), areas, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_points", [4, 5, 8])
def test_the_cubic_is_the_least_squares_one(n_points: int) -> None:
    x, y = _sets(n_points, "wild")
    at = x.mean(axis=1)
    expected = [np.polyval(np.polyfit(a, b, 3), c) for a, b, c in zip(x, y, at, strict=True)]
    np.testing.assert_allclose(interpolant.cubic(x, y).at(at), expected, rtol=1e-7)


def test_pchip_never_overshoots() -> None:
    x, y = _sets(9, "steps")
    curves = interpolant.pchip(x, y)
    for share in np.linspace(0, 1, 50):
        values = curves.at(x[:, 0] + share * (x[:, -1] - x[:, 0]))
        assert (values >= y.min(axis=1) - 1e-12).all()
        assert (values <= y.max(axis=1) + 1e-12).all()
