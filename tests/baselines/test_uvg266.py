"""uvg266: its command line, read by a stand-in that really codes and, where it is installed, by itself; its ROI map."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from icm_baselines import envelope, nal, uvg266
from icm_baselines.roi import Uvg266Roi
from icm_baselines.uvg266 import VARIABLE, Uvg266
from icm_baselines.vvc import Vvc
from icm_bench.codec import coded_as, guide_of
from icm_bench.error import CodecError, ProgramError
from icm_bench.image import Image
from icm_bench.testing import check_codec, photograph
from tests.helpers.stand_in import install

# Takes uvg266's own options and codes with VVenC, which shares VVC's bitstream; keeps the ROI map that it was given.
STAND_IN = """
import shutil, subprocess, sys
from pathlib import Path
words = sys.argv[1:]
if words == ["--version"]:
    print("uvg266 0.0-stand-in [x] 2026-01-01")
    sys.exit(0)
value = {word: words[place + 1] for place, word in enumerate(words[:-1]) if word.startswith("--")}
assert value["--input-file-format"] == "yuv" and "--input-bitdepth" not in value, words
assert (value["--frames"], value["--period"], value["--gop"], value["--hash"]) == ("1", "1", "0", "none"), words
if "--roi" in value:
    shutil.copy(value["--roi"], Path(sys.argv[0]).with_name("seen.txt"))
settings = "IntraPeriod=1:GOPSize=1:DecodingRefreshType=idr:IntraQPOffset=0:VuiParametersPresent=0:InternalBitDepth=8"
subprocess.run(
    [FFMPEG, "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", value["--input-res"],
     "-r", "1", "-i", value["--input"], "-c:v", "libvvenc", "-preset", "faster", "-qp", value["--qp"], "-qpa", "0",
     "-vvenc-params", settings, "-threads", "1", "-f", "vvc", value["--output"]],
    check=True,
)
"""


@pytest.fixture
def stand_in(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a stand-in of uvg266."""
    path = tmp_path / "bin" / "uvg266"
    monkeypatch.setenv(VARIABLE, install(path, STAND_IN))
    return path


@pytest.fixture
def real() -> None:
    """Skip where uvg266 is neither named by the environment nor on PATH."""
    try:
        Uvg266(32).version()
    except ProgramError as error:
        pytest.skip(f"uvg266 is not installed ({error})")


@pytest.fixture
def scene(plugins: Path) -> Image:
    """A textured image with one red object, which the fake detector finds, in one block of 64x64 pixels."""
    del plugins
    image: Image = (photograph(200, 136, seed=3) // 2 + 60).astype(np.uint8)
    image[80:112, 76:116] = (230, 30, 30)
    image[80:112:4, 76:116] = (200, 60, 20)
    return image


def test_the_map_keeps_the_blocks_of_the_region_and_coarsens_the_others(stand_in: Path, scene: Image) -> None:
    Uvg266Roi(8037, roi="fake", margin=0).encode(scene)
    rows = (stand_in.parent / "seen.txt").read_text().splitlines()
    assert rows == ["4 3", "8 8 8 8", "8 0 8 8", "8 8 8 8"]
    Uvg266Roi(4037, roi="fake", margin=24).encode(scene)
    rows = (stand_in.parent / "seen.txt").read_text().splitlines()
    assert rows == ["4 3", "0 0 0 4", "0 0 0 4", "0 0 0 4"]


def test_without_an_offset_the_stream_is_the_plain_codecs(stand_in: Path, scene: Image) -> None:
    plain = Uvg266Roi(37, roi="fake")
    assert plain.encode(scene) == Uvg266(37).encode(scene)
    assert not (stand_in.parent / "seen.txt").exists()
    assert coded_as(plain) == ("uvg266:preset=medium", 37)
    assert plain.version() == Uvg266(37).version()
    assert "region 1 by" in Uvg266Roi(8037, roi="fake").version()
    guide = guide_of(plain)
    assert guide is not None
    assert guide.spec == "fake"


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_the_wrapper_conforms_over_a_stand_in_that_really_codes() -> None:
    check_codec(Uvg266)


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import sys; sys.exit('Input error: no file')", "failed with exit status 1: Input error: no file"),
        ("import time; time.sleep(60)", "killed because it was still running after 1 s"),
        (STAND_IN.replace('value["--input-res"]', '"16x16"'), "coded 16x16 where 24x16 was due"),
    ],
)
def test_an_encoder_that_fails_gives_one_line(
    code: str, complaint: str, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvg266, "TIMEOUT_S", 1.0 if "sleep" in code else 60.0)
    install(stand_in, code)
    with pytest.raises(CodecError, match=f"^uvg266: {complaint}"):
        Uvg266(32).encode(photograph(20, 10))


def test_an_absent_program_is_named_with_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/uvg266")
    with pytest.raises(ProgramError, match=r"^/nowhere/uvg266: no such program; build uvg266 and name its"):
        Uvg266(32).encode(photograph(8, 8))


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize(("width", "height"), [(1, 1), (61, 35), (200, 72)])
def test_the_real_uvg266_codes_every_size_and_other_codecs_decode_it(width: int, height: int) -> None:
    image = photograph(width, height, seed=width)
    codec = Uvg266(27, preset="ultrafast")
    data = codec.encode(image)
    seen = codec.decode(data)
    assert seen.shape == image.shape
    assert np.abs(seen.astype(int) - image).mean() < 10.0
    assert codec.header_bytes(data) == Vvc(27).header_bytes(data)
    assert codec.header_bytes(data) < 90
    assert codec.encode(image) == data
    assert re.search(r"uvg266 \d\S+ \(sha256 [0-9a-f]{12}\)$", codec.version())


@pytest.mark.usefixtures("real")
def test_the_real_uvg266_moves_bytes_into_the_region(scene: Image) -> None:
    inside = np.zeros(scene.shape[:2], bool)
    inside[80:112, 76:116] = True

    def measured(quality: int) -> tuple[int, float, float]:
        codec = Uvg266Roi(quality, roi="fake", preset="ultrafast", margin=0)
        data = codec.encode(scene)
        error = ((codec.decode(data).astype(float) - scene) ** 2).mean(axis=2)
        return len(data), float(error[inside].mean()), float(error[~inside].mean())

    plain, fine, coarse = measured(32), measured(12032), measured(44)
    assert fine[0] < 0.6 * plain[0]
    assert fine[1] == pytest.approx(plain[1], rel=0.3)
    assert fine[1] < 0.5 * coarse[1]
    assert fine[2] > 1.5 * plain[2]


@pytest.mark.usefixtures("real")
def test_the_real_uvg266_writes_one_image_and_no_messages() -> None:
    stream = envelope.unpack(Uvg266(37, preset="ultrafast").encode(photograph(96, 64))).stream
    kinds = [unit[1] >> 3 for unit in nal.units(stream)]
    assert kinds == [15, 16, 8]  # parameter sets of the sequence and of the image, and a slice


def test_the_environment_goes_before_path(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("PATH", str(stand_in.parent))
    assert shutil.which("uvg266") == str(stand_in)
    assert Uvg266(32).version().startswith("envelope 1, uvg266 0.0-stand-in (sha256 ")


def test_the_ladder_is_in_the_order_of_an_image_that_is_all_background() -> None:
    steps = [divmod(int(point), 1000) for point in Uvg266Roi.qualities]
    coarse = [offset + qp for offset, qp in steps]
    assert coarse == sorted(set(coarse), reverse=True)
    assert max(coarse) <= 51  # where uvg266 clips
    assert {qp for offset, qp in steps if not offset} == set(Uvg266.qualities)
