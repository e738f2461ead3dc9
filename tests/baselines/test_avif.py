"""AVIF: both encoders, and headers of a still picture."""

from __future__ import annotations

import pytest

from icm_baselines import envelope
from icm_baselines.avif import Avif, Encoder
from icm_bench.testing import check_codec, photograph


@pytest.mark.parametrize("encoder", ["aom", "svt"])
def test_a_picture_is_a_still_picture_with_the_shortest_headers(encoder: Encoder) -> None:
    codec = Avif(46, encoder=encoder, speed=8)
    data = codec.encode(photograph(160, 120))
    stream = data[envelope.N_BYTES :]
    assert stream[:2] == b"\x12\x00"  # temporal delimiter
    assert stream[2] == 0x0A  # sequence header
    still_picture, reduced_still_picture_header = stream[4] >> 4 & 1, stream[4] >> 3 & 1
    assert (still_picture, reduced_still_picture_header) == (1, 1)
    assert codec.header_bytes(data) < 20


def test_the_encoders_differ_and_decode_each_other() -> None:
    image = photograph(96, 64)
    aom, svt = (Avif(46, encoder=encoder, speed=8).encode(image) for encoder in ("aom", "svt"))
    assert aom != svt
    assert Avif(46, encoder="aom").decode(svt).shape == image.shape


@pytest.mark.slow
def test_svt_conforms() -> None:
    check_codec(Avif, encoder="svt", speed=8)


def test_the_version_names_the_encoder() -> None:
    assert "libaom-av1 v" in Avif(46).version()
    assert "libsvtav1 v" in Avif(46, encoder="svt").version()
