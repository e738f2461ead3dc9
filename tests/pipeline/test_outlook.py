"""Parts of runs, what runs would take, and where they stand."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import subprocess
from pathlib import Path

import pytest

from icm_bench.cli import console, status
from icm_bench.dataset import Dataset, ImageRecord
from icm_bench.error import UsageError
from icm_bench.pipeline import outlook
from icm_bench.pipeline.engine import Device
from icm_bench.pipeline.job import DetectorChoice
from icm_bench.pipeline.judge import Judge
from icm_bench.pipeline.plan import OperatingPoint, Plan, make_plan
from icm_bench.pipeline.store import Store
from icm_bench.spec import Spec
from tests.helpers.small_run import curve_files, measure


def large_plan(declared: bool) -> Plan:
    """Plan 5,000 images of many sizes, whose points cost up to a thousand times as much as others."""
    draw = random.Random(3)
    sizes = [(draw.choice([320, 480, 640]), draw.choice([240, 480, 640])) for _ in range(5000)]
    images = tuple(ImageRecord(index, Path("none"), *size) for index, size in enumerate(sizes))
    costs = [(f"codec{n}", quality, 0.1 * 10**n * 2**quality) for n in range(4) for quality in range(6)]
    points = tuple(
        OperatingPoint(Spec.parse(name), quality, "1", None, "cpu", cost if declared else 1.0)
        for name, quality, cost in costs
    )
    dataset = Dataset("large", images, None, "0" * 64)
    choice = DetectorChoice(Spec.parse("fake"))
    return Plan(
        dataset,
        "detection",
        (Judge(choice, "1"),),
        (OperatingPoint(), *points),
        Store(Path("runs")),
        Device("cpu"),
    )


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("count", [1, 8, 40])
def test_parts_are_disjoint_and_whole_and_the_longest_is_near_the_mean(count: int, declared: bool) -> None:
    plan, true = large_plan(declared), large_plan(declared=True)
    assigned = outlook.parts(plan, count)
    assert len(assigned) == len(plan.points) * plan.n_shards
    assert set(assigned.values()) == set(range(1, count + 1))
    megapixels = [sum(image.width * image.height for image in images) / 1e6 for images in plan.shards()]
    cost = {(p.codec, p.quality): p.s_per_megapixel for p in true.points}
    total = [0.0] * count
    for (point, shard), part in assigned.items():
        total[part - 1] += megapixels[shard] * cost[point.codec, point.quality]
    assert max(total) / (sum(total) / count) < 1.3


def test_a_part_is_a_number_of_a_count() -> None:
    assert outlook.parse_part("3/40") == (3, 40)
    for wrong in ("0/4", "5/4", "3", "a/b", "1/0", "-1/4", ""):
        with pytest.raises(UsageError, match="--part: .* is not a part; write 3/40"):
            outlook.parse_part(wrong)


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
def test_parts_in_any_order_and_twice_give_the_same_bytes_and_no_curve_before_the_end(
    blobs: Dataset, tmp_path: Path
) -> None:
    measure(blobs, tmp_path / "whole")
    order = [1, 2, 3, 4, 2]
    random.Random(1).shuffle(order)
    encoded = [measure(blobs, tmp_path / "parts", part=(number, 4)).n_encoded for number in order]
    assert sum(encoded) == 140
    assert encoded[max(place for place, number in enumerate(order) if number == 2)] == 0
    assert not (tmp_path / "parts" / "results").exists()
    assert measure(blobs, tmp_path / "parts").n_encoded == 0
    assert curve_files(tmp_path / "parts") == curve_files(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
def test_a_part_that_is_missing_is_measured_at_the_end(blobs: Dataset, tmp_path: Path) -> None:
    some = blobs.limit(10)
    encoded = measure(some, tmp_path, part=(1, 3)).n_encoded
    assert 0 < encoded < 70
    assert measure(some, tmp_path).n_encoded == 70 - encoded


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
def test_standings_count_what_is_done_and_foresee_the_rest_from_it(blobs: Dataset, tmp_path: Path) -> None:
    some = blobs.limit(10)
    plan = make_plan(
        some, task="detection", detector="fake", codecs=["fake"], runs=tmp_path / "runs", device="cpu"
    )
    record = outlook.record_of(plan)
    before = outlook.standings(record, tmp_path / "runs")
    assert [(item.n_done, item.n_shards) for item in before] == [(0, 2)] * 6
    assert all(item.core_s > 0 for item in before)
    measure(some, tmp_path)
    after = outlook.standings(record, tmp_path / "runs")
    assert [(item.n_done, item.core_s, item.n_bytes) for item in after] == [(2, 0.0, 0.0)] * 6
    next((tmp_path / "runs" / "coded" / some.name / "fake" / "3").glob("00001.parquet")).unlink()
    after = outlook.standings(record, tmp_path / "runs")
    assert [item.n_done for item in after] == [2, 2, 1, 2, 2, 2]
    assert 0 < after[2].core_s < before[2].core_s
    ((found, running),) = [
        pair for pair in outlook.recorded(tmp_path / "runs") if len(pair[0]["points"]) == 8
    ]
    assert found["dataset"] == some.name
    assert running == []


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
def test_status_has_a_row_for_rate_points_that_stand_alike_and_says_who_is_running(
    blobs: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def look(done: int, *_: object) -> None:
        if done == 9:
            status.status(tmp_path / "runs")
            seen.append(capsys.readouterr().out)

    measure(blobs.limit(10), tmp_path, progress=look)
    (during,) = seen
    rows = [[cell.strip() for cell in line.split("|")] for line in during.splitlines()]
    found = {(row[1], row[2]): row[3:5] for row in rows if len(row) > 5}
    assert found["uncompressed", ""] == ["2", "0"]
    assert found["fake", "1, 3, 5, 7, 8"] == ["5", "5"]
    assert found["jpeg:subsampling=444", "5, 60"] == ["2", "2"]
    assert re.search(r"^running: \S+-\d+, last shard \(\S+ at \d+\) 0 s ago$", during, re.MULTILINE)
    status.status(tmp_path / "runs")
    assert "running" not in capsys.readouterr().out


def test_a_forecast_follows_what_points_have_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = OperatingPoint(Spec.parse("cheap"), 1, "1", s_per_megapixel=1.0)
    dear = dataclasses.replace(cheap, codec=Spec.parse("dear"), s_per_megapixel=10.0)
    now = [0.0]
    monkeypatch.setattr("icm_bench.pipeline.outlook.time.monotonic", lambda: now[0])
    forecast = outlook.Forecast([(cheap, 1.0), (cheap, 1.0), (dear, 1.0), (dear, 1.0)], workers=2)
    assert forecast.left_s == pytest.approx((1 + 1 + 10 + 10) / 2)
    now[0] = 1.0
    forecast.spend(0, {"encode": 1.5, "decode": 0.5, "load": 9.0})  # two cores, twice as slow as declared
    forecast.done(0)
    assert forecast.left_s == pytest.approx((2 + 20 + 20) / 2)
    now[0] = 11.0
    forecast.spend(2, {"encode": 20.0})
    forecast.done(2)
    assert forecast.left_s == pytest.approx((2 + 20) / 2)


def test_a_forecast_with_predict_workers_is_that_of_the_slower_stage() -> None:
    point = OperatingPoint(Spec.parse("any"), 1, "1")
    for code_s, expected in ((4.0, 3 * 4.0 / 2), (1.0, 3 * 1.0)):
        forecast = outlook.Forecast([(point, 1.0)] * 4, workers=3, predictors=1)
        forecast.spend(0, {"encode": code_s})
        forecast.spend(0, {"detect": 1.0})
        forecast.done(0)
        assert forecast.left_s == pytest.approx(expected)


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "3 s"), (61, "1 min 1 s"), (12_000, "3 h 20 min")])
def test_a_time_span_is_told_in_two_units(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_a_line_a_minute_tells_how_far_a_run_is_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with console.Bar() as bar:
        bar(1, 9, "jpeg at 20", 100.0)
        monkeypatch.setattr(console, "_LINE_S", 0.0)
        bar(2, 9, "jpeg at 20", 90.0)
    assert capsys.readouterr().err == "2 of 9 done (jpeg at 20); about 1 min 30 s left\n"


@pytest.mark.slow
def test_options_come_from_a_file_and_the_command_line_wins(
    blob_files: tuple[Path, Path], tmp_path: Path, command: list[str], plugins: Path
) -> None:
    images, annotations = blob_files
    (tmp_path / "run.toml").write_text(
        f"images = '{images}'\nannotations = '{annotations}'\ncodecs = ['fake', 'png']\n"
        f"qualities = ['fake=1,8']\ndetector = 'fake'\nruns = '{tmp_path}/runs'\nlimit = 3\n"
        f"results = '{tmp_path}/results'\nbootstrap = 0\n"
    )
    arguments = [*command, "run", "--config", str(tmp_path / "run.toml"), "--dry-run", "--limit", "9"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "dataset blobs-9: 9 images" in done.stdout
    assert [line.split()[1] for line in done.stdout.splitlines() if line[:2] == "| "][1:] == [
        "uncompressed",
        "fake",
        "png",
    ]
    assert not (tmp_path / "runs").exists()
    subprocess.run([*command, "run", "--config", str(tmp_path / "run.toml"), "--workers", "1"], check=True)
    meta = json.loads((tmp_path / "results/blobs-3/detection/fake/png.json").read_text())["meta"]
    assert meta["config"] == {
        "file": "run.toml",
        "options": {
            "codecs": ["fake", "png"],
            "qualities": ["fake=1,8"],
            "bootstrap": 0,
            "detector": "fake",
            "limit": 3,
        },
    }
    (tmp_path / "run.toml").write_text("codec = 'jpeg'")
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 2
    assert "unknown option 'codec'; did you mean 'codecs'?" in done.stderr
