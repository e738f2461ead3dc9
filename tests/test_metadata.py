"""What the package says of itself to installers."""

from __future__ import annotations

import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NUMPY_1_PYTHONS = ("3.11", "3.12")
"""The versions of Python from 3.11 on for which the last NumPy before 2 was built."""


def test_only_versions_of_python_for_which_every_dependency_is_built_are_offered() -> None:
    offered = SpecifierSet(PROJECT["requires-python"])
    assert all(version in offered for version in NUMPY_1_PYTHONS)
    (bound,) = [
        item.specifier for item in map(Requirement, requires("compressai") or ()) if item.name == "numpy"
    ]
    needs_numpy_1 = "2.0" not in bound
    assert ("3.13" in offered) == (not needs_numpy_1), (
        "offer what compressai allows, and say so in docs/install.md"
    )


def test_classifiers_name_offered_versions_alone() -> None:
    offered = SpecifierSet(PROJECT["requires-python"])
    named = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if "Python :: 3." in text]
    assert named
    assert all(version in offered for version in named)


def test_torch_restricts_what_a_checkpoint_may_do() -> None:
    (torch,) = [item for item in map(Requirement, PROJECT["dependencies"]) if item.name == "torch"]
    assert "2.5.1" not in torch.specifier
