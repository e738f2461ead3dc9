"""One curve judged against an earlier one of the same codec: better, worse, or neither.

Every estimate is of head against base: a negative BD-rate means fewer bits for the same accuracy, a positive difference
of accuracy means more of it for the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from icm_bench.curves.bdrate import prepared_bd_rate, replicated_bd_rate
from icm_bench.curves.curve import Curve, Monotone, measured, rising
from icm_bench.curves.estimate import LOW_OVERLAP, Estimate, Options, Settings
from icm_bench.curves.interval import interval, with_interval
from icm_bench.curves.prepared import Prepared
from icm_bench.curves.replicates import Replicates

Floats: TypeAlias = NDArray[np.float64]
Verdict: TypeAlias = Literal["identical", "unchanged", "better", "worse", "not comparable", "new", "removed"]

SURE: Final = 0.98
"""Level of the interval that a verdict asks for: wrongly called worse, nominally one unchanged curve in a hundred.

More than the 95 % that are reported, since a verdict is asked for on many curves, again and again, and since intervals
of few images are too narrow: on 16, six in a hundred are called worse (``tests/benchmarks/regression_power.py``).
"""

ACCURACY_TOLERANCE: Final = 0.1
"""Where a change is judged by accuracy, what is let pass, in the metric's unit."""


@dataclass(frozen=True)
class AccuracyAt:
    """Both accuracies at one rate.

    Attributes:
        bpp: The rate, bits per pixel.
        base: Accuracy that base reaches there, in the metric's unit.
        head: Accuracy that head reaches there.
        low: Lower limit of the 95 % interval of their difference, head less base, or None.
        high: Its upper limit, or None.
    """

    bpp: float
    base: float
    head: float
    low: float | None
    high: float | None

    @property
    def difference(self) -> float:
        """Head less base."""
        return self.head - self.base


@dataclass(frozen=True)
class Difference:
    """The mean difference of accuracy, head less base, at matched rates.

    Attributes:
        mean: In the metric's unit.
        low: Lower limit of its 95 % interval, or None.
        high: Its upper limit, or None.
    """

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Judgement:
    """What became of a curve.

    Attributes:
        verdict: ``better``, ``worse``, ``unchanged`` or ``not comparable``.
        reason: What the verdict rests on where it is not the BD-rate alone, or None.
        bd_rate: The BD-rate of head against base, with its paired interval.
        at_rates: Both accuracies at base's rates that head covers.
        difference: Their mean difference; None where the curves share no rate.
    """

    verdict: Verdict
    reason: str | None
    bd_rate: Estimate
    at_rates: tuple[AccuracyAt, ...]
    difference: Difference | None


def judge(
    base: Curve,
    head: Curve,
    base_replicates: Replicates | None,
    head_replicates: Replicates | None,
    *,
    tolerance_percent: float = 0.5,
    **options: Unpack[Options],
) -> Judgement:
    """Judge head's curve against base's.

    The verdict goes by the BD-rate: worse where it is above the tolerance and its paired interval of level ``SURE``
    above zero, better where both are below. A curve that has fallen so far that there is no BD-rate, or one that
    rests on too little of the range, is judged by accuracy at the same rates instead, so that a curve that collapses
    does not pass because it has too little overlap.

    Args:
        base: The earlier curve.
        head: The later curve.
        base_replicates: Base's rates and accuracies on bootstrap replicates, or None.
        head_replicates: Head's on the same replicates, or None.
        tolerance_percent: The BD-rate that is let pass, percent, 0 or more.
        options: ``metric``, ``method`` and ``monotone``, which is ``pareto`` or ``isotonic``.

    Raises:
        ResultError: A curve or its replicates lack the metric, or the replicates differ in number.
        UsageError: The method or the policy is unknown.
    """
    settings = Settings(**options)
    metric, monotone = settings.metric, settings.monotone
    curves = [measured(curve, metric) for curve in (base, head)]
    if base_replicates is None or head_replicates is None:
        estimate = prepared_bd_rate(Prepared(base, settings), Prepared(head, settings))
        at_rates, difference, _ = _at_matched_rates(curves, None, monotone)
        side = "base" if base_replicates is None else "head"
        missing = f"no bootstrap replicates are stored for {side}, so a change cannot be told from chance"
        return Judgement("not comparable", missing, estimate, at_rates, difference)
    prepared = Prepared(base, settings, base_replicates), Prepared(head, settings, head_replicates)
    estimate = prepared_bd_rate(*prepared)
    pair = [(each.bpp, each.metrics[metric]) for each in (base_replicates, head_replicates)]
    at_rates, difference, replicated = _at_matched_rates(curves, pair, monotone)
    if estimate.value is not None and estimate.low is not None and not estimate.is_low_overlap:
        sure = with_interval(estimate, replicated_bd_rate(*prepared), SURE)
        verdict, reason = _by_rate(sure, tolerance_percent)
    elif difference is not None:
        verdict, remark = _by_accuracy(difference.mean, replicated)
        reason = f"{_why_not_by_rate(estimate)}; by {metric} at the same rates: {remark}"
    else:
        verdict, remark = _by_dominance(curves, pair)
        reason = f"{_why_not_by_rate(estimate)}; no rate in common; {remark}"
    return Judgement(verdict, reason, estimate, at_rates, difference)


