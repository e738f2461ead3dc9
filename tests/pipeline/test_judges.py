"""Several detectors in one run: coded once, decoded once, and each finds what it finds alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from icm_bench.cli import app, option
from icm_bench.curves.result import find
from icm_bench.dataset import Dataset
from icm_bench.error import UsageError
from icm_bench.pipeline import outlook, stage
from icm_bench.pipeline.judge import choose_detector
from icm_bench.pipeline.plan import make_plan
from icm_bench.pipeline.runner import Summary
from icm_bench.testing import FakeCodec
from tests.helpers.small_run import curve_files, run_in

pytestmark = pytest.mark.usefixtures("plugins")

DETECTORS = ["fake", "fake:contrast=30", "fake:contrast=20"]


def measure(dataset: Dataset, folder: Path, detector: str | list[str], **options: Any) -> Summary:
    codecs = {
        "codecs": ["fake", "jpeg:subsampling=444"],
        "qualities": ["fake=1,8", "jpeg:subsampling=444=5,60"],
    }
    return run_in(dataset, folder, detector=detector, **{"bootstrap": 50, **codecs, **options})


@pytest.mark.slow
def test_images_are_coded_and_decoded_once_and_each_detector_finds_what_it_finds_alone(
    blobs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = blobs.limit(10)
    decoded: list[bytes] = []
    original = FakeCodec.decode

    def counted(self: FakeCodec, data: bytes) -> Any:
        decoded.append(data)
        return original(self, data)

    monkeypatch.setattr(FakeCodec, "decode", counted)
    together = measure(some, tmp_path / "together", DETECTORS)
    assert len(decoded) == 20
    assert (together.n_encoded, together.n_detected) == (40, 3 * 50)
    assert [result.detector for result in together.results] == [each for each in DETECTORS for _ in range(2)]
    for detector in DETECTORS:
        measure(some, tmp_path / "alone", detector)
    assert curve_files(tmp_path / "together") == curve_files(tmp_path / "alone")
    assert not measure(some, tmp_path / "together", DETECTORS).n_jobs


@pytest.mark.slow
def test_a_detector_that_joins_later_looks_at_what_is_stored_and_the_others_do_not_look_again(
    blobs: Dataset, tmp_path: Path
) -> None:
    some = blobs.limit(10)
    assert measure(some, tmp_path, DETECTORS[:2]).n_encoded == 40
    later = measure(some, tmp_path, DETECTORS)
    assert (later.n_encoded, later.n_detected) == (0, 50)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"workers": 2}, {"workers": 1, "gpus": 1, "batch": 3}])
def test_engines_and_parts_give_the_same_bytes(
    blobs: Dataset, tmp_path: Path, options: dict[str, int]
) -> None:
    some = blobs.limit(10)
    measure(some, tmp_path / "here", DETECTORS)
    for number in (2, 1):
        measure(some, tmp_path / "there", DETECTORS, part=(number, 2), **options)
    assert measure(some, tmp_path / "there", DETECTORS, **options).n_jobs == 0
    assert curve_files(tmp_path / "there") == curve_files(tmp_path / "here")


@pytest.mark.slow
def test_a_cluster_gives_the_same_bytes(blobs: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    some = blobs.limit(10)
    measure(some, tmp_path / "here", DETECTORS)
    measure(some, tmp_path / "there", DETECTORS, dask="local")
    assert curve_files(tmp_path / "there") == curve_files(tmp_path / "here")


def test_what_is_left_counts_each_detector(blobs: Dataset, tmp_path: Path) -> None:
    some = blobs.limit(8)
    options: dict[str, Any] = {
        "task": "detection",
        "codecs": ["fake"],
        "qualities": ["fake=1"],
        "runs": tmp_path / "runs",
        "device": "cpu",
    }
    left = []
    for detector in (DETECTORS[:1], DETECTORS):
        record = outlook.record_of(make_plan(some, detector=detector, **options))
        left.append([item.core_s for item in outlook.standings(record, tmp_path / "runs")])
    (original, point), (originals, points) = left
    assert originals == pytest.approx(3 * original)
    assert points - point == pytest.approx(2 * original)


def test_weights_stand_behind_their_detector_and_are_no_part_of_its_name(tmp_path: Path) -> None:
    weights = tmp_path / "weights,v1.bin"
    weights.write_bytes(b"weights")
    choice, _ = choose_detector(f"fake:contrast=30:weights={weights}")
    assert (str(choice.spec), choice.weights) == ("fake:contrast=30", weights)
    assert choose_detector("fake", weights)[0].weights == weights
    with pytest.raises(UsageError, match="names weights as well"):
        choose_detector(f"fake:weights={weights}", weights)
    with pytest.raises(UsageError, match="no such file"):
        choose_detector("fake:weights=nowhere.bin")


def test_a_comma_before_a_letter_begins_the_next_detector() -> None:
    text = "onnx:mean=0.5,.5,-1:weights=a.onnx, yolox:weights=b.onnx,fake"
    assert option.detectors(text) == ["onnx:mean=0.5,.5,-1:weights=a.onnx", "yolox:weights=b.onnx", "fake"]
    with pytest.raises(UsageError, match="names nothing"):
        option.detectors(" , ")


def test_detectors_that_cannot_stand_side_by_side_are_refused(blobs: Dataset, tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"weights")
    with pytest.raises(UsageError, match="names fake again"):
        measure(blobs, tmp_path, ["fake", "fake"])
    with pytest.raises(UsageError, match="weights of one of 2 detectors.*fake:weights="):
        measure(blobs, tmp_path, DETECTORS[:2], weights=weights)


@pytest.mark.slow
def test_the_command_prints_a_column_for_each_detector_and_draws_a_panel_for_each(
    blob_files: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, annotations = blob_files
    arguments = ["run", "--images", str(folder), "--annotations", str(annotations), "--limit", "6"]
    arguments += ["--codecs", "fake,jpeg", "--qualities", "jpeg=5,30,80", "--detector", ",".join(DETECTORS)]
    arguments += ["--bootstrap", "20", "--workers", "1", "--dataset", "coco-format"]
    arguments += ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "BD-rate against fake: detection on blobs-6 by 3 detectors" in done.output
    assert (tmp_path / "results" / "blobs-6" / "detection" / "detectors-log.png").is_file()
    assert len(list(find(tmp_path / "results"))) == 6
    stage.forget()


@pytest.mark.slow
def test_a_detector_may_write_to_its_image(
    blobs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icm_bench.testing import FakeDetector

    original = FakeDetector.predict

    def spoiling(self: FakeDetector, image: Any) -> Any:
        found = original(self, image)
        image[:] = 0
        return found

    some = blobs.limit(4)
    measure(some, tmp_path / "calm", DETECTORS[:2])
    monkeypatch.setattr(FakeDetector, "predict", spoiling)
    stage.forget()
    measure(some, tmp_path / "spoilt", DETECTORS[:2])
    assert curve_files(tmp_path / "calm") == curve_files(tmp_path / "spoilt")
