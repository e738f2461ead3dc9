"""What each wrapped encoder leaves of colour at its best quality: neither a wrong matrix nor a truncation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from icm_baselines.avif import Avif
from icm_baselines.bpg import Bpg
from icm_baselines.hevc import Hevc
from icm_baselines.jpeg import Jpeg
from icm_baselines.jpeg2000 import Jpeg2000
from icm_baselines.jpegxl import JpegXl
from icm_baselines.png import Png
from icm_baselines.vvc import Vvc
from icm_baselines.webp import Webp
from icm_bench.codec import Codec, Quality
from icm_bench.error import ProgramError
from icm_bench.image import Image
from icm_bench.testing import photograph


@pytest.fixture(scope="module")
def image() -> Image:
    """A colourful image away from black and white, where nothing is clipped, with smooth colours and fine grain."""
    drawn = photograph(320, 240, seed=11).astype(np.float64)
    rows, columns = np.mgrid[:240, :320]
    waves = np.stack([np.sin(columns / 17.0), np.sin(rows / 23.0), np.sin((rows + columns) / 31.0)], axis=-1)
    mixed: Image = np.rint(48.0 + 0.45 * drawn + 20.0 * (1.0 + waves)).astype(np.uint8)
    return mixed


@pytest.mark.parametrize(
    ("codec_class", "quality", "options", "least_db", "most_bias"),
    [
        (Png, 0, {}, 99.0, 0.0),
        (Jpeg, 100, {"subsampling": "444"}, 50.0, 0.1),
        (Jpeg, 100, {"subsampling": "422"}, 45.0, 0.1),
        (Jpeg, 100, {"subsampling": "420"}, 44.0, 0.1),
        (Jpeg2000, 24, {}, 50.0, 0.1),
        (Webp, 100, {}, 43.0, 0.1),
        (Vvc, 0, {"preset": "faster"}, 45.0, 0.1),
        (Hevc, 0, {"preset": "ultrafast"}, 45.0, 0.1),
        (Hevc, 0, {"preset": "ultrafast", "chroma": "444"}, 53.0, 0.1),
        (Avif, 1, {"encoder": "aom", "speed": 8}, 45.0, 0.1),
        (Avif, 1, {"encoder": "svt", "speed": 8}, 45.0, 0.1),
        (JpegXl, 0.05, {}, 53.0, 0.1),
        (Bpg, 0, {"encoder": "jctvc"}, 44.0, 0.1),
    ],
)
def test_the_best_quality_keeps_colours_without_bias(
    codec_class: type[Codec],
    quality: Quality,
    options: Mapping[str, Any],
    least_db: float,
    most_bias: float,
    image: Image,
) -> None:
    codec = codec_class(quality, **options)
    try:
        data = codec.encode(image)
    except ProgramError as error:
        if codec_class is Bpg:
            pytest.skip(str(error))
        raise
    difference = codec.decode(data).astype(np.float64) - image
    psnr_db = 10.0 * np.log10(255.0**2 / max(1e-6, float(np.mean(difference**2))))
    assert psnr_db > least_db
    assert np.abs(difference.mean(axis=(0, 1))).max() <= most_bias
