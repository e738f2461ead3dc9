"""The curves that the repository carries, and the tables that are printed from them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from icm_bench.curves.comparison import comparable, grouped
from icm_bench.curves.result import Result, find, titled
from icm_bench.curves.schema import SCHEMA
from icm_bench.report import escape
from icm_bench.report.style import labels_of
from icm_bench.spec import file_name_of

ROOT = Path(__file__).parents[1]
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
GROUPS = list(grouped(find(ROOT / "results")).values())
SHOWN = [group for group in GROUPS if group[0].dataset != "scenes-poses"]
"""What the results page prints; the others are what pull requests are compared with."""


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "/".join(group[0].group))
def test_every_group_is_of_one_dataset_detector_and_convention(group: list[Result]) -> None:
    assert comparable(group) == (group, [])
    assert len({result.meta["dataset"]["fingerprint"] for result in group}) == 1
    assert len({result.meta["detector"].get("version") for result in group}) == 1
    for result in group:
        assert result.meta["schema"] == SCHEMA
        assert result.warnings == ()
        assert result.replicates is not None
        assert len(set(result.meta["bitstreams"])) == len(result.qualities)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "/".join(group[0].group))
def test_a_folder_within_the_results_can_be_read_alone(group: list[Result], depth: int) -> None:
    folder = (ROOT / "results").joinpath(*map(file_name_of, group[0].group[:depth]))
    assert {result.codec for result in group} <= {result.codec for result in find(folder)}


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_the_printed_tables_are_those_of_the_committed_curves(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    filled = runpy.run_path(str(ROOT / "docs" / "generate.py"))["filled"]
    assert filled(text) == text, "run python docs/generate.py"


@pytest.mark.parametrize("group", SHOWN, ids=lambda group: "/".join(group[0].group))
def test_the_results_page_prints_every_curve(group: list[Result]) -> None:
    result = group[0]
    title = f": {titled(result.task, result.dataset, result.detector)}**".replace("_", "\\_")
    assert title in RESULTS
    table = RESULTS[RESULTS.rindex(title) :].partition("<!-- end -->")[0]
    shown = {line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()}
    assert set(map(escape.markdown, labels_of(group).values())) <= shown


def test_the_published_figures_stand_beside_the_committed_curves() -> None:
    page = (ROOT / "docs" / "learned.md").read_text(encoding="utf-8")
    published = json.loads((ROOT / "tests" / "golden" / "published.json").read_text())
    results = {result.codec: result for result in find(ROOT / "results" / "kodak")}
    for codec, paper in published.items():
        columns = {name: np.array(values, float) for name, values in results[codec].results.items()}
        rates = np.log(columns["bpp"])
        for number, bpp in enumerate(paper["bpp"]):
            cells = []
            for metric, digits in (("psnr-rgb", 2), ("ms-ssim-rgb", 4)):
                if metric not in paper:
                    cells += ["", "", ""]
                    continue
                theirs, ours = paper[metric][number], np.interp(np.log(bpp), rates, columns[metric])
                cells += [f"{theirs:.{digits}f}", f"{ours:.{digits}f}", f"{ours - theirs:+.{digits}f}"]
            assert f"| `{codec}` | {bpp:g} | {' | '.join(cells)} |" in page


def test_the_real_images_uncompressed_accuracy_is_the_known_one() -> None:
    (group,) = [group for group in GROUPS if group[0].group == ("coco-partial100", "detection", "yolox")]
    original = group[0].meta["uncompressed"]
    assert f"Uncompressed AP is {original['map']:.1f}" in RESULTS
    assert original["map"] == pytest.approx(29.8, abs=0.3)
    assert original["map50"] == pytest.approx(46.2, abs=0.3)
    assert original["map75"] == pytest.approx(31.7, abs=0.3)
