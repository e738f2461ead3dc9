"""Curves against each other: BD-rates over result files, with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icm_bench import registry
from icm_bench.bdrate import BdRate, Method, bd_rate
from icm_bench.curve import Monotone
from icm_bench.error import ResultError, UsageError
from icm_bench.resample import bd_rate_interval, with_interval
from icm_bench.result import Result
from icm_bench.spec import Spec

METRIC_NAMES: Mapping[str, str] = {
    "map": "AP",
    "map50": "AP50",
    "map75": "AP75",
    "map_small": "AP small",
    "map_medium": "AP medium",
    "map_large": "AP large",
    "psnr-rgb": "PSNR",
    "psnr-rgb-pooled": "PSNR (pooled)",
}
"""How metrics are called where people read them."""

USUAL_ANCHOR = "vvc"


@dataclass(frozen=True)
class Comparison:
    """One codec against the anchor of its group.

    Attributes:
        dataset: The dataset's name.
        task: What accuracy is measured on.
        detector: The detector's spec.
        metric: The column of the results that was compared.
        codec: The codec's spec.
        anchor: The anchor's spec.
        bd_rate: The figure, or why there is none.
    """

    dataset: str
    task: str
    detector: str
    metric: str
    codec: str
    anchor: str
    bd_rate: BdRate

    def record(self) -> dict[str, Any]:
        """Return the comparison as one flat row, figures in percent, None where there is none."""
        figure = self.bd_rate
        return {
            "dataset": self.dataset,
            "task": self.task,
            "detector": self.detector,
            "metric": self.metric,
            "anchor": self.anchor,
            "codec": self.codec,
            "method": figure.method,
            "bd_rate_percent": figure.percent,
            "low": figure.low,
            "high": figure.high,
            "overlap": figure.overlap,
            "reason": figure.reason,
        }


def grouped(results: Iterable[Result]) -> dict[tuple[str, str, str], list[Result]]:
    """Return results by dataset, task and detector: what may stand in one table."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        groups.setdefault(result.group, []).append(result)
    return groups


def find_anchor(results: Sequence[Result], text: str | None) -> Result:
    """Return the curve that the others of a group are compared with.

    Args:
        results: The group's curves.
        text: A spec, or a codec's name where one curve alone has it; None for ``vvc``, or the first curve.

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
            f"'{text}' is the anchor of several: {specs}", where="--anchor", mend="name one in full"
        )
    raise registry.unknown("anchor", text, [result.codec for result in results])


def compare_with_anchor(
    results: Sequence[Result],
    *,
    anchor: str | None = None,
    metric: str = "map",
    method: Method = "pchip",
    monotone: Monotone = "pareto",
) -> list[Comparison]:
    """Compare each curve of a group with the group's anchor.

    Raises:
        UsageError: No curve answers to the anchor's name.
        ResultError: No curve has the metric.
    """
    chosen = find_anchor(results, anchor)
    if not any(metric in result.results for result in results):
        known = ", ".join(sorted(chosen.results))
        raise ResultError(f"no curve has the metric '{metric}'", mend=f"known: {known}")
    return [
        Comparison(
            *result.group,
            metric,
            result.codec,
            chosen.codec,
            _figure(chosen, result, metric, method, monotone),
        )
        for result in results
        if result is not chosen
    ]


def _figure(anchor: Result, test: Result, metric: str, method: Method, monotone: Monotone) -> BdRate:
    figure = bd_rate(anchor.curve, test.curve, metric=metric, method=method, monotone=monotone)
    if (
        anchor.draws is None
        or test.draws is None
        or metric not in anchor.draws.metrics
        or monotone == "error"
    ):
        return figure
    interval = bd_rate_interval(anchor.draws, test.draws, metric=metric, method=method, monotone=monotone)
    return with_interval(figure, interval)
