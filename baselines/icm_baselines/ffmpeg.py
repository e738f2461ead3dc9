"""The ffmpeg executable: where it is, which one it is, and single pictures through it.

The executable is the one that the ``imageio-ffmpeg`` package carries; the environment variable
``ICM_BENCH_FFMPEG`` names another. Pictures go in as raw planes and come out as YUV4MPEG2, whose header
states the size that the stream itself claims, so ffmpeg converts nothing and is told nothing that a decoder
would not know.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import imageio_ffmpeg

from icm_bench.color import PlaneFormat
from icm_bench.error import CodecError, ProgramError
from icm_bench.program import Call, locate, run

TIMEOUT_S = 1800.0
"""Longest time that one picture may take, in seconds: far above what the slowest preset needs."""

_QUIET = ("-hide_banner", "-nostdin", "-loglevel", "error", "-y")
_STRICT = ("-xerror", "-err_detect", "explode", "-max_pixels", str(1 << 28), "-threads", "1")
_HEADER = re.compile(rb"YUV4MPEG2 W(\d+) H(\d+) [^\n]*?C(\w+)[^\n]*\nFRAME\n")


def executable() -> str:
    """Return the path of ffmpeg.

    Raises:
        ProgramError: There is none.
    """
    mend = "install imageio-ffmpeg, or set ICM_BENCH_FFMPEG to an ffmpeg executable"
    chosen = os.environ.get("ICM_BENCH_FFMPEG")
    if chosen:
        return locate(chosen, mend=mend)
    try:
        return locate(imageio_ffmpeg.get_ffmpeg_exe(), mend=mend)
    except RuntimeError as error:
        raise ProgramError("no such program", where="ffmpeg", mend=mend) from error


def version(encoder: str, pattern: str) -> str:
    """Return how ffmpeg and one of its encoders call themselves, and the start of the executable's SHA-256.

    Args:
        encoder: The encoder's name in ffmpeg.
        pattern: Regular expression whose first group is the library's version in the encoder's debug output.
    """
    return _version(executable(), encoder, pattern)


def encode(
    data: bytes, form: PlaneFormat, width: int, height: int, arguments: Sequence[str], container: str
) -> bytes:
    """Return one picture coded with the given encoder arguments.

    Args:
        data: Raw planes.
        form: How they are laid out.
        width: Width of the luma plane.
        height: Height of the luma plane.
        arguments: ffmpeg's output options: the encoder and its settings.
        container: ffmpeg's name of the output format.

    Raises:
        ProgramError: ffmpeg is missing, failed, hung or wrote nothing.
    """
    source = ("-f", "rawvideo", "-pix_fmt", pixel_format(form), "-s", f"{width}x{height}", "-r", "1")
    call = Call(
        [executable(), *_QUIET, *source, "-i", "picture.yuv", *arguments, "-f", container, "coded"],
        inputs={"picture.yuv": data},
        output="coded",
        timeout_s=TIMEOUT_S,
    )
    return run(call)


def decode(
    data: bytes, form: PlaneFormat, container: str, *, decoder: Sequence[str] = ()
) -> tuple[bytes, int, int]:
    """Return the raw planes, the width and the height of the one picture in a stream.

    Args:
        data: The stream.
        form: The layout that the stream must have.
        container: ffmpeg's name of the input format.
        decoder: Arguments that choose a decoder other than ffmpeg's first.

    Raises:
        CodecError: The stream is damaged, or is not one picture of that layout.
        ProgramError: ffmpeg is missing, failed or hung.
    """
    source = ("-f", container, *decoder, "-i", "coded")
    sink = ("-strict", "-1", "-f", "yuv4mpegpipe", "picture.y4m")
    call = Call(
        [executable(), *_QUIET, *_STRICT, *source, *sink],
        inputs={"coded": data},
        output="picture.y4m",
        timeout_s=TIMEOUT_S,
    )
    return _read_picture(run(call), form)


def pixel_format(form: PlaneFormat) -> str:
    """Return ffmpeg's name of a layout."""
    name = f"yuv{form.chroma}p" if form.range == "limited" or form.bit_depth == 10 else f"yuvj{form.chroma}p"
    return name if form.bit_depth == 8 else f"{name}10le"


def _read_picture(data: bytes, form: PlaneFormat) -> tuple[bytes, int, int]:
    header = _HEADER.match(data)
    if header is None:
        raise CodecError("ffmpeg decoded no picture")
    width, height, layout = int(header[1]), int(header[2]), header[3].decode()
    due = f"{form.chroma}p10" if form.bit_depth == 10 else form.chroma
    if layout.removesuffix("jpeg").removesuffix("mpeg2") != due:
        raise CodecError(f"the stream holds {layout} pictures, not {due}")
    raw = data[header.end() :]
    if len(raw) != form.n_bytes(width, height):
        raise CodecError(f"the stream does not hold one whole {width}x{height} picture")
    return raw, width, height


@cache
def _version(path: str, encoder: str, pattern: str) -> str:
    banner = run(Call([path, "-version"], timeout_s=60.0)).decode(errors="replace")
    name = " ".join(banner.split()[:3])
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    grey = ("-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", "64x64", "-r", "1", "-i", "grey.yuv")
    call = Call(
        [path, "-hide_banner", "-nostdin", "-loglevel", "debug", *grey, "-c:v", encoder, "-f", "null", "-"],
        inputs={"grey.yuv": b"\x00\x02" * (64 * 64 * 3 // 2)},
        timeout_s=60.0,
    )
    found = re.search(pattern, run(call).decode(errors="replace"))
    library = "of unknown version" if found is None else found[1]
    return f"{encoder} {library}, {name} (sha256 {digest})"
