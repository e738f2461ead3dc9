"""What no codec begins to code: qualities and options out of their range, and images larger than its format."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from icm_baselines.avif import Avif
from icm_baselines.bpg import Bpg
from icm_baselines.hevc import Hevc
from icm_baselines.jpeg import Jpeg
from icm_baselines.jpeg2000 import Jpeg2000
from icm_baselines.jpegxl import JpegXl
from icm_baselines.roi import Uvg266Roi
from icm_baselines.uvg266 import Uvg266
from icm_baselines.vtm import Vtm
from icm_baselines.vvc import Vvc
from icm_baselines.webp import Webp
from icm_bench.codec import ladder_of
from icm_bench.error import CodecError, UsageError
from icm_bench.spec import create_codec, resolve_codec


@pytest.mark.parametrize(
    ("codec", "qualities", "complaint"),
    [
        (Avif, (0, 64), "avif"),
        (Bpg, (-1, 52), "bpg"),
        (Hevc, (-1, 52), "hevc QP"),
        (Jpeg, (0, 101, 30.5), "is not a whole number from 1 to 100"),
        (Jpeg2000, (0.0, -1.0, 25.0), "is not a number from"),
        (JpegXl, (0.0, 15.5), "jpegxl"),
        (Uvg266, (-1, 52, 22.5), "uvg266 QP"),
        (Uvg266Roi, (5037,), "uvg266-roi"),
        (Vtm, (-1, 64, 22.5), "vtm QP"),
        (Vvc, (-1, 64, 37.5), "vvc QP: .* is not a whole number from 0 to 63"),
        (Webp, (-1, 101, 2.5), "webp quality"),
    ],
)
def test_a_quality_out_of_range_is_refused(codec: Any, qualities: tuple[float, ...], complaint: str) -> None:
    for quality in qualities:
        with pytest.raises(UsageError, match=complaint):
            codec(quality)


@pytest.mark.parametrize(
    ("codec", "option", "values"),
    [(Avif, "speed", (-1, 9)), (Bpg, "level", (0, 10)), (JpegXl, "effort", (0, 10))],
)
def test_an_option_out_of_range_is_refused(codec: Any, option: str, values: tuple[int, ...]) -> None:
    for value in values:
        with pytest.raises(UsageError, match=option):
            codec(codec.qualities[0], **{option: value})


@pytest.mark.parametrize(
    ("codec", "shape", "complaint"),
    [
        (Avif(46, encoder="aom"), (1, 65_536), "AVIF by aom: codes images of 65535x65535 pixels at most"),
        (Avif(46, encoder="svt"), (2, 70_000), "AVIF by svt: codes images of 16384x8704 pixels at most"),
        (Avif(46, encoder="svt"), (8_705, 1), "AVIF by svt: codes images of 16384x8704 pixels at most"),
        (Webp(20), (1, 16_384), "WebP: codes images of 16383x16383 pixels at most, not one of"),
        (Webp(20), (16_384, 1), "WebP: codes images of 16383x16383 pixels at most, not one of"),
    ],
)
def test_an_image_larger_than_the_format_is_refused_with_the_limit(
    codec: Avif | Webp, shape: tuple[int, int], complaint: str
) -> None:
    with pytest.raises(CodecError, match=complaint):
        codec.encode(np.zeros((*shape, 3), np.uint8))


@pytest.mark.parametrize(
    "spec",
    [
        *(
            "avif",
            "avif:encoder=svt",
            "bpg",
            "hevc",
            "hevc-roi",
            "jpeg",
            "jpeg-roi",
            "jpeg2000",
            "jpegxl",
            "png",
        ),
        *("uvg266", "vtm", "vvc", "vvc:scale=50", "vvc-filtered", "vvc-pareto", "vvc-roi", "webp"),
    ],
)
def test_what_is_no_image_is_refused_before_anything_runs(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    resolved, cls = resolve_codec(spec)
    codec = create_codec(resolved, ladder_of(cls, dict(resolved.options))[-1], "cpu")
    for shape, dtype in [
        ((8, 8), "u1"),
        ((8, 8, 3), "f4"),
        ((8, 8, 4), "u1"),
        ((0, 8, 3), "u1"),
        ((8,), "u1"),
    ]:
        with pytest.raises(CodecError, match="is no image; give H x W x 3 uint8"):
            codec.encode(np.zeros(shape, dtype))
