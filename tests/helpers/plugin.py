"""Plug-ins of scratch distributions, among them the fakes that the fixture ``plugins`` installs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

FAKES: Mapping[str, Mapping[str, str]] = {
    "icm_bench.codecs": {"fake": "icm_bench.testing:FakeCodec"},
    "icm_bench.detectors": {"fake": "icm_bench.testing:FakeDetector"},
}


def distribute(
    folder: Path, name: str, groups: Mapping[str, Mapping[str, str]], version: str = "1.0"
) -> Path:
    """Write a distribution's entry points, by their groups, into a folder to import from; return the folder."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        for group, points in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


def import_from(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Import from folders first, in this process and in those that it starts."""
    for folder in folders:
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


def install(plugins: Path, group: str, **points: str) -> None:
    """Add entry points to a group, ``codecs`` or ``detectors``: ``name="module:Class"``."""
    distribute(plugins, f"more-{'-'.join(points)}", {f"icm_bench.{group}": points})


_STREET = """
from types import MappingProxyType
from icm_bench.testing import FakeDetector

class Street(FakeDetector):
    name = "street"
    categories = MappingProxyType({1: "person", 2: "bicycle", 3: "car"})
"""


def install_street(plugins: Path) -> None:
    """Install a detector of coloured regions, ``street``, that calls them by COCO's names."""
    (plugins / "street.py").write_text(_STREET)
    install(plugins, "detectors", street="street:Street")
