"""Commands that say what is installed and what works."""

from __future__ import annotations

import typer
from rich.console import Console

from icm_bench.cli.console import say


def list_() -> None:
    """Name the codecs, detectors, datasets and metrics of other packages that are installed."""
    from icm_bench import registry

    kinds: tuple[registry.Kind, ...] = ("codec", "detector", "dataset", "metric")
    for kind in kinds:
        names = registry.names(kind)
        if names:
            say(f"{kind}s")
        for name in names:
            say(f"  {name}  ({registry.provider(kind, name)})")


def doctor() -> None:
    """Report what is usable here, and prove the colour conversion."""
    from icm_bench import doctor as examination
    from icm_bench.report import table

    findings = examination.examine()
    shown = table.Table(
        title="What is usable here",
        header=("kind", "name", "state", "detail"),
        rows=tuple((item.kind, item.name, item.state, item.detail) for item in findings),
        n_text=3,
    )
    table.show(shown, Console())
    if any(finding.is_failure for finding in findings):
        raise typer.Exit(1)
