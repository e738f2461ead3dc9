"""Bjontegaard deltas: how many bits, or how much accuracy, one codec saves over another.

Every estimate is of the test against the anchor: a negative BD-rate means fewer bits for the same accuracy, a
positive BD-accuracy more accuracy for the same bits. An estimate that is not defined has no value, but a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from icm_bench.curves.estimate import Estimate, Options, Settings
from icm_bench.curves.interpolant import Floats
from icm_bench.curves.interval import with_interval
from icm_bench.curves.prepared import Across, Axis, Prepared, Rates, replicates_for
from icm_bench.curves.rate_convention import differing
from icm_bench.curves.result import Result
from icm_bench.error import ResultError

Measured: TypeAlias = Rates | Result
"""A result with its bootstrap replicates, a curve, or its rates and its accuracies."""

_FAR_LOG_RATE: Final = float(np.log(1.5))
_FAR_SHARE: Final = 0.1


def bd_rate(anchor: Measured, test: Measured, **options: Unpack[Options]) -> Estimate:
    """Return how many more bits the test needs than the anchor for the same accuracy.

    The mean difference of log-rate over the accuracies that both curves reach, as percent (Bjontegaard, VCEG-M33).

    Args:
        anchor: What is compared against: a result, a curve, or its rates and its accuracies.
        test: What is compared. Two results give a paired 95 % interval, or the reason why there is none.
        options: ``metric``, ``method`` and ``monotone``, see :class:`icm_bench.curves.estimate.Settings`.

    Raises:
        ResultError: A curve has no such metric, a value is not finite or a rate not above 0; or the policy is
            ``error`` and a curve does not rise; or the rates of two results mean different things.
        UsageError: The method or the policy is unknown.
    """
    pair = _prepared(anchor, test, options)
    return _explained(prepared_bd_rate(*pair), pair, (anchor, test))


def bd_accuracy(anchor: Measured, test: Measured, **options: Unpack[Options]) -> Estimate:
    """Return how much more accurate the test is than the anchor at the same rate: BD-mAP, BD-PSNR.

    The mean difference of accuracy over the log-rates that both curves have; for arguments and errors see
    :func:`bd_rate`.
    """
    pair = _prepared(anchor, test, options)
    return _explained(prepared_bd_accuracy(*pair), pair, (anchor, test))


def rate_at(curve: Measured, accuracy: float, **options: Unpack[Options]) -> Estimate:
    """Return the rate at which a curve reaches an accuracy, never beyond its own points.

    Args:
        curve: A result, which gives an interval, a curve, or its rates and its accuracies.
        accuracy: What to reach, in the metric's unit.
        options: See :func:`bd_rate`, for errors as well.
    """
    prepared = _prepared_one(curve, Settings(**options), "curve", is_paired=True)
    return _explained(prepared_rate_at(prepared, accuracy), [prepared], [curve])


def prepared_bd_rate(anchor: Prepared, test: Prepared) -> Estimate:
    """Return the BD-rate of prepared curves, with its 95 % interval where both have replicates."""
    return _compared(anchor, test, "accuracy")


def prepared_bd_accuracy(anchor: Prepared, test: Prepared) -> Estimate:
    """Return the BD-accuracy of prepared curves, with its 95 % interval where both have replicates."""
    return _compared(anchor, test, "log_rate")


def prepared_rate_at(
    curve: Prepared, accuracy: float, in_replicates: Floats | float | None = None
) -> Estimate:
    """Return the rate at which a prepared curve reaches an accuracy, with its 95 % interval where it has replicates.

    What to reach in each replicate, such as one point below the uncompressed images' accuracy, may be another.
    """
    found = replace(_rate_at(curve, accuracy), dips=curve.dips)
    if curve.n_replicates is None:
        return found
    wanted = accuracy if in_replicates is None else in_replicates
    return with_interval(found, replicated_rate_at(curve, wanted))


def replicated_bd_rate(anchor: Prepared, test: Prepared) -> Floats:
    """Return the BD-rate of each replicate that both curves have: percent, NaN where there is none."""
    return _replicated(anchor, test, "accuracy")


def replicated_bd_accuracy(anchor: Prepared, test: Prepared) -> Floats:
    """Return the BD-accuracy of each replicate that both curves have, in the metric's unit; NaN where there is none."""
    return _replicated(anchor, test, "log_rate")


