"""A detector's findings on uncompressed images stand for annotations, apart from those that are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from typer.testing import CliRunner

from icm_bench.cli import app
from icm_bench.curves.rate_convention import differing
from icm_bench.curves.result import find
from icm_bench.dataset import Dataset, open_dataset
from icm_bench.error import DatasetError, UsageError
from icm_bench.pipeline.pseudo import joined_objects
from icm_bench.pipeline.runner import Summary
from icm_bench.testing import FakeDetector
from tests.helpers.small_run import run_in


def measure(dataset: Dataset, folder: Path, score: float | None, **options: Any) -> Summary:
    own: dict[str, Any] = {"codecs": ["jpeg"], "qualities": ["jpeg=5,90"], "detector": "fake:contrast=20"}
    return run_in(dataset, folder, truth_score=score, **{"bootstrap": 20, **own, **options})


def test_objects_are_the_findings_above_the_score_and_uncompressed_images_reach_full_accuracy(
    blob_files: tuple[Path, Path], plugins: Path, tmp_path: Path
) -> None:
    plain = open_dataset("folder", images=blob_files[0]).limit(6)
    (few,), (many,) = (measure(plain, tmp_path, score).results for score in (0.5, 0.1))
    assert 0 < few.meta["dataset"]["objects"] < many.meta["dataset"]["objects"]
    assert (few.dataset, many.dataset) == (f"{plain.name}-pseudo", f"{plain.name}-pseudo-0.1")
    for curve in (few, many):
        assert curve.meta["uncompressed"]["map"] == pytest.approx(100.0)
        low, high = curve.results["map"]
        assert low is not None
        assert high is not None
        assert low < high < 100.0
    assert many.meta["dataset"]["truth"] == "pseudo: findings of fake:contrast=20 from score 0.1 on"


def test_findings_are_scored_from_the_stores_of_the_annotated_images_and_share_their_replicates(
    blobs: Dataset, plugins: Path, tmp_path: Path
) -> None:
    some = blobs.limit(6)
    real = measure(some, tmp_path, score=None)
    pseudo = measure(some, tmp_path, 0.1)
    assert (real.n_encoded, real.n_detected) == (12, 18)
    assert (pseudo.n_encoded, pseudo.n_detected) == (0, 0)
    (by_truth,), (by_findings,) = real.results, pseudo.results
    assert by_truth.results["map"] != by_findings.results["map"]
    assert by_truth.replicates is not None
    assert by_findings.replicates is not None
    assert np.array_equal(by_truth.replicates.bpp, by_findings.replicates.bpp)
    assert by_findings.meta["dataset"]["stored_as"] == by_truth.dataset


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
    options += ["--codecs", "jpeg", "--qualities", "jpeg=20,80", "--detector", "fake:contrast=20"]
    options += ["--bootstrap", "0", "--truth", "pseudo", "--truth-score", "0.1"]
    options += ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, ["run", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (curve,) = find(tmp_path / "results")
    assert "--limit 2 --truth pseudo --truth-score 0.1 " in curve.meta["command"]


def test_nothing_found_and_impossible_scores_are_refused(
    blobs: Dataset, plugins: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="finds nothing from a score of 1 on"):
        measure(blobs.limit(1), tmp_path, 1.0)
    with pytest.raises(UsageError, match="--truth-score"):
        measure(blobs, tmp_path, 0.0)
    with pytest.raises(UsageError, match="task 'fidelity': has no use for --truth"):
        measure(blobs, tmp_path, 0.5, task="fidelity", detector=None)


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
    detector = FakeDetector(contrast=20)
    alone = sum(row["score"] >= 0.1 for record in blobs.images for row in detector.predict(record.read()))
    assert counts[0] > alone > 0
    assert counts[1] == counts[0] + blobs.n_objects


def test_detectors_that_differ_in_a_category_are_not_joined(blobs: Dataset, tmp_path: Path) -> None:
    class Other(FakeDetector):
        categories: ClassVar[Mapping[int, str]] = {1: "rouge"}

    with pytest.raises(UsageError, match="calls category 1 'rouge', which is 'red' elsewhere"):
        joined_objects(blobs, [FakeDetector(), Other()], 0.3, tmp_path)
