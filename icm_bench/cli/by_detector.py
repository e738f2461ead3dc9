"""What commands print and draw of several detectors that judge the same codecs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icm_bench.cli.console import say
from icm_bench.error import ResultError

if TYPE_CHECKING:
    from icm_bench.curves.by_detector import ByDetector
    from icm_bench.curves.result import Result
    from icm_bench.report.table import Table


def judged(groups: Sequence[list[Result]]) -> Iterator[list[list[Result]]]:
    """Yield the groups of each dataset and task that several detectors judge; say which are left out.

    Raises:
        ResultError: There is none.
    """

    def place(group: list[Result]) -> tuple[str, str]:
        return group[0].dataset, group[0].task

    n_found = 0
    for (dataset, task), found in itertools.groupby(sorted(groups, key=place), key=place):
        members = list(found)
        if len(members) > 1:
            n_found += 1
            yield members
        else:
            say(f"left out: {task} on {dataset}, which one detector alone has judged", error=True)
    if not n_found:
        raise ResultError(
            "no dataset and task has curves by several detectors", hint="run with --detector A,B"
        )


def compared(groups: Sequence[list[Result]], anchor: str | None, **options: Any) -> list[ByDetector]:
    """Return the BD-rates of one dataset and task by each detector, on the accuracy that its curves have."""
    from icm_bench.curves.by_detector import compare_by_detector
    from icm_bench.curves.result import main_metric

    metric = main_metric(groups[0], options.pop("metric", "map"))
    return compare_by_detector(groups, anchor=anchor, metric=metric, **options)


def table_of(
    rows: Sequence[ByDetector], groups: Sequence[list[Result]], named: Mapping[str, str] | None = None
) -> Table:
    """Return the table of BD-rates with a column for each detector, codecs called by their labels."""
    from icm_bench.report import by_detector, table

    # Which detector guides an encoder stands in its column.
    results = {
        result.codec: replace(result, meta={**result.meta, "guide": {}})
        for group in groups
        for result in group
    }
    return table.labelled(by_detector.table_of(rows), list(results.values()), named)


def draw(groups: Sequence[list[Result]], folder: Path, **options: Any) -> Path:
    """Draw a panel for each detector and return the path of the plot."""
    from icm_bench.report import plot

    return plot.draw_group(
        [result for group in groups for result in group], folder, panels="detectors", **options
    )
