"""Intervals hold what they promise."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pytest

from icm_bench.curves.bdrate import (
    bd_accuracy,
    bd_rate,
    prepared_bd_accuracy,
    prepared_bd_rate,
    prepared_rate_at,
    rate_at,
)
from icm_bench.curves.curve import Curve, Point
from icm_bench.curves.estimate import Estimate, Options, Settings
from icm_bench.curves.interval import interval, with_interval
from icm_bench.curves.prepared import Prepared
from icm_bench.curves.replicates import Replicates
from icm_bench.error import ResultError, UsageError

CURVE = [0.1, 0.2, 0.4], [20.0, 25.0, 28.0]


def test_the_interval_is_that_of_the_percentiles() -> None:
    assert interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert interval(np.arange(1001.0), 0.5) == pytest.approx((250.0, 750.0))


def test_undefined_values_are_left_out() -> None:
    assert interval(np.array([np.nan, 3.0, np.nan])) == (3.0, 3.0)
    assert interval(np.array([np.nan])) == (None, None)
    assert interval(np.zeros(0)) == (None, None)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(UsageError, match="level"):
        interval(np.arange(3.0), level)


def _replicates(shift: float, n: int = 1000, seed: int = 0) -> Replicates:
    """Make up a codec whose rate and accuracy move with the images, as those of any other codec do."""
    rng = np.random.default_rng(0)
    hardness = rng.normal(0, 1, n)
    own = np.random.default_rng(seed + 1).normal(0, 0.05, (5, n))
    bpp = np.array([0.1, 0.2, 0.4, 0.7, 1.1])[:, np.newaxis] * np.exp(0.05 * hardness)
    return Replicates(bpp, {"map": 30 + shift + 6 * np.log(bpp) - np.log(bpp) ** 2 - hardness + own})


def _prepared(replicates: Replicates, **options: Unpack[Options]) -> Prepared:
    """Return the curve of the replicates' means."""
    columns = (values.mean(axis=1).tolist() for values in (replicates.bpp, replicates.metrics["map"]))
    bpp, accuracy = columns
    settings = Settings(**options)
    name = settings.metric
    points = tuple(Point(None, rate, {name: value}) for rate, value in zip(bpp, accuracy, strict=True))
    return Prepared(Curve("any", points), settings, replicates)


def _width(found: Estimate) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def test_images_that_are_hard_for_both_codecs_do_not_widen_the_interval() -> None:
    anchor, test = _replicates(0.0), _replicates(1.0, seed=1)
    paired = prepared_bd_rate(_prepared(anchor), _prepared(test))
    unpaired = Replicates(test.bpp[:, ::-1], {"map": test.metrics["map"][:, ::-1]})
    apart = prepared_bd_rate(_prepared(anchor), _prepared(unpaired))
    assert _width(paired) < 0.2 * _width(apart)
    assert (paired.n_resamples, paired.n_without, paired.reason) == (1000, 0, None)


def test_replicates_equal_to_the_data_give_an_interval_of_no_width() -> None:
    columns = CURVE, ([0.09, 0.19, 0.41], [21.0, 25.0, 29.0])
    anchor, test = (
        Prepared(
            (bpp, a),
            Settings(),
            Replicates(*(np.array(bpp)[:, None].repeat(3, 1), {"map": np.array(a)[:, None].repeat(3, 1)})),
        )
        for bpp, a in columns
    )
    found = prepared_bd_rate(anchor, test)
    assert found.value == bd_rate(*columns).value
    assert [found.low, found.high] == pytest.approx([found.value, found.value])
    assert prepared_bd_accuracy(anchor, test).low == pytest.approx(bd_accuracy(*columns).value)
    assert prepared_rate_at(anchor, 24.0).high == pytest.approx(rate_at(columns[0], 24.0).value)


def test_replicates_without_overlap_are_counted() -> None:
    anchor, test = _replicates(0.0), _replicates(1.0)
    curve = _prepared(test).curve
    test.metrics["map"][:, :30] += 100
    found = prepared_bd_rate(_prepared(anchor), Prepared(curve, Settings(), test))
    assert found.n_without == 30
    assert found.low is not None
    test.metrics["map"][:, :51] += 100
    found = prepared_bd_rate(_prepared(anchor), Prepared(curve, Settings(), test))
    assert (found.low, found.high, found.n_without) == (None, None, 51)
    assert found.reason == "no interval: 51 of 1000 replicates have no value"


def test_an_accuracy_can_be_each_replicates_own() -> None:
    replicates = _replicates(0.0)
    own = replicates.metrics["map"][2]
    found = prepared_rate_at(_prepared(replicates), float(own.mean()), own)
    assert [found.low, found.high] == pytest.approx(np.quantile(replicates.bpp[2], [0.025, 0.975]))


def test_an_estimate_takes_its_interval() -> None:
    estimate = Estimate(value=-10.0, overlap=0.9, method="pchip")
    sure = with_interval(estimate, np.array([*np.full(499, -11.0), *np.full(499, -9.0), np.nan, np.nan]))
    assert sure == Estimate(
        value=-10.0, low=-11.0, high=-9.0, overlap=0.9, method="pchip", n_resamples=1000, n_without=2
    )


def test_an_interval_that_does_not_hold_its_estimate_says_so() -> None:
    estimate = Estimate(value=-10.0, overlap=0.9, method="pchip")
    found = with_interval(estimate, np.full(1000, -11.0))
    assert (found.low, found.high) == (-11.0, -11.0)
    assert found.reason == "the interval does not hold -10: check the replicates"


def test_an_estimate_without_a_value_takes_no_interval() -> None:
    estimate = Estimate(value=None, overlap=0.0, method="pchip", reason="no overlap")
    counted = with_interval(estimate, np.array([-12.0, -8.0, np.nan]))
    assert counted == Estimate(
        value=None, overlap=0.0, method="pchip", reason="no overlap", n_resamples=3, n_without=1
    )


def test_replicates_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ResultError, match="choose among map"):
        _prepared(_replicates(0.0), metric="map50")
    with pytest.raises(UsageError, match="dip"):
        _prepared(_replicates(0.0), monotone="error")


def test_of_unequal_numbers_of_replicates_the_common_ones_are_compared() -> None:
    many, few = _replicates(0.0), _replicates(1.0).first(100)
    found = prepared_bd_rate(_prepared(many), _prepared(few))
    assert found.n_resamples == 100
    same = prepared_bd_rate(Prepared(_prepared(many).curve, Settings(), many.first(100)), _prepared(few))
    assert found == same


def test_no_replicates_give_a_reason() -> None:
    none = Prepared(CURVE, Settings(), _replicates(0.0, 0))
    found = prepared_bd_rate(none, none)
    assert found.reason == "no interval: there are no bootstrap replicates"


@pytest.fixture(scope="module")
def simulation() -> Any:
    """The script that measures coverage in full."""
    path = Path(__file__).parents[1] / "benchmarks" / "interval_coverage.py"
    spec = importlib.util.spec_from_file_location("interval_coverage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.slow
def test_the_interval_of_a_difference_in_ap_holds_the_truth_as_often_as_it_says(simulation: Any) -> None:
    # Of 100 intervals of 95 %, 89 to 99 hold the truth in 99 % of all runs; this run is always the same one.
    assert 0.89 <= simulation.detector_coverage(n_datasets=100, n_images=100, n_resamples=300) <= 0.99


@pytest.mark.slow
def test_the_interval_of_a_bd_rate_holds_the_truth_as_often_as_it_says(simulation: Any) -> None:
    assert 0.89 <= simulation.codec_coverage(n_datasets=100, n_images=100, n_resamples=300) <= 0.99
