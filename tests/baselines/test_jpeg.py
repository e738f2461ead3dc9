"""JPEG: what its options write, and what its headers weigh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from icm_baselines.jpeg import Jpeg, Subsampling
from icm_bench.error import CodecError
from icm_bench.testing import photograph


def segments(data: bytes) -> list[tuple[int, bytes]]:
    """Return the marker segments up to the first scan, read by the letter of ITU-T T.81, annex B."""
    found, position = [], 2
    while data[position + 1] != 0xDA:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        found.append((data[position + 1], data[position + 4 : position + 2 + length]))
        position += 2 + length
    return found


@pytest.mark.parametrize(
    ("options", "luma_sampling"),
    [
        ({}, 0x22),
        ({"subsampling": "420"}, 0x22),
        ({"subsampling": "422"}, 0x21),
        ({"subsampling": "444"}, 0x11),
    ],
)
def test_the_chroma_format_is_the_one_asked_for(options: dict[str, Any], luma_sampling: int) -> None:
    data = Jpeg(95, **options).encode(photograph(64, 48))
    frame = next(content for marker, content in segments(data) if marker == 0xC0)
    assert [frame[7], frame[10], frame[13]] == [luma_sampling, 0x11, 0x11]


def test_a_progressive_file_has_a_progressive_frame() -> None:
    markers = [marker for marker, _ in segments(Jpeg(50, progressive=True).encode(photograph(64, 48)))]
    assert 0xC2 in markers
    assert 0xC0 not in markers


def test_no_segment_but_jfif_stands_before_the_tables() -> None:
    markers = {marker for marker, _ in segments(Jpeg(50).encode(photograph(64, 48)))}
    assert markers == {0xE0, 0xDB, 0xC0, 0xC4}


@pytest.mark.parametrize("progressive", [False, True])
def test_header_and_scan_bytes_are_told_apart(progressive: bool) -> None:
    codec = Jpeg(30, progressive=progressive)
    small, large = codec.encode(photograph(64, 64)), codec.encode(photograph(256, 256))
    # Tables differ by a few bytes, entropy-coded bytes by thousands.
    assert abs(codec.header_bytes(large) - codec.header_bytes(small)) < 200
    assert len(large) - codec.header_bytes(large) > 5 * (len(small) - codec.header_bytes(small))


def test_header_bytes_of_a_stream_made_by_hand() -> None:
    scan = b"\x12\xff\x00\x34\xff\xd0\x56"  # a stuffed byte and a restart marker belong to the scan
    data = b"\xff\xd8" + b"\xff\xdb\x00\x04ab" + b"\xff\xda\x00\x03c" + scan + b"\xff\xd9"
    assert Jpeg(30).header_bytes(data) == len(data) - len(scan)


@pytest.mark.parametrize("subsampling", ["422", "444"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_option_goes_there_and_back(subsampling: Subsampling, progressive: bool) -> None:
    image = photograph(61, 33)
    codec = Jpeg(90, subsampling=subsampling, progressive=progressive)
    seen = codec.decode(codec.encode(image))
    assert seen.shape == image.shape
    assert np.abs(seen.astype(int) - image).mean() < 6.0


def test_an_image_larger_than_libjpeg_codes_is_refused_with_the_limit() -> None:
    codec = Jpeg(30)
    assert codec.decode(codec.encode(np.zeros((1, 65_500, 3), np.uint8))).shape == (1, 65_500, 3)
    with pytest.raises(
        CodecError, match="JPEG: codes images of 65500x65500 pixels at most, not one of 65501x1"
    ):
        codec.encode(np.zeros((1, 65_501, 3), np.uint8))


def test_a_grey_jpeg_is_foreign() -> None:
    data = Jpeg(30).encode(photograph(8, 8))
    grey = data.replace(b"\xff\xc0\x00\x11", b"\xff\xc0\x00\x0b", 1)
    with pytest.raises(CodecError):
        Jpeg(30).decode(grey)


def test_a_missing_end_marker_is_noticed() -> None:
    data = Jpeg(30).encode(photograph(40, 40))
    for missing in (1, 2):
        with pytest.raises(CodecError, match="truncated"):
            Jpeg(30).decode(data[:-missing])
