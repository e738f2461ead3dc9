"""JPEG 2000: the rate asked for, the codestream's form, and damage that OpenJPEG would forgive."""

from __future__ import annotations

import numpy as np
import pytest

from icm_baselines.jpeg2000 import Jpeg2000
from icm_bench.error import CodecError
from icm_bench.testing import photograph


@pytest.mark.parametrize("rate_bpp", [0.12, 0.5, 2.0])
def test_the_rate_is_met_header_included(rate_bpp: float) -> None:
    image = photograph(320, 240)
    spent_bpp = 8 * len(Jpeg2000(rate_bpp).encode(image)) / (320 * 240)
    assert 0.9 * rate_bpp < spent_bpp <= rate_bpp


def test_the_bitstream_is_a_raw_codestream_with_the_lossy_wavelet() -> None:
    data = Jpeg2000(1.0).encode(photograph(64, 64))
    assert data[:4] == b"\xff\x4f\xff\x51"
    cod = data.index(b"\xff\x52")
    layers = int.from_bytes(data[cod + 6 : cod + 8], "big")
    multiple_component_transform, wavelet = data[cod + 8], data[cod + 13]
    assert (layers, multiple_component_transform, wavelet) == (1, 1, 0)  # ISO/IEC 15444-1, table A.12 ff.


def test_the_library_does_not_sign_its_work() -> None:
    data = Jpeg2000(1.0).encode(photograph(64, 64))
    assert b"OpenJPEG" not in data
    assert Jpeg2000(1.0).header_bytes(data) < 130


def test_header_bytes_do_not_grow_with_the_rate() -> None:
    image = photograph(96, 96)
    low, high = Jpeg2000(0.25), Jpeg2000(4.0)
    assert low.header_bytes(low.encode(image)) == high.header_bytes(high.encode(image))


def test_every_cut_is_noticed() -> None:
    codec = Jpeg2000(1.0)
    data = codec.encode(photograph(48, 48))
    for length in range(len(data)):
        with pytest.raises(CodecError):
            codec.decode(data[:length])


def test_the_highest_rate_is_nearly_lossless() -> None:
    image = photograph(64, 64)
    codec = Jpeg2000(24.0)
    assert np.abs(codec.decode(codec.encode(image)).astype(int) - image).mean() < 0.6
