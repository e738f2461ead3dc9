"""The command that says where runs stand, and what a run would take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from icm_bench.cli import option
from icm_bench.cli.console import duration, say

if TYPE_CHECKING:
    from icm_bench.report.table import Table


def status(runs: option.RunsOption = Path("runs")) -> None:
    """Show what of the runs into a folder is done, running and missing."""
    from icm_bench.pipeline import outlook

    for record, running in outlook.recorded(runs):
        show(record, runs)
        for who, ago_s in running:
            say(f"running: {who}, last shard {duration(ago_s)} ago")


def show(record: dict[str, Any], root: Path) -> None:
    """Print what of a recorded plan is done and what is left."""
    from icm_bench.report import table

    table.show(_table(record, root), Console())


def _table(record: dict[str, Any], root: Path) -> Table:
    from icm_bench.curves.result import titled
    from icm_bench.pipeline import outlook
    from icm_bench.report.table import Table

    standings = outlook.standings(record, root)
    rows = [
        (
            item.codec,
            "" if item.quality is None else f"{item.quality:g}",
            f"{item.n_done}",
            f"{item.n_shards - item.n_done}",
            f"{item.core_s / 3600:.2f}",
            f"{item.n_bytes / 2**20:.0f}",
        )
        for item in standings
    ]
    core_s, n_bytes = sum(item.core_s for item in standings), sum(item.n_bytes for item in standings)
    return Table(
        title=titled(record["task"], record["dataset"], record["detector"]),
        header=("codec", "quality", "shards done", "missing", "core-hours left", "MiB left"),
        rows=tuple(rows),
        notes=(
            f"left: {core_s / 3600:.2f} core-hours and {n_bytes / 2**20:.0f} MiB,"
            " as measured so far, or else as the codecs declare",
        ),
    )
