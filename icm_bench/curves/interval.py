"""Intervals of figures, from bootstrap resamples that every codec shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from icm_bench.curves.bdrate import (
    BdAccuracy,
    BdRate,
    Method,
    RateAt,
    bd_accuracy_draws,
    bd_rate_draws,
    rate_at_draws,
)
from icm_bench.curves.curve import Monotone
from icm_bench.error import ResultError, UsageError

Floats: TypeAlias = NDArray[np.float64]


def interval(values: Floats, level: float = 0.95) -> tuple[float | None, float | None]:
    """Return the percentile bootstrap interval of a figure's draws (Efron, 1979).

    Args:
        values: One figure a resample; those that are NaN are left out.
        level: The share of the draws between the limits, above 0 and below 1.

    Returns:
        The lower and the upper limit; None twice where no draw is left.

    Raises:
        UsageError: The level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise UsageError(f"an interval of level {level}", hint="choose one between 0 and 1, such as 0.95")
    defined = values[~np.isnan(values)]
    if not defined.size:
        return None, None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return low, high


MOST_WITHOUT = 0.05
"""Above this share of resamples without a figure there is no interval: those that are left are not a fair sample."""


class Draws(Protocol):
    """Rate and accuracy of one codec's operating points on resamples, the same resamples for every codec."""

    @property
    def bpp(self) -> Floats:
        """Bits per pixel, points x resamples."""
        ...

    @property
    def metrics(self) -> Mapping[str, Floats]:
        """Each metric, points x resamples; NaN where a resample has no such figure."""
        ...


@dataclass(frozen=True)
class Interval:
    """Where a figure lies, by resampling the dataset's images jointly for all that enters it.

    Attributes:
        low: Lower limit, or None.
        high: Upper limit, or None.
        n_resamples: How many resamples there are.
        n_without: How many of them have no figure.
        reason: Why there is no interval, or None.
    """

    low: float | None
    high: float | None
    n_resamples: int
    n_without: int
    reason: str | None


def bd_rate_interval(
    anchor: Draws,
    test: Draws,
    *,
    metric: str = "map",
    method: Method = "pchip",
    monotone: Monotone = "pareto",
    level: float = 0.95,
) -> Interval:
    """Return the interval of a BD-rate, in percent.

    Args:
        anchor: The anchor's draws.
        test: The test's draws, on the same resamples.
        metric: The name of the accuracy.
        method: How a curve runs between its points.
        monotone: ``pareto`` or ``isotonic``; resamples dip by chance, so that none can be refused for it.
        level: The share of the resamples between the limits, above 0 and below 1.

    Raises:
        ResultError: The draws lack the metric, or are not of the same resamples.
        UsageError: The method, policy or level is unknown.
    """
    of_anchor, of_test = _drawn(metric, monotone, anchor, test)
    return _interval_of(bd_rate_draws(of_anchor, of_test, method, monotone), level)


def bd_accuracy_interval(
    anchor: Draws,
    test: Draws,
    *,
    metric: str = "map",
    method: Method = "pchip",
    monotone: Monotone = "pareto",
    level: float = 0.95,
) -> Interval:
    """Return the interval of a BD-accuracy, in the metric's unit; see :func:`bd_rate_interval`."""
    of_anchor, of_test = _drawn(metric, monotone, anchor, test)
    return _interval_of(bd_accuracy_draws(of_anchor, of_test, method, monotone), level)


def rate_at_interval(
    draws: Draws,
    accuracy: float | Floats,
    *,
    metric: str = "map",
    method: Method = "pchip",
    monotone: Monotone = "pareto",
    level: float = 0.95,
) -> Interval:
    """Return the interval of the rate at an accuracy, in bits per pixel; see :func:`bd_rate_interval`.

    Args:
        draws: The codec's draws.
        accuracy: What to reach, or what to reach in each resample, such as one point below the uncompressed
            images'.
        metric: The name of the accuracy.
        method: How the curve runs between its points.
        monotone: ``pareto`` or ``isotonic``.
        level: The share of the resamples between the limits, above 0 and below 1.
    """
    (curve,) = _drawn(metric, monotone, draws)
    return _interval_of(rate_at_draws(curve, accuracy, method, monotone), level)


Figure = TypeVar("Figure", BdRate, BdAccuracy, RateAt)


def with_interval(figure: Figure, interval: Interval) -> Figure:
    """Return a figure with its interval; one that is not defined gets none."""
    counted = replace(figure, n_resamples=interval.n_resamples, n_without=interval.n_without)
    if figure.reason is not None:
        return counted
    return replace(counted, low=interval.low, high=interval.high, reason=interval.reason)


def _drawn(metric: str, monotone: Monotone, *draws: Draws) -> list[tuple[Floats, Floats]]:
    if monotone == "error":
        raise UsageError("resamples cannot be refused for a dip", hint="choose the pareto or isotonic policy")
    for each in draws:
        if metric not in each.metrics:
            known = ", ".join(sorted(each.metrics))
            raise ResultError(f"the resamples have no {metric}", hint=f"choose among {known}")
        if each.bpp.shape[1] != draws[0].bpp.shape[1]:
            raise ResultError("the resamples of two curves differ in number", hint="measure both alike")
    return [(each.bpp, each.metrics[metric]) for each in draws]


def _interval_of(values: Floats, level: float) -> Interval:
    n_without = int((~np.isfinite(values)).sum())
    if not values.size:
        return Interval(None, None, 0, 0, "no interval: there are no resamples")
    if n_without > MOST_WITHOUT * values.size:
        reason = f"no interval: {n_without} of {values.size} resamples have no figure"
        return Interval(None, None, values.size, n_without, reason)
    low, high = interval(values[np.isfinite(values)], level)
    return Interval(low, high, values.size, n_without, None)
