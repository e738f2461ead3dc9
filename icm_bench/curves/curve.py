"""Rate-accuracy curves, and what makes them rise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from icm_bench.codec import Quality
from icm_bench.curves.interpolant import Floats
from icm_bench.error import ResultError, UsageError

Monotone: TypeAlias = Literal["pareto", "error", "isotonic"]
"""What to do where accuracy does not rise with rate.

- ``pareto``: keep the points that no other point beats in both rate and accuracy.
- ``error``: refuse the curve, naming the points.
- ``isotonic``: replace accuracies by the closest rising ones (least squares, pool adjacent violators); points that
  come to share an accuracy become one, at the geometric mean of their rates.
"""


@dataclass(frozen=True)
class Point:
    """One operating point.

    Attributes:
        quality: The codec's own setting; None where an imported curve does not tell it.
        bpp: Bits per pixel, above 0.
        metrics: Values by name, AP and AR in percent, PSNR in dB; None where one is not defined.
    """

    quality: Quality | None
    bpp: float
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class Curve:
    """The operating points of one codec, in any order.

    Attributes:
        codec: The codec's spec.
        points: Its operating points.
    """

    codec: str
    points: tuple[Point, ...]

    def __repr__(self) -> str:
        rates = [point.bpp for point in self.points]
        extent = f", {min(rates):.4g} to {max(rates):.4g} bpp" if rates else ""
        return f"Curve({self.codec}: {len(rates)} points{extent})"

    def label(self, index: int) -> str:
        """Name a point in a message."""
        quality = self.points[index].quality
        return f"{self.codec}, point {index + 1}" if quality is None else f"{self.codec} at {quality}"


def rate_accuracy(curve: Curve, metric: str = "map", monotone: Monotone = "pareto") -> tuple[Floats, Floats]:
    """Return a curve's rates and accuracies, both strictly rising: bits per pixel, and the metric in its own unit.

    Raises:
        ResultError: A point lacks the metric, a value is not finite or a rate not above 0; or the policy is
            ``error`` and the curve does not rise.
        UsageError: The policy is unknown.
    """
    bpp, accuracy = measured(curve, metric)
    if monotone == "error":
        _check_rises(curve, bpp, accuracy, metric)
    return rising(bpp, accuracy, monotone)


def measured(curve: Curve, metric: str) -> tuple[Floats, Floats]:
    """Return a curve's rates and accuracies as they were measured, in the order of its points.

    Raises:
        ResultError: A point lacks the metric, a value is not finite or a rate not above 0.
    """
    accuracies = []
    for index, point in enumerate(curve.points):
        accuracy = point.metrics.get(metric)
        if accuracy is None or not math.isfinite(accuracy):
            known = ", ".join(sorted(key for key, value in point.metrics.items() if value is not None))
            raise ResultError(
                f"no {metric}", where=curve.label(index), hint=f"it has {known}" if known else None
            )
        if not (math.isfinite(point.bpp) and point.bpp > 0):
            raise ResultError(f"a rate of {point.bpp} bpp, not above 0", where=curve.label(index))
        accuracies.append(accuracy)
    return np.array([point.bpp for point in curve.points]), np.array(accuracies, dtype=np.float64)


def rising(bpp: Floats, accuracy: Floats, monotone: Monotone) -> tuple[Floats, Floats]:
    """Return the points as the policy leaves them: rates and accuracies, both strictly rising.

    Points whose accuracy is NaN are left out.

    Raises:
        ResultError: The policy is ``error`` and the points do not rise.
        UsageError: The policy is unknown.
    """
    if monotone not in get_args(Monotone):
        raise UsageError(f"unknown policy {monotone!r}", hint=f"choose {', '.join(get_args(Monotone))}")
    if monotone == "isotonic":
        order = _by_rate(bpp, accuracy)
        return _isotonic(bpp[order].tolist(), accuracy[order].tolist())
    front, n_points = on_front(bpp, accuracy), np.count_nonzero(~np.isnan(accuracy))
    if monotone == "error" and len(front) < n_points:
        raise ResultError(f"{n_points - len(front)} of {n_points} points do not rise", hint=_HINT)
    return bpp[front].astype(np.float64), accuracy[front].astype(np.float64)


def all_rising(bpp: Floats, accuracy: Floats, monotone: Monotone) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return the points of many sets as the policy leaves them.

    Args:
        bpp: Bits per pixel, sets x points.
        accuracy: Sets x points; points whose accuracy is NaN are left out.
        monotone: ``pareto`` or ``isotonic``.

    Returns:
        Rates, accuracies, and which of the points are kept: sets x points, both strictly rising along those.

    Raises:
        UsageError: The policy is unknown.
    """
    if monotone == "pareto":
        order = np.lexsort((-accuracy, bpp), axis=-1)
        rates, accuracies = (np.take_along_axis(values, order, axis=-1) for values in (bpp, accuracy))
        best = np.maximum.accumulate(np.where(np.isnan(accuracies), -np.inf, accuracies), axis=-1)
        before = np.concatenate([np.full((len(best), 1), -np.inf), best[:, :-1]], axis=1)[:, : best.shape[1]]
        return rates, accuracies, accuracies > before
    rates, accuracies = np.ones(bpp.shape), np.full(bpp.shape, np.nan)
    kept = np.zeros(bpp.shape, dtype=bool)
    for index, (own_bpp, own_accuracy) in enumerate(zip(bpp, accuracy, strict=True)):
        own_rates, own_accuracies = rising(own_bpp, own_accuracy, monotone)
        own = slice(len(own_rates))
        rates[index, own], accuracies[index, own], kept[index, own] = own_rates, own_accuracies, True
    return rates, accuracies, kept


