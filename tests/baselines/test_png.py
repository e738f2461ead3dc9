"""PNG: nothing is lost, and damage is noticed."""

from __future__ import annotations

import numpy as np
import pytest

from icm_baselines.png import Png
from icm_bench.error import CodecError, UsageError
from icm_bench.testing import photograph


def test_nothing_is_lost() -> None:
    image = np.random.default_rng(2).integers(0, 256, (31, 44, 3), np.uint8)
    codec = Png(0)
    assert np.array_equal(codec.decode(codec.encode(image)), image)


def test_there_is_one_quality() -> None:
    with pytest.raises(UsageError, match="1 is not a whole number from 0 to 0"):
        Png(1)


def test_a_lost_end_of_file_is_noticed_though_no_pixel_is_missing() -> None:
    data = Png(0).encode(photograph(32, 32))
    with pytest.raises(CodecError, match="truncated"):
        Png(0).decode(data[:-12])


def test_a_grey_png_is_foreign() -> None:
    one_pixel = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
        "3a7e9b550000000a4944415478da6368000000820081774cda720000000049454e44ae426082"
    )
    with pytest.raises(CodecError):
        Png(0).decode(one_pixel)
