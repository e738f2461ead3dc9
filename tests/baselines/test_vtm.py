"""VTM: its command line, read by a stand-in that really codes and, where it is installed, by itself; and what fails."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from typer.testing import CliRunner

from icm_baselines import envelope, ffmpeg, vtm
from icm_baselines.vtm import Vtm
from icm_baselines.vvc import Vvc, picture_size
from icm_bench import cli, color
from icm_bench.curves.result import find
from icm_bench.error import CodecError, ProgramError
from icm_bench.testing import check_codec, photograph
from tests.helpers.stand_in import install

REAL = shutil.which("EncoderAppStatic", path=os.environ.get("ICM_BENCH_VTM") or None)

# Takes VTM's own options and codes with VVenC, which shares VVC's bitstream but nothing of VTM's.
ENCODER = """
import subprocess, sys
if "--help" in sys.argv:
    print("VVCSoftware: VTM Encoder Version 0.0-stand-in [Linux]")
    sys.exit(1)
arguments, long, position = {}, {}, 1
while position < len(sys.argv):
    word = sys.argv[position]
    if word.startswith("--"):
        key, _, value = word[2:].partition("=")
        long[key] = value
        position += 1
    else:
        arguments[word] = sys.argv[position + 1]
        position += 2
assert open(arguments["-c"]).read().startswith("IntraPeriod"), arguments
assert (arguments["-ts"], arguments["-f"], arguments["-o"]) == ("1", "1", ""), arguments
assert long["InputBitDepth"] == long["InternalBitDepth"] == "10", long
assert (long["ConformanceWindowMode"], long["InputChromaFormat"]) == ("1", "420"), long
settings = "IntraPeriod=1:GOPSize=1:DecodingRefreshType=idr:IntraQPOffset=0:VuiParametersPresent=0"
subprocess.run(
    [FFMPEG, "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p10le",
     "-s", arguments["-wdt"] + "x" + arguments["-hgt"], "-r", arguments["-fr"], "-i", arguments["-i"],
     "-c:v", "libvvenc", "-preset", "faster", "-qp", arguments["-q"], "-qpa", "0",
     "-vvenc-params", settings, "-threads", "1", "-f", "vvc", arguments["-b"]],
    check=True,
)
"""
DECODER = """
import subprocess, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert arguments["-d"] == "10", arguments
subprocess.run(
    [FFMPEG, "-loglevel", "error", "-xerror", "-err_detect", "explode", "-threads", "1",
     "-f", "vvc", "-i", arguments["-b"], "-f", "rawvideo", arguments["-o"]],
    check=True,
)
"""


@pytest.fixture
def stand_in(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder, settings = tmp_path / "vtm" / "bin", tmp_path / "vtm" / "cfg" / "encoder_intra_vtm.cfg"
    install(folder / "EncoderAppStatic", ENCODER)
    install(folder / "DecoderAppStatic", DECODER)
    settings.parent.mkdir()
    settings.write_text("IntraPeriod : 1\n")
    monkeypatch.setenv("ICM_BENCH_VTM", str(folder))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_the_wrapper_conforms_over_a_stand_in_that_really_codes() -> None:
    check_codec(Vtm)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("width", "height"), [(1, 1), (61, 35), (128, 72)])
def test_a_picture_goes_there_and_back_at_every_size(width: int, height: int) -> None:
    image = photograph(width, height)
    codec = Vtm(22)
    seen = codec.decode(codec.encode(image))
    assert seen.shape == image.shape
    assert np.abs(seen.astype(int) - image).mean() < 12.0


@pytest.mark.usefixtures("stand_in")
def test_streams_are_those_of_any_other_vvc_codec() -> None:
    image = photograph(64, 48)
    data = Vtm(32).encode(image)
    assert np.array_equal(Vvc(32).decode(data), Vtm(32).decode(data))
    assert Vtm(32).header_bytes(data) == Vvc(32).header_bytes(data)


def test_the_folder_given_as_an_option_goes_before_the_environment(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICM_BENCH_VTM", "/nowhere")
    with pytest.raises(ProgramError, match="EncoderAppStatic: no such program in /nowhere; build VTM"):
        Vtm(32).encode(photograph(8, 8))
    assert Vtm(32, dir=str(stand_in)).encode(photograph(8, 8))


@pytest.mark.slow
def test_a_run_finds_vtm_by_its_own_option(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ICM_BENCH_VTM", "/nowhere")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Pillow.fromarray(photograph(200, 180)).save(tmp_path / "photos" / "1.png")
    command = ["run", "--task", "fidelity", "--dataset", "folder", "--images", "photos", "--codecs", "vtm"]
    command += ["--qualities", "vtm=47,37", "--bootstrap", "0"]
    missing = CliRunner().invoke(cli.app, [*command, "--workers", "1"])
    assert "no such program in /nowhere; build VTM and name the folder" in str(missing.exception)
    # The run is in another folder than VTM's programs, which are called from folders of their own.
    # Two workers are processes of their own, which inherit an environment that knows nothing of it.
    done = CliRunner().invoke(cli.app, [*command, "--workers", "2", "--vtm", os.path.relpath(stand_in)])
    assert os.environ["ICM_BENCH_VTM"] == "/nowhere"
    assert done.exit_code == 0, done.output
    (result,) = find(tmp_path / "results")
    assert result.codec == "vtm"
    assert all("0.0-stand-in" in version for version in result.meta["codec_version"])


def test_vtm_is_found_on_path(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ICM_BENCH_VTM")
    with pytest.raises(ProgramError, match="no such program in PATH"):
        Vtm(32).version()
    monkeypatch.setenv("PATH", str(stand_in), prepend=os.pathsep)
    assert Vtm(32).version().startswith("envelope 1, VTM 0.0-stand-in (sha256 ")


def test_the_version_changes_with_the_executables_and_the_settings(stand_in: Path) -> None:
    first = Vtm(32).version()
    assert re.fullmatch(r"envelope 1, VTM 0\.0-stand-in \(sha256 ([0-9a-f]{12} ?){3}\)", first)
    other = stand_in.parent / "other"
    other.mkdir()
    for path in stand_in.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
        (other / path.name).chmod(0o755)
    (other / "encoder_intra_vtm.cfg").write_text("IntraPeriod : 1\nALF : 0\n")
    assert Vtm(32, dir=str(other)).version() != first


def test_missing_settings_are_named(stand_in: Path) -> None:
    (stand_in.parent / "cfg" / "encoder_intra_vtm.cfg").unlink()
    with pytest.raises(ProgramError, match=r"encoder_intra_vtm\.cfg: not found near .*; copy it"):
        Vtm(32).encode(photograph(8, 8))


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        (
            "import sys; sys.exit('cannot open the file')",
            "EncoderAppStatic: failed with exit status 1: cannot open the file",
        ),
        ("import time; time.sleep(60)", "EncoderAppStatic: killed because it was still running after 1 s"),
        # What VTM says to an option that it does not know yet.
        (
            "import sys; sys.exit('Unknown option: `ConformanceWindowMode\\' (value:`1\\')')",
            "EncoderAppStatic: failed with exit status 1: Unknown option: `ConformanceWindowMode'",
        ),
        ("open('coded', 'wb').write(b'VVC')", "VVC: the bitstream holds no picture parameter set"),
        (
            ENCODER.replace('arguments["-wdt"] + "x" + arguments["-hgt"]', '"16x16"'),
            "EncoderAppStatic: coded 16x16 where 24x16 was due$",
        ),
    ],
)
def test_an_encoder_that_fails_or_codes_another_size_gives_one_line(
    code: str, complaint: str, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vtm, "TIMEOUT_S", 1.0 if "sleep" in code else 60.0)
    install(stand_in / "EncoderAppStatic", code)
    with pytest.raises(CodecError, match=f"^{complaint}"):
        Vtm(32).encode(photograph(20, 10))


def test_a_stream_that_the_encoder_cut_short_is_not_decoded(stand_in: Path) -> None:
    cut = "data = open('coded', 'rb').read(); open('coded', 'wb').write(data[: 2 * len(data) // 3])"
    install(stand_in / "EncoderAppStatic", f"{ENCODER}\n{cut}\n")
    data = Vtm(32).encode(photograph(96, 96))
    with pytest.raises(CodecError) as caught:
        Vtm(32).decode(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import sys; sys.exit('ERROR: bad NAL unit')", "failed with exit status 1: ERROR: bad NAL unit"),
        ("import time; time.sleep(60)", "killed because it was still running after 1 s"),
        ("import sys; open(sys.argv[4], 'wb').write(b'short')", "wrote 5 bytes where 768 were due"),
    ],
)
def test_a_decoder_that_fails_or_writes_another_size_gives_one_line(
    code: str, complaint: str, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Vtm(32).encode(photograph(16, 16))
    monkeypatch.setattr(vtm, "TIMEOUT_S", 1.0 if "sleep" in code else 60.0)
    install(stand_in / "DecoderAppStatic", code)
    with pytest.raises(ProgramError, match=f"^DecoderAppStatic: {complaint}$"):
        Vtm(32).decode(data)


def test_an_absent_decoder_is_named_with_the_hint(stand_in: Path) -> None:
    data = Vtm(32).encode(photograph(8, 8))
    (stand_in / "DecoderAppStatic").unlink()
    with pytest.raises(ProgramError, match="^DecoderAppStatic: no such program in .*; build VTM"):
        Vtm(32).decode(data)


def test_the_picture_size_is_read_from_the_stream() -> None:
    data = Vvc(42, preset="faster").encode(photograph(200, 72))
    assert picture_size(data[envelope.N_BYTES :]) == (200, 72)
    with pytest.raises(CodecError, match="no picture parameter set"):
        picture_size(b"\x00\x00\x01\x00\x79\x00")
    with pytest.raises(CodecError, match="a NAL unit ends early"):
        picture_size(b"\x00\x00\x01\x00\x81\x00\x00")


def picture_parameters(width: int, height: int) -> bytes:
    """Return a picture parameter set as far as its picture's size."""
    numbers = (f"{value + 1:b}" for value in (width, height))
    digits = "00000100000" + "".join("0" * (len(number) - 1) + number for number in numbers)
    digits += "0" * (-len(digits) % 8)
    return b"\x00\x00\x01\x00\x81" + int(digits, 2).to_bytes(len(digits) // 8, "big")


@pytest.mark.parametrize(
    ("before", "after", "claim"),
    [
        (picture_parameters(8192, 8192), b"", "8192x8192 pixels; give --max-pixels"),
        (b"", picture_parameters(8192, 8192), "8192x8192 pixels; give --max-pixels"),
        (picture_parameters(2048, 2048), b"\x00\x00\x01\x00\x01" * 300, "2048x"),
    ],
    ids=["before", "after", "every picture counts"],
)
def test_a_stream_that_claims_more_pixels_than_its_bytes_hold_does_not_reach_the_decoder(
    before: bytes, after: bytes, claim: str, stand_in: Path
) -> None:
    stream = envelope.unpack(Vtm(47).encode(photograph(40, 33))).stream
    install(stand_in / "DecoderAppStatic", "import sys; sys.exit('decodes')")
    forged = envelope.Envelope(before + stream + after, 0, 0).pack()
    with pytest.raises(CodecError, match=rf"^VTM: \d+ bytes claim {claim}"):
        Vtm(47).decode(forged)


@pytest.mark.skipif(REAL is None, reason="VTM is not installed")
@pytest.mark.parametrize("chroma", ["420", "444"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 9), (61, 35)])
def test_ffmpeg_decodes_what_the_real_vtm_coded_to_the_same_pixels(
    width: int, height: int, chroma: color.Chroma
) -> None:
    image = photograph(width, height, seed=width)
    codec = Vtm(32, chroma=chroma)
    data = codec.encode(image)
    packed = envelope.unpack(data)
    assert packed.stream.startswith(b"\x00\x00\x00\x01")
    form = color.PlaneFormat(chroma, 10, "bt709", "limited")
    raw, columns, rows = ffmpeg.decode(packed.stream, form, "vvc")
    theirs = packed.crop(color.to_image(color.from_bytes(raw, form, columns, rows), form))
    seen = codec.decode(data)
    assert seen.shape == image.shape
    assert np.array_equal(seen, theirs)
    assert np.abs(seen.astype(int) - image).mean() < 12.0


@pytest.mark.skipif(REAL is None, reason="VTM is not installed")
def test_the_real_vtm_decodes_what_vvenc_coded_to_the_same_pixels() -> None:
    data = Vvc(32, preset="faster").encode(photograph(64, 40))
    assert np.array_equal(Vtm(32).decode(data), Vvc(32).decode(data))
    assert re.search(r"VTM \d+\.\d+ \(sha256 ", Vtm(32).version())


@pytest.mark.skipif(REAL is None, reason="VTM is not installed")
def test_the_real_vtm_refuses_a_stream_that_is_cut() -> None:
    stream = envelope.unpack(Vtm(42).encode(photograph(32, 24))).stream
    with pytest.raises(ProgramError, match="^DecoderAppStatic: failed with exit status 1"):
        Vtm(42).decode(envelope.Envelope(stream[: 2 * len(stream) // 3], 0, 0).pack())
