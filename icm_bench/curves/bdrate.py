"""Bjontegaard deltas: how many bits, or how much accuracy, one codec saves over another.

Every figure is of the test against the anchor: a negative BD-rate means fewer bits for the same accuracy, a
positive BD-accuracy more accuracy for the same bits. A figure that is not defined is None, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from icm_bench.curves import interpolant
from icm_bench.curves.curve import Curve, Monotone, Point, measured, rate_accuracy, rising
from icm_bench.curves.interpolant import Interpolant
from icm_bench.curves.rising_cubic import rising_cubic
from icm_bench.error import UsageError

Floats: TypeAlias = NDArray[np.float64]
Rates: TypeAlias = Curve | tuple[Sequence[float], Sequence[float]]
"""A curve, or its rates and its accuracies."""

Method: TypeAlias = Literal["pchip", "akima", "cubic", "cubic-spline", "linear", "monotone-cubic"]
"""How a curve runs between its points.

- ``pchip``: piecewise cubic, shape-preserving.
- ``akima``: piecewise cubic of Akima.
- ``cubic``: one cubic polynomial, by least squares where there are more than four points.
- ``cubic-spline``: piecewise cubic with continuous curvature.
- ``linear``: straight lines.
- ``monotone-cubic``: accuracies are first replaced by a rising cubic's, see
:func:`icm_bench.curves.rising_cubic.rising_cubic`, fitted
  to all points whatever the policy; then as ``pchip``.
"""

LOW_OVERLAP: Final = 0.75
"""Below this share of the ranges a delta says little."""

_N_FITTED: Final = 4
_FITTED_DIGITS: Final = 9


class _Recipe(NamedTuple):
    make: interpolant.Maker
    n_points: int


def _recipe(method: Method) -> _Recipe:
    recipes: dict[str, _Recipe] = {
        "pchip": _Recipe(interpolant.pchip, 2),
        "akima": _Recipe(interpolant.akima, 2),
        "cubic": _Recipe(interpolant.cubic, 4),
        "cubic-spline": _Recipe(interpolant.cubic_spline, 4),
        "linear": _Recipe(interpolant.linear, 2),
        "monotone-cubic": _Recipe(interpolant.pchip, 2),
    }
    if method not in recipes:
        raise UsageError(f"unknown method {method!r}", hint=f"choose {', '.join(get_args(Method))}")
    return recipes[method]


@dataclass(frozen=True)
class BdRate:
    """The mean difference in rate at the same accuracy.

    Attributes:
        percent: Bits of the test above the anchor's, percent; negative is fewer; None where there is no
            figure.
        overlap: The accuracy range that both curves share over the range that either has, 0 to 1; None where
            a curve has no range.
        low: Lower limit of the interval, percent, or None.
        high: Upper limit of the interval, percent, or None.
        method: How the curves run between their points.
        reason: Why there is no figure or no interval; None where there are both, or none was asked for.
        n_resamples: Resamples that the interval rests on; 0 where none was asked for.
        n_without: How many of them had no figure.
    """

    percent: float | None
    overlap: float | None
    low: float | None
    high: float | None
    method: str
    reason: str | None
    n_resamples: int = 0
    n_without: int = 0

    @property
    def is_low_overlap(self) -> bool:
        """Whether the figure rests on less than three quarters of the curves' range."""
        return self.overlap is not None and self.overlap < LOW_OVERLAP


@dataclass(frozen=True)
class BdAccuracy:
    """The mean difference in accuracy at the same rate: BD-mAP, BD-PSNR.

    Attributes:
        difference: Accuracy of the test above the anchor's, in the metric's unit; None where there is no
            figure.
        overlap: The log-rate range that both curves share over the range that either has, 0 to 1; None where
            a curve has no range.
        low: Lower limit of the interval, or None.
        high: Upper limit of the interval, or None.
        method: How the curves run between their points.
        reason: Why there is no figure or no interval; None where there are both, or none was asked for.
        n_resamples: Resamples that the interval rests on; 0 where none was asked for.
        n_without: How many of them had no figure.
    """

    difference: float | None
    overlap: float | None
    low: float | None
    high: float | None
    method: str
    reason: str | None
    n_resamples: int = 0
    n_without: int = 0

    @property
    def is_low_overlap(self) -> bool:
        """Whether the figure rests on less than three quarters of the curves' range."""
        return self.overlap is not None and self.overlap < LOW_OVERLAP


