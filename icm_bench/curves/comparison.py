"""Curves against each other: BD-rates over result files, with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

from icm_bench.curves.bdrate import prepared_bd_accuracy, prepared_bd_rate, prepared_rate_at
from icm_bench.curves.estimate import Estimate, Options, Settings
from icm_bench.curves.prepared import Prepared, replicates_for
from icm_bench.curves.rate_convention import MEASURED, differing
from icm_bench.curves.result import Result, titled
from icm_bench.error import ResultError, UsageError, unknown
from icm_bench.metrics.metric import metric_of
from icm_bench.spec import Spec

USUAL_ANCHOR = "vvc"


@dataclass(frozen=True)
class OfGroup:
    """What is said of a codec of a group of curves.

    Attributes:
        dataset: The dataset's name.
        task: What accuracy is measured on.
        detector: The detector's spec.
    """

    dataset: str
    task: str
    detector: str


@dataclass(frozen=True)
class Comparison(OfGroup):
    """One codec against the anchor of its group.

    Attributes:
        metric: The column of the results that was compared.
        codec: The codec's spec.
        anchor: The anchor's spec.
        bd_rate: The mean difference in rate, or why there is none.
        bd_accuracy: The mean difference in accuracy, or why there is none.
        mixed: In which conventions the two curves' rates differ; an estimate of such a pair means little.
    """

    metric: str
    codec: str
    anchor: str
    bd_rate: Estimate
    bd_accuracy: Estimate
    mixed: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return the comparison as one flat row; None where there is no value."""
        rate, gain = self.bd_rate, self.bd_accuracy
        names = ("dataset", "task", "detector", "metric", "anchor", "codec")
        return {
            **{name: getattr(self, name) for name in names},
            "method": rate.method,
            "bd_rate_percent": rate.value,
            "low": rate.low,
            "high": rate.high,
            "overlap": rate.overlap,
            "reason": rate.reason,
            "dips": "; ".join(rate.dips) or None,
            "resamples": rate.n_resamples,
            "resamples_without": rate.n_without,
            "bd_accuracy": gain.value,
            "bd_accuracy_low": gain.low,
            "bd_accuracy_high": gain.high,
            "mixed_conventions": "; ".join(self.mixed) or None,
        }


@dataclass(frozen=True)
class FixedAccuracy(OfGroup):
    """What rate a codec needs for an accuracy.

    Attributes:
        metric: The column of the results.
        codec: The codec's spec.
        target: The accuracy as it was asked for: absolute, or negative for points below the uncompressed images'.
        rate: Bits per pixel, or why there is no value.
        mixed: In which conventions the codec's rates differ from those of the group's first.
    """

    metric: str
    codec: str
    target: float
    rate: Estimate
    mixed: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return the rate in columns named for the target, such as ``bpp_at_-1``; None where there is no value."""
        name = f"bpp_at_{self.target:g}"
        return {
            name: self.rate.value,
            f"{name}_low": self.rate.low,
            f"{name}_high": self.rate.high,
            f"{name}_reason": self.rate.reason,
        }


def grouped(results: Iterable[Result]) -> dict[tuple[str, str, str], list[Result]]:
    """Return results by dataset, task and detector: what may stand in one table."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        groups.setdefault(result.group, []).append(result)
    return groups


def comparable(results: Sequence[Result]) -> tuple[list[Result], list[str]]:
    """Return the curves whose rates mean the same, and a line for each that is left out.

    They mean what those of this package's own curves mean, or of the first curve where none of them do.
    """
    own = (
        result
        for result in results
        if result.meta.get("conventions") == MEASURED.record() and not result.is_published
    )
    reference = next(own, results[0])
    kept, left_out = [], []
    for result in results:
        differences = [] if result is reference else differing(reference.meta, result.meta)
        if differences:
            left_out.append(
                f"{result.codec} ({titled(result.task, result.dataset, result.detector)}): rates of different "
                f"conventions cannot be compared with {reference.codec}'s: {differences[0]}"
            )
        else:
            kept.append(result)
    return kept, left_out


def find_anchor(results: Sequence[Result], text: str | None) -> Result:
    """Return the curve of a group that the others are compared with.

    The text is a spec, or a codec's name where one curve alone has it; None is for ``vvc``, or the first curve.

    Raises:
        UsageError: No curve, or more than one, answers to it.
    """
    wanted = USUAL_ANCHOR if text is None else str(Spec.parse(text))
    exact = [result for result in results if result.codec == wanted]
    named = exact or [result for result in results if Spec.parse(result.codec).name == wanted]
    if len(named) == 1:
        return named[0]
    if text is None:
        return named[0] if named else results[0]
    if named:
        specs = ", ".join(result.codec for result in named)
        raise UsageError(
            f"'{text}' is the anchor of several: {specs}", where="--anchor", hint="name one in full"
        )
    raise unknown("anchor", text, [result.codec for result in results])