def replicated_rate_at(curve: Prepared, accuracy: Floats | float) -> Floats:
    """Return the rate of each replicate at an accuracy, or at one of its own: bits per pixel, NaN where not reached."""
    return _rates_at(curve.replicates_over["accuracy"], accuracy)[0]


class _Delta(NamedTuple):
    """The mean difference of y between two curves over the x that both have, test less anchor, a value a set.

    Attributes:
        mean: NaN where they share no x.
        overlap: The x that they share over those that either has, 0 to 1.
        strays: Where a curve turns back between its points, and the mean is far from that of straight lines.
    """

    mean: Floats
    overlap: Floats
    strays: NDArray[np.bool_]


def _delta(anchor: Across, test: Across, n_sets: int | None) -> _Delta:
    first = slice(n_sets)
    lows, highs = ([getattr(each, name)[first] for each in (anchor, test)] for name in ("low", "high"))
    low, high = np.maximum(*lows), np.minimum(*highs)
    widest = np.maximum(*highs) - np.minimum(*lows)
    shared = high > low
    overlap = np.divide(high - low, widest, out=np.zeros_like(widest), where=shared)
    low, high = np.where(shared, low, np.nan), np.where(shared, high, np.nan)

    def mean(before: Floats, after: Floats) -> Floats:
        return np.asarray((after - before) / (high - low))

    with np.errstate(over="ignore", invalid="ignore"):
        found = mean(*(each.curves.integral(low, high) for each in (anchor, test)))
        if not anchor.may_turn:
            return _Delta(found, overlap, np.zeros(len(low), dtype=bool))
        straight = mean(*(each.lines.integral(low, high) for each in (anchor, test)))
        turned = np.logical_or(*(each.curves.falls(low, high) for each in (anchor, test)))
        return _Delta(found, overlap, turned & ~(np.abs(found - straight) <= _far(anchor, test, first)))


def _far(anchor: Across, test: Across, first: slice) -> Floats | float:
    """Return from where on a mean is far from that of straight lines, in y's unit."""
    if anchor.is_rate:
        return _FAR_LOG_RATE
    spans = np.maximum(anchor.most[first], test.most[first]) - np.minimum(
        anchor.least[first], test.least[first]
    )
    return np.asarray(_FAR_SHARE * spans)


