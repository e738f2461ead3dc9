"""VVC (H.266) intra images, by uvg266, whose ROI map sets the QP of each block."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from icm_baselines import envelope, nal, vvc
from icm_baselines.option import short_label, whole
from icm_baselines.still import Still
from icm_bench import color
from icm_bench.codec import Quality
from icm_bench.image import Image
from icm_bench.program import Call, locate, run, version_of

Preset: TypeAlias = Literal["ultrafast", "faster", "fast", "medium", "slow", "slower", "veryslow"]

BLOCK: int = 64
"""Side in pixels of the blocks that have a QP of their own."""

TIMEOUT_S = 3600.0
"""Longest time that one image may take, in seconds."""

VARIABLE = "ICM_BENCH_UVG266"
"""The environment variable that names the executable."""

# What uvg266 is built for where nothing is said: 8 bits, and sides that are multiples of its smallest block.
_STILL = Still(color.PlaneFormat("420", 8, "bt709", "limited"), "vvc", multiple=8)

# One intra image at one QP, on one thread, and no message that a single image does not need.
_SETTINGS = (
    *("--frames", "1", "--period", "1", "--gop", "0", "--intra-qp-offset", "0"),
    *("--threads", "0", "--owf", "0", "--no-wpp", "--no-psnr"),
    *("--hash", "none", "--no-info", "--no-aud"),
)


class Uvg266:
    """VVC intra at a fixed QP: uvg266, decoded by ffmpeg's own decoder.

    Images are coded as 4:2:0, 8 bit (what uvg266 is built for by default), BT.709, limited range. The bitstream is the
    whole Annex B byte stream after the two bytes of :mod:`icm_baselines.envelope`. The executable is the one that the
    environment variable ``ICM_BENCH_UVG266`` names, else ``uvg266`` on PATH.

    Args:
        quality: QP of the image, 0 to 51; fewer bits the higher.
        device: Ignored; uvg266 runs on the CPU, on one thread.
        preset: uvg266's speed preset.
    """

    name: ClassVar[str] = "uvg266"
    qualities: ClassVar[tuple[Quality, ...]] = (47, 42, 37, 32, 27, 22)
    always_named: ClassVar[tuple[str, ...]] = ("preset",)

    def __init__(self, quality: Quality, *, device: str = "cpu", preset: Preset = "medium") -> None:
        del device
        self._qp = whole(quality, 0, 51, where=f"{self.name} QP")
        self._preset = preset

    @classmethod
    def label(cls, options: Mapping[str, str]) -> str:
        """Return the name with the preset and what else the options say: ``uvg266 medium``."""
        return short_label("uvg266", options, named="preset")

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of an image."""
        return self._encoded(image)

    def decode(self, data: bytes) -> Image:
        """Return the image of a bitstream."""
        return _STILL.decode(data)

    def version(self) -> str:
        """Name the layout of the bitstream, uvg266 as it does itself, and the start of the executable's SHA-256."""
        program = _program()
        told = version_of("uvg266", (program, "--version"), r"uvg266 (\S+)", (program,))
        return f"envelope 1, {told}"

    def header_bytes(self, data: bytes) -> int:
        """Return the bytes of envelope, parameter sets and start codes."""
        return envelope.N_BYTES + nal.overhead_bytes(data[envelope.N_BYTES :], vvc.is_slice)

    def _encoded(self, image: Image, offsets: NDArray[np.int64] | None = None) -> bytes:
        """Return the bitstream of an image; the offsets, rows x columns, are added to the QPs of its blocks."""
        vvc.check_largest_side(image)
        columns, rows, raw = _STILL.planes(image)
        told: tuple[str, ...] = ()
        inputs = {"image.yuv": raw}
        if offsets is not None:
            # Width and height of the map, then its rows: the program stretches a map of another size.
            text = [f"{offsets.shape[1]} {offsets.shape[0]}", *(" ".join(map(str, row)) for row in offsets)]
            told, inputs["roi.txt"] = ("--roi", "roi.txt"), "\n".join([*text, ""]).encode()
        call = Call(
            [
                *(_program(), "--input", "image.yuv", "--input-file-format", "yuv"),
                *("--input-res", f"{columns}x{rows}", "--output", "coded"),
                *("--preset", self._preset, "--qp", str(self._qp), *_SETTINGS, *told),
            ],
            inputs=inputs,
            output="coded",
            timeout_s=TIMEOUT_S,
        )
        stream = run(call)
        vvc.check_picture_size(stream, columns, rows, where=self.name)
        return _STILL.packed(stream, image)


def _program() -> str:
    return locate(
        os.environ.get(VARIABLE) or "uvg266",
        hint=f"build uvg266 and name its executable by {VARIABLE}, or put it on PATH",
    )