@dataclass(frozen=True)
class RateAt:
    """The rate at which a curve reaches an accuracy.

    Attributes:
        bpp: Bits per pixel; None where the curve does not reach it, or starts above it.
        accuracy: The accuracy, in the metric's unit.
        low: Lower limit of the interval, bits per pixel, or None.
        high: Upper limit of the interval, bits per pixel, or None.
        method: How the curve runs between its points.
        reason: Why there is no figure or no interval; None where there are both, or none was asked for.
        n_resamples: Resamples that the interval rests on; 0 where none was asked for.
        n_without: How many of them had no figure.
    """

    bpp: float | None
    accuracy: float
    low: float | None
    high: float | None
    method: str
    reason: str | None
    n_resamples: int = 0
    n_without: int = 0


def bd_rate(
    anchor: Rates,
    test: Rates,
    *,
    metric: str = "map",
    method: Method = "pchip",
    monotone: Monotone = "pareto",
) -> BdRate:
    """Return how many more bits the test needs than the anchor for the same accuracy.

    The mean difference of log-rate over the accuracies that both curves reach, as percent (Bjontegaard,
    VCEG-M33).

    Args:
        anchor: What is compared against: a curve, or its rates and its accuracies.
        test: What is compared.
        metric: The name of the accuracy, for curves.
        method: How a curve runs between its points.
        monotone: What to do where accuracy does not rise with rate.

    Raises:
        ResultError: A curve has no such metric, a figure is not finite or a rate not above 0; or the policy
            is ``error`` and a curve does not rise.
        UsageError: The method or the policy is unknown.
    """
    curves = _curves(anchor, test, metric)
    undefined = _undefined(curves, metric)
    if undefined:
        return BdRate(None, None, None, None, method, undefined)
    fronts = [_front(curve, metric, method, monotone) for curve in curves]
    reason = _too_few(curves, fronts, method)
    if reason:
        return BdRate(None, None, None, None, method, reason)
    across = [_Across([front.accuracy], [front.log_rate]) for front in fronts]
    shared = _share(across)
    overlap = float(shared.overlap[0])
    if overlap == 0:
        reason = _no_overlap(curves, [front.accuracy for front in fronts], metric)
        return BdRate(None, 0.0, None, None, method, reason)
    percent = float(_percent(_mean_difference(across, shared, method))[0])
    if not np.isfinite(percent):
        return BdRate(None, overlap, None, None, method, _out_of_bounds(method))
    return BdRate(percent, overlap, None, None, method, None)


def bd_accuracy(
    anchor: Rates,
    test: Rates,
    *,
    metric: str = "map",
    method: Method = "pchip",
    monotone: Monotone = "pareto",
) -> BdAccuracy:
    """Return how much more accurate the test is than the anchor at the same rate.

    The mean difference of accuracy over the log-rates that both curves have; for arguments and errors see
    :func:`bd_rate`.
    """
    curves = _curves(anchor, test, metric)
    undefined = _undefined(curves, metric)
    if undefined:
        return BdAccuracy(None, None, None, None, method, undefined)
    fronts = [_front(curve, metric, method, monotone) for curve in curves]
    reason = _too_few(curves, fronts, method)
    if reason:
        return BdAccuracy(None, None, None, None, method, reason)
    across = [_Across([front.log_rate], [front.accuracy]) for front in fronts]
    shared = _share(across)
    overlap = float(shared.overlap[0])
    if overlap == 0:
        reason = _no_overlap(curves, [np.exp(front.log_rate) for front in fronts], "bpp")
        return BdAccuracy(None, 0.0, None, None, method, reason)
    difference = float(_mean_difference(across, shared, method)[0])
    if not np.isfinite(difference):
        return BdAccuracy(None, overlap, None, None, method, _out_of_bounds(method))
    return BdAccuracy(difference, overlap, None, None, method, None)


