"""WebP (lossy), by libwebp."""

from __future__ import annotations

from typing import ClassVar

from icm_baselines import ffmpeg
from icm_baselines.option import check_sides, whole
from icm_bench import color, limit
from icm_bench.codec import Quality
from icm_bench.error import CodecError
from icm_bench.image import Image

_FORM = color.PlaneFormat(chroma="420", bit_depth=8, matrix="bt601", range="limited")
_LARGEST_SIDE = 16_383
_ROUNDED_UP = 0.03
# The modes of a block of 16x16 take more than 2 bits, whatever is in it.
_PIXELS_A_BYTE = 8 * 256 // 2
_KEY_FRAME = b"\x9d\x01\x2a"
_RIFF_HEADER_BYTES = 8
_CHUNK_AT = 12


class Webp:
    """Lossy WebP at libwebp's strongest method, decoded by ffmpeg's own decoder.

    Pictures are converted to 4:2:0, 8 bit, BT.601, limited range, as the format asks for, by the suite: 0.03 level
    low, because VP8's inverse transform rounds that much up. The bitstream is a plain WebP file.

    Args:
        quality: libwebp's quality, 0 to 100.
        device: Ignored; libwebp runs on the CPU.
    """

    name: ClassVar[str] = "webp"
    qualities: ClassVar[tuple[Quality, ...]] = (0, 2, 5, 10, 20, 40, 70, 90)

    def __init__(self, quality: Quality, *, device: str = "cpu") -> None:
        del device
        self._quality = str(whole(quality, 0, 100, where="webp quality"))

    def encode(self, image: Image) -> bytes:
        """Return the file of an image.

        Raises:
            CodecError: A side is longer than WebP codes.
        """
        check_sides(image, _LARGEST_SIDE, _LARGEST_SIDE, where="WebP")
        height, width = image.shape[:2]
        raw = color.to_bytes(color.to_planes(image, _FORM, lowered=_ROUNDED_UP), _FORM)
        encoder = ("-c:v", "libwebp", "-lossless", "0", "-preset", "none", "-compression_level", "6")
        arguments = (*encoder, "-quality", self._quality, "-threads", "1")
        return ffmpeg.encode(raw, ffmpeg.pixel_format(_FORM), width, height, arguments, "webp")

    def decode(self, data: bytes) -> Image:
        """Return the image of a file."""
        _check_size(data)
        raw, width, height = ffmpeg.decode(data, _FORM, "webp_pipe")
        return color.to_image(color.from_bytes(raw, _FORM, width, height), _FORM)

    def version(self) -> str:
        """Name the conversion to planes, and the ffmpeg that carries libwebp."""
        return f"planes 2, {ffmpeg.version('libwebp')}"

    def header_bytes(self, data: bytes) -> int:
        """Return the bytes of all but the VP8 chunk's content."""
        return len(data) - sum(size for name, size in _chunks(data) if name == b"VP8 ")


def _check_size(data: bytes) -> None:
    """Refuse a file whose frame claims more than its bytes can hold (RFC 6386, 9.1)."""
    _chunks(data)
    start = data.find(_KEY_FRAME, _CHUNK_AT)
    if start < 0:
        raise CodecError("the bitstream holds no frame", where="WebP")
    width, height = (int.from_bytes(data[start + at : start + at + 2], "little") & 0x3FFF for at in (3, 5))
    limit.check_claim(width, height, len(data), where="WebP", pixels_a_byte=_PIXELS_A_BYTE)


def _chunks(data: bytes) -> list[tuple[bytes, int]]:
    """Return name and size of each chunk, and so refuse a file that is cut."""
    refusal = CodecError("the bitstream is empty, truncated or of another format", where="WebP")
    if data[:4] != b"RIFF" or data[8:_CHUNK_AT] != b"WEBP":
        raise refusal
    if int.from_bytes(data[4:8], "little") != len(data) - _RIFF_HEADER_BYTES:
        raise refusal
    found: list[tuple[bytes, int]] = []
    position = _CHUNK_AT
    while position < len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        found.append((data[position : position + 4], size))
        position += 8 + size + size % 2
    if position != len(data):
        raise refusal
    return found
