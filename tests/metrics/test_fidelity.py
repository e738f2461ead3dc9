"""PSNR and MS-SSIM of decoded images, one by one, over a dataset, and through whole runs without a detector."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from pytorch_msssim import ms_ssim

from icm_bench.curves.comparison import compare_with_anchor
from icm_bench.curves.result import find, load
from icm_bench.dataset import Dataset, open_dataset
from icm_bench.error import ResultError, StoreError, UsageError
from icm_bench.image import Image
from icm_bench.metrics.fidelity import Fidelity, distortion, with_decibels
from icm_bench.metrics.metric import METRICS as KNOWN
from icm_bench.pipeline import store
from icm_bench.pipeline.readback import load_results
from icm_bench.testing import FakeCodec, photograph
from tests.helpers.plugin import FAKES, distribute, import_from
from tests.helpers.small_run import curve_files, run_in

WEIGHTS = np.array([0.299, 0.587, 0.114])

SETTINGS = {
    "codecs": ["fake", "jpeg"],
    "qualities": ["fake=1,3,5,7", "jpeg=5,20,60,90"],
    "bootstrap": 40,
}

METRICS = [name for name in KNOWN if name.startswith(("psnr", "ms-ssim"))]


def distorted(image: Image, *, noise: float, seed: int = 1) -> Image:
    noisy = image + np.random.default_rng(seed).normal(0.0, noise, image.shape)
    changed: Image = np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)
    return changed


def by_library(original: Image, decoded: Image) -> tuple[float, float]:
    """MS-SSIM of RGB and of luma in double precision."""
    planes = [
        torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None] for image in (original, decoded)
    ]
    luma = [torch.from_numpy(image @ WEIGHTS)[None, None] for image in (original, decoded)]
    return tuple(float(ms_ssim(*pair, data_range=255)) for pair in (planes, luma))  # type: ignore[return-value]


def decibels(mse: float) -> float:
    return 10 * math.log10(255**2 / mse)


def test_an_images_distortion_is_what_its_definitions_give() -> None:
    original = photograph(224, 176, seed=3)
    decoded = distorted(original, noise=7.0)
    found = distortion(original, decoded)
    difference = decoded.astype(np.float64) - original
    assert found.mse_rgb == pytest.approx(np.mean(difference**2), rel=1e-12)
    assert found.mse_luma == pytest.approx(np.mean((difference @ WEIGHTS) ** 2), rel=1e-12)
    of_rgb, of_luma = by_library(original, decoded)
    assert found.ms_ssim_rgb == pytest.approx(of_rgb, abs=2e-6)
    assert found.ms_ssim_luma == pytest.approx(of_luma, abs=2e-6)


def test_luma_is_of_bt601_at_full_range() -> None:
    black = np.zeros((8, 8, 3), np.uint8)
    for channel, weight in enumerate(WEIGHTS):
        primary = black.copy()
        primary[..., channel] = 255
        assert distortion(black, primary).mse_luma == pytest.approx((255 * weight) ** 2, rel=1e-12)
    grey = np.full((8, 8, 3), 255, np.uint8)
    assert distortion(black, grey).mse_luma == pytest.approx(255**2, rel=1e-12)


@pytest.mark.parametrize(("width", "height"), [(160, 300), (300, 160), (1, 1)])
def test_an_image_too_small_for_five_scales_has_no_ms_ssim(width: int, height: int) -> None:
    image = photograph(width, height)
    found = distortion(image, distorted(image, noise=5.0))
    assert (found.ms_ssim_rgb, found.ms_ssim_luma) == (None, None)
    assert found.mse_rgb > 0


def test_images_of_other_shapes_are_not_compared() -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        distortion(photograph(20, 10), photograph(10, 20))


def test_an_equal_image_has_no_error_and_is_wholly_similar() -> None:
    image = photograph(170, 165)
    found = distortion(image, image.copy())
    assert (found.mse_rgb, found.mse_luma, found.ms_ssim_rgb, found.ms_ssim_luma) == (0.0, 0.0, 1.0, 1.0)


def fidelity(**changes: object) -> Fidelity:
    columns: dict[str, object] = {
        "n_pixels": [100, 300, 50],
        "mse_rgb": [4.0, 9.0, 25.0],
        "mse_luma": [3.0, 8.0, 20.0],
        "ms_ssim_rgb": [0.99, 0.95, 0.9],
        "ms_ssim_luma": [0.995, 0.96, 0.91],
    }
    return Fidelity(
        **{key: np.array(values, dtype=np.float64) for key, values in (columns | changes).items()}
    )


def test_a_dataset_has_means_of_images_and_pooled_errors_under_names_of_their_own() -> None:
    found = fidelity().metrics()
    assert tuple(sorted(found)) == tuple(sorted(METRICS))
    assert found["psnr-rgb"] == pytest.approx(np.mean([decibels(mse) for mse in (4, 9, 25)]))
    assert found["psnr-rgb-pooled"] == pytest.approx(decibels((400 + 2700 + 1250) / 450))
    assert found["psnr-luma"] == pytest.approx(np.mean([decibels(mse) for mse in (3, 8, 20)]))
    assert found["ms-ssim-rgb"] == pytest.approx((0.99 + 0.95 + 0.9) / 3)
    assert found["ms-ssim-rgb-db"] == pytest.approx(-10 * math.log10(1 - (0.99 + 0.95 + 0.9) / 3))


def test_resamples_count_images_as_often_as_they_were_drawn() -> None:
    drawn = fidelity().resampled(np.array([[2, 0, 1], [0, 3, 0]], dtype=np.int32))
    assert drawn["psnr-rgb"][0] == pytest.approx((2 * decibels(4) + decibels(25)) / 3)
    assert drawn["psnr-rgb-pooled"][0] == pytest.approx(decibels((2 * 400 + 1250) / 250))
    assert drawn["psnr-rgb-pooled"][1] == pytest.approx(decibels(9))
    assert drawn["ms-ssim-luma"][1] == pytest.approx(0.96)


def test_what_is_not_defined_is_left_out_with_its_reason_and_never_averaged_over_the_rest() -> None:
    lossless = fidelity(mse_rgb=[0.0, 9.0, 25.0], mse_luma=[0.0, 8.0, 20.0])
    assert lossless.metrics()["psnr-rgb"] is None
    assert lossless.metrics()["psnr-rgb-pooled"] is not None
    assert lossless.reasons()["psnr-luma"] == "1 of 3 images are decoded without loss"
    drawn = lossless.resampled(np.array([[1, 1, 1], [0, 2, 1]], dtype=np.int32))["psnr-rgb"]
    assert np.isnan(drawn[0])
    assert np.isfinite(drawn[1])
    small = fidelity(ms_ssim_rgb=[np.nan, 0.9, 0.9], ms_ssim_luma=[np.nan, 0.9, 0.9])
    assert small.metrics()["ms-ssim-rgb"] is None
    similarities = [name for name in METRICS if name.startswith("ms-ssim")]
    assert small.reasons() == dict.fromkeys(similarities, "1 of 3 images have a side below 161 pixels")
    exact = fidelity(mse_rgb=[0.0] * 3, mse_luma=[0.0] * 3, ms_ssim_rgb=[1.0] * 3, ms_ssim_luma=[1.0] * 3)
    defined = {name for name, value in exact.metrics().items() if value is not None}
    assert defined == {"ms-ssim-rgb", "ms-ssim-luma"}


def test_decibels_follow_from_the_mean() -> None:
    derived = with_decibels({"ms-ssim-rgb": np.array([0.9, 0.99]), "psnr-rgb": np.array([30.0, 31.0])})
    assert set(derived) == {"ms-ssim-rgb", "ms-ssim-rgb-db", "psnr-rgb"}
    assert derived["ms-ssim-rgb-db"] == pytest.approx([10.0, 20.0])


# Whole runs


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    folder.mkdir()
    for seed in range(5):
        Pillow.fromarray(photograph(180 + 7 * seed, 165 + 9 * seed, seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def photos(pictures: Path) -> Dataset:
    return open_dataset("folder", images=pictures)


def measure(dataset: Dataset, folder: Path, **options: object) -> Mapping[str, Path]:
    summary = run_in(dataset, folder, task="fidelity", **SETTINGS | options)
    return {result.codec: path for result, path in zip(summary.results, summary.paths, strict=True)}


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, made once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("finished")
        import_from(patch, distribute(folder / "plugins", "fakes", FAKES))
        measure(open_dataset("folder", images=pictures), folder)
    return folder


def test_a_run_without_a_detector_measures_the_pixels_of_real_bitstreams(
    photos: Dataset, finished: Path
) -> None:
    result = load(finished / "results" / "photos" / "fidelity" / "none" / "fake.json")
    index, codec = result.qualities.index(5), FakeCodec(5)
    originals = [record.read() for record in photos.images]
    streams = [codec.encode(image) for image in originals]
    decoded = [codec.decode(data) for data in streams]
    assert result.results["bpp"][index] == pytest.approx(8 * sum(map(len, streams)) / photos.n_pixels)
    differences = [a.astype(np.float64) - b for a, b in zip(originals, decoded, strict=True)]
    pixels = [image.shape[0] * image.shape[1] for image in originals]
    for name, errors in (
        ("psnr-rgb", [np.mean(difference**2) for difference in differences]),
        ("psnr-luma", [np.mean((difference @ WEIGHTS) ** 2) for difference in differences]),
    ):
        pooled = decibels(np.average(errors, weights=pixels))
        assert result.results[name][index] == pytest.approx(np.mean([decibels(mse) for mse in errors]))
        assert result.results[f"{name}-pooled"][index] == pytest.approx(pooled)
    similar = np.mean([by_library(*pair) for pair in zip(originals, decoded, strict=True)], axis=0)
    assert result.results["ms-ssim-rgb"][index] == pytest.approx(similar[0], abs=2e-6)
    assert result.results["ms-ssim-luma"][index] == pytest.approx(similar[1], abs=2e-6)
    assert result.group == ("photos", result.task, result.detector) == ("photos", "fidelity", "none")
    assert result.meta["fidelity"]["luma"] == "BT.601, full range, not rounded"
    assert "--task fidelity" in result.meta["command"]
    assert "--detector" not in result.meta["command"]
    assert "map" not in result.results


def test_every_metric_has_intervals_and_resamples_that_bd_rates_take_theirs_from(finished: Path) -> None:
    results = list(find(finished / "results"))
    for result in results:
        assert result.replicates is not None
        assert set(result.replicates.metrics) == set(METRICS)
        assert result.replicates.uncompressed == {}
        for metric in METRICS:
            for value, (low, high) in zip(
                result.results[metric], result.meta["intervals"][metric], strict=True
            ):
                assert low <= value <= high
            drawn = result.replicates.metrics[metric].mean(axis=1)
            assert drawn == pytest.approx(np.array(result.results[metric], dtype=np.float64), rel=0.1)
    for metric in METRICS:
        (item,) = compare_with_anchor(results, anchor="jpeg", metric=metric)
        assert item.bd_rate.value is not None
        assert item.bd_rate.low is not None


def test_a_finished_run_measures_nothing_and_a_lost_comparison_needs_no_encoding(
    photos: Dataset, finished: Path, tmp_path: Path, plugins: Path
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = curve_files(tmp_path)
    shutil.rmtree(tmp_path / "runs" / "compared")  # as in stores that are older than the metrics
    shutil.rmtree(tmp_path / "results")
    summary = run_in(photos, tmp_path, task="fidelity", **SETTINGS)
    assert (summary.n_encoded, summary.n_detected, summary.n_jobs) == (0, 0, 8)
    assert curve_files(tmp_path) == before


def test_a_comparison_by_other_metrics_is_refused(
    photos: Dataset, finished: Path, tmp_path: Path, plugins: Path
) -> None:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    path = next((tmp_path / "runs" / "compared").rglob("*.parquet"))
    header = store.read_header(path)
    header["identity"]["fidelity"] = 0
    store.write(path, store.read(path), header)
    with pytest.raises(StoreError, match="fidelity was 0 and is 1"):
        measure(photos, tmp_path)


def test_a_small_image_leaves_ms_ssim_out_of_the_curve_and_says_why(
    pictures: Path, tmp_path: Path, plugins: Path
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(pictures, folder)
    Pillow.fromarray(photograph(300, 160)).save(folder / "small.png")
    paths = measure(open_dataset("folder", images=folder), tmp_path, codecs=["fake"], qualities=["fake=3,7"])
    result = load(paths["fake"])
    assert set(METRICS) & set(result.results) == {key for key in METRICS if key.startswith("psnr")}
    assert result.meta["fidelity"]["undefined"]["ms-ssim-rgb"] == "1 of 6 images have a side below 161 pixels"
    assert "NaN" not in paths["fake"].read_text()
    assert result.replicates is not None
    assert not any(key.startswith("ms-ssim") for key in result.replicates.metrics)
    with pytest.raises(ResultError, match="no curve has the metric 'ms-ssim-rgb'"):
        compare_with_anchor([result, result], metric="ms-ssim-rgb")


def test_a_lossless_codec_has_similarity_and_no_psnr(photos: Dataset, tmp_path: Path) -> None:
    result = load(measure(photos.limit(2), tmp_path, codecs=["png"], qualities=())["png"])
    assert list(result.results["ms-ssim-rgb"]) == [1.0]
    assert not [key for key in result.results if key.startswith("psnr") or key.endswith("-db")]
    assert result.meta["fidelity"]["undefined"]["psnr-rgb"] == "2 of 2 images are decoded without loss"


def test_a_run_with_a_detector_measures_the_pixels_too(blobs: Dataset, plugins: Path, tmp_path: Path) -> None:
    summary = run_in(blobs.limit(4), tmp_path, codecs=["fake"], bootstrap=20)
    (result,) = summary.results
    assert set(result.results) >= {"map", "psnr-rgb", "psnr-rgb-pooled", "psnr-luma", "psnr-luma-pooled"}
    assert result.replicates is not None
    assert set(result.replicates.metrics) >= {"map", "psnr-luma"}
    assert "map" in result.replicates.uncompressed
    assert "psnr-luma" not in result.replicates.uncompressed
    # The stores of one task serve the other: nothing is coded or compared twice.
    again = run_in(blobs.limit(4), tmp_path, codecs=["fake"], task="fidelity")
    assert again.n_jobs == 0
    for key in ("bpp", "psnr-rgb", "psnr-luma-pooled"):
        assert again.results[0].results[key] == result.results[key]
    frame = load_results(tmp_path / "results")
    assert set(frame["task"]) == {"detection", "fidelity"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detector": "yolox"}, "task 'fidelity': has no use for --detector; leave it out"),
        ({"weights": Path("w.pth")}, "has no use for --detector-weights"),
    ],
)
def test_fidelity_has_no_use_for_a_detector(
    photos: Dataset, tmp_path: Path, options: Mapping[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        measure(photos, tmp_path, codecs=["png"], qualities=(), **options)


def test_results_are_plain_json(finished: Path) -> None:
    for path in (finished / "results").rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