def _by_rate(sure: Estimate, tolerance_percent: float) -> tuple[Verdict, str | None]:
    percent, low, high = sure.value or 0.0, sure.low or 0.0, sure.high or 0.0
    if percent > tolerance_percent and low > 0:
        return "worse", None
    if percent < -tolerance_percent and high < 0:
        return "better", None
    if abs(percent) <= tolerance_percent:
        return "unchanged", f"within the tolerance of {tolerance_percent:g} %"
    return "unchanged", f"chance cannot be ruled out: the {100 * SURE:g} % interval holds zero"


def _by_accuracy(mean: float, replicated: Floats) -> tuple[Verdict, str]:
    low, high = interval(replicated, SURE)
    if low is None or high is None:
        return "not comparable", "too many replicates have no value"
    if mean < -ACCURACY_TOLERANCE and high < 0:
        return "worse", f"{mean:+.2f}"
    if mean > ACCURACY_TOLERANCE and low > 0:
        return "better", f"{mean:+.2f}"
    return "unchanged", f"{mean:+.2f}"


def _by_dominance(
    curves: list[tuple[Floats, Floats]], replicates: list[tuple[Floats, Floats]]
) -> tuple[Verdict, str]:
    """Judge curves of which one needs more bits at every point: it must at least be more accurate somewhere."""
    (base_bpp, _), (head_bpp, _) = curves
    best = [np.max(accuracy, axis=0) for _, accuracy in replicates]
    low, high = interval(best[1] - best[0], SURE)
    if low is None or high is None:
        return "not comparable", "too many replicates have no value"
    if head_bpp.min() > base_bpp.max() and high < 0:
        return "worse", "more bits at every point, and less accuracy than base's best"
    if head_bpp.max() < base_bpp.min() and low > 0:
        return "better", "fewer bits at every point, and more accuracy than base's best"
    return "not comparable", "measure both at ladders that meet"


def _why_not_by_rate(estimate: Estimate) -> str:
    if estimate.value is not None and estimate.is_low_overlap:
        return f"the BD-rate rests on an overlap of {estimate.overlap:.2f}, below {LOW_OVERLAP}"
    return estimate.reason or "no BD-rate"


def _at_matched_rates(
    curves: list[tuple[Floats, Floats]], replicates: list[tuple[Floats, Floats]] | None, monotone: Monotone
) -> tuple[tuple[AccuracyAt, ...], Difference | None, Floats]:
    """Return both accuracies at base's rates within head's range, their mean difference, and its replicates.

    The difference is the mean of that at base's rates and that at head's: between its points a curve is only
    estimated, and at one side's rates alone the other would seem worse wherever their ladders differ.
    """
    points, forth, forth_replicated = _at_first(curves, replicates, monotone)
    swapped = None if replicates is None else replicates[::-1]
    _, back, back_replicated = _at_first(curves[::-1], swapped, monotone)
    if forth is None or back is None:
        found = forth if back is None else -back
        replicated = forth_replicated if back is None else -back_replicated
        return points, None if found is None else Difference(found, *interval(replicated)), replicated
    replicated = (forth_replicated - back_replicated) / 2.0
    return points, Difference((forth - back) / 2.0, *interval(replicated)), replicated


def _at_first(
    curves: list[tuple[Floats, Floats]], replicates: list[tuple[Floats, Floats]] | None, monotone: Monotone
) -> tuple[tuple[AccuracyAt, ...], float | None, Floats]:
    """Return both accuracies at the first's rates within the second's range, the mean difference, its replicates."""
    (first_bpp, _), (second_bpp, _) = curves
    matched = np.flatnonzero((first_bpp >= second_bpp.min()) & (first_bpp <= second_bpp.max()))
    matched = matched[np.argsort(first_bpp[matched], kind="stable")]
    if not matched.size:
        return (), None, np.empty(0)
    first, second = (_reached(*curve, first_bpp[matched], monotone) for curve in curves)
    replicated = _replicated_differences(replicates or [], matched, monotone)
    limits = [interval(row) for row in replicated]
    points = tuple(
        AccuracyAt(float(rate), float(was), float(now), low, high)
        for rate, was, now, (low, high) in zip(first_bpp[matched], first, second, limits, strict=True)
    )
    return points, float((second - first).mean()), replicated.mean(axis=0)


def _replicated_differences(
    replicates: list[tuple[Floats, Floats]], matched: NDArray[np.intp], monotone: Monotone
) -> Floats:
    # In each replicate the rates are base's own there: both curves' rates move together with the images.
    differences = np.empty((len(matched), replicates[0][0].shape[1] if replicates else 0))
    for index in range(differences.shape[1]):
        at = replicates[0][0][matched, index]
        base, head = (_reached(bpp[:, index], own[:, index], at, monotone) for bpp, own in replicates)
        differences[:, index] = head - base
    return differences


def _reached(bpp: Floats, accuracy: Floats, at: Floats, monotone: Monotone) -> Floats:
    """Return the accuracy that a curve reaches with at most these rates.

    PCHIP over log-rate between the points that rise, and held beyond the last of them: what was reached with fewer bits
    stays reached.
    """
    rates, accuracies = rising(bpp, accuracy, monotone)
    if not rates.size:
        return np.full(at.shape, np.nan)
    if rates.size == 1:
        return np.full(at.shape, accuracies[0])
    within = np.clip(np.log(at), np.log(rates[0]), np.log(rates[-1]))
    return np.asarray(PchipInterpolator(np.log(rates), accuracies)(within))
