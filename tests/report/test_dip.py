"""A point that no curve between the points goes through is named wherever the curve's comparison is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from icm_bench.curves.comparison import compare_all, compare_with_anchor, fixed_accuracies, records
from icm_bench.curves.result import Result, save
from icm_bench.report import content, difference, plot, regression, table
from tests.helpers.made_up import made_up

SAID = "Accuracy does not rise with rate everywhere: jpeg at 3 is left out"


def curve(
    codec: str, accuracies: list[float], rates: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.6)
) -> Result:
    return made_up(
        codec,
        {"bpp": rates, "map": accuracies},
        codec_version=["one"] * 5,
        dataset={"fingerprint": "f", "images": 12},
        detector={"version": "fake 1"},
        uncompressed={"map": 40.0},
    )


DIP = curve("jpeg", [10.0, 20.0, 19.0, 29.0, 31.0])
CURVES = [curve("vvc", [12.0, 22.0, 26.0, 30.0, 32.0]), DIP]


def test_tables_say_which_point_is_left_out() -> None:
    for shown in (
        table.of_comparison(compare_with_anchor(CURVES, metric="map")),
        table.of_matrix(compare_all(CURVES, metric="map")),
        table.of_fixed_accuracies(fixed_accuracies(CURVES, [20.0], metric="map")),
    ):
        assert f"{SAID}." in shown.notes
        assert SAID in table.markdown(shown).replace("\\", "")
        assert SAID in table.latex(shown)


def test_records_the_report_the_plot_and_a_comparison_say_which_point_is_left_out(tmp_path: Path) -> None:
    (row,) = records(compare_with_anchor(CURVES, metric="map"))
    assert row["dips"] == "jpeg at 3 is left out"
    assert SAID in content.matrix_table(content.make_group(CURVES, "map"))
    (axes_note,) = [
        text.get_text()
        for text in plot.plot(CURVES).get_figure().texts  # type: ignore[union-attr]
        if "left out" in text.get_text()
    ]
    assert "1 point left out of BD-rates: no rise with rate" in axes_note
    for side, accuracies in (("base", [11.0, 21.0, 25.0, 29.0, 31.0]), ("head", DIP.results["map"])):
        save(
            curve("jpeg", accuracies),  # type: ignore[arg-type]
            tmp_path / side / "blobs" / "detection" / "fake" / "jpeg.json",
            None,
        )
    found = regression.compare(tmp_path / "base", tmp_path / "head", base_name="base", head_name="head")
    assert "head at 3 is left out" in difference.render(found, "text")


def test_a_point_that_equals_another_is_left_out_and_one_that_is_joined_is_said_to_be() -> None:
    twice = curve("jpeg", [10.0, 20.0, 20.0, 29.0, 31.0], (0.1, 0.2, 0.2, 0.8, 1.6))
    (row,) = compare_with_anchor([CURVES[0], twice], metric="map")
    assert row.bd_rate.dips == ("jpeg at 3 is left out",)
    (row,) = compare_with_anchor(CURVES, metric="map", monotone="isotonic")
    assert row.bd_rate.dips == ("jpeg at 3 is joined with its neighbours",)


@pytest.mark.parametrize("method", ["pchip", "monotone-cubic"])
def test_nothing_is_said_of_a_curve_that_rises_or_is_fitted_to_all_its_points(method: str) -> None:
    curves = [CURVES[0], curve("jpeg", [10.0, 20.0, 25.0, 29.0, 31.0])] if method == "pchip" else CURVES
    (row,) = compare_with_anchor(curves, metric="map", method=method)  # type: ignore[arg-type]
    assert row.bd_rate.dips == ()
