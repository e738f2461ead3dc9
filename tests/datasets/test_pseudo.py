"""A detector's findings on uncompressed images stand for annotations, apart from those that are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from icm_bench.cli import app
from icm_bench.curves.rate_convention import differing
from icm_bench.curves.result import find
from icm_bench.dataset import Dataset, open_dataset
from icm_bench.datasets.pseudo import joined_objects, with_pseudo_truth
from icm_bench.error import DatasetError, UsageError
from icm_bench.pipeline.runner import run
from icm_bench.testing import FakeDetector


def test_objects_are_the_findings_above_the_score(blobs: Dataset, plugins: Path) -> None:
    few, many = (with_pseudo_truth(blobs, "fake:contrast=20", score=score) for score in (0.4, 0.1))
    assert 0 < few.n_objects < many.n_objects
    assert few.fingerprint != many.fingerprint != blobs.fingerprint
    assert len({blobs.name, few.name, many.name}) == 3
    assert few.tasks == ("detection", "segmentation")
    assert few.categories == {1: "red", 2: "green", 3: "blue"}


def test_uncompressed_images_reach_full_accuracy_and_coding_loses_some(
    blob_files: tuple[Path, Path], plugins: Path, tmp_path: Path
) -> None:
    plain = open_dataset("folder", images=blob_files[0]).limit(6)
    pseudo = with_pseudo_truth(plain, "fake:contrast=20", score=0.1)
    (curve,) = run(
        pseudo,
        task="detection",
        codecs=["jpeg"],
        detector="fake:contrast=20",
        qualities=["jpeg=5,90"],
        results=tmp_path / "results",
        runs=tmp_path / "runs",
        bootstrap=0,
        workers=1,
    ).results
    assert curve.meta["uncompressed"]["map"] == pytest.approx(100.0)
    low, high = curve.results["map"]
    assert low is not None
    assert high is not None
    assert low < high < 100.0
    assert curve.meta["dataset"]["truth"] == "pseudo: findings of fake:contrast=20 from score 0.1 on"


def test_the_truths_differ_in_every_comparison() -> None:
    real = {"conventions": dict.fromkeys(("bpp", "bits", "pixels"), "known"), "dataset": {}}
    pseudo = {**real, "dataset": {"truth": "pseudo: findings of yolox from score 0.5 on"}}
    assert differing(real, real) == []
    assert differing(real, pseudo) == [
        "truth is 'annotations' in one and 'pseudo: findings of yolox from score 0.5 on' in the other"
    ]


def test_the_command_measures_a_folder_without_annotations(
    blob_files: tuple[Path, Path], plugins: Path, tmp_path: Path
) -> None:
    options = ["--dataset", "folder", "--images", str(blob_files[0]), "--limit", "2", "--workers", "1"]
    options += [
        "--codecs",
        "jpeg",
        "--qualities",
        "jpeg=20,80",
        "--detector",
        "fake:contrast=20",
        "--bootstrap",
        "0",
    ]
    options += ["--truth", "pseudo", "--truth-score", "0.1"]
    options += ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, ["run", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (curve,) = find(tmp_path / "results")
    assert "--limit 2 --truth pseudo --truth-score 0.1 " in curve.meta["command"]


def test_nothing_found_and_impossible_scores_are_refused(blobs: Dataset, plugins: Path) -> None:
    with pytest.raises(DatasetError, match="finds nothing from a score of 1 on"):
        with_pseudo_truth(blobs.limit(1), "fake", score=1.0)
    with pytest.raises(UsageError, match="--truth-score"):
        with_pseudo_truth(blobs, "fake", score=0.0)


def test_the_command_writes_where_objects_are_by_several_detectors_and_annotations(
    blob_files: tuple[Path, Path], blobs: Dataset, plugins: Path, tmp_path: Path
) -> None:
    folder, annotations = blob_files
    output = tmp_path / "deep" / "objects.json"
    options = ["--images", str(folder), "--detectors", "fake:contrast=20,fake:contrast=30"]
    options += ["--score", "0.1", "--output", str(output)]
    counts = []
    for more in ([], ["--annotations", str(annotations)]):
        done = CliRunner().invoke(app, ["data", "objects", *options, *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found = open_dataset("coco-format", images=folder, annotations=output)
        assert [record.path for record in found.images] == [record.path for record in blobs.images]
        counts.append(found.n_objects)
    one = with_pseudo_truth(blobs, "fake:contrast=20", score=0.1)
    assert counts[0] > one.n_objects
    assert counts[1] == counts[0] + blobs.n_objects


def test_detectors_that_differ_in_a_category_are_not_joined(blobs: Dataset, tmp_path: Path) -> None:
    class Other(FakeDetector):
        categories: ClassVar[Mapping[int, str]] = {1: "rouge"}

    with pytest.raises(UsageError, match="calls category 1 'rouge', which is 'red' elsewhere"):
        joined_objects(blobs, [FakeDetector(), Other()], 0.3, tmp_path)
