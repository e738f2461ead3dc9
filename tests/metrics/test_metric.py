"""One table says what metrics are called, and every part of the harness takes them from there."""

from __future__ import annotations

import pytest

from icm_bench.metrics import coco_ap, openimages_ap
from icm_bench.metrics.evaluation import EVALUATIONS
from icm_bench.metrics.metric import MAIN_METRICS, METRICS, RATES, SIZES, in_order, metric_of


def test_every_metric_that_is_scored_is_in_the_table() -> None:
    scored = {
        *coco_ap.METRICS,
        *openimages_ap.METRICS,
        *(key for each in EVALUATIONS.values() for key in each.figures),
    }
    assert scored | set(SIZES) | set(MAIN_METRICS) <= set(METRICS)


def test_names_and_labels_mean_one_metric_each() -> None:
    assert all(metric.name == name for name, metric in METRICS.items())
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)


def test_curves_are_compared_on_ap_then_open_images_then_psnr() -> None:
    assert MAIN_METRICS == ("map", "map50-oic", "psnr-rgb")


def test_only_rates_are_better_lower() -> None:
    assert {name for name, metric in METRICS.items() if metric.better == "lower"} == set(RATES)


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("map", "AP / %"),
        ("psnr-luma", "PSNR of luma / dB"),
        ("ms-ssim-rgb-db", "MS-SSIM / dB"),
        ("vmaf", "vmaf"),
    ],
)
def test_an_axis_says_its_unit_once(name: str, axis: str) -> None:
    assert metric_of(name).axis == axis


def test_metrics_stand_in_the_tables_order_and_unknown_ones_at_the_end() -> None:
    assert in_order(["vmaf", "bpp", "psnr-rgb", "ar10", "map", "lpips"]) == [
        "map",
        "psnr-rgb",
        "ar10",
        "lpips",
        "vmaf",
    ]