def compare_with_anchor(
    results: Sequence[Result], *, anchor: str | None = None, **options: Unpack[Options]
) -> list[Comparison]:
    """Compare each curve of a group with the group's anchor.

    Raises:
        UsageError: No curve answers to the anchor's name.
        ResultError: No curve has the metric.
    """
    chosen = find_anchor(results, anchor)
    settings = Settings(**options)
    if not any(settings.metric in result.results for result in results):
        known = ", ".join(sorted(chosen.results))
        raise ResultError(f"no curve has the metric '{settings.metric}'", hint=f"known: {known}")
    reference = Candidate(chosen, settings)
    return [compared(reference, Candidate(result, settings)) for result in results if result is not chosen]


def compare_all(results: Sequence[Result], **options: Unpack[Options]) -> list[Comparison]:
    """Compare every curve of a group with every other."""
    candidates = [Candidate(result, Settings(**options)) for result in results]
    return [compared(anchor, test) for test in candidates for anchor in candidates if test is not anchor]


def fixed_accuracies(
    results: Sequence[Result], targets: Sequence[float] = (-1.0, -2.0, -5.0), **options: Unpack[Options]
) -> list[FixedAccuracy]:
    """Return the rate at which each curve of a group reaches each accuracy.

    A negative one counts from the uncompressed images' accuracy, in every replicate its own.
    """
    settings = Settings(**options)
    found = []
    for result in results:
        mixed = tuple(differing(results[0].meta, result.meta)) if result is not results[0] else ()
        original = (result.meta.get("uncompressed") or {}).get(settings.metric)
        candidate = Candidate(result, settings)
        for target in targets:
            if target >= 0 or original is not None:
                rate = candidate.rate_at(target, original)
                found.append(FixedAccuracy(*result.group, settings.metric, result.codec, target, rate, mixed))
    return found


def records(comparisons: Sequence[Comparison], rates: Sequence[FixedAccuracy] = ()) -> list[dict[str, Any]]:
    """Return a group's comparisons as flat rows, each with the rates of codec and anchor at fixed accuracies."""
    columns: dict[str, dict[str, Any]] = {}
    for item in rates:
        columns.setdefault(item.codec, {}).update(item.record())
    names = dict.fromkeys(name for own in columns.values() for name in own)

    def of(codec: str, prefix: str) -> dict[str, Any]:
        return {f"{prefix}{name}": columns.get(codec, {}).get(name) for name in names}

    return [item.record() | of(item.codec, "") | of(item.anchor, "anchor_") for item in comparisons]


class Candidate:
    """A result, prepared to be compared with many others."""

    def __init__(self, result: Result, settings: Settings) -> None:
        self.result, self.metric = result, settings.metric
        self.replicates = replicates_for(result, settings)
        self.prepared = Prepared(result.curve, settings, self.replicates)
        self.alone = Prepared(result.curve, settings)

    def rate_at(self, target: float, original: float | None) -> Estimate:
        """Return the rate at an accuracy, or at one so far below the uncompressed images'."""
        wanted: Any = None
        if target < 0 and original is not None:
            if self.replicates is not None:
                wanted = self.replicates.uncompressed[self.metric] + target
            target += original
        why = self.result.why_no_replicates
        return _estimated(lambda: prepared_rate_at(self.prepared, target, wanted), [self], why)

    @property
    def missing(self) -> str | None:
        """Why the curve lacks the metric, or None where it has it."""
        if self.metric in self.result.results:
            return None
        name = metric_of(self.metric).label
        undefined = self.result.meta.get("fidelity", {}).get("undefined", {})
        why = f", since {undefined[self.metric]}" if self.metric in undefined else ""
        return f"{self.result.codec} has no {name}{why}"


def compared(anchor: Candidate, test: Candidate) -> Comparison:
    """Compare one curve with an anchor."""
    pair, why = paired(anchor, test)
    return Comparison(
        *test.result.group,
        test.metric,
        test.result.codec,
        anchor.result.codec,
        _estimated(lambda: prepared_bd_rate(*pair), (anchor, test), why),
        _estimated(lambda: prepared_bd_accuracy(*pair), (anchor, test), why),
        tuple(differing(anchor.result.meta, test.result.meta)),
    )


def paired(anchor: Candidate, test: Candidate) -> tuple[tuple[Prepared, Prepared], str | None]:
    """Return two prepared curves, with replicates where both are of the same images; else the reason why not."""
    found = {each.result.meta["dataset"].get("fingerprint") for each in (anchor, test)}
    if len(found - {None}) > 1:
        # Replicates are of the same images for both, or say nothing of their difference.
        return (anchor.alone, test.alone), "the curves were measured on different images"
    why = anchor.result.why_no_replicates or test.result.why_no_replicates
    return (anchor.prepared, test.prepared), why


def _estimated(estimate: Callable[[], Estimate], curves: Sequence[Candidate], why: str | None) -> Estimate:
    """Return an estimate, or why curves cannot be compared; ``why`` says for what a file at hand was not used."""
    reason = next(filter(None, (curve.missing for curve in curves)), None)
    method = curves[0].prepared.settings.method
    if reason is not None:
        return Estimate(value=None, method=method, reason=reason)
    try:
        found = estimate()
    except ResultError as error:
        return Estimate(value=None, method=method, reason=str(error))
    if why is None or found.reason is not None or found.low is not None:
        return found
    return replace(found, reason=f"no interval: {why}")
