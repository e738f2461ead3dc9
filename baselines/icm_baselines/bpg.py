"""BPG: HEVC intra pictures in Bellard's format, by bpgenc and bpgdec."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from icm_baselines import pillow
from icm_baselines.option import whole
from icm_bench import limit
from icm_bench.codec import Quality
from icm_bench.color import Chroma
from icm_bench.error import CodecError, UsageError
from icm_bench.image import Image
from icm_bench.program import Call, locate, run, version_of

Encoder: TypeAlias = Literal["x265", "jctvc"]

TIMEOUT_S = 1800.0
"""Longest time that one picture may take, in seconds."""

_HINT = "install libbpg so that bpgenc and bpgdec are on PATH"
_MAGIC = b"BPG\xfb"
_LENGTH_BYTES = 2


class Bpg:
    """BPG at a fixed QP: bpgenc and bpgdec, which must be on PATH.

    bpgenc converts to BT.601, full range. The bitstream is the BPG file after two bytes that hold its
    length modulo 65536, since bpgenc does not signal where the picture ends and bpgdec decodes a file that
    is cut.

    Args:
        quality: QP of the picture, 0 to 51; fewer bits the higher.
        device: Ignored; bpgenc runs on the CPU.
        chroma: Chroma format, 4:2:0 or 4:4:4.
        encoder: x265, or the HEVC reference software (jctvc), as bpgenc was built with.
        level: bpgenc's compression level, 1 (fast) to 9.
    """

    name: ClassVar[str] = "bpg"
    qualities: ClassVar[tuple[Quality, ...]] = (49, 45, 41, 37, 32, 27, 22)

    def __init__(
        self,
        quality: Quality,
        *,
        device: str = "cpu",
        chroma: Chroma = "420",
        encoder: Encoder = "x265",
        level: int = 8,
    ) -> None:
        del device
        qp = str(whole(quality, 0, 51, where="bpg QP"))
        if not 1 <= level <= 9:
            raise UsageError(f"{level} is not a level from 1 to 9", where="bpg:level")
        self._arguments = ("-q", qp, "-f", chroma, "-c", "ycbcr", "-b", "10", "-e", encoder, "-m", str(level))

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of an image."""
        picture = pillow.encode(image, "PNG", {"compress_level": 1})
        call = Call(
            [locate("bpgenc", hint=_HINT), *self._arguments, "-o", "coded", "picture.png"],
            inputs={"picture.png": picture},
            output="coded",
            timeout_s=TIMEOUT_S,
        )
        file = run(call)
        return _length(file) + file

    def decode(self, data: bytes) -> Image:
        """Return the image of a bitstream."""
        length, file = data[:_LENGTH_BYTES], data[_LENGTH_BYTES:]
        if length != _length(file) or not file.startswith(_MAGIC):
            raise CodecError("the bitstream is empty, truncated or of another format", where="BPG")
        _check_size(file)
        call = Call(
            [locate("bpgdec", hint=_HINT), "-o", "picture.png", "coded"],
            inputs={"coded": file},
            output="picture.png",
            timeout_s=TIMEOUT_S,
        )
        return pillow.decode(run(call), "PNG")

    def version(self) -> str:
        """Name the layout of the bitstream, libbpg, and the start of both executables' SHA-256."""
        files = (locate("bpgenc", hint=_HINT), locate("bpgdec", hint=_HINT))
        told = version_of("libbpg", (files[0], "-h"), r"version (\S+)", files, success=(0, 1))
        return f"bpg 1, {told}"


def _check_size(file: bytes) -> None:
    """Refuse a file that claims more pixels than its bytes can hold."""
    position, sides = len(_MAGIC) + 2, []
    for _ in range(2):
        side = 0
        while position < len(file):
            side = (side << 7) + (file[position] & 0x7F)
            position += 1
            if not file[position - 1] & 0x80:
                break
        sides.append(side)
    limit.check_claim(sides[0], sides[1], len(file), where="BPG")


def _length(file: bytes) -> bytes:
    return (len(file) % (1 << 8 * _LENGTH_BYTES)).to_bytes(_LENGTH_BYTES, "big")
