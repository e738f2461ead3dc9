"""The ffmpeg executable: where it is, which one it is, and single pictures through it.

The executable is the one that the ``imageio-ffmpeg`` package carries; the environment variable
``ICM_BENCH_FFMPEG`` names another. Pictures go in as raw planes and come out as YUV4MPEG2, whose header
states the size that the stream itself claims, so ffmpeg converts nothing and is told nothing that a decoder
would not know.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from icm_bench import limit
from icm_bench.color import PlaneFormat
from icm_bench.error import CodecError, ProgramError
from icm_bench.file import file_digest
from icm_bench.image import Image
from icm_bench.program import Call, locate, run

TIMEOUT_S = 1800.0
"""Longest time that one picture may take, in seconds: far above what the slowest preset needs."""

_QUIET = ("-hide_banner", "-nostdin", "-loglevel", "error", "-y")
# One thread for the sake of the pixels: on several, ffmpeg's VVC decoder gives others from one call to the next.
_STRICT = ("-xerror", "-err_detect", "explode", "-threads", "1")
_Y4M_HEADER = re.compile(rb"YUV4MPEG2 W(\d+) H(\d+) [^\n]*?C(\w+)[^\n]*\nFRAME\n")
# A stream of a thousand pictures is refused for its second.
_FEW = ("-frames:v", "2")
_PPM_HEADER = re.compile(rb"P6\n(\d+) (\d+)\n255\n")


def executable() -> str:
    """Return the path of ffmpeg.

    Raises:
        ProgramError: There is none.
    """
    hint = "install imageio-ffmpeg, or set ICM_BENCH_FFMPEG to an ffmpeg executable"
    chosen = os.environ.get("ICM_BENCH_FFMPEG")
    if chosen:
        return locate(chosen, hint=hint)
    return locate(_shipped(hint), hint=hint)


def _shipped(hint: str) -> str:
    # The package runs the program to see that it works. Where that was killed, the program is there all the same.
    with contextlib.suppress(RuntimeError):
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise ProgramError(
            "the package imageio-ffmpeg has none that runs here", where="ffmpeg", hint=hint
        ) from error


def version(encoder: str, pattern: str = "") -> str:
    """Return how ffmpeg and one of its encoders call themselves, and the start of the executable's SHA-256.

    Args:
        encoder: The encoder's name in ffmpeg.
        pattern: Regular expression whose first group is the library's version in the encoder's debug output;
            empty where the library does not tell its version.
    """
    return _version(executable(), encoder, pattern)


def encode(
    data: bytes, layout: str, width: int, height: int, arguments: Sequence[str], container: str
) -> bytes:
    """Return one picture coded with the given encoder arguments.

    Args:
        data: Raw samples.
        layout: ffmpeg's name of how they are laid out.
        width: Width of the picture.
        height: Height of the picture.
        arguments: ffmpeg's output options: the encoder and its settings.
        container: ffmpeg's name of the output format.

    Raises:
        ProgramError: ffmpeg is missing, failed, hung or wrote nothing.
    """
    source = ("-f", "rawvideo", "-pix_fmt", layout, "-s", f"{width}x{height}", "-r", "1")
    call = Call(
        [executable(), *_QUIET, *source, "-i", "picture.raw", *arguments, "-f", container, "coded"],
        inputs={"picture.raw": data},
        output="coded",
        telling="first",
        timeout_s=TIMEOUT_S,
    )
    try:
        return run(call)
    except ProgramError as error:
        raise ProgramError(
            f"{error.what}; the image has {width}x{height} pixels", where=error.where, hint=error.hint
        ) from error


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
    return _read_planes(_decode(data, container, decoder, ("-strict", "-1", "-f", "yuv4mpegpipe")), form)


def decode_rgb(data: bytes, container: str, *, decoder: Sequence[str]) -> Image:
    """Return the one picture of a stream that holds 8-bit RGB.

    Args:
        data: The stream.
        container: ffmpeg's name of the input format.
        decoder: Arguments that choose a decoder.

    Raises:
        CodecError: The stream is damaged, or is not one picture of 8-bit RGB.
        ProgramError: ffmpeg is missing, failed or hung.
    """
    return _read_rgb(_decode(data, container, decoder, ("-f", "image2pipe", "-c:v", "ppm")))


def header_fields(data: bytes, container: str, names: Sequence[str]) -> dict[str, int]:
    """Return elements of a stream's headers, by the names of their standard: each as it stands last.

    Args:
        data: The stream.
        container: ffmpeg's name of the input format.
        names: The elements.

    Raises:
        CodecError: ffmpeg cannot read the headers.
        ProgramError: ffmpeg is missing or hung.
    """
    parse = ("-f", container, "-i", "coded", "-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-")
    call = Call(
        [executable(), "-hide_banner", "-nostdin", "-loglevel", "info", *parse],
        inputs={"coded": data},
        telling="first",
        timeout_s=TIMEOUT_S,
    )
    lines = re.findall(rf"\b({'|'.join(names)}) +[01]+ = (-?\d+)", run(call).decode(errors="replace"))
    return {name: int(value) for name, value in lines}


def pixel_format(form: PlaneFormat) -> str:
    """Return ffmpeg's name of a layout."""
    name = f"yuv{form.chroma}p" if form.range == "limited" or form.bit_depth == 10 else f"yuvj{form.chroma}p"
    return name if form.bit_depth == 8 else f"{name}10le"


def _decode(data: bytes, container: str, decoder: Sequence[str], sink: Sequence[str]) -> bytes:
    most = limit.of_stream(len(data))
    bounded = (*_STRICT, "-max_pixels", str(most))
    call = Call(
        [executable(), *_QUIET, *bounded, "-f", container, *decoder, "-i", "coded", *_FEW, *sink, "picture"],
        inputs={"coded": data},
        output="picture",
        telling="first",
        timeout_s=TIMEOUT_S,
    )
    return run(call)


def _read_planes(data: bytes, form: PlaneFormat) -> tuple[bytes, int, int]:
    header = _Y4M_HEADER.match(data)
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


def _read_rgb(data: bytes) -> Image:
    header = _PPM_HEADER.match(data)
    if header is None:
        raise CodecError("ffmpeg decoded no picture of 8-bit RGB")
    width, height = int(header[1]), int(header[2])
    samples = np.frombuffer(data, np.uint8, offset=header.end())
    if samples.size != width * height * 3:
        raise CodecError(f"the stream does not hold one whole {width}x{height} picture")
    return samples.reshape(height, width, 3).copy()


@cache
def _version(path: str, encoder: str, pattern: str) -> str:
    banner = run(Call([path, "-version"], timeout_s=60.0)).decode(errors="replace")
    name = " ".join(banner.split()[:3])
    digest = file_digest(Path(path))[:12]
    return f"{encoder}{_library_version(path, encoder, pattern)}, {name} (sha256 {digest})"


def _library_version(path: str, encoder: str, pattern: str) -> str:
    if not pattern:
        return ""
    grey = ("-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", "64x64", "-r", "1", "-i", "grey.yuv")
    call = Call(
        [path, "-hide_banner", "-nostdin", "-loglevel", "debug", *grey, "-c:v", encoder, "-f", "null", "-"],
        inputs={"grey.yuv": b"\x00\x02" * (64 * 64 * 3 // 2)},
        timeout_s=60.0,
    )
    found = re.search(pattern, run(call).decode(errors="replace"))
    return " of unknown version" if found is None else f" {found[1]}"