def rate_at(
    curve: Rates,
    accuracy: float,
    *,
    metric: str = "map",
    method: Method = "pchip",
    monotone: Monotone = "pareto",
) -> RateAt:
    """Return the rate at which a curve reaches an accuracy, never beyond its own points.

    Args:
        curve: A curve, or its rates and its accuracies.
        accuracy: What to reach, in the metric's unit.
        metric: The name of the accuracy, for curves.
        method: How a curve runs between its points.
        monotone: What to do where accuracy does not rise with rate.

    Raises:
        ResultError: See :func:`bd_rate`.
        UsageError: The method or the policy is unknown.
    """
    named = _curve(curve, "curve", metric)
    undefined = _undefined([named], metric)
    if undefined:
        return RateAt(None, accuracy, None, None, method, undefined)
    front = _front(named, metric, method, monotone)
    reason = _too_few([named], [front], method)
    if not reason and accuracy > front.accuracy[-1]:
        reason = f"{named.codec} reaches {front.accuracy[-1]:.4g} {metric}, not {accuracy:.4g}"
    if not reason and accuracy < front.accuracy[0]:
        reason = f"{named.codec} starts at {front.accuracy[0]:.4g} {metric}, above {accuracy:.4g}"
    if reason:
        return RateAt(None, accuracy, None, None, method, reason)
    across = _Across([front.accuracy], [front.log_rate])
    with np.errstate(over="ignore"):
        bpp = float(np.exp(across.evaluated(Interpolant.at, method, np.array([accuracy]))[0]))
    if not np.isfinite(bpp):
        return RateAt(None, accuracy, None, None, method, _out_of_bounds(method))
    return RateAt(bpp, accuracy, None, None, method, None)


def bd_rate_draws(
    anchor: tuple[Floats, Floats], test: tuple[Floats, Floats], method: Method, monotone: Monotone
) -> Floats:
    """Return the BD-rate of each resample.

    Args:
        anchor: Rates and accuracies, each points x resamples; an accuracy that is NaN leaves its point out.
        test: The same of the test, on the same resamples.
        method: How a curve runs between its points.
        monotone: What to do where accuracy does not rise with rate; not ``error``, since resamples dip by
            chance.

    Returns:
        Percent, one a resample; NaN where there is no figure.
    """
    fronts = [_fronts(*curve, method, monotone) for curve in (anchor, test)]
    across = [
        _Across([front.accuracy for front in drawn], [front.log_rate for front in drawn]) for drawn in fronts
    ]
    return _percent(_mean_difference(across, _share(across), method))


def bd_accuracy_draws(
    anchor: tuple[Floats, Floats], test: tuple[Floats, Floats], method: Method, monotone: Monotone
) -> Floats:
    """Return the BD-accuracy of each resample, in the metric's unit; for arguments see :func:`bd_rate_draws`."""
    fronts = [_fronts(*curve, method, monotone) for curve in (anchor, test)]
    across = [
        _Across([front.log_rate for front in drawn], [front.accuracy for front in drawn]) for drawn in fronts
    ]
    return _mean_difference(across, _share(across), method)


def rate_at_draws(
    curve: tuple[Floats, Floats], accuracy: Floats | float, method: Method, monotone: Monotone
) -> Floats:
    """Return the rate of each resample at an accuracy, or at one of its own: bits per pixel, NaN where not reached.

    For the other arguments see :func:`bd_rate_draws`.
    """
    fronts = _fronts(*curve, method, monotone)
    across = _Across([front.accuracy for front in fronts], [front.log_rate for front in fronts])
    wanted = np.broadcast_to(np.asarray(accuracy, dtype=np.float64), (len(fronts),))
    inside = (wanted >= across.low) & (wanted <= across.high)
    return np.exp(across.evaluated(Interpolant.at, method, np.where(inside, wanted, np.nan)))


class _Front(NamedTuple):
    """Points that rise in both."""

    log_rate: Floats
    accuracy: Floats


class _Across:
    """Many curves y over x, of any number of points each."""

    def __init__(self, x: Sequence[Floats], y: Sequence[Floats]) -> None:
        self.x, self.y = x, y
        self.n_points = np.array([len(values) for values in x])
        self.low = np.array([values[0] if len(values) else np.nan for values in x])
        self.high = np.array([values[-1] if len(values) else np.nan for values in x])

    def evaluated(self, evaluate: Callable[..., Floats], method: Method, *arguments: Floats) -> Floats:
        """Evaluate each curve at its own arguments; NaN where these are, or where it has too few points."""
        recipe = _recipe(method)
        values = np.full(len(self.x), np.nan)
        usable = (self.n_points >= recipe.n_points) & ~np.isnan(arguments).any(axis=0)
        for n_points in np.unique(self.n_points[usable]).tolist():
            alike = np.flatnonzero(usable & (self.n_points == n_points))
            x, y = (np.stack([columns[index] for index in alike]) for columns in (self.x, self.y))
            # Points a rounding apart give slopes that overflow; what is not finite is told as having no figure.
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                values[alike] = evaluate(recipe.make(x, y), *(argument[alike] for argument in arguments))
        return values


class _Shared(NamedTuple):
    """The range that two curves share; NaN where they share none."""

    low: Floats
    high: Floats
    overlap: Floats


