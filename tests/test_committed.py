"""The curves that the repository carries, and what the README says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.collections import PolyCollection

from icm_bench import plot
from icm_bench.curves.comparison import check_conventions, compare_with_anchor, fixed_accuracies, grouped
from icm_bench.curves.result import Result, find, main_metric

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ANCHORS = {"kodak": "jpeg", "scenes": "vvc:preset=medium", "coco-partial100": "vvc:preset=medium"}
GROUPS = list(grouped(find(ROOT / "results")).values())
SHOWN = [group for group in GROUPS if group[0].dataset in ANCHORS]
"""What the README prints; the others are what pull requests are compared with."""


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "/".join(group[0].group))
def test_every_group_is_of_one_dataset_detector_and_convention(group: list[Result]) -> None:
    check_conventions(group)
    assert len({result.meta["dataset"]["fingerprint"] for result in group}) == 1
    assert len({result.meta["detector"].get("version") for result in group}) == 1
    for result in group:
        assert result.replicates is not None
        assert len(set(result.meta["bitstreams"])) == len(result.qualities)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "/".join(group[0].group))
def test_a_folder_within_the_results_can_be_read_alone(group: list[Result], depth: int) -> None:
    folder = (ROOT / "results").joinpath(*group[0].group[:depth])
    assert {result.codec for result in group} <= {result.codec for result in find(folder)}


@pytest.mark.parametrize("group", SHOWN, ids=lambda group: "/".join(group[0].group))
def test_the_readme_prints_the_bd_rates_of_the_committed_curves(group: list[Result]) -> None:
    for item in compare_with_anchor(group, anchor=ANCHORS[group[0].dataset], metric=main_metric(group)):
        rate, gain = item.bd_rate, item.bd_accuracy
        figures = (
            f"| {rate.value:+.2f} % | [{rate.low:+.1f}, {rate.high:+.1f}] | {rate.overlap:.2f}",
            f"| {gain.value:+.2f} | [{gain.low:+.1f}, {gain.high:+.1f}] |",
        )
        rows = [line for line in README.splitlines() if line.startswith(f"| `{item.codec}`")]
        assert any(all(figure in row for figure in figures) for row in rows), figures


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "/".join(group[0].group))
def test_no_two_curves_of_a_plot_look_alike(group: list[Result]) -> None:
    axes = plot(group, metric=main_metric(group))
    curves = [line for line in axes.get_lines() if line.get_label() in {result.codec for result in group}]
    looks = {(line.get_color(), line.get_linestyle(), str(line.get_marker())) for line in curves}
    assert len(looks) == len(curves) == len(group)
    bands = [item for item in axes.collections if isinstance(item, PolyCollection)]
    assert len(bands) == (0 if len(group) > 8 else len(group))
    legend, figure = axes.get_legend(), axes.get_figure()
    assert legend is not None
    assert figure is not None
    figure.canvas.draw()
    # Beside the axes where there are many names, and within the picture.
    box = legend.get_window_extent()
    assert (box.x0 >= axes.get_window_extent().x1 - 1) == (len(group) > 8)
    assert box.x1 <= figure.bbox.x1
    pyplot.close("all")


@pytest.mark.parametrize(
    "group",
    [group for group in SHOWN if group[0].dataset != "kodak"],
    ids=lambda group: "/".join(group[0].group),
)
def test_the_readme_prints_the_rates_at_fixed_accuracies(group: list[Result]) -> None:
    rows: dict[str, str] = {}
    for figure in fixed_accuracies(group):
        rate = figure.rate
        interval = "none ¹" if rate.low is None else f"[{rate.low:.3f}, {rate.high:.3f}]"
        cells = "| not reached |  |" if rate.value is None else f"| {rate.value:.4f} | {interval} |"
        rows[figure.codec] = rows.get(figure.codec, f"| `{figure.codec}` |")[:-1] + cells
    missing = [row for row in rows.values() if row not in README.splitlines()]
    assert not missing


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
    assert f"Uncompressed AP is {original['map']:.1f}" in README
    assert original["map"] == pytest.approx(29.8, abs=0.3)
    assert original["map50"] == pytest.approx(46.2, abs=0.3)
    assert original["map75"] == pytest.approx(31.7, abs=0.3)


def test_the_readme_prints_the_fidelity_of_the_kodak_curves() -> None:
    (group,) = [group for group in GROUPS if group[0].group == ("kodak", "fidelity", "none")]
    for figure in fixed_accuracies(group, (28.0, 32.0, 36.0), metric="psnr-rgb"):
        rows = [line for line in README.splitlines() if line.startswith(f"| `{figure.codec}`")]
        shown = "none" if figure.rate.value is None else f"{figure.rate.value:.3f}"
        assert any(f"| {shown} |" in row for row in rows), (figure.codec, figure.target, shown)
    for item in compare_with_anchor(group, anchor=ANCHORS["kodak"], metric="ms-ssim-rgb-db"):
        rate = item.bd_rate
        rows = [line for line in README.splitlines() if line.startswith(f"| `{item.codec}`")]
        assert any(f"| {rate.value:+.2f} % | [{rate.low:+.1f}, {rate.high:+.1f}] |" in row for row in rows)
