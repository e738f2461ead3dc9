"""Commands that say what is installed and what works."""

from __future__ import annotations

import typer
from rich.console import Console

from icm_bench.cli.console import say


def list_() -> None:
    """Name the codecs, detectors and datasets that are installed."""
    from icm_bench import registry

    for kind in ("codec", "detector", "dataset"):
        say(f"{kind}s")
        for name in registry.names(kind):
            say(f"  {name}  ({registry.provider(kind, name)})")


def doctor() -> None:
    """Report what is usable here, and prove the colour conversion."""
    from icm_bench import doctor as examination
    from icm_bench.report import table

    console = Console()
    findings = examination.examine()
    table.show(table.of_findings(findings), console)
    if any(finding.is_failure for finding in findings):
        raise typer.Exit(1)
