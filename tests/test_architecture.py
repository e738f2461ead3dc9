"""Who may import whom: every import of the packages is read, and none goes against the layers."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"icm_bench": ROOT, "icm_codecs": ROOT / "codecs", "icm_baselines": ROOT / "baselines"}

ENTRIES = frozenset({"icm_bench", "icm_bench.cli", "icm_bench.doctor"})
"""What stands above all folders: the public names, the command line and the doctor. ``registry`` finds by name."""

BASE = frozenset(
    f"icm_bench.{name}"
    for name in (
        "archive",
        "color",
        "error",
        "file",
        "fingerprint",
        "image",
        "image_record",
        "limit",
        "machine",
        "pose",
        "program",
        "registry",
        "text",
    )
)
"""What the contracts stand on."""

CONTRACTS = frozenset(
    f"icm_bench.{name}" for name in ("codec", "dataset", "detector", "download", "spec", "testing")
)
"""What plug-ins and the pipeline are written against."""

_LEARNED = {
    "contracts",
    "base",
    "icm_bench.network",
    "icm_codecs",
    "icm_codecs.bitstream",
    "icm_codecs.training",
}

MAY_IMPORT: dict[str, set[str]] = {
    "base": set(),
    "contracts": {"base"},
    "icm_bench.datasets": {"base", "contracts"},
    "icm_bench.network": {"base", "contracts"},
    "icm_bench.detectors": {"base", "contracts", "icm_bench.datasets", "icm_bench.network"},
    "icm_bench.metrics": {"base", "contracts", "icm_bench.network"},
    "icm_bench.curves": {"base", "contracts", "icm_bench.metrics"},
    "icm_bench.formats": {"base", "contracts", "icm_bench.metrics", "icm_bench.curves"},
    "icm_bench.report": {"base", "contracts", "icm_bench.metrics", "icm_bench.curves"},
    "icm_bench.pipeline": {"base", "contracts", "icm_bench.metrics", "icm_bench.curves"},
    "icm_baselines": {"base", "contracts"},
    "icm_codecs.bitstream": {"base", "contracts"},
    "icm_codecs": {"base", "contracts", "icm_bench.network", "icm_codecs.bitstream"},
    "icm_codecs.training": {"base", "contracts", "icm_bench.network", "icm_codecs", "icm_codecs.bitstream"},
    "icm_codecs.hyperprior": _LEARNED,
    "icm_codecs.checkerboard": _LEARNED | {"icm_codecs.tucodec"},
    "icm_codecs.filtered": _LEARNED,
    "icm_codecs.icm": _LEARNED | {"icm_codecs.hyperprior", "icm_codecs.checkerboard"},
    "icm_codecs.content_weighted": _LEARNED,
    "icm_codecs.rnn_gdn": _LEARNED,
    "icm_codecs.tucodec": _LEARNED,
}
"""What the modules of a folder may import beside one another. Modules at the top of a package are its own name."""

MOST_LINES = 400

APART: dict[tuple[str, str], str] = {
    # The pipeline scores, by metrics that know nothing of it.
    ("icm_bench.metrics.evaluation", "icm_bench.pipeline.scoring"): "whose rules a dataset is scored by",
    # icm has two backbones: this one is its own architecture, and is trained by itself.
    ("icm_codecs.checkerboard.coder", "icm_codecs.icm.codec"): "a codec's own architecture",
}
"""Modules that one other imports alone, from outside their folder, and what they are there."""


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted((folder / package).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> frozenset[tuple[str, str]]:
    """Return every import of one of our modules by another, also those within functions and for annotations."""
    return frozenset(
        (module, name) for module, path in modules().items() for name in imported(path) if name != module
    )


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            for alias in node.names:
                names = (f"{node.module}.{alias.name}", node.module or "")
                yield from [name for name in names if name in modules()][:1]


def layer(module: str) -> str:
    """Return the folder of a module; of the harness's top level, which of its three layers."""
    for name, members in (("entries", ENTRIES), ("base", BASE), ("contracts", CONTRACTS)):
        if module in members or module.rpartition(".")[0] in members - {"icm_bench"}:
            return name
    parts = module.split(".")
    return ".".join(parts[:2]) if ".".join(parts[:2]) in MAY_IMPORT else parts[0]


def plugins() -> set[str]:
    """Return the modules that entry points name."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    return {value.partition(":")[0] for group in points.values() for value in group.values()}


def against(importer: str, name: str) -> bool:
    here, there = layer(importer), layer(name)
    if here == "entries":
        return not name.startswith("icm_bench")
    return here != there and there not in MAY_IMPORT[here]


def test_every_module_has_its_layer() -> None:
    assert {layer(module) for module in modules()} == {*MAY_IMPORT, "entries"}
    assert set(modules()) >= (ENTRIES | BASE | CONTRACTS)
    assert len(imports()) > 300


def test_no_import_goes_against_the_layers() -> None:
    assert not sorted(edge for edge in imports() if against(*edge))


def test_no_folders_import_one_another() -> None:
    graph: dict[str, set[str]] = {}
    for importer, name in imports():
        if layer(importer) != layer(name):
            graph.setdefault(layer(importer), set()).add(layer(name))
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("package", ["icm_codecs", "icm_baselines"])
def test_the_harness_imports_no_codec_package(package: str) -> None:
    assert not [edge for edge in imports() if edge[0].startswith("icm_bench") and edge[1].startswith(package)]


def test_only_the_command_line_the_doctor_and_the_registry_know_plugins_by_name() -> None:
    known = plugins()
    assert len(known) > 20
    knowing = {
        (importer, name)
        for importer, name in imports()
        if name in known and importer.startswith("icm_bench") and layer(importer) != layer(name)
    }
    assert {layer(importer) for importer, _ in knowing} <= {"entries"}


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert not {name: length for name, length in lengths.items() if length > MOST_LINES}


def test_what_one_module_alone_imports_lies_in_its_folder() -> None:
    importers: dict[str, set[str]] = {}
    for importer, name in imports():
        importers.setdefault(name, set()).add(importer)
    apart = {
        (name, importer)
        for name, (importer, *others) in importers.items()
        if not others
        and layer(importer) != "entries"  # thin commands over what Python offers
        and name not in plugins()
        and modules()[importer].parent not in modules()[name].parents
    }
    assert not sorted(apart - set(APART)), "modules of one importer, outside its folder"
    assert not sorted(set(APART) - apart), "exceptions that nothing needs any more"


def test_curves_load_no_plugin() -> None:
    assert not [edge for edge in imports() if layer(edge[0]) == "icm_bench.curves" and "registry" in edge[1]]
