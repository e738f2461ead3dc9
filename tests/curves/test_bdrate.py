"""Bjontegaard deltas agree with published ones, and say why where there is none."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import bjontegaard
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icm_bench.curves.bdrate import (
    bd_accuracy,
    bd_rate,
    rate_at,
    replicated_bd_accuracy,
    replicated_bd_rate,
    replicated_rate_at,
)
from icm_bench.curves.curve import Curve, Monotone, Point
from icm_bench.curves.estimate import Estimate, Method, Settings
from icm_bench.curves.prepared import Prepared
from icm_bench.curves.replicates import Replicates
from icm_bench.error import ResultError, UsageError

METHODS: tuple[Method, ...] = get_args(Method)
Columns = tuple[list[float], list[float]]

ANCHOR: Columns = ([0.1, 0.2, 0.4, 0.8], [20.0, 26.0, 31.0, 34.0])
TEST: Columns = ([0.09, 0.19, 0.37, 0.75], [20.5, 26.5, 31.2, 34.1])


@pytest.fixture(scope="module")
def published(shared_data: Callable[[str], Path]) -> Path:
    """The folder of published curves and their BD-rates."""
    return shared_data("conformance/bdrate")


@pytest.fixture(scope="module")
def expected(published: Path) -> Any:
    return json.loads((published / "expected.json").read_text())


def _agrees(anchor: Columns, test: Columns, figures: dict[Method, float]) -> None:
    for method, figure in figures.items():
        found = bd_rate(anchor, test, method=method)
        assert found.value == pytest.approx(figure, abs=1e-5), method


@pytest.mark.parametrize("name", ["example1", "example2"])
def test_published_examples(expected: Any, name: str) -> None:
    example = expected["examples"][name]
    anchor, test = ((example[key]["rate"], example[key]["metric"]) for key in ("anchor", "test"))
    _agrees(anchor, test, example["bd_rate_percent"])


def _kodak(published: Path, name: str) -> Columns:
    results = json.loads((published / "kodak" / f"{name}.json").read_text())["results"]
    return results["bpp"], results["psnr-rgb"] if "psnr-rgb" in results else results["psnr"]


def test_published_curves_on_kodak(published: Path, expected: Any) -> None:
    for name, figures in expected["kodak"]["bd_rate_percent"].items():
        _agrees(_kodak(published, "vtm"), _kodak(published, name), figures)


def test_published_curves_of_detection_and_straight_lines_between_their_points(expected: Any) -> None:
    detection = expected["openimages_detection"]
    anchor = (detection["anchor"]["bpp"], detection["anchor"]["map"])
    for test in detection["tests"].values():
        _agrees(anchor, (test["bpp"], test["map"]), test["bd_rate_percent"])
    test = detection["tests"]["factorized"]
    found = bd_rate(anchor, (test["bpp"], test["map"]), method="linear")
    assert found.value == pytest.approx(25.9, abs=0.05)
    assert found.is_low_overlap


def _random_curve(rng: np.random.Generator) -> Columns:
    """Draw a rising curve whose points are not so close that a cubic's coefficients lose their digits."""
    n_points = int(rng.integers(4, 9))
    rates = np.exp(rng.uniform(-3, -2) + np.cumsum(rng.uniform(0.2, 0.8, n_points)))
    accuracies = rng.uniform(15, 30) + np.cumsum(rng.uniform(0.5, 5, n_points))
    return rates.tolist(), accuracies.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pchip", "akima", "cubic"])
def test_random_curves_agree_with_another_implementation(method: Method) -> None:
    rng = np.random.default_rng(2024)
    n_compared = 0
    while n_compared < 1000:
        anchor, test = _random_curve(rng), _random_curve(rng)
        ours = bd_rate(anchor, test, method=method)
        if ours.value is None:
            assert ours.overlap == 0 or "turns back" in (ours.reason or "")
            continue
        n_compared += 1
        options: Any = {"method": method, "require_matching_points": False, "min_overlap": 0}
        theirs = float(bjontegaard.bd_rate(*anchor, *test, **options))
        assert ours.value == pytest.approx(theirs, abs=1e-6, rel=1e-8)
        accuracy = bd_accuracy(anchor, test, method=method)
        if accuracy.value is not None:
            theirs = float(bjontegaard.bd_psnr(*anchor, *test, **options))
            assert accuracy.value == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_curve_against_itself_is_exactly_zero_and_half_the_bits_are_minus_fifty_percent(
    method: Method,
) -> None:
    found = bd_rate(ANCHOR, ANCHOR, method=method)
    assert found.value == 0
    assert found.overlap == 1
    assert bd_accuracy(ANCHOR, ANCHOR, method=method).value == 0
    halved = ([rate / 2 for rate in ANCHOR[0]], ANCHOR[1])
    assert bd_rate(ANCHOR, halved, method=method).value == pytest.approx(-50)
    assert bd_rate(halved, ANCHOR, method=method).value == pytest.approx(100)


