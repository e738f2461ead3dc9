"""Commands on the pages of protocols, anchors and datasets parse, and what they name exists."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from icm_bench import registry
from icm_bench.cli import app
from icm_bench.curves.bdrate import bd_rate
from icm_bench.curves.curve import Curve, Point
from icm_bench.dataset import VAL2017_IMAGES
from icm_bench.datasets import openimages
from icm_bench.error import UsageError
from icm_bench.formats.foreign import Group
from icm_bench.formats.published import PUBLICATIONS
from icm_bench.metrics.metric import METRICS
from icm_bench.spec import DETECTOR_SUPPLIED, Spec, arguments, parse_qualities, resolve_codec

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
ANCHORS = (ROOT / "docs" / "anchors.md").read_text(encoding="utf-8")
DATASETS = "\n".join(
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("cityscapes", "openimages")
)


def _commands(page: str) -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


COMMANDS = _commands(PAGE)
ZOO = re.compile(r"(faster|mask)_rcnn_(R_50|X_101_32x8d)_FPN(_3x)?")


def _parsed(line: str) -> tuple[str, dict[str, Any]]:
    """Return a command's name and its parameters, as the command line itself reads them."""
    program, *words = shlex.split(line)
    assert program == "icm-bench"
    command: Any = typer.main.get_command(app)
    name = ""
    while hasattr(command, "commands"):
        name = f"{name} {words[0]}".strip()
        command = command.commands[words.pop(0)]
    return name, command.make_context(name, words).params


@pytest.mark.parametrize("line", [*COMMANDS, *_commands(ANCHORS), *_commands(DATASETS)])
def test_a_command_parses_and_all_that_it_names_exists(line: str) -> None:
    name, given = _parsed(line)
    task = str(getattr(given.get("task"), "value", given.get("task")))
    if name == "run":
        dataset = registry.load("dataset", given["dataset"])
        for text in given["codecs"].split(","):
            resolve_codec(text, task=task, provider=given["dataset"])
        parse_qualities(given["qualities"] or ())
        detector = Spec.parse(given["detector"] or dataset.default_detectors[task])
        cls = registry.load("detector", detector.name)
        arguments(detector, cls, DETECTOR_SUPPLIED)
        assert task in cls.tasks
        if detector.name == "detectron2":
            assert ZOO.fullmatch(dict(detector.options)["variant"])
    elif name == "bdrate":
        resolve_codec(given["anchor"])
    elif name == "import_" or name == "import":
        Group(given["dataset"], task, given["detector"])
        assert given["metric"] in METRICS
    elif name == "plot":
        assert given["metric"] in METRICS
    elif name == "published":
        assert given["name"] in PUBLICATIONS
    else:
        assert name == "data coco"


def test_a_wrong_command_would_be_noticed() -> None:
    with pytest.raises(Exception, match="--anchr"):
        _parsed("icm-bench bdrate results/ --anchr vvc")
    with pytest.raises(UsageError, match="vvc-pareto"):
        test_a_command_parses_and_all_that_it_names_exists(
            "icm-bench run --codecs vvc-paretto --dataset coco"
        )


def test_every_protocol_has_commands_and_the_readme_leads_to_them() -> None:
    assert len([line for line in COMMANDS if line.startswith("icm-bench run ")]) >= 5
    assert all(not line.startswith("icm-bench run") or "--dataset" in line for line in COMMANDS)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(docs/protocols.md)" in readme
    assert "(docs/anchors.md)" in readme


def test_the_pages_counts_are_the_codes() -> None:
    assert f"{openimages.MPEG_IMAGES:,} images" in PAGE
    assert f"{openimages.MPEG_BOXES:,} boxes" in PAGE
    assert f"COCO val2017, {VAL2017_IMAGES:,}" in PAGE
    assert f"{(800 / 480) ** 2:.2f} times its pixels" in PAGE
    for name in ("detection_validation_input_5k.lst", "detection_validation_labels_5k.csv"):
        assert name in PAGE
        assert name in str(openimages.__doc__)


def test_the_pages_spread_of_methods_is_that_of_the_published_points(
    shared_data: Callable[[str], Path],
) -> None:
    expected = json.loads((shared_data("conformance/bdrate") / "expected.json").read_text())
    published = expected["openimages_detection"]
    curves = [
        Curve(name, tuple(Point(None, bpp, {"map": value}) for bpp, value in zip(*points, strict=True)))
        for name, points in (
            ("anchor", (published["anchor"]["bpp"], published["anchor"]["map"])),
            ("test", (published["tests"]["factorized"]["bpp"], published["tests"]["factorized"]["map"])),
        )
    ]
    cubic, pchip = (bd_rate(*curves, method=method).value for method in ("cubic", "pchip"))
    assert cubic is not None
    assert pchip is not None
    assert f"{cubic:.0f} % more bits than VTM by a cubic and {pchip:.0f} % more by PCHIP" in PAGE
