"""JPEG XL: the codestream, and what is refused."""

from __future__ import annotations

import pytest

from icm_baselines.jpegxl import JpegXl
from icm_bench.error import CodecError
from icm_bench.testing import photograph


def test_the_bitstream_is_a_bare_codestream() -> None:
    assert JpegXl(3).encode(photograph(64, 48))[:2] == b"\xff\x0a"


def test_more_effort_changes_the_stream() -> None:
    image = photograph(64, 48)
    assert JpegXl(3, effort=3).encode(image) != JpegXl(3, effort=7).encode(image)


def test_every_missing_byte_is_noticed() -> None:
    codec = JpegXl(8)
    data = codec.encode(photograph(48, 32))
    for length in range(len(data) - 8, len(data)):
        with pytest.raises(CodecError):
            codec.decode(data[:length])