def test_more_accuracy_at_the_same_rate_is_positive() -> None:
    better = (ANCHOR[0], [figure + 2 for figure in ANCHOR[1]])
    found = bd_accuracy(ANCHOR, better)
    assert found.value == pytest.approx(2)
    assert found.overlap == 1
    rate = bd_rate(ANCHOR, better)
    assert rate.value is not None
    assert rate.value < 0


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_points_does_not_matter(method: Method) -> None:
    backwards = (ANCHOR[0][::-1], ANCHOR[1][::-1])
    shuffled = ([TEST[0][i] for i in (2, 0, 3, 1)], [TEST[1][i] for i in (2, 0, 3, 1)])
    assert bd_rate(backwards, shuffled, method=method) == bd_rate(ANCHOR, TEST, method=method)


def test_no_overlap_is_a_reason() -> None:
    high = (ANCHOR[0], [figure + 50 for figure in ANCHOR[1]])
    found = bd_rate(ANCHOR, high)
    assert found.value is None
    assert found.overlap == 0
    assert found.reason == "no overlap in map: anchor has 20 to 34, test has 70 to 84"
    assert found.is_low_overlap
    assert bd_accuracy(ANCHOR, high).value == pytest.approx(50)
    above = (ANCHOR[0], [figure + 14 for figure in ANCHOR[1]])  # which touches it, and shares nothing
    assert bd_rate(ANCHOR, above).value is None


def test_no_shared_rates_are_a_reason() -> None:
    dear = ([rate * 100 for rate in ANCHOR[0]], ANCHOR[1])
    found = bd_accuracy(ANCHOR, dear)
    assert found.value is None
    assert found.reason == "no overlap in bpp: anchor has 0.1 to 0.8, test has 10 to 80"
    assert bd_rate(ANCHOR, dear).value == pytest.approx(9900)


def test_the_overlap_is_that_of_both_ranges() -> None:
    found = bd_rate(([0.1, 1.0], [20.0, 40.0]), ([0.1, 1.0], [30.0, 50.0]))
    assert found.overlap == pytest.approx(10 / 30)
    assert found.is_low_overlap
    assert not bd_rate(ANCHOR, TEST).is_low_overlap


@pytest.mark.parametrize(
    ("method", "n_points"), [("pchip", 2), ("akima", 2), ("linear", 2), ("cubic", 4), ("cubic-spline", 4)]
)
def test_too_few_points_are_a_reason(method: Method, n_points: int) -> None:
    few: Columns = (ANCHOR[0][: n_points - 1], ANCHOR[1][: n_points - 1])
    found = bd_rate(ANCHOR, few, method=method)
    assert found.value is None
    assert found.reason is not None
    assert found.reason.startswith(f"test has {n_points - 1} rising point")
    assert bd_rate(ANCHOR, (ANCHOR[0][:n_points], ANCHOR[1][:n_points]), method=method).value is not None
    assert bd_rate(ANCHOR, ([], []), method=method).value is None


def test_too_few_points_to_fit_are_a_reason() -> None:
    found = bd_rate(ANCHOR, ([0.1, 0.1, 0.2, 0.4], [20.0, 21.0, 22.0, 23.0]), method="monotone-cubic")
    assert found.reason == "test has fewer than 4 rates, which monotone-cubic needs"


