"""The pixels that are measured, against those of a decoder, or an encoder's reconstruction, of other hands."""

from __future__ import annotations

import io
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from icm_baselines import avif, envelope, ffmpeg, hevc, jpeg, jpeg2000, vvc, webp
from icm_bench import color
from icm_bench.codec import Codec
from icm_bench.error import CodecError
from icm_bench.image import Image
from icm_bench.testing import photograph

IMAGE = photograph(161, 97, seed=3)
STRICT = ("-err_detect", "explode+crccheck")


def differences(one: Image, other: Image) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.abs(one.astype(np.int64) - other.astype(np.int64))
    return found


@pytest.mark.parametrize("qp", [47, 32, 22])
@pytest.mark.parametrize(
    ("module", "encoder", "flag", "settings", "hashed"),
    [
        (
            hevc,
            ("-c:v", "libx265", "-preset", "slow"),
            "-x265-params",
            ":".join(f"{key}={value}" for key, value in hevc._SETTINGS.items()),
            "qp={qp}:{settings}:hash=1",
        ),
        (
            vvc,
            ("-c:v", "libvvenc", "-preset", "fast", "-qp", "{qp}", "-qpa", "0"),
            "-vvenc-params",
            vvc._SETTINGS,
            "{settings}:SEIDecodedPictureHash=md5",
        ),
    ],
    ids=["hevc", "vvc"],
)
def test_the_decoder_shows_what_the_encoder_says_that_it_coded(
    module: ModuleType, encoder: tuple[str, ...], flag: str, settings: str, hashed: str, qp: int
) -> None:
    codec: Codec = hevc.Hevc(qp) if module is hevc else vvc.Vvc(qp)
    container = "hevc" if module is hevc else "vvc"
    form = color.PlaneFormat("420", 10, "bt709", "limited")
    raw = color.to_bytes(color.to_planes(color.padded(IMAGE, 162, 98), form), form)
    arguments = [*encoder, flag, hashed, "-threads", "1"]
    filled = [argument.format(qp=qp, settings=settings) for argument in arguments]
    with_hash = ffmpeg.encode(raw, "yuv420p10le", 162, 98, filled, container)
    data = codec.encode(IMAGE)
    assert with_hash.startswith(envelope.unpack(data).stream), "the same stream, and a message behind it"
    shown, _, _ = ffmpeg.decode(with_hash, form, container, decoder=STRICT)
    picture = color.to_image(color.from_bytes(shown, form, 162, 98), form)
    assert np.array_equal(picture[:97, :161], codec.decode(data))
    other_hash = bytearray(with_hash)
    other_hash[-3] ^= 1
    with pytest.raises(CodecError):
        ffmpeg.decode(bytes(other_hash), form, container, decoder=STRICT)


@pytest.mark.parametrize("encoder", ["aom", "svt"])
@pytest.mark.parametrize("quality", [63, 46, 20])
def test_libaom_decodes_avif_to_the_same_pixels(encoder: avif.Encoder, quality: int) -> None:
    codec = avif.Avif(quality, encoder=encoder, speed=8)
    data = codec.encode(IMAGE)
    packed, form = envelope.unpack(data), avif._STILL.form
    raw, width, height = ffmpeg.decode(packed.stream, form, "obu", decoder=("-c:v", "libaom-av1"))
    picture = color.to_image(color.from_bytes(raw, form, width, height), form)
    assert np.array_equal(packed.crop(picture), codec.decode(data))


@pytest.mark.parametrize("rate", [0.06, 0.25, 1.0, 4.0])
def test_ffmpegs_own_decoder_reads_jpeg_2000_alike(rate: float) -> None:
    codec = jpeg2000.Jpeg2000(rate)
    data = codec.encode(IMAGE)
    found = differences(ffmpeg.decode_rgb(data, "j2k_pipe", decoder=("-c:v", "jpeg2000")), codec.decode(data))
    assert found.max() <= 1
    assert found.mean() < 0.01


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_ffmpegs_own_decoder_reads_jpeg_alike(quality: int) -> None:
    codec = jpeg.Jpeg(quality, subsampling="444")
    data = codec.encode(IMAGE)
    form = color.PlaneFormat("444", 8, "bt601", "full")
    raw, width, height = ffmpeg.decode(data, form, "mjpeg", decoder=("-flags", "+bitexact", "-idct", "int"))
    picture = color.to_image(color.from_bytes(raw, form, width, height), form)
    found = differences(picture, codec.decode(data))
    assert found.max() <= 3
    assert found.mean() < 0.1


@pytest.mark.parametrize("quality", [5, 40, 90])
def test_libwebp_reads_webp_alike(quality: int) -> None:
    gray = np.repeat(IMAGE[..., 1:2], 3, axis=2)  # the two enlarge chroma in different ways
    codec = webp.Webp(quality)
    data = codec.encode(gray)
    with Pillow.open(io.BytesIO(data)) as file:
        other = np.asarray(file.convert("RGB"))
    assert differences(codec.decode(data), other).max() <= 1
