"""What runs leave behind, read back: tables, decoded images, predictions."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import icm_bench
from icm_bench.curves.result import Result, load
from icm_bench.dataset import Dataset
from icm_bench.error import ResultError, StoreError, UsageError
from icm_bench.pipeline import store
from icm_bench.pipeline.readback import decoded, load_results, predictions
from icm_bench.pipeline.runner import Summary
from icm_bench.testing import FakeCodec, FakeDetector
from tests.helpers.small_run import run_in


def measure(blobs: Dataset, folder: Path) -> Summary:
    qualities = {"fake": [1, 5], "jpeg": [10, 60]}
    return run_in(blobs.limit(10), folder, codecs=["fake", "jpeg"], qualities=qualities, bootstrap=20)


@pytest.fixture(scope="module")
def measured() -> dict[Path, Summary]:
    """The folder that is measured into, once, and what was measured there."""
    return {}


@pytest.fixture
def summary(
    blobs: Dataset,
    plugins: Path,
    measured: dict[Path, Summary],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> Summary:
    if not measured:
        folder = tmp_path_factory.mktemp("measured")
        measured[folder] = measure(blobs, folder)
    ((folder, summary),) = measured.items()
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return summary


def test_results_come_as_tables_by_point_by_category_and_by_image(summary: Summary, tmp_path: Path) -> None:
    points = load_results(tmp_path / "results")
    assert len(points) == 4
    assert (points["map_low"] <= points["map"]).all()
    assert (points["map"] <= points["map_high"]).all()
    assert (points["bpp_low"] < points["bpp_high"]).all()
    categories = load_results(tmp_path / "results", by="category")
    assert set(categories["category"]) == {"red", "green", "blue"}
    assert categories.groupby(["codec", "quality"])["map"].mean().to_numpy() == pytest.approx(
        points["map"].to_numpy()
    )
    images = load_results(tmp_path / "results", by="image", runs=tmp_path / "runs")
    assert len(images) == 4 * 10
    of_point = images.groupby(["codec", "quality"])
    pixels = (images["width"] * images["height"]).groupby([images["codec"], images["quality"]]).sum()
    assert (8 * of_point["n_bytes"].sum() / pixels).to_numpy() == pytest.approx(points["bpp"].to_numpy())
    assert of_point["bpp"].mean().to_numpy() == pytest.approx(points["bpp_mean"].to_numpy())
    assert of_point["psnr-rgb"].mean().to_numpy() == pytest.approx(points["psnr-rgb"].to_numpy())


def test_coded_shards_that_repeat_the_squared_error_are_read_as_others(
    summary: Summary, blobs: Dataset, tmp_path: Path
) -> None:
    images = load_results(tmp_path / "results", by="image", runs=tmp_path / "runs")
    for path in (tmp_path / "runs" / "coded").rglob("*.parquet"):
        table = store.read(path)
        assert "mse" not in table.column_names
        store.write(path, table.append_column("mse", [[0.0] * len(table)]), store.read_header(path))
    again = load_results(tmp_path / "results", by="image", runs=tmp_path / "runs")
    pd.testing.assert_frame_equal(again, images)
    assert not measure(blobs, tmp_path).n_jobs
    first = int(images["image_id"][0])
    for result in summary.results:
        quality = result.qualities[0]
        assert quality is not None
        assert decoded(result, quality, first, runs=tmp_path / "runs").shape[2] == 3


def test_decoded_images_and_predictions_are_those_that_were_measured(
    summary: Summary, blobs: Dataset, tmp_path: Path
) -> None:
    result = summary.results[0]
    for record in blobs.limit(10).images:
        image = decoded(result, 5, record.id, runs=tmp_path / "runs")
        expected = FakeCodec(5).decode(FakeCodec(5).encode(record.read()))
        assert np.array_equal(image, expected)
        rows = [row for row in predictions(result, 5, runs=tmp_path / "runs") if row["image_id"] == record.id]
        assert [row["score"] for row in rows] == [row["score"] for row in FakeDetector().predict(expected)]
    originals = predictions(result, runs=tmp_path / "runs")
    assert len(originals) == sum(
        len(FakeDetector().predict(record.read())) for record in blobs.limit(10).images
    )


def test_another_measurement_and_what_is_not_there_are_refused(summary: Summary, tmp_path: Path) -> None:
    result = summary.results[0]
    with pytest.raises(UsageError, match="unknown quality '2'"):
        decoded(result, 2, 1, runs=tmp_path / "runs")
    with pytest.raises(StoreError, match="holds no image 999"):
        decoded(result, 5, 999, runs=tmp_path / "runs")
    with pytest.raises(StoreError, match="no such shards"):
        predictions(result, 5, runs=tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="unknown row 'codec'"):
        load_results(tmp_path / "results", by="codec")  # type: ignore[arg-type]
    meta = {**result.meta, "codec_version": ["fake 0"] * 2}
    older = Result(*result.group, result.codec, result.results, meta)
    with pytest.raises(StoreError, match="is of another codec_version than the curve"):
        decoded(older, 5, 1, runs=tmp_path / "runs")
    shutil.rmtree(tmp_path / "results")
    (tmp_path / "results").mkdir()
    assert load_results(tmp_path / "results", by="image").empty


def test_results_compare_with_an_interval_or_the_reason_why_there_is_none(
    summary: Summary, blobs: Dataset, tmp_path: Path
) -> None:
    fake, jpeg = summary.results
    for estimate in (
        icm_bench.bd_rate(jpeg, fake),
        icm_bench.bd_accuracy(jpeg, fake),
        icm_bench.rate_at(fake, 20),
    ):
        assert estimate.n_resamples == 20
        assert (estimate.low is not None) or (estimate.reason or "").startswith(
            ("no interval", "no overlap", "fake")
        )
    assert icm_bench.bd_rate(jpeg, fake, monotone="isotonic").n_resamples == 20
    (path,) = tmp_path.rglob("jpeg.json")
    path.with_name("jpeg.resamples.parquet").unlink()
    alone = icm_bench.bd_rate(load(path), fake, metric="psnr-rgb")
    assert alone.reason == "no interval: jpeg has no bootstrap replicates to use"
    meta = {**jpeg.meta, "conventions": {**jpeg.meta["conventions"], "bits": "estimated"}}
    with pytest.raises(ResultError, match="its rates cannot be compared with fake's: bits is"):
        icm_bench.bd_rate(fake, replace(jpeg, meta=meta))


def test_what_a_notebook_prints_is_short(summary: Summary, blobs: Dataset) -> None:
    result = summary.results[0]
    assert result.replicates is not None
    for each in (
        summary,
        result,
        result.curve,
        result.replicates,
        blobs,
        icm_bench.bd_rate(*summary.results),
    ):
        assert len(repr(each)) < 300, repr(each)
        assert "\n" not in repr(each)
    assert repr(blobs) == f"Dataset(blobs: 20 images, {blobs.n_objects} objects)"
    assert icm_bench.__version__