def _has_a_value_or_a_reason(found: Estimate) -> None:
    assert (found.value is None) != (found.reason is None)
    assert found.value is None or np.isfinite(found.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("monotone", ["pareto", "isotonic"])
@pytest.mark.parametrize(
    "curve",
    [
        ([0.1, 0.2, 0.4, 0.8, 1.6], [20.0, 26.0, 25.0, 31.0, 33.0]),
        ([0.1, 0.2, 0.4, 0.8, 1.6], [20.0, 26.0, 31.0, 33.0, 32.9]),
        ([0.1, 0.2, 0.4, 0.8, 1.6], [20.0, 26.0, 31.0, 31.0, 31.0]),
        ([0.1, 0.2, 0.2, 0.8, 1.6], [20.0, 26.0, 27.0, 31.0, 33.0]),
        ([0.1, 0.2, 0.4, 0.8, 1.6], [20.0, 20.0, 20.0, 20.0, 20.0]),
        ([0.1, 0.2, 0.4, 0.8, 1.6], [30.0, 28.0, 26.0, 24.0, 22.0]),
        ([0.1, 0.1, 0.1, 0.1, 0.1], [20.0, 28.0, 26.0, 24.0, 22.0]),
        ([0.1, 0.10000001, 0.4, 0.8, 1.6], [20.0, 26.0, 26.0000001, 30.0, 33.0]),
    ],
)
def test_nasty_curves_give_a_value_or_a_reason(method: Method, monotone: Monotone, curve: Columns) -> None:
    for anchor, test in ((ANCHOR, curve), (curve, ANCHOR), (curve, curve)):
        _has_a_value_or_a_reason(bd_rate(anchor, test, method=method, monotone=monotone))
        _has_a_value_or_a_reason(bd_accuracy(anchor, test, method=method, monotone=monotone))


_near = st.sampled_from(
    [20.0, 20.0 + 4e-15, 20.0 + 1e-12, 20.0 + 1e-9, 5e-324, 1e-300, 0.0, 100.0, 100.0 - 2e-14]
)
_rates = st.floats(0.01, 4) | st.sampled_from([0.1, 0.1 + 2e-17, 0.1 + 1e-15, 0.1 + 1e-12, 1e-300, 1e300])


def _curves_of(
    rates: st.SearchStrategy[float], accuracies: st.SearchStrategy[float]
) -> st.SearchStrategy[Columns]:
    points = st.lists(st.tuples(rates, accuracies), min_size=0, max_size=8)
    return points.map(lambda drawn: ([point[0] for point in drawn], [point[1] for point in drawn]))


_any_curves = _curves_of(st.floats(0.01, 4) | _rates, st.floats(0, 100) | _near)
_curves = _curves_of(st.floats(0.01, 4), st.floats(0, 100) | _near)


@given(_any_curves, _any_curves, st.sampled_from(METHODS), st.sampled_from(["pareto", "isotonic"]))
@settings(deadline=None, max_examples=200, derandomize=True)
def test_any_curves_give_a_finite_value_or_a_reason(
    anchor: Columns, test: Columns, method: Method, monotone: Monotone
) -> None:
    found = bd_rate(anchor, test, method=method, monotone=monotone)
    _has_a_value_or_a_reason(found)
    assert found.overlap is None or 0 <= found.overlap <= 1
    _has_a_value_or_a_reason(bd_accuracy(anchor, test, method=method, monotone=monotone))
    _has_a_value_or_a_reason(rate_at(anchor, 20.0, method=method, monotone=monotone))


@pytest.mark.parametrize("method", ["pchip", "akima", "cubic", "cubic-spline"])
@given(_curves, _curves)
@settings(deadline=None, max_examples=200, derandomize=True)
def test_swapping_the_curves_inverts_the_ratio(method: Method, anchor: Columns, test: Columns) -> None:
    there, back = bd_rate(anchor, test, method=method).value, bd_rate(test, anchor, method=method).value
    assert (there is None) == (back is None)
    if there is not None and back is not None:
        assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1)


def test_a_dip_is_an_error_where_that_is_asked_for() -> None:
    dip = ([0.1, 0.2, 0.4, 0.8], [20.0, 26.0, 25.0, 31.0])
    with pytest.raises(ResultError, match="test, point 3"):
        bd_rate(ANCHOR, dip, monotone="error")


def test_an_undefined_value_is_a_reason_and_an_unknown_one_an_error() -> None:
    curve = Curve("vvc", (Point(37, 0.1, {"map_small": None}), Point(32, 0.2, {"map_small": 1.0})))
    found = bd_rate(curve, curve, metric="map_small")
    assert found.reason == "map_small is not defined for vvc at 37, vvc at 37"
    assert rate_at(curve, 1.0, metric="map_small").reason is not None
    assert bd_accuracy(curve, curve, metric="map_small").reason is not None
    with pytest.raises(ResultError, match="no map_smal"):
        bd_rate(curve, curve, metric="map_smal")