def _rates_at(curve: Across, accuracy: Floats | float) -> tuple[Floats, NDArray[np.bool_]]:
    wanted = np.broadcast_to(np.asarray(accuracy, dtype=np.float64), curve.low.shape)
    inside = np.where((wanted >= curve.low) & (wanted <= curve.high), wanted, np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        found = curve.curves.at(inside)
        strays = np.zeros(len(found), dtype=bool)
        if curve.may_turn:
            far = np.abs(found - curve.lines.at(inside)) > _FAR_LOG_RATE
            strays = curve.curves.falls(curve.low, curve.high) & far
        return np.where(strays, np.nan, np.exp(found)), strays


def _rate_at(curve: Prepared, accuracy: float) -> Estimate:
    reason = _unfit(curve)
    if reason:
        return _none(curve, reason)
    codec, metric = curve.curve.codec, curve.settings.metric
    low, high = float(curve.over["accuracy"].low[0]), float(curve.over["accuracy"].high[0])
    if accuracy > high:
        return _none(curve, f"{codec} reaches {high:.4g} {metric}, not {accuracy:.4g}")
    if accuracy < low:
        return _none(curve, f"{codec} starts at {low:.4g} {metric}, above {accuracy:.4g}")
    bpp, strays = _rates_at(curve.over["accuracy"], accuracy)
    if strays[0]:
        return _none(curve, _strayed(curve))
    if not np.isfinite(bpp[0]):
        return _none(curve, _out_of_bounds(curve))
    return Estimate(value=float(bpp[0]), method=curve.settings.method)


def _prepared(anchor: Measured, test: Measured, options: Options) -> tuple[Prepared, Prepared]:
    settings = Settings(**options)
    if isinstance(anchor, Result) and isinstance(test, Result):
        differences = differing(anchor.meta, test.meta)
        if differences:
            raise ResultError(
                f"its rates cannot be compared with {anchor.codec}'s: {differences[0]}",
                where=test.codec,
                hint="compare the curves alone, by their attribute curve, if you know better",
            )
    paired = _of_one_dataset(anchor, test)
    first = _prepared_one(anchor, settings, "anchor", is_paired=paired)
    return first, _prepared_one(test, settings, "test", is_paired=paired)


def _prepared_one(measured: Measured, settings: Settings, name: str, *, is_paired: bool) -> Prepared:
    if not isinstance(measured, Result):
        return Prepared(measured, settings, name=name)
    return Prepared(measured.curve, settings, replicates_for(measured, settings) if is_paired else None)


def _of_one_dataset(*measured: Measured) -> bool:
    """Tell whether replicates are of the same images for all, so that they say something of their difference."""
    results = [each for each in measured if isinstance(each, Result)]
    prints = {result.meta["dataset"].get("fingerprint") for result in results}
    return len(results) == len(measured) and len(prints) == 1 and None not in prints


def _explained(found: Estimate, prepared: Sequence[Prepared], measured: Sequence[Measured]) -> Estimate:
    """Return an estimate of results, with the reason where it has no interval."""
    results = [each for each in measured if isinstance(each, Result)]
    if len(results) < len(measured) or found.reason is not None or found.low is not None:
        return found
    why = "the curves were measured on different images"
    if len(results) == 1 or _of_one_dataset(*measured):
        pairs = zip(results, prepared, strict=True)
        without = next(result for result, each in pairs if each.n_replicates is None)
        why = without.why_no_replicates or f"{without.codec} has no bootstrap replicates to use"
    return replace(found, reason=f"no interval: {why}")


def _compared(anchor: Prepared, test: Prepared, axis: Axis) -> Estimate:
    reason = _unfit(anchor, test)
    found = _none(test, reason) if reason else _checked(anchor, test, axis)
    found = replace(found, dips=anchor.dips + test.dips)
    if anchor.n_replicates is None or test.n_replicates is None:
        return found
    return with_interval(found, _replicated(anchor, test, axis))


def _replicated(anchor: Prepared, test: Prepared, axis: Axis) -> Floats:
    # Of one dataset, fewer replicates are the beginning of more.
    n = min(anchor.n_replicates or 0, test.n_replicates or 0)
    delta = _delta(anchor.replicates_over[axis], test.replicates_over[axis], n)
    return np.where(delta.strays, np.nan, _in_unit(delta.mean, axis))


def _in_unit(mean: Floats, axis: Axis) -> Floats:
    """Return mean differences of log-rate as percent, and of accuracy as they are."""
    with np.errstate(over="ignore"):
        return np.asarray(100 * np.expm1(mean)) if axis == "accuracy" else mean


def _unfit(*curves: Prepared) -> str | None:
    """Say why curves cannot be compared, or None."""
    labels = [label for curve in curves for label in curve.undefined_points()]
    if labels:
        return f"{curves[0].settings.metric} is not defined for {', '.join(labels)}"
    fronts = [curve.front for curve in curves]  # an error of any comes before a reason of the first
    return next(filter(None, (curve.too_few() for curve, _ in zip(curves, fronts, strict=True))), None)


def _checked(anchor: Prepared, test: Prepared, axis: Axis) -> Estimate:
    delta = _delta(anchor.over[axis], test.over[axis], None)
    overlap, value = float(delta.overlap[0]), float(_in_unit(delta.mean, axis)[0])
    if overlap == 0:
        accuracies = [curve.front.accuracy[curve.front.kept] for curve in (anchor, test)]
        rates = [np.exp(curve.front.log_rate[curve.front.kept]) for curve in (anchor, test)]
        name, ranges = (test.settings.metric, accuracies) if axis == "accuracy" else ("bpp", rates)
        shown = [
            f"{curve.curve.codec} has {values[0]:.4g} to {values[-1]:.4g}"
            for curve, values in zip((anchor, test), ranges, strict=True)
        ]
        return _none(test, f"no overlap in {name}: {', '.join(shown)}", 0.0)
    if delta.strays[0]:
        return _none(test, _strayed(test), overlap)
    if not np.isfinite(value):
        return _none(test, _out_of_bounds(test), overlap)
    return Estimate(value=value, method=test.settings.method, overlap=overlap)


def _none(curve: Prepared, reason: str, overlap: float | None = None) -> Estimate:
    return Estimate(value=None, method=curve.settings.method, overlap=overlap, reason=reason)


def _out_of_bounds(curve: Prepared) -> str:
    return f"the {curve.settings.method} curve runs out of all bounds"


def _strayed(curve: Prepared) -> str:
    method = curve.settings.method
    return f"the {method} curve turns back between its points and strays far from straight lines"
