"""Curves made ready to be compared: what every pair of curves has in common is computed once a curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from icm_bench.curves import interpolant
from icm_bench.curves.curve import Curve, Monotone, Point, all_rising, measured, on_front, rate_accuracy
from icm_bench.curves.estimate import Method, Settings
from icm_bench.curves.interpolant import Floats, Interpolant
from icm_bench.curves.replicates import Replicates
from icm_bench.curves.result import Result
from icm_bench.curves.rising_cubic import rising_cubic
from icm_bench.error import ResultError, UsageError

Rates: TypeAlias = Curve | tuple[Sequence[float], Sequence[float]]
"""A curve, or its rates and its accuracies."""

Axis: TypeAlias = Literal["accuracy", "log_rate"]
"""Over what a curve runs: log-rate over accuracy gives BD-rates, accuracy over log-rate BD-accuracies."""

_N_FITTED: Final = 4
_FITTED_DIGITS: Final = 9


class Across:
    """The curves of one codec over one axis, a set each, with what runs between their points.

    Attributes:
        low: The least x of each set; NaN where it has no point.
        high: The greatest x of each set.
        least: The least y of each set.
        most: The greatest y of each set.
        is_rate: Whether y is the logarithm of a rate.
    """

    def __init__(self, fronts: Fronts, axis: Axis, method: Method) -> None:
        y_axis: Axis = "accuracy" if axis == "log_rate" else "log_rate"
        self._x, self._y = getattr(fronts, axis), getattr(fronts, y_axis)
        self._kept, self._method = fronts.kept, method
        self.is_rate = y_axis == "log_rate"
        self.low, self.high = _range(self._x, self._kept)
        self.least, self.most = _range(self._y, self._kept)

    @cached_property
    def curves(self) -> Interpolant:
        """The curves by the method; NaN where a set has too few points."""
        return self._through(self._method)

    @cached_property
    def lines(self) -> Interpolant:
        """Straight lines between the points."""
        return self._through("linear")

    @property
    def may_turn(self) -> bool:
        """Whether the method's curves may turn back between points that rise."""
        return self._method not in ("pchip", "linear", "monotone-cubic")

    def _through(self, method: Method) -> Interpolant:
        make, n_least = _recipe(method)
        # Points a rounding apart give slopes that overflow; what is not finite is reported as having no value.
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return interpolant.through(self._x, self._y, self._kept, make, n_least)


class Fronts(NamedTuple):
    """Points of one codec, sets x points; those that are kept rise along each set, in both.

    Attributes:
        log_rate: Logarithms of bits per pixel.
        accuracy: In the metric's unit.
        kept: Which points the policy keeps.
    """

    log_rate: Floats
    accuracy: Floats
    kept: NDArray[np.bool_]


class Prepared:
    """One curve, with its bootstrap replicates where there are any, ready to be compared with many others.

    Args:
        rates: The curve, or its rates and its accuracies.
        settings: How it is to be compared.
        replicates: Its rates and accuracies on bootstrap replicates, or None.
        name: What to call a curve that is given by its rates and accuracies.

    Raises:
        ResultError: The replicates lack the metric.
        UsageError: The method or the policy is unknown, or replicates are to be refused for a dip.
    """

    def __init__(
        self, rates: Rates, settings: Settings, replicates: Replicates | None = None, name: str = "curve"
    ) -> None:
        self.curve, self.settings = _curve(rates, name, settings.metric), settings
        _, self._n_needed = _recipe(settings.method)
        self._replicates = replicates
        if replicates is not None and settings.monotone == "error":
            hint = "choose the pareto or isotonic policy"
            raise UsageError("bootstrap replicates cannot be refused for a dip", hint=hint)
        if replicates is not None and settings.metric not in replicates.metrics:
            known = ", ".join(sorted(replicates.metrics))
            raise ResultError(f"the replicates have no {settings.metric}", hint=f"choose among {known}")

    @property
    def n_replicates(self) -> int | None:
        """How many bootstrap replicates there are; None where the curve has none."""
        return None if self._replicates is None else self._replicates.bpp.shape[1]

    @cached_property
    def front(self) -> Fronts:
        """The rising points of the curve itself, as one set.

        Raises:
            ResultError: See :func:`icm_bench.curves.curve.rate_accuracy`.
        """
        method, metric = self.settings.method, self.settings.metric
        if method == "monotone-cubic":
            bpp, accuracy = measured(self.curve, metric)
            return _fronts(bpp[:, np.newaxis], accuracy[:, np.newaxis], method, self.settings.monotone)
        bpp, accuracy = rate_accuracy(self.curve, metric, self.settings.monotone)
        return Fronts(np.log(bpp)[np.newaxis], accuracy[np.newaxis], np.ones((1, len(bpp)), dtype=bool))

    @cached_property
    def over(self) -> Mapping[Axis, Across]:
        """The curve over its accuracy and over its log-rate."""
        return _over_both(self.front, self.settings.method)

    @cached_property
    def replicates_over(self) -> Mapping[Axis, Across]:
        """The replicates over their accuracy and over their log-rate."""
        return _over_both(self._replicated, self.settings.method)

    def undefined_points(self) -> list[str]:
        """Name the points that have no value, such as the AP of small objects where there are none."""
        metric = self.settings.metric
        return [
            self.curve.label(index)
            for index, point in enumerate(self.curve.points)
            if metric in point.metrics and point.metrics[metric] is None
        ]

    @cached_property
    def dips(self) -> tuple[str, ...]:
        """Say what becomes of each point that another one beats in both rate and accuracy, or equals."""
        settings, points = self.settings, self.curve.points
        if settings.method == "monotone-cubic":  # fitted to every point
            return ()
        becomes = "is left out" if settings.monotone == "pareto" else "is joined with its neighbours"
        values = [point.metrics.get(settings.metric) for point in points]
        accuracy = np.array([math.nan if value is None else value for value in values])
        front = on_front(np.array([point.bpp for point in points]), accuracy)
        return tuple(
            f"{self.curve.label(index)} {becomes}"
            for index, value in enumerate(values)
            if value is not None and index not in front
        )

    def too_few(self) -> str | None:
        """Say why there are too few points for the method, or None."""
        codec, method = self.curve.codec, self.settings.method
        n_points = int(self.front.kept.sum())
        if method == "monotone-cubic" and not n_points:
            return f"{codec} has fewer than {_N_FITTED} rates, which {method} needs"
        if n_points < self._n_needed:
            points = "point" if n_points == 1 else "points"
            return f"{codec} has {n_points} rising {points}, {method} needs {self._n_needed}"
        return None

    @cached_property
    def _replicated(self) -> Fronts:
        replicates = self._replicates
        if replicates is None:
            raise ResultError("has no bootstrap replicates", where=self.curve.codec)
        metric, method, monotone = self.settings.metric, self.settings.method, self.settings.monotone
        return _fronts(replicates.bpp, replicates.metrics[metric], method, monotone)


