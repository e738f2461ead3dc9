"""One codec against the anchor by several detectors: BD-rates side by side, and their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np

from icm_bench.curves.bdrate import replicated_bd_rate
from icm_bench.curves.comparison import Candidate, Comparison, compared, find_anchor, paired
from icm_bench.curves.estimate import Estimate, Options, Settings
from icm_bench.curves.interpolant import Floats
from icm_bench.curves.interval import with_interval
from icm_bench.curves.result import Result
from icm_bench.spec import Spec


@dataclass(frozen=True)
class ByDetector:
    """One codec against the anchor of its dataset and task, by each of several detectors.

    Attributes:
        codec: The codec's spec.
        anchor: The anchor's spec.
        comparisons: By the detector's spec.
        seen: The detectors through which the codec was trained, or which guide its encoder.
        mean: The mean of the BD-rates, or why there is none.
        unseen: The mean over the other detectors; None where the codec has seen none, or all.
    """

    codec: str
    anchor: str
    comparisons: Mapping[str, Comparison]
    seen: frozenset[str]
    mean: Estimate
    unseen: Estimate | None = None

    def records(self) -> list[dict[str, Any]]:
        """Return a flat row for each detector and for each mean."""
        rows = [item.record() | {"seen": name in self.seen} for name, item in self.comparisons.items()]
        first = next(iter(self.comparisons.values()))
        for name, mean in (("mean", self.mean), ("mean of unseen", self.unseen)):
            if mean is not None:
                nothing = Estimate(value=None, method=mean.method)
                row = replace(first, detector=name, bd_rate=mean, bd_accuracy=nothing)
                rows.append(row.record() | {"seen": None})
        return rows


def has_seen(result: Result) -> bool:
    """Tell whether a codec was trained through the detector that judges it, or is guided by it."""
    if result.meta.get("guide", {}).get("is_judge"):
        return True
    judge = _network(result.detector)
    return any(_network(text) == judge for text in result.meta.get("trained_through", ()))


def compare_by_detector(
    groups: Sequence[Sequence[Result]], *, anchor: str | None = None, **options: Unpack[Options]
) -> list[ByDetector]:
    """Compare each codec with the anchor by each detector, and average over the detectors.

    The interval of a mean is of the mean on each bootstrap replicate: the detectors look at the same images, so their
    errors go together.

    Args:
        groups: The curves of one dataset and task, a group a detector.
        anchor: A spec, or a codec's name; None for ``vvc``, or the first curve.
        options: ``metric``, ``method`` and ``monotone``.

    Raises:
        UsageError: A group has no curve that answers to the anchor's name.
    """
    settings = Settings(**options)
    pairs: dict[str, dict[str, tuple[Candidate, Candidate]]] = {}
    for group in groups:
        chosen = find_anchor(group, anchor)
        reference = Candidate(chosen, settings)
        for result in group:
            if result is not chosen:
                pair = (reference, Candidate(result, settings))
                pairs.setdefault(result.codec, {})[result.detector] = pair
    detectors = [group[0].detector for group in groups]
    return [_compared(codec, found, detectors) for codec, found in pairs.items()]


def _compared(
    codec: str, pairs: Mapping[str, tuple[Candidate, Candidate]], detectors: Sequence[str]
) -> ByDetector:
    found = {name: compared(*pairs[name]) for name in detectors if name in pairs}
    seen = frozenset(name for name, (_, test) in pairs.items() if has_seen(test.result))
    others = [name for name in detectors if name not in seen]
    return ByDetector(
        codec,
        next(iter(found.values())).anchor,
        found,
        seen,
        _mean(detectors, found, pairs),
        _mean(others, found, pairs) if seen and others else None,
    )


def _mean(
    detectors: Sequence[str],
    found: Mapping[str, Comparison],
    pairs: Mapping[str, tuple[Candidate, Candidate]],
) -> Estimate:
    """Return the mean of BD-rates, with its interval where all have replicates of the same images."""
    rates = {name: found[name].bd_rate for name in detectors if name in found}
    method = next(iter(found.values())).bd_rate.method
    missing = [name for name in detectors if name not in found]
    if missing:
        return Estimate(value=None, method=method, reason=f"no mean: not measured by {missing[0]}")
    values = []
    for name, rate in rates.items():
        if rate.value is None:
            return Estimate(value=None, method=method, reason=f"no mean: by {name}, {rate.reason}")
        values.append(rate.value)
    overlaps = [rate.overlap for rate in rates.values() if rate.overlap is not None]
    mean = Estimate(value=float(np.mean(values)), method=method, overlap=min(overlaps, default=None))
    replicated = _replicated([pairs[name] for name in detectors])
    if isinstance(replicated, str):
        return replace(mean, reason=f"no interval: {replicated}")
    return mean if replicated is None else with_interval(mean, replicated)


def _replicated(pairs: Sequence[tuple[Candidate, Candidate]]) -> Floats | str | None:
    """Return the mean on each replicate that all have; why there is none; None where no replicates were made."""
    images = {test.result.meta["dataset"].get("fingerprint") for _, test in pairs}
    if len(images) > 1:
        return "the detectors looked at different images"
    replicates = []
    for anchor, test in pairs:
        pair, why = paired(anchor, test)
        if why is not None:
            return why
        if pair[0].n_replicates is None or pair[1].n_replicates is None:
            return None
        replicates.append(replicated_bd_rate(*pair))
    n = min(map(len, replicates))
    return np.asarray(np.mean([values[:n] for values in replicates], axis=0), dtype=np.float64)


def _network(text: str) -> tuple[str, ...]:
    """Return what tells a detector's network from others': of one that is named by its file, that file's hash."""
    spec = Spec.parse(text)
    model = dict(spec.options).get("model")
    return (spec.name, model.rpartition("-")[2]) if model else (str(spec),)