def on_front(bpp: Floats, accuracy: Floats) -> list[int]:
    """Return which points no other beats in both rate and accuracy, in order of rate; NaN accuracies never are."""
    front: list[int] = []
    for index in _by_rate(bpp, accuracy):
        if accuracy[index] > (accuracy[front[-1]] if front else -math.inf):
            front.append(index)
    return front


_HINT = "choose the pareto or isotonic policy, or measure again"


def _by_rate(bpp: Floats, accuracy: Floats) -> list[int]:
    # Of equal rates, the best accuracy first.
    return [index for index in np.lexsort((-accuracy, bpp)).tolist() if not math.isnan(accuracy[index])]


def _isotonic(rates: Sequence[float], accuracies: Sequence[float]) -> tuple[Floats, Floats]:
    blocks: list[tuple[float, float, int]] = []
    for rate, accuracy in zip(rates, accuracies, strict=True):
        block = (math.log(rate), accuracy, 1)
        while blocks and blocks[-1][1] >= block[1]:
            block = _pooled(blocks.pop(), block)
        blocks.append(block)
    # Equal rates can stay apart only where the more accurate comes later, which the order rules out.
    log_rates, fitted, _ = zip(*blocks, strict=True) if blocks else ((), (), ())
    return np.exp(np.array(log_rates, dtype=np.float64)), np.array(fitted, dtype=np.float64)


def _pooled(left: tuple[float, float, int], right: tuple[float, float, int]) -> tuple[float, float, int]:
    n = left[2] + right[2]
    log_rate, accuracy = ((left[i] * left[2] + right[i] * right[2]) / n for i in (0, 1))
    return log_rate, accuracy, n


def _check_rises(curve: Curve, bpp: Floats, accuracy: Floats, metric: str) -> None:
    front = on_front(bpp, accuracy)
    beaten = [index for index in _by_rate(bpp, accuracy) if index not in front]
    if beaten:
        points = (f"{curve.label(index)} ({bpp[index]:.4g} bpp, {accuracy[index]:.4g})" for index in beaten)
        named = "; ".join(points)
        raise ResultError(f"{metric} does not rise with rate: {named}", hint=_HINT)
