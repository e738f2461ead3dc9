"""More plug-ins beside the fakes that the fixture ``plugins`` installs."""

from __future__ import annotations

from pathlib import Path


def install(plugins: Path, group: str, **points: str) -> None:
    """Add entry points to a group, ``codecs`` or ``detectors``: ``name="module:Class"``."""
    entries = plugins / "fakes-1.0.dist-info" / "entry_points.txt"
    heading = f"[icm_bench.{group}]\n"
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    entries.write_text(entries.read_text().replace(heading, heading + lines))
