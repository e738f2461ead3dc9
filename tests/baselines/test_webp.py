"""WebP: a plain file, and damage to its chunks."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from icm_baselines.webp import Webp
from icm_bench.error import CodecError
from icm_bench.testing import photograph


def test_the_bitstream_is_a_file_that_others_read_alike() -> None:
    image = photograph(61, 35)
    data = Webp(90).encode(image)
    with Pillow.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (61, 35))
        theirs = np.asarray(picture.convert("RGB")).astype(int)
    ours = Webp(90).decode(data).astype(int)
    assert np.abs(ours - theirs).mean() < 3.0  # chroma is interpolated otherwise
    assert np.abs((ours - theirs).mean(axis=(0, 1))).max() < 1.0


def test_header_bytes_are_those_of_the_container() -> None:
    data = Webp(20).encode(photograph(64, 64))
    assert Webp(20).header_bytes(data) in (20, 21)  # RIFF, WEBP, VP8, and a byte of padding after odd sizes


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"RIFF\x04\x00\x00\x00WEBP", b"RIFF\x0c\x00\x00\x00WEBPVP8 \xff\xff\xff\x7f"]
)
def test_files_without_a_whole_picture_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        Webp(20).decode(data)
