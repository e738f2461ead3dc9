"""BD-rates by several detectors and their mean, on curves whose means are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from icm_bench.cli import app
from icm_bench.curves.by_detector import compare_by_detector, has_seen
from icm_bench.curves.replicates import Replicates
from icm_bench.curves.result import Result, load, path_of, save
from tests.helpers.made_up import made_up

RATES, ACCURACIES = np.array([0.1, 0.2, 0.4, 0.8]), np.array([10.0, 20.0, 30.0, 40.0])
DETECTORS = ("yolox", "onnx:layout=detr:model=deim-c6ad358f", "nanodet_g")


def curve(
    folder: Path, codec: str, detector: str, scale: float, *, images: str = "a" * 64, n: int = 40
) -> Result:
    """Write a curve whose rates are those of the anchor times a scale, on each replicate times another."""
    made = made_up(
        codec,
        {"bpp": (RATES * scale).tolist(), "map": ACCURACIES.tolist()},
        ("set", "detection", detector),
        dataset={"fingerprint": images},
        detector={"version": "1"},
        trained_through=["onnx:model=deim-c6ad358f", "yolox"] if codec == "learned" else [],
    )
    # The scale of a replicate is the detector's own, up or down with the others' or against them.
    swing = np.linspace(-0.1, 0.1, n) * (-1 if detector == "nanodet_g" else 1)
    scales = scale * np.exp(swing if codec == "learned" else 0 * swing)
    replicates = Replicates(RATES[:, None] * scales, {"map": np.repeat(ACCURACIES[:, None], n, axis=1)})
    path = path_of(folder, "set", "detection", detector.replace(":", "+"), codec)
    save(made, path, replicates)
    return load(path)


def groups(folder: Path) -> list[list[Result]]:
    scales = dict(zip(DETECTORS, (0.8, 0.7, 0.9), strict=True))
    return [
        [curve(folder, "vvc", name, 1.0), curve(folder, "learned", name, scale)]
        for name, scale in scales.items()
    ]


def test_the_mean_is_of_the_bd_rates_and_its_interval_of_the_mean_on_each_replicate(tmp_path: Path) -> None:
    (found,) = compare_by_detector(groups(tmp_path))
    assert [item.bd_rate.value for item in found.comparisons.values()] == pytest.approx([-20, -30, -10])
    assert found.mean.value == pytest.approx(-20)
    swing = np.linspace(-0.1, 0.1, 40)
    means = 100 * (0.8 * np.exp(swing) + 0.7 * np.exp(swing) + 0.9 * np.exp(-swing)) / 3 - 100
    assert (found.mean.low, found.mean.high) == pytest.approx(
        tuple(np.quantile(means, [0.025, 0.975])), abs=1e-4
    )
    # Narrower than that of one detector: errors of the third go against the others'.
    yolox = found.comparisons["yolox"].bd_rate
    assert found.mean.high - found.mean.low < 0.5 * (yolox.high - yolox.low)  # type: ignore[operator]


def test_detectors_that_a_codec_was_trained_through_are_marked_and_left_out_of_the_second_mean(
    tmp_path: Path,
) -> None:
    (found,) = compare_by_detector(groups(tmp_path))
    assert found.seen == {"yolox", "onnx:layout=detr:model=deim-c6ad358f"}
    assert found.unseen is not None
    assert found.unseen.value == pytest.approx(-10)
    rows = found.records()
    assert [row["detector"] for row in rows] == [*DETECTORS, "mean", "mean of unseen"]
    assert [row["seen"] for row in rows] == [True, True, False, None, None]


def test_a_network_is_known_by_its_files_hash_and_a_guide_counts_as_seen(tmp_path: Path) -> None:
    result = curve(tmp_path, "learned", "onnx:layout=detr:model=renamed-c6ad358f", 1.0)
    assert has_seen(result)
    assert not has_seen(replace(result, detector="onnx:model=deim-00000000"))
    assert not has_seen(replace(result, detector="onnx"))
    guided = {**result.meta, "trained_through": [], "guide": {"spec": "x", "is_judge": True}}
    assert has_seen(replace(result, meta=guided))


def test_there_is_no_mean_where_a_detector_has_none_or_did_not_look(tmp_path: Path) -> None:
    found = groups(tmp_path)
    found[2][1] = replace(found[2][1], results={"bpp": [5.0, 6.0, 7.0, 8.0], "map": [1.0, 2.0, 3.0, 4.0]})
    (row,) = compare_by_detector(found)
    assert row.mean.value is None
    assert "by nanodet_g, no overlap" in str(row.mean.reason)
    (row,) = compare_by_detector([*found[:2], found[2][:1]])
    assert row.mean.reason == "no mean: not measured by nanodet_g"


def test_detectors_that_looked_at_different_images_give_a_mean_without_interval(tmp_path: Path) -> None:
    found = groups(tmp_path)
    other = tmp_path / "other"
    found[2] = [curve(other, codec, "nanodet_g", 1.0, images="b" * 64) for codec in ("vvc", "learned")]
    (row,) = compare_by_detector(found)
    assert row.mean.value == pytest.approx(-50 / 3)
    assert row.mean.low is None
    assert row.mean.reason == "no interval: the detectors looked at different images"


def test_the_commands_show_all_detectors_of_a_folder_and_say_what_one_alone_has_judged(
    tmp_path: Path,
) -> None:
    groups(tmp_path)
    runner = CliRunner()
    done = runner.invoke(app, ["bdrate", str(tmp_path), "--across", "detectors", "--format", "markdown"])
    assert done.exit_code == 0, done.output
    header = next(line for line in done.output.splitlines() if line.startswith("| codec"))
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        *("codec", "nanodet\\_g", "deim", "yolox", "mean", "95 %", "mean of unseen", "95 %", "remark")
    ]
    assert "-20.0 % ‡" in done.output
    assert "-10.0 % |" in done.output
    drawn = runner.invoke(app, ["plot", str(tmp_path), "--panels", "detectors"])
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "set" / "detection" / "detectors-log.png").is_file()
    one = runner.invoke(app, ["bdrate", str(tmp_path), "--across", "detectors", "--detectors", "yolox"])
    assert one.exit_code == 1
    assert "left out: detection on set, which one detector alone has judged" in one.output
    assert "no dataset and task has curves by several detectors" in str(one.exception)
