"""BPG: bpgenc's command line, read by a stand-in that really codes, and what happens where it is absent."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from icm_baselines import bpg, pillow
from icm_baselines.bpg import Bpg
from icm_bench.error import CodecError, ProgramError
from icm_bench.testing import check_codec, photograph
from tests.helpers.stand_in import install

# Takes bpgenc's options and writes JPEG behind BPG's magic number, two bytes of flags and the size.
ENCODER = """
import io, sys
from PIL import Image
if "-h" in sys.argv:
    print("BPG Image Encoder version 0.0-stand-in")
    sys.exit(1)
*words, source = sys.argv[1:]
options = dict(zip(words[0::2], words[1::2]))
assert set(options) == {"-q", "-f", "-c", "-b", "-e", "-m", "-o"}, options
assert options["-c"] == "ycbcr" and options["-b"] == "10", options
file = io.BytesIO()
image = Image.open(source)
image.save(file, "JPEG", quality=100 - int(options["-q"]), subsampling="4:4:4")
size = b"".join(bytes([0x80 | side >> 7, side & 0x7F]) for side in image.size)
open(options["-o"], "wb").write(b"BPG\\xfb" + bytes(2) + size + file.getvalue())
"""
DECODER = """
import io, sys
from PIL import Image
data = open(sys.argv[3], "rb").read()
if not data.endswith(b"\\xff\\xd9"):
    sys.exit("Could not decode image")
Image.open(io.BytesIO(data[10:])).save(sys.argv[2], "PNG")
"""

PNG = pillow.encode(photograph(16, 16), "PNG", {})


@pytest.fixture
def stand_in(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    install(folder / "bpgenc", ENCODER)
    install(folder / "bpgdec", DECODER)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


@pytest.mark.usefixtures("stand_in")
def test_a_picture_goes_there_and_back() -> None:
    image = photograph(61, 35)
    codec = Bpg(5)
    assert np.abs(codec.decode(codec.encode(image)).astype(int) - image).mean() < 4.0


@pytest.mark.usefixtures("stand_in")
def test_every_cut_is_noticed_without_the_decoder() -> None:
    data = Bpg(30).encode(photograph(16, 16))
    for length in range(len(data)):
        with pytest.raises(CodecError, match="empty, truncated or of another format"):
            Bpg(30).decode(data[:length])


@pytest.mark.usefixtures("stand_in")
def test_a_stream_that_the_decoder_refuses_is_an_error_of_one_line() -> None:
    data = Bpg(30).encode(photograph(16, 16))
    with pytest.raises(ProgramError, match="^bpgdec: failed with exit status 1: Could not decode image$"):
        Bpg(30).decode(data[:-1] + b"?")


@pytest.mark.usefixtures("stand_in")
def test_the_version_is_the_executables_own() -> None:
    assert Bpg(30).version().startswith("bpg 1, libbpg 0.0-stand-in (sha256 ")


def test_an_absent_bpgenc_is_named_with_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProgramError, match="^bpgenc: no such program; install libbpg"):
        Bpg(30).encode(photograph(8, 8))


@pytest.mark.parametrize("program", ["bpgenc", "bpgdec"])
@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import sys; sys.exit('cannot open the file')", "failed with exit status 1: cannot open the file"),
        ("import time; time.sleep(60)", "killed because it was still running after 1 s"),
        ("import sys; sys.exit('Unsupported encoder: x265')", ".* Unsupported encoder: x265"),
    ],
)
def test_a_program_that_fails_gives_one_line(
    program: str, code: str, complaint: str, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photograph(16, 16)
    data = Bpg(30).encode(image)
    monkeypatch.setattr(bpg, "TIMEOUT_S", 1.0)
    install(stand_in / program, code)
    with pytest.raises(ProgramError, match=f"^{program}: {complaint}$"):
        Bpg(30).encode(image) if program == "bpgenc" else Bpg(30).decode(data)


def test_a_stream_that_bpgenc_cut_short_is_not_decoded(stand_in: Path) -> None:
    cut = ENCODER.replace("file.getvalue())", "file.getvalue()[:-40])")
    install(stand_in / "bpgenc", cut)
    with pytest.raises(ProgramError, match="^bpgdec: failed with exit status 1: Could not decode image$"):
        Bpg(30).decode(Bpg(30).encode(photograph(16, 16)))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"P6 1 1 255 abc", "PNG: the bitstream is damaged or of another format"),
        (PNG[: len(PNG) // 2], "PNG: the bitstream is truncated or damaged"),
    ],
)
def test_a_bpgdec_that_writes_no_whole_picture_is_not_believed(
    content: bytes, complaint: str, stand_in: Path
) -> None:
    data = Bpg(30).encode(photograph(16, 16))
    code = f"import sys; open(sys.argv[2], 'wb').write({content!r})"
    install(stand_in / "bpgdec", code)
    with pytest.raises(CodecError, match=f"^{complaint}"):
        Bpg(30).decode(data)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bpgenc") is None, reason="bpgenc is not installed")
def test_the_real_bpg_conforms() -> None:
    encoder = "x265"
    try:
        Bpg(30, encoder="x265").encode(photograph(16, 16))
    except ProgramError:
        encoder = "jctvc"
    check_codec(Bpg, encoder=encoder)
