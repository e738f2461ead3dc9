"""VVC: the stream's form, its true size, its headers, and an ffmpeg that fails in every way."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import numpy as np
import pytest

from icm_baselines import envelope, ffmpeg
from icm_baselines.scale import Percent
from icm_baselines.vvc import Vvc
from icm_bench.error import CodecError, ProgramError
from icm_bench.testing import photograph
from tests.helpers.stand_in import install

SEQUENCE_PARAMETERS, PICTURE_PARAMETERS, ADAPTATION_PARAMETERS, IDR_SLICE = 15, 16, 17, 8


def unit_sizes(stream: bytes) -> list[tuple[int, int]]:
    """Return type and size of each NAL unit, without start codes."""
    return [(unit[1] >> 3, len(unit)) for unit in re.split(b"\x00?\x00\x00\x01", stream)[1:]]


@pytest.fixture(scope="module")
def coded() -> bytes:
    return Vvc(37, preset="faster").encode(photograph(512, 384))


def test_a_picture_pays_for_no_unit_that_it_does_not_need(coded: bytes) -> None:
    units = unit_sizes(coded[envelope.N_BYTES :])
    kinds = [kind for kind, _ in units]
    assert kinds[:2] == [SEQUENCE_PARAMETERS, PICTURE_PARAMETERS]
    assert kinds[-1] == IDR_SLICE
    assert set(kinds[2:-1]) <= {ADAPTATION_PARAMETERS}
    assert dict(units)[SEQUENCE_PARAMETERS] <= 36
    assert dict(units)[PICTURE_PARAMETERS] <= 12


def test_header_bytes_are_all_but_the_slices(coded: bytes) -> None:
    slices = sum(size for kind, size in unit_sizes(coded[envelope.N_BYTES :]) if kind == IDR_SLICE)
    assert Vvc(37).header_bytes(coded) == len(coded) - slices


def test_the_picture_survives_its_best_quality_up_to_chroma() -> None:
    image = photograph(128, 96)
    codec = Vvc(0, preset="faster")
    difference = codec.decode(codec.encode(image)).astype(np.float64) - image
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.1
    assert 10.0 * np.log10(255.0**2 / np.mean(difference**2)) > 35.0


@pytest.mark.parametrize(("width", "height"), [(15, 34), (34, 15), (16, 17), (2, 64)])
@pytest.mark.parametrize("preset", ["faster", "medium", pytest.param("slower", marks=pytest.mark.slow)])
def test_sizes_below_the_minimum_of_the_standard_are_coded(width: int, height: int, preset: str) -> None:
    codec = Vvc(42, preset=preset)  # type: ignore[arg-type] # parametrize gives str
    assert codec.decode(codec.encode(photograph(width, height))).shape == (height, width, 3)


def test_the_true_size_travels_in_the_stream() -> None:
    data = Vvc(47, preset="faster").encode(photograph(65, 31))
    assert data[0] == 0x11
    assert Vvc(22).decode(data).shape == (31, 65, 3)


def test_every_missing_byte_is_noticed() -> None:
    codec = Vvc(47, preset="faster")
    data = codec.encode(photograph(48, 32))
    for length in range(len(data) - 12, len(data)):
        with pytest.raises(CodecError):
            codec.decode(data[:length])


def test_an_image_larger_than_the_decoder_reads_is_refused_with_the_limit() -> None:
    codec = Vvc(63, preset="faster")
    widest = np.zeros((16, 25_328, 3), np.uint8)
    assert codec.decode(codec.encode(widest)).shape == widest.shape
    for shape in ((1, 25_329, 3), (25_329, 1, 3)):
        with pytest.raises(CodecError, match="VVC: codes images of 25328x25328 pixels at most, not one of"):
            codec.encode(np.zeros(shape, np.uint8))


def test_of_a_stream_of_many_pictures_no_more_than_two_are_decoded(tmp_path: Path) -> None:
    packed = envelope.unpack(Vvc(63, preset="faster").encode(np.zeros((512, 512, 3), np.uint8)))
    many = envelope.Envelope(packed.stream * 40, 0, 0).pack()
    # No file may hold more than three pictures; ffmpeg, which inherits the limit, would write forty.
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 512 * 512 * 3, most[1]))
    try:
        with pytest.raises(CodecError, match="does not hold one whole 512x512 picture"):
            Vvc(63).decode(many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)


def test_the_version_names_encoder_and_executable() -> None:
    assert re.search(r"libvvenc \d+\.\d+\S*, ffmpeg version \S+ \(sha256 [0-9a-f]{12}\)", Vvc(37).version())


@pytest.mark.parametrize("scale", ["100", "50"])
@pytest.mark.parametrize("qp", [5, 22, 63])
def test_bitstream_tells_its_qp(qp: int, scale: Percent) -> None:
    data = Vvc(qp, preset="faster", scale=scale).encode(photograph(160, 96))
    assert Vvc(27).quality_of(data) == qp


def test_headers_without_a_qp_are_refused() -> None:
    data = Vvc(37, preset="faster").encode(photograph(32, 32))
    with pytest.raises(CodecError):
        Vvc(37).quality_of(data[:40])


def stand_in(folder: Path, script: str) -> str:
    return install(folder / "ffmpeg", script, "/bin/sh")


LAST_ARGUMENT = "for last; do :; done"


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo 'Unknown encoder' >&2; exit 8", "ffmpeg: failed with exit status 8: Unknown encoder"),
        ("sleep 60 & sleep 60", "ffmpeg: killed because it was still running after 1 s"),
    ],
)
def test_an_encoder_that_fails_gives_one_line_and_leaves_nothing(
    script: str, complaint: str, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg, "TIMEOUT_S", 1.0)
    monkeypatch.setenv("ICM_BENCH_FFMPEG", stand_in(tmp_path, script))
    with pytest.raises(ProgramError, match=f"^{complaint}; the image has 16x16 pixels$"):
        Vvc(37).encode(photograph(16, 16))


def test_a_missing_ffmpeg_is_named_with_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICM_BENCH_FFMPEG", "/nowhere/ffmpeg")
    with pytest.raises(ProgramError, match=r"/nowhere/ffmpeg: no such program; .*ICM_BENCH_FFMPEG"):
        Vvc(37).encode(photograph(16, 16))


def test_a_stream_that_the_encoder_cut_short_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ffmpeg.executable()
    script = f'"{real}" "$@" || exit 1; {LAST_ARGUMENT}; n=$(wc -c < $last); truncate -s $((n / 2)) $last'
    monkeypatch.setenv("ICM_BENCH_FFMPEG", stand_in(tmp_path, script))
    cut = Vvc(37, preset="faster").encode(photograph(96, 96))
    monkeypatch.setenv("ICM_BENCH_FFMPEG", real)
    with pytest.raises(CodecError):
        Vvc(37).decode(cut)


@pytest.mark.parametrize(
    ("picture", "complaint"),
    [
        ("YUV4MPEG2 W16 H16 F1:1 Ip A0:0 C420p10 XYSCSS=420P10\\nFRAME\\nshort", "one whole 16x16 picture"),
        (
            "YUV4MPEG2 W16 H16 F1:1 Ip A0:0 C444p10 XYSCSS=444P10\\nFRAME\\n",
            "holds 444p10 pictures, not 420p10",
        ),
        ("RIFF", "ffmpeg decoded no picture"),
    ],
)
def test_a_decoder_that_writes_another_picture_is_not_believed(
    picture: str, complaint: str, coded: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"{LAST_ARGUMENT}; printf '{picture}' > $last"
    monkeypatch.setenv("ICM_BENCH_FFMPEG", stand_in(tmp_path, script))
    with pytest.raises(CodecError, match=complaint):
        Vvc(37).decode(coded)


def test_a_small_picture_decodes_to_the_same_pixels_every_time() -> None:
    codec = Vvc(22, preset="faster")
    data = codec.encode(photograph(63, 65))
    first = codec.decode(data)
    assert all(np.array_equal(codec.decode(data), first) for _ in range(20))
