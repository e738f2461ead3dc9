"""The command that says where runs stand, and what a run would take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from icm_bench.cli import option
from icm_bench.cli.console import duration, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icm_bench.pipeline.outlook import Standing
    from icm_bench.report.table import Table

_NAMED = 8
"""Of more rate points that stand alike, a table does not name each."""


def status(runs: option.RunsOption = Path("runs")) -> None:
    """Show what of the runs into a folder is done, running and missing."""
    from icm_bench.pipeline import outlook

    for record, running in outlook.recorded(runs):
        show(record, runs)
        for who, what, ago_s in running:
            shard = f"last shard ({what}) {duration(ago_s)} ago" if what else f"began {duration(ago_s)} ago"
            say(f"running: {who}, {shard}")


def show(record: dict[str, Any], root: Path) -> None:
    """Print what of a recorded plan is done and what is left, rate points of a codec that stand alike in one row."""
    from icm_bench.report import table

    table.show(_table(record, root), Console())


def _table(record: dict[str, Any], root: Path) -> Table:
    from icm_bench.curves.result import titled
    from icm_bench.pipeline import outlook
    from icm_bench.report.table import Table

    standings = outlook.standings(record, root)
    alike: dict[tuple[str, int], list[Standing]] = {}
    for item in standings:
        alike.setdefault((item.codec, item.n_done), []).append(item)
    rows = [
        (
            codec,
            _ladder(items),
            f"{n_done * len(items)}",
            f"{sum(item.n_shards - item.n_done for item in items)}",
            f"{sum(item.core_s for item in items) / 3600:.2f}",
            f"{sum(item.n_bytes for item in items) / 2**20:.0f}",
        )
        for (codec, n_done), items in alike.items()
    ]
    core_s, n_bytes = sum(item.core_s for item in standings), sum(item.n_bytes for item in standings)
    return Table(
        title=titled(record["task"], record["dataset"], record["detector"]),
        header=("codec", "rate points", "shards done", "missing", "core-hours left", "MiB left"),
        rows=tuple(rows),
        notes=(
            f"left: {core_s / 3600:.2f} core-hours and {n_bytes / 2**20:.0f} MiB,"
            " as measured so far, or else as the codecs declare",
        ),
    )


def _ladder(items: Sequence[Standing]) -> str:
    """Name rate points: all of a few, and of many the first, the last and how many there are."""
    names = [f"{item.quality:g}" for item in items if item.quality is not None]
    return (
        ", ".join(names)
        if len(names) <= _NAMED
        else f"{names[0]}, {names[1]}, ... {names[-1]} ({len(names)})"
    )
