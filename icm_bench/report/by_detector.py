"""The table of BD-rates by several detectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from icm_bench.curves.by_detector import ByDetector
from icm_bench.curves.estimate import LOW_OVERLAP, Estimate, dip_notes
from icm_bench.curves.result import titled
from icm_bench.metrics.metric import metric_of
from icm_bench.report.style import detector_label
from icm_bench.report.table import MIXED, Table, bounds, mixtures, percent, remark

SEEN: Final = " ‡"
"""Marks a BD-rate by a detector that a codec has seen in training, or that guides its encoder."""


def table_of(rows: Sequence[ByDetector]) -> Table:
    """Return the BD-rate of each codec of a dataset and task, in rows, by each detector, in columns, and the mean."""
    first = next(iter(rows[0].comparisons.values()))
    metric = metric_of(first.metric).label
    detectors = list(dict.fromkeys(name for row in rows for name in row.comparisons))
    labels = {name: detector_label(name) for name in detectors}
    has_unseen = any(row.unseen is not None for row in rows)

    def cell(row: ByDetector, name: str) -> str:
        item = row.comparisons.get(name)
        if item is None:
            return ""
        return f"{percent(item.bd_rate)}{SEEN * (name in row.seen)}{' ' + MIXED if item.mixed else ''}"

    def mean(estimate: Estimate) -> tuple[str, str]:
        return percent(estimate), bounds(estimate.low, estimate.high, "+.1f")

    unseen = ("mean of unseen", "95 %") if has_unseen else ()
    seen = f"{SEEN.strip()} the codec was trained through this detector, or its encoder is guided by it."
    names = [f"{label}: {name}" for name, label in labels.items() if label != name]
    return Table(
        title=f"BD-rate against {first.anchor}: {titled(first.task, first.dataset, f'{len(detectors)} detectors')}",
        header=("codec", *labels.values(), "mean", "95 %", *unseen, "remark"),
        rows=tuple(
            (
                row.codec,
                *(cell(row, name) for name in detectors),
                *mean(row.mean),
                *(mean(row.unseen or row.mean) if has_unseen else ()),
                remark(row.mean),
            )
            for row in rows
        ),
        notes=(
            f"Negative means fewer bits for the same {metric}. Method: {first.bd_rate.method}. ! marks an overlap "
            f"below {LOW_OVERLAP}. Mean: of the BD-rates; its interval is of the mean on each bootstrap replicate.",
            *([seen] if any(row.seen for row in rows) else []),
            *([f"Detectors: {'; '.join(names)}."] if names else []),
            *dip_notes(item.bd_rate for row in rows for item in row.comparisons.values()),
            *mixtures([item for row in rows for item in row.comparisons.values()]),
        ),
        n_text=1,
    )