def _share(curves: Sequence[_Across]) -> _Shared:
    anchor, test = curves
    low, high = np.maximum(anchor.low, test.low), np.minimum(anchor.high, test.high)
    widest = np.maximum(anchor.high, test.high) - np.minimum(anchor.low, test.low)
    shared = high > low
    overlap = np.divide(high - low, widest, out=np.zeros_like(widest), where=shared)
    return _Shared(np.where(shared, low, np.nan), np.where(shared, high, np.nan), overlap)


def _mean_difference(curves: Sequence[_Across], shared: _Shared, method: Method) -> Floats:
    anchor, test = (each.evaluated(Interpolant.integral, method, shared.low, shared.high) for each in curves)
    return (test - anchor) / (shared.high - shared.low)


def _percent(log_ratio: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(100 * np.expm1(log_ratio), dtype=np.float64)


def _front(curve: Curve, metric: str, method: Method, monotone: Monotone) -> _Front:
    if method != "monotone-cubic":
        bpp, accuracy = rate_accuracy(curve, metric, monotone)
        return _Front(np.log(bpp), accuracy)
    bpp, accuracy = measured(curve, metric)
    return _fronts(bpp[:, np.newaxis], accuracy[:, np.newaxis], method, monotone)[0]


def _fronts(bpp: Floats, accuracy: Floats, method: Method, monotone: Monotone) -> list[_Front]:
    """Return the rising points of each resample, from points x resamples."""
    _recipe(method)
    if method == "monotone-cubic":
        bpp, accuracy = _fitted(bpp, accuracy)
        monotone = "pareto"
    fronts = []
    for rates, accuracies in zip(bpp.T, accuracy.T, strict=True):
        kept_rates, kept_accuracies = rising(rates, accuracies, monotone)
        fronts.append(_Front(np.log(kept_rates), kept_accuracies))
    return fronts


def _fitted(bpp: Floats, accuracy: Floats) -> tuple[Floats, Floats]:
    """Return rates in rising order and the accuracies of the rising cubics there, points x resamples."""
    order = np.argsort(bpp, axis=0, kind="stable")
    rates, accuracies = (np.take_along_axis(values, order, axis=0).T for values in (bpp, accuracy))
    fitted = np.full_like(accuracies, np.nan)
    n_rates = 1 + (np.diff(rates, axis=1) > 0).sum(axis=1)
    usable = (n_rates >= _N_FITTED) & ~np.isnan(accuracies).any(axis=1)
    if usable.any():
        # Rounded, so that where the cubic is flat its points tie.
        fitted[usable] = np.round(rising_cubic(np.log(rates[usable]), accuracies[usable]), _FITTED_DIGITS)
    return rates.T, fitted.T


def _curves(anchor: Rates, test: Rates, metric: str) -> list[Curve]:
    return [_curve(anchor, "anchor", metric), _curve(test, "test", metric)]


def _curve(rates: Rates, name: str, metric: str) -> Curve:
    if isinstance(rates, Curve):
        return rates
    bpp, accuracy = rates
    if len(bpp) != len(accuracy):
        raise UsageError(f"{len(bpp)} rates and {len(accuracy)} accuracies", where=name)
    points = [Point(None, float(r), {metric: float(a)}) for r, a in zip(bpp, accuracy, strict=True)]
    return Curve(name, tuple(points))


def _undefined(curves: Sequence[Curve], metric: str) -> str | None:
    """Say which points have no figure, such as the AP of small objects where there are none."""
    labels = [
        curve.label(index)
        for curve in curves
        for index, point in enumerate(curve.points)
        if metric in point.metrics and point.metrics[metric] is None
    ]
    return f"{metric} is not defined for {', '.join(labels)}" if labels else None


def _too_few(curves: Sequence[Curve], fronts: Sequence[_Front], method: Method) -> str | None:
    for curve, front in zip(curves, fronts, strict=True):
        n_points, needed = len(front.accuracy), _recipe(method).n_points
        if method == "monotone-cubic" and not n_points:
            return f"{curve.codec} has fewer than {_N_FITTED} rates, which {method} needs"
        if n_points < needed:
            points = "point" if n_points == 1 else "points"
            return f"{curve.codec} has {n_points} rising {points}, {method} needs {needed}"
    return None


def _out_of_bounds(method: Method) -> str:
    return f"the {method} curve runs out of all bounds"


def _no_overlap(curves: Sequence[Curve], values: Sequence[Floats], name: str) -> str:
    ranges = [f"{curve.codec} has {v[0]:.4g} to {v[-1]:.4g}" for curve, v in zip(curves, values, strict=True)]
    return f"no overlap in {name}: {', '.join(ranges)}"