def _over_both(fronts: Fronts, method: Method) -> Mapping[Axis, Across]:
    return {axis: Across(fronts, axis, method) for axis in get_args(Axis)}


def _recipe(method: Method) -> tuple[interpolant.Maker, int]:
    """Return what makes a method's curves, and from how many points."""
    recipes = {
        "pchip": (interpolant.pchip, 2),
        "akima": (interpolant.akima, 2),
        "cubic": (interpolant.cubic, 4),
        "cubic-spline": (interpolant.cubic_spline, 4),
        "linear": (interpolant.linear, 2),
        "monotone-cubic": (interpolant.pchip, 2),
    }
    if method not in recipes:
        raise UsageError(f"unknown method {method!r}", hint=f"choose {', '.join(get_args(Method))}")
    return recipes[method]


def _range(values: Floats, kept: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    some = kept.any(axis=1)
    least = np.where(kept, values, np.inf).min(axis=1, initial=np.inf)
    most = np.where(kept, values, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(some, least, np.nan), np.where(some, most, np.nan)


def _fronts(bpp: Floats, accuracy: Floats, method: Method, monotone: Monotone) -> Fronts:
    """Return the rising points of each set, from points x sets."""
    if method == "monotone-cubic":
        bpp, accuracy = _fitted(bpp, accuracy)
        monotone = "pareto"
    rates, accuracies, kept = all_rising(bpp.T, accuracy.T, monotone)
    return Fronts(np.log(rates), accuracies, kept)


def _fitted(bpp: Floats, accuracy: Floats) -> tuple[Floats, Floats]:
    """Return rates in rising order and the accuracies of the rising cubics there, points x sets."""
    order = np.argsort(bpp, axis=0, kind="stable")
    rates, accuracies = (np.take_along_axis(values, order, axis=0).T for values in (bpp, accuracy))
    fitted = np.full_like(accuracies, np.nan)
    n_rates = 1 + (np.diff(rates, axis=1) > 0).sum(axis=1)
    usable = (n_rates >= _N_FITTED) & ~np.isnan(accuracies).any(axis=1)
    if usable.any():
        # Rounded, so that where the cubic is flat its points tie.
        fitted[usable] = np.round(rising_cubic(np.log(rates[usable]), accuracies[usable]), _FITTED_DIGITS)
    return rates.T, fitted.T


def replicates_for(result: Result, settings: Settings) -> Replicates | None:
    """Return a result's bootstrap replicates; None where it has none of the metric, or its dips are to be refused."""
    found = None if settings.monotone == "error" else result.replicates
    return found if found is not None and settings.metric in found.metrics else None


def _curve(rates: Rates, name: str, metric: str) -> Curve:
    if isinstance(rates, Curve):
        return rates
    bpp, accuracy = rates
    if len(bpp) != len(accuracy):
        raise UsageError(f"{len(bpp)} rates and {len(accuracy)} accuracies", where=name)
    points = [Point(None, float(r), {metric: float(a)}) for r, a in zip(bpp, accuracy, strict=True)]
    return Curve(name, tuple(points))