def test_an_unknown_method_lists_the_known_ones() -> None:
    method: Any = "spline"
    with pytest.raises(UsageError, match="cubic-spline"):
        bd_rate(ANCHOR, TEST, method=method)


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(UsageError, match="4 rates and 3 accuracies"):
        bd_rate((ANCHOR[0], ANCHOR[1][:3]), TEST)


@pytest.mark.parametrize("method", METHODS)
def test_the_rate_at_a_points_accuracy_is_its_rate(method: Method) -> None:
    exact = method not in ("cubic", "monotone-cubic")
    found = rate_at(ANCHOR, 26.0, method=method)
    assert found.value == pytest.approx(0.2, rel=1e-9 if exact else 0.2)


def test_a_rate_is_not_extrapolated() -> None:
    assert rate_at(ANCHOR, 34.5).reason == "curve reaches 34 map, not 34.5"
    assert rate_at(ANCHOR, 19.0).reason == "curve starts at 20 map, above 19"
    assert rate_at(ANCHOR, 34.0).value == pytest.approx(0.8)
    assert rate_at(ANCHOR, 20.0).value == pytest.approx(0.1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("monotone", ["pareto", "isotonic"])
def test_many_replicates_at_once_equal_each_alone(method: Method, monotone: Monotone) -> None:
    rng = np.random.default_rng(5)
    replicates = []
    for shift in (0.0, 1.0):
        bpp = np.array([0.1, 0.2, 0.4, 0.7, 1.1])[:, np.newaxis] * rng.uniform(0.9, 1.1, (5, 40))
        accuracy = 30 + shift + 6 * np.log(bpp) - np.log(bpp) ** 2 + rng.normal(0, 1.5, bpp.shape)
        replicates.append(Replicates(bpp, {"map": accuracy}))
    replicates[1].metrics["map"][:, 7] += 90
    options = Settings(method=method, monotone=monotone)
    first, second = (Prepared(ANCHOR, options, each) for each in replicates)
    rates, accuracies = replicated_bd_rate(first, second), replicated_bd_accuracy(first, second)
    reached = replicated_rate_at(first, 28.0)
    for index in range(40):
        anchor, test = (
            (each.bpp[:, index].tolist(), each.metrics["map"][:, index].tolist()) for each in replicates
        )
        for found, alone in (
            (rates, bd_rate(anchor, test, method=method, monotone=monotone)),
            (accuracies, bd_accuracy(anchor, test, method=method, monotone=monotone)),
            (reached, rate_at(anchor, 28.0, method=method, monotone=monotone)),
        ):
            assert found[index] == pytest.approx(np.nan if alone.value is None else alone.value, nan_ok=True)
    if method != "monotone-cubic":
        assert np.isnan(rates[7])


LEVEL: Columns = ([0.1, 0.2, 0.4, 0.8, 1.6], [21.0, 27.0, 31.0, 35.0, 38.0])


@pytest.mark.parametrize("method", ["akima", "cubic", "cubic-spline"])
def test_a_curve_that_overshoots_between_its_points_gives_a_reason_in_both_directions(method: Method) -> None:
    near: Columns = ([0.1, 0.2, 0.4, 0.8], [20.0, 33.0, 33.01, 40.0])
    for anchor, test in ((LEVEL, near), (near, LEVEL)):
        found = bd_rate(anchor, test, method=method)
        assert found.value is None
        assert found.reason is not None
        assert found.reason.startswith(f"the {method} curve turns back between its points")
        assert found.overlap == pytest.approx(17 / 20)
        assert bd_rate(anchor, test, method="pchip").value is not None
    reached = rate_at(near, 36.0, method=method)
    assert reached.value is None or 0.2 < reached.value < 0.8


def test_a_curve_that_turns_back_a_little_keeps_its_value() -> None:
    found = bd_rate(ANCHOR, TEST, method="cubic")
    assert found.value == pytest.approx(bd_rate(ANCHOR, TEST, method="linear").value, abs=2)


def test_no_warning_reaches_the_caller() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steep = ([1e-300, 1e-200, 1e-100, 1e300], [1.0, 2.0, 3.0, 4.0])
        assert isinstance(bd_rate(ANCHOR, steep), Estimate)
        found = bd_rate(([1e-300, 1e-299], [1.0, 2.0]), ([1e300, 1e301], [1.0, 2.0]))
    assert found.value is None
    assert found.reason == "the pchip curve runs out of all bounds"
