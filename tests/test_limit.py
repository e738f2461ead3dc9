"""How large an image may be: by default, as its bytes allow, and as the user says."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from icm_baselines.jpeg import Jpeg
from icm_baselines.jpeg2000 import Jpeg2000
from icm_baselines.png import Png
from icm_baselines.vvc import Vvc
from icm_baselines.webp import Webp
from icm_bench import limit
from icm_bench.codec import Codec
from icm_bench.error import CodecError, DatasetError, UsageError
from icm_bench.image import decode_image, image_size
from icm_bench.testing import photograph
from icm_codecs.bitstream.container import check_size
from tests.helpers.png import png_of


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(limit.VARIABLE, raising=False)
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", Pillow.MAX_IMAGE_PIXELS)


def webp_of(width: int, height: int) -> bytes:
    data = Webp(10).encode(photograph(40, 33))
    at = data.index(b"\x9d\x01\x2a") + 3
    return data[:at] + struct.pack("<HH", width, height) + data[at + 4 :]


def jpeg_of(width: int, height: int) -> bytes:
    data = Jpeg(5).encode(photograph(40, 33))
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def jpeg2000_of(width: int, height: int) -> bytes:
    data = Jpeg2000(0.5).encode(photograph(40, 33))
    # Of the image and of its one tile.
    parts = bytearray(data)
    parts[8:16] = parts[24:32] = struct.pack(">II", width, height)
    return bytes(parts)


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        (Webp(10), webp_of(16_383, 4_000)),
        (Jpeg(5), jpeg_of(8_000, 8_000)),
        (Jpeg2000(0.5), jpeg2000_of(8_000, 8_000)),
        (Png(0), png_of(8_000, 8_000)),
    ],
    ids=["webp", "jpeg", "jpeg2000", "png"],
)
def test_a_few_bytes_that_claim_megapixels_are_refused_at_once(codec: Codec, data: bytes) -> None:
    began = time.process_time()
    with pytest.raises(CodecError, match=r"\d+ bytes claim \d+x\d+ pixels; give --max-pixels"):
        codec.decode(data)
    assert time.process_time() - began < 1


def test_jpeg2000_of_any_length_is_bounded_by_what_its_decoder_takes() -> None:
    comment = b"\xff\x64" + struct.pack(">HH", 60_000, 0) + bytes(60_000 - 4)
    long = jpeg2000_of(8_000, 8_000).replace(b"\xff\x52", comment + b"\xff\x52", 1)
    assert limit.of_stream(len(long)) > 8_000 * 8_000
    with pytest.raises(CodecError, match="60157 bytes claim 8000x8000 pixels; give --max-pixels"):
        Jpeg2000(0.5).decode(long)


def test_ffmpeg_is_told_how_many_pixels_a_stream_may_claim() -> None:
    codec = Vvc(47, preset="faster")
    data = codec.encode(np.full((1_024, 1_024, 3), 128, np.uint8))
    assert codec.decode(data).shape == (1_024, 1_024, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(limit.VARIABLE, "1000000")
        with pytest.raises(CodecError):
            codec.decode(data)


@pytest.mark.slow
def test_a_flat_image_of_any_codec_is_within_what_its_bytes_allow() -> None:
    image = np.full((2_048, 2_048, 3), 90, np.uint8)
    for codec in (Webp(0), Jpeg(5), Jpeg2000(0.03), Png(0)):
        data = codec.encode(image)
        assert np.abs(codec.decode(data).astype(int) - image).max() <= 2


def test_the_limit_of_files_and_of_learned_codecs_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    file = png_of(20_000, 10_000)  # more than Pillow itself opens
    with pytest.raises(DatasetError, match="more than 80 million pixels; remove it, or give --max-pixels"):
        image_size(file, where="a.png")
    with pytest.raises(CodecError, match="give --max-pixels"):
        check_size(20_000, 10_000)
    monkeypatch.setenv(limit.VARIABLE, "200000000")
    assert image_size(file, where="a.png") == (20_000, 10_000)
    check_size(20_000, 10_000)
    monkeypatch.setenv(limit.VARIABLE, "1000")
    buffer = io.BytesIO()
    Pillow.new("RGB", (40, 30)).save(buffer, "PNG")
    with pytest.raises(DatasetError, match="more than 0.001 million pixels"):
        decode_image(buffer.getvalue(), where="a.png")


@pytest.mark.parametrize("text", ["0", "-1", "1e9", "many", "\u0663"])
def test_a_limit_that_is_no_number_of_pixels_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(limit.VARIABLE, text)
    with pytest.raises(UsageError, match="ICM_BENCH_MAX_PIXELS: '.*' is not a number of pixels"):
        limit.max_pixels()


def test_a_limit_of_another_machine_holds_for_its_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(limit.VARIABLE, "1000")
    with limit.chosen_as(2000):
        assert limit.max_pixels() == 2000
    with limit.chosen_as(None):
        assert limit.max_pixels() == 1000
    assert limit.max_pixels() == 1000


def test_the_option_is_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.setenv(limit.VARIABLE, "")
    Pillow.fromarray(photograph(40, 30)).save(tmp_path / "a.png")
    code, _, error = command_line(
        *("run", "--task", "fidelity", "--codecs", "png", "--max-pixels", "1000"),
        *("--dataset", "folder", "--images", tmp_path),
    )
    assert (code, "more than 0.001 million pixels" in error) == (1, True)
