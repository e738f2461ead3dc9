"""One curve that cannot be compared stops no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from icm_bench.curves.comparison import comparable, compare_all, compare_with_anchor, fixed_accuracies
from icm_bench.curves.rate_convention import MEASURED, POOLED
from icm_bench.curves.result import Result
from icm_bench.error import ResultError
from tests.helpers.made_up import made_up


def curve(codec: str, metrics: Mapping[str, list[float]], **meta: Any) -> Result:
    return made_up(codec, {"bpp": [0.1, 0.2, 0.4, 0.8], **metrics}, ("kodak", "fidelity", "none"), **meta)


PSNR = {"psnr-rgb": [30.0, 33.0, 36.0, 39.0]}
SSIM = {"ms-ssim-rgb": [0.9, 0.95, 0.97, 0.99]}
LOSSLESS = {"undefined": {"psnr-rgb": "8 of 8 images are decoded without loss"}}


def test_a_lossless_codec_has_a_reason_in_its_row_and_the_others_have_values() -> None:
    curves = [curve("vvc", PSNR), curve("jpeg", PSNR), curve("png", SSIM, fidelity=LOSSLESS)]
    jpeg, png = compare_with_anchor(curves, metric="psnr-rgb")
    assert jpeg.bd_rate.value == 0
    assert (png.bd_rate.value, png.bd_accuracy.value) == (None, None)
    assert png.bd_rate.reason == "png has no PSNR, since 8 of 8 images are decoded without loss"
    assert [item.rate.value is None for item in fixed_accuracies(curves, [33.0], metric="psnr-rgb")] == [
        *(False, False, True)
    ]


def test_a_curve_that_lacks_the_metric_has_a_reason_against_every_other() -> None:
    curves = [curve("vvc", PSNR | SSIM), curve("jpeg", PSNR | SSIM), curve("old", PSNR)]
    found = {(item.codec, item.anchor): item.bd_rate for item in compare_all(curves, metric="ms-ssim-rgb")}
    assert found["vvc", "jpeg"].value == 0
    assert {pair for pair, rate in found.items() if rate.value is None} == {
        *(("old", "vvc"), ("old", "jpeg"), ("vvc", "old"), ("jpeg", "old"))
    }
    assert found["vvc", "old"].reason == "old has no MS-SSIM"


def test_where_no_curve_has_the_metric_there_is_nothing_to_show() -> None:
    with pytest.raises(ResultError, match="no curve has the metric 'map'"):
        compare_with_anchor([curve("vvc", PSNR), curve("jpeg", PSNR)], metric="map")


def test_a_dip_is_a_reason_in_its_row_where_dips_are_refused() -> None:
    dip = curve("dip", {"psnr-rgb": [30.0, 33.0, 32.0, 39.0]})
    (found,) = compare_with_anchor([curve("vvc", PSNR), dip], metric="psnr-rgb", monotone="error")
    assert found.bd_rate.value is None
    assert "dip at 3 (0.4 bpp, 32)" in (found.bd_rate.reason or "")


def test_rates_of_other_conventions_are_left_out_with_the_reason() -> None:
    other = MEASURED.record() | {"bpp": "mean"}
    imported = curve("paper", PSNR, conventions=other, imported={"file": "paper.json"})
    kept, left_out = comparable([imported, curve("vvc", PSNR), curve("jpeg", PSNR)])
    assert [result.codec for result in kept] == ["vvc", "jpeg"]
    (line,) = left_out
    assert line == (
        "paper (fidelity on kodak): rates of different conventions cannot be compared with vvc's: "
        f"bpp is '{POOLED}' in one and 'mean' in the other"
    )
