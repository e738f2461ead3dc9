"""Curves rise, in the way that was asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from icm_bench.curves.curve import Curve, Point, measured, rate_accuracy, rising
from icm_bench.error import ResultError, UsageError


def _curve(*points: tuple[float, float | None], codec: str = "vvc") -> Curve:
    return Curve(codec, tuple(Point(37 - 5 * i, bpp, {"map": a}) for i, (bpp, a) in enumerate(points)))


DIP = _curve((0.1, 20.0), (0.2, 25.0), (0.4, 24.0), (0.8, 30.0))


def test_a_rising_curve_is_left_as_it_is() -> None:
    bpp, accuracy = rate_accuracy(_curve((0.1, 20.0), (0.2, 25.0)), "map", "error")
    assert bpp.tolist() == [0.1, 0.2]
    assert accuracy.tolist() == [20.0, 25.0]


def test_points_are_sorted_by_rate() -> None:
    bpp, _ = rate_accuracy(_curve((0.8, 30.0), (0.1, 20.0), (0.4, 25.0)))
    assert bpp.tolist() == [0.1, 0.4, 0.8]


def test_the_front_leaves_out_what_is_beaten() -> None:
    bpp, accuracy = rate_accuracy(DIP)
    assert bpp.tolist() == [0.1, 0.2, 0.8]
    assert accuracy.tolist() == [20.0, 25.0, 30.0]


def test_the_front_keeps_the_cheaper_of_equal_accuracies_and_the_better_of_equal_rates() -> None:
    bpp, accuracy = rate_accuracy(_curve((0.1, 20.0), (0.1, 21.0), (0.3, 21.0), (0.4, 22.0)))
    assert bpp.tolist() == [0.1, 0.4]
    assert accuracy.tolist() == [21.0, 22.0]


def test_the_isotonic_curve_pools_what_dips() -> None:
    bpp, accuracy = rate_accuracy(DIP, monotone="isotonic")
    assert accuracy.tolist() == [20.0, 24.5, 30.0]
    assert bpp == pytest.approx([0.1, math.sqrt(0.2 * 0.4), 0.8])


def test_a_dip_is_refused_by_name_where_it_is_an_error() -> None:
    with pytest.raises(ResultError, match=r"vvc at 27 \(0\.4 bpp, 24\)"):
        rate_accuracy(DIP, monotone="error")


def test_a_dip_among_arrays_is_refused_too() -> None:
    with pytest.raises(ResultError, match="1 of 2 points"):
        rising(np.array([0.1, 0.2]), np.array([2.0, 1.0]), "error")


@pytest.mark.parametrize("accuracy", [None, float("nan"), float("inf")])
def test_a_point_without_the_figure_is_named(accuracy: float | None) -> None:
    with pytest.raises(ResultError, match="vvc at 32: no map"):
        measured(_curve((0.1, 20.0), (0.2, accuracy)), "map")


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(ResultError, match=r"no mAP; it has map"):
        rate_accuracy(DIP, "mAP")


@pytest.mark.parametrize("bpp", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(bpp: float) -> None:
    with pytest.raises(ResultError, match="not above 0"):
        rate_accuracy(_curve((bpp, 20.0)))


def test_an_unknown_policy_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="pareto, error, isotonic"):
        rising(np.array([1.0]), np.array([1.0]), "convex")  # type: ignore[arg-type]  # the point of the test


def test_imported_points_are_named_by_their_place() -> None:
    curve = Curve("paper", (Point(None, 0.1, {}), Point(None, 0.2, {})))
    with pytest.raises(ResultError, match="paper, point 1"):
        measured(curve, "map")


_points = st.lists(
    st.tuples(st.integers(1, 12).map(lambda n: n / 8), st.integers(0, 12).map(float)), min_size=1, max_size=12
)


@given(_points)
@settings(deadline=None)
def test_no_point_beats_the_front_and_every_point_is_beaten_or_on_it(
    points: list[tuple[float, float]],
) -> None:
    bpp, accuracy = rising(np.array([p[0] for p in points]), np.array([p[1] for p in points]), "pareto")
    front = set(zip(bpp.tolist(), accuracy.tolist(), strict=True))
    assert front <= set(points)
    for rate, figure in points:
        assert any(r <= rate and a >= figure for r, a in front)
        assert not any(r >= rate and a <= figure and (r, a) != (rate, figure) for r, a in front)
    assert (np.diff(bpp) > 0).all()
    assert (np.diff(accuracy) > 0).all()


@given(st.lists(st.integers(0, 9).map(float), min_size=1, max_size=12))
@settings(deadline=None)
def test_the_isotonic_curve_is_the_least_squares_one(accuracies: list[float]) -> None:
    bpp, accuracy = rising(np.arange(1.0, len(accuracies) + 1), np.array(accuracies), "isotonic")
    assert accuracy == pytest.approx(np.unique(isotonic_regression(accuracies).x.round(9)))
    assert (np.diff(bpp) > 0).all()


def test_points_that_are_not_defined_in_a_resample_are_left_out() -> None:
    bpp, accuracy = rising(np.array([1.0, 2.0, 3.0]), np.array([1.0, np.nan, 2.0]), "pareto")
    assert bpp.tolist() == [1.0, 3.0]
    assert accuracy.tolist() == [1.0, 2.0]
