"""Published curves give the BD-rates that were computed from them elsewhere, and mix with others only on request."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import pytest
from typer.testing import CliRunner

from icm_bench.cli import app
from icm_bench.curves.bdrate import bd_rate
from icm_bench.curves.comparison import comparable, compare_with_anchor
from icm_bench.curves.estimate import Method
from icm_bench.curves.rate_convention import MEASURED
from icm_bench.curves.result import Result, find
from icm_bench.error import UsageError
from icm_bench.formats.importer import save_imported
from icm_bench.formats.published import PUBLICATIONS, published
from icm_bench.report.plot import plot
from tests.helpers.made_up import made_up

matplotlib.use("Agg")

TASKS = ("detection", "segmentation", "keypoints")


def _ours() -> Result:
    columns = {"bpp": [0.1, 0.2, 0.4], "map": [18.0, 25.0, 30.0]}
    return made_up(
        "vvc:preset=medium", columns, ("coco", "detection", "faster-rcnn-r50-c4"), qualities=[37, 32, 27]
    )


@pytest.mark.parametrize(
    ("codec", "expected", "tolerance"),
    [
        ("vtm:alpha=0.2", (-44.9, -44.7, -43.9), 0.05),
        ("vtm:alpha=0.5", (-35.6, -34.1, -34.1), 0.05),
        ("vtm:alpha=0.8", (-15.9, -15.3, -15.2), 0.05),
        ("cheng2020:alpha=1", (-2.6, -2.0, -6.5), 0.05),
        ("jpeg:alpha=1", (281, 275, 348), 0.5),
    ],
)
def test_bd_rates_of_gao2026_equal_those_computed_elsewhere(
    codec: str, expected: tuple[float, ...], tolerance: float
) -> None:
    curves = {(curve.task, curve.codec): curve.curve for curve in published("gao2026")}
    for task, value in zip(TASKS, expected, strict=True):
        found = bd_rate(curves[task, "gao2026-vtm:alpha=1"], curves[task, f"gao2026-{codec}"]).value
        assert found == pytest.approx(value, abs=tolerance + 1e-9), task


@pytest.mark.parametrize(
    ("codec", "method", "expected"),
    [
        ("bmshj2018-factorized", "pchip", 28.9581),
        ("bmshj2018-factorized", "cubic", 37.3600),
        ("mbt2018", "pchip", -5.2226),
        ("mbt2018", "cubic", -0.4158),
    ],
)
def test_bd_rates_of_compressai_vision_equal_those_computed_elsewhere(
    codec: str, method: Method, expected: float
) -> None:
    curves = {curve.codec: curve.curve for curve in published("compressai-vision")}
    found = bd_rate(
        curves["compressai-vision-vtm"],
        curves[f"compressai-vision-{codec}"],
        metric="map50-oic",
        method=method,
    ).value
    assert found == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("name", PUBLICATIONS)
def test_every_curve_rises_in_rate_and_says_where_it_is_from_and_how_rates_are_averaged(name: str) -> None:
    for curve in published(name):
        rates = [rate for rate in curve.results["bpp"] if rate is not None]
        assert rates == sorted(rates)
        assert curve.meta["published"]["source"] == PUBLICATIONS[name].source
        assert "unknown" not in (curve.meta["conventions"]["bpp"], curve.meta["conventions"]["pixels"])


def test_published_curves_compare_with_each_other_but_not_with_measured_ones() -> None:
    theirs = [curve for curve in published("gao2026") if curve.task == "detection"]
    assert comparable(theirs) == (theirs, [])
    ours = _ours()
    kept, left_out = comparable([*theirs, ours])
    assert kept == [ours]
    assert len(left_out) == len(theirs)
    assert re.search(r"source is 'measured here' in one and 'Gao", left_out[0])


def test_the_source_alone_keeps_curves_of_equal_conventions_apart_and_marks_them_where_forced() -> None:
    ours, theirs = _ours(), published("gao2026")[-1]
    alike = Result(*ours.group, theirs.codec, ours.results, {**theirs.meta, "conventions": MEASURED.record()})
    assert comparable([alike, ours])[0] == [ours]
    (found,) = compare_with_anchor(
        [ours, Result(*ours.group, alike.codec, ours.results, {**alike.meta, "qualities": [None] * 3})]
    )
    assert found.mixed


def test_published_curves_are_drawn_dashed_and_measured_ones_are_not() -> None:
    theirs = next(curve for curve in published("gao2026") if curve.task == "detection")
    ours, drawn = plot([_ours(), theirs]).get_lines()
    assert (ours.get_linestyle(), drawn.get_linestyle()) == ("-", "--")
    assert str(drawn.get_label()).endswith("†")


def test_curves_are_filed_beside_another_dataset_and_detector_and_keep_their_own_in_meta() -> None:
    curve = published("gao2026", dataset="coco-100", detector="yolox")[0]
    assert curve.group == ("coco-100", "detection", "yolox")
    assert curve.meta["published"]["dataset"] == "coco"
    assert curve.meta["published"]["detector"] == "faster-rcnn-r50-c4"


def test_wrong_names_are_one_line_errors() -> None:
    with pytest.raises(UsageError, match="gao2026"):
        published("gao2025")
    with pytest.raises(UsageError, match="no curves of a detector"):
        published("compressai", detector="yolox")


def test_saved_curves_are_read_back_as_published(tmp_path: Path) -> None:
    for curve in published("compressai"):
        save_imported([curve], tmp_path)
    found = list(find(tmp_path))
    assert {curve.dataset for curve in found} == {"kodak", "clic2020-mobile", "clic2020-professional"}
    assert all(curve.is_published for curve in found)


def test_the_command_lists_publications_and_writes_the_curves_of_one(tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["published"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in PUBLICATIONS)
    written = CliRunner().invoke(app, ["published", "gao2026", "--results", str(tmp_path)])
    assert written.exit_code == 0, written.output
    assert len(list(find(tmp_path))) == 36
