"""Plots: what is drawn, how it is called, and files that papers take."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex, to_rgb

from icm_bench.curves.result import Result, find
from icm_bench.error import UsageError
from icm_bench.report import style
from icm_bench.report.look import SIZES, Look, Size
from icm_bench.report.panel import draw_few_at_a_time, draw_panels
from icm_bench.report.plot import draw_group, lowest_that_matters, plot
from icm_bench.report.style import COLORS, check_labels, labels_of, one_of, style_of
from tests.helpers.made_up import made_up

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def make(codec: str, *, rate: float = 1.0, task: str = "detection", **meta: Any) -> Result:
    accuracies = [10.0, 20.0, 26.0, 29.0]
    facts = {
        "dataset": {"images": 20},
        "uncompressed": {"map": 30.0},
        "intervals": {"map": [[value - 1, value + 1] for value in accuracies]},
    }
    columns = {"bpp": [rate * bpp for bpp in (0.1, 0.2, 0.4, 0.8)], "map": accuracies}
    return made_up(codec, columns, ("blobs", task, "fake"), **facts | meta)


def many(count: int) -> list[Result]:
    return [make(f"codec{index}", rate=1 + 0.1 * index) for index in range(count)]


def named(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def said(figure: Any) -> str:
    return " | ".join(text.get_text() for text in figure.texts)


@pytest.mark.parametrize(
    ("codec", "label"),
    [
        ("icm:domain=scenes:objective=detection", "icm"),
        ("icm:domain=scenes:objective=detection:roi=off", "icm, no ROI"),
        ("icm:domain=photos:objective=mse", "icm, for fidelity"),
        ("vvc:preset=medium", "VVC medium"),
        ("hevc:chroma=444:preset=slow", "HEVC slow, 4:4:4"),
        ("mine:depth=3", "mine, depth=3"),
        ("Ours (2024)", "Ours (2024)"),
    ],
)
def test_a_codec_is_called_by_a_short_label(codec: str, label: str) -> None:
    assert labels_of([make(codec)]) == {codec: label}


def test_a_label_that_is_stored_or_given_goes_first_and_two_alike_become_specs() -> None:
    pair = [make("icm:domain=scenes:objective=mse"), make("icm:domain=photos:objective=mse")]
    assert labels_of(pair) == {item.codec: item.codec for item in pair}
    stored = make("mine:depth=3", label="mine, deep")
    assert labels_of([stored]) == {"mine:depth=3": "mine, deep"}
    assert labels_of([stored], {"mine": "Ours"}) == {"mine:depth=3": "Ours"}
    with pytest.raises(UsageError, match="unknown codec 'their'"):
        check_labels({"their": "Theirs"}, [stored])
    assert labels_of([stored], {"icm": "Theirs"}) == {"mine:depth=3": "mine, deep"}
    with pytest.raises(UsageError, match="names several curves"):
        one_of("icm", [item.codec for item in pair])


def test_no_two_committed_curves_of_one_group_look_alike() -> None:
    groups: dict[tuple[str, str, str], list[str]] = {}
    for result in find(RESULTS):
        groups.setdefault(result.group, []).append(result.codec)
    assert max(map(len, groups.values())) >= 17
    for codecs in groups.values():
        assert len(set(map(style_of, codecs))) == len(codecs)


def test_an_encoder_behind_another_guide_keeps_its_marker_and_a_guide_is_its_file_wherever_that_lies() -> (
    None
):
    guided = "vvc-roi:preset=fast:roi=onnx:weights="
    one, other = style_of(f"{guided}deim.onnx"), style_of(f"{guided}yolo11n.onnx")
    assert one.marker == other.marker == style_of("vvc-roi:preset=fast:roi=icm").marker
    assert one != other
    assert style_of(f"{guided}/data/detectors/deim.onnx") == one
    refined = style_of("icm:refine=15:teachers=a.onnx")
    assert refined.line == 1
    assert refined == style_of("icm:refine=4:teachers=b.onnx+a.onnx")


def test_codecs_of_one_marker_differ_in_colour_to_those_who_see_no_green() -> None:
    # Machado, Oliveira and Fernandes, 2009: deuteranopia, on linear RGB.
    deuteranope = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    to_xyz = np.array([[0.434, 0.376, 0.190], [0.213, 0.715, 0.072], [0.018, 0.110, 0.873]])

    def seen(color: str) -> Any:
        """Return what is seen of a colour, in CIE L*a*b*."""
        srgb = np.array(to_rgb(color))
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        x, y, z = np.cbrt(np.maximum(to_xyz @ np.clip(deuteranope @ linear, 0, 1), 0.009))
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    styles = {name: style_of(name) for name in style._DRAWN}
    for one, two in itertools.combinations(styles, 2):
        if styles[one].marker == styles[two].marker:
            distance = np.linalg.norm(seen(COLORS[styles[one].color]) - seen(COLORS[styles[two].color]))
            assert distance > 20, (one, two, distance)


def test_the_names_of_many_curves_lie_below_the_title_and_above_the_panels() -> None:
    curves = list(find(RESULTS / "coco-partial100" / "detection" / "yolox"))
    assert len(curves) >= 16
    figure = draw_panels(curves, "sizes", "log", Look())
    figure.canvas.draw()
    (title,) = [text.get_window_extent() for text in figure.texts if text.get_text().startswith("detection")]
    names = figure.legends[0].get_window_extent()
    assert title.y0 >= names.y1
    assert all(names.y0 >= axes.get_window_extent().y1 for axes in figure.axes)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("has_panels_by_size", [False, True])
def test_what_is_said_above_and_below_a_plot_stays_within_it(size: Size, has_panels_by_size: bool) -> None:
    curves = [
        replace(curve, detector=f"onnx:model={'a-long-name-' * 3}c6ad358f")
        for curve in itertools.islice(find(RESULTS / "coco-partial100" / "detection" / "yolox"), 9)
    ]
    look = Look(size=size)
    if has_panels_by_size:
        figure = draw_panels(curves, "sizes", "log", look)
    else:
        figure = draw_few_at_a_time(curves, "map", "log", look)
    figure.canvas.draw()
    assert "points outside the axes; icm-bench" in said(figure).replace("\n", " ")
    for text in figure.texts:
        lies = text.get_window_extent()
        assert figure.bbox.x0 <= lies.x0 < lies.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= lies.y0 < lies.y1 <= figure.bbox.y1, text
        for axes in figure.axes:
            drawn = axes.get_tightbbox()
            assert drawn is None or not lies.overlaps(drawn), text


def test_names_stand_above_the_curves_of_a_narrow_plot_and_its_panels_below_one_another() -> None:
    axes = plot(list(find(RESULTS / "scenes" / "detection")), look=Look(size="column"))
    figure: Any = axes.get_figure()
    figure.canvas.draw()
    legend: Any = axes.get_legend()
    assert legend.get_window_extent().y0 >= axes.get_window_extent().y1
    width, height = SIZES["column"]
    assert figure.get_figwidth() == width
    assert figure.get_figheight() > height
    panels = draw_few_at_a_time(many(19), "map", "log", Look(size="column"))
    assert panels.get_figwidth() == width
    assert len({each.get_position().x0 for each in panels.axes}) == 1


def test_points_left_out_are_those_of_the_metric_that_a_panel_shows() -> None:
    dips = {"bpp": [0.1, 0.2, 0.4, 0.8], "map": [10.0, 20.0, 26.0, 29.0]}
    dips |= {"map_small": [1.0, 3.0, 2.0, 4.0], "map_large": [50.0, 40.0, 30.0, 60.0]}
    figure = draw_panels([replace(make("jpeg"), results=dips)], "sizes", "log", Look())
    assert "3 points left out of BD-rates" in said(figure)
    assert "left out" not in said(plot([make("jpeg")]).get_figure())


def test_a_codec_keeps_its_colour_and_marker_whoever_else_is_drawn() -> None:
    def drawn(*codecs: str) -> tuple[str, str]:
        axes = plot([make(codec) for codec in codecs])
        (line,) = [line for line in axes.lines if line.get_label() == "mine"]
        return to_hex(line.get_color()).upper(), str(line.get_marker())

    alone = drawn("mine")
    assert drawn("jpeg", "vvc:preset=fast", "mine") == alone == drawn("mine", "jpeg")
    assert alone[0] in COLORS


def test_eight_curves_have_bands_and_nine_have_none_and_both_say_so() -> None:
    eight = plot(many(8))
    assert len(eight.collections) == 8
    assert "shaded: 95 % intervals" in said(eight.get_figure())
    nine = plot(many(9))
    assert not nine.collections
    assert "intervals not drawn" in said(nine.get_figure())
    without = plot([make("jpeg", intervals={})])
    assert "interval" not in said(without.get_figure())


def test_many_curves_are_drawn_a_few_at_a_time_each_once_in_colour(tmp_path: Path) -> None:
    figure = draw_few_at_a_time(list(find(RESULTS / "coco-partial100/detection/yolox")), "map", "log", Look())
    legends = [named(axes) for axes in figure.axes if axes.get_legend()]
    assert len(legends) == 5
    assert sorted(label for legend in legends for label in legend) == sorted(
        labels_of(list(find(RESULTS / "coco-partial100/detection/yolox"))).values()
    )
    shown = [label for legend in legends for label in legend]
    places = [k for k, label in enumerate(shown) if label.startswith("VVC")]
    assert places == list(range(places[0], places[0] + len(places))), "VVC's curves stand apart"
    assert "black: VVC fast" in said(figure)


def test_a_hundred_curves_fit_their_plot(tmp_path: Path) -> None:
    path = draw_group(many(100), tmp_path)
    assert path.stat().st_size < 3_000_000


def test_the_accuracies_that_matter_fill_the_plot_and_what_is_outside_is_counted() -> None:
    low = replace(make("low"), results={"bpp": [0.01, 0.02, 0.1, 0.2], "map": [1.0, 2.0, 20.0, 29.0]})
    high = replace(make("high"), results={"bpp": [0.1, 0.2, 0.4, 0.8], "map": [18.0, 22.0, 26.0, 29.0]})
    assert lowest_that_matters([low, high, make("mid")], "map") == 10.0
    assert lowest_that_matters([high], "map") is None
    axes = plot([low, high, high])
    bottom, top = axes.get_ylim()
    assert 13 < bottom < 15
    assert top > 30
    assert axes.get_xlim()[0] > 0.05
    assert "2 points outside the axes" in said(axes.get_figure())
    assert "outside" not in said(plot([low], look=Look(xlim=(0.001, 1), ylim=(0, 40))).get_figure())


def test_limits_size_and_bareness_are_kept() -> None:
    axes = plot([make("jpeg")], look=Look(xlim=(0.05, 2), ylim=(5, 35), size="column", bare=True))
    assert (axes.get_xlim(), axes.get_ylim()) == ((0.05, 2), (5, 35))
    figure: Any = axes.get_figure()
    assert tuple(figure.get_size_inches()) == SIZES["column"]
    assert not said(figure)
    for look in (Look(xlim=(0, 1)), Look(ylim=(3, 3)), Look(ylim=(3, float("inf")))):
        with pytest.raises(UsageError, match="axis"):
            plot([make("jpeg")], look=look)


@pytest.mark.skipif(shutil.which("pdffonts") is None, reason="no pdffonts on this machine")
def test_a_pdf_has_no_type_3_font(tmp_path: Path) -> None:
    path = draw_group(many(9), tmp_path, formats=["pdf"], look=Look(size="two-columns"))
    listed = subprocess.run(["pdffonts", path], capture_output=True, text=True, check=True).stdout
    assert "TrueType" in listed
    assert "Type 3" not in listed


def test_an_svg_keeps_text_as_text_and_the_same_curves_give_the_same_files(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        draw_group([make("jpeg")], tmp_path / folder, formats=["svg", "pdf", "png"])
    text = (tmp_path / "one" / "map-log.svg").read_text()
    assert re.search(r"<text[^>]*>JPEG</text>", text)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", ["$x^2$", "$", "_hidden", "a\x1b[31m\udcff", r"\$1$", "日本", "$\\frac{$"])
def test_names_are_drawn_as_they_are(name: str, tmp_path: Path) -> None:
    curve = replace(make(name, label=name), dataset=name)
    path = draw_group([curve], tmp_path, formats=["svg"], look=Look(labels={}))
    shown = path.read_text(encoding="utf-8")
    assert "\x1b" not in shown
    if name == "$x^2$":
        assert shown.count(">$x^2$<") == 1
        assert "detection on $x^2$" in shown


@given(st.text(max_size=20))
def test_every_codec_has_a_style(name: str) -> None:
    style = style_of(name)
    assert 0 <= style.color < len(COLORS)
    assert 0 <= style.line < 4
