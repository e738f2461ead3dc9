from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL import ImageFile

from icm_bench.error import DatasetError, UsageError
from icm_bench.image import Image, decode_image, image_size, mse, pixel_digest, printable, psnr, read_image
from tests.helpers.png import png_of


def picture(height: int = 8, width: int = 12, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels: Any, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    source = pixels if isinstance(pixels, PillowImage.Image) else PillowImage.fromarray(pixels)
    source.save(buffer, form, **options)
    return buffer.getvalue()


def smooth(height: int, width: int) -> Image:
    """A gradient, which JPEG keeps to within a few levels."""
    y, x = np.mgrid[:height, :width]
    planes = [255 * x / width, 255 * y / height, np.full((height, width), 90)]
    gradient: Image = np.stack(planes, axis=2).astype(np.uint8)
    return gradient


def test_rgb_png_is_read_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture()))
    read = read_image(path)
    assert np.array_equal(read, picture())
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous


@pytest.mark.parametrize(
    ("form", "shape"),
    [
        *((form, (8, 12)) for form in ("BMP", "PPM", "TIFF", "WEBP")),
        ("JPEG2000", (64, 64)),
        *(("PNG", shape) for shape in ((1, 1), (1, 17), (3, 5), (2000, 1))),
    ],
)
def test_lossless_formats_and_extreme_shapes_are_read_bit_for_bit(form: str, shape: tuple[int, int]) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    assert np.array_equal(decode_image(encoded(picture(*shape), form, **options), where="a"), picture(*shape))


def exif(orientation: int) -> bytes:
    block = PillowImage.Exif()
    block[0x0112] = orientation
    return block.tobytes()


UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, form: str) -> None:
    data = encoded(picture(), form, exif=exif(orientation))
    wanted = UPRIGHT[orientation](picture())
    assert np.array_equal(decode_image(data, where="a"), wanted)
    assert image_size(data, where="a") == (wanted.shape[1], wanted.shape[0])


def test_exif_orientation_of_a_jpeg_is_applied() -> None:
    data = encoded(smooth(16, 32), "JPEG", exif=exif(6), quality=95)
    upright = decode_image(data, where="a")
    assert upright.shape == (32, 16, 3)
    assert image_size(data, where="a") == (16, 32)
    assert np.abs(upright.astype(int) - np.rot90(smooth(16, 32), -1).astype(int)).max() < 16


def test_damaged_exif_does_not_hide_whole_pixels() -> None:
    data = encoded(picture(), exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert np.array_equal(decode_image(data, where="a"), picture())


def test_grey_becomes_three_equal_channels() -> None:
    grey = picture()[:, :, 0]
    read = decode_image(encoded(grey), where="a")
    assert np.array_equal(read, np.repeat(grey[:, :, None], 3, axis=2))


def test_one_bit_becomes_black_and_white() -> None:
    bits = PillowImage.fromarray(picture()[:, :, 0] > 127)
    assert set(np.unique(decode_image(encoded(bits), where="a"))) == {0, 255}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_keeps_its_most_significant_bits(form: str) -> None:
    deep = np.array([[0, 255, 256, 257 * 7, 65279, 65535]], dtype=np.uint16)
    read = decode_image(encoded(deep, form), where="a")
    assert read[0, :, 0].tolist() == [0, 0, 1, 7, 254, 255]
    assert read.shape == (1, 6, 3)


def test_sixteen_bit_colour_keeps_its_most_significant_bits() -> None:
    data = png_of(2, 1, b"\0" + struct.pack(">6H", 0, 255, 256, 257 * 7, 65279, 65535), depth=16)
    assert decode_image(data, where="a").tolist() == [[[0, 0, 1], [7, 254, 255]]]


def test_palette_becomes_its_colours_with_or_without_transparency() -> None:
    indexed = PillowImage.fromarray(picture()).quantize(16)
    wanted = np.asarray(indexed.convert("RGB"))
    assert np.array_equal(decode_image(encoded(indexed), where="a"), wanted)
    assert np.array_equal(decode_image(encoded(indexed, transparency=3), where="a"), wanted)
    assert np.array_equal(decode_image(encoded(indexed, transparency=bytes(range(16))), where="a"), wanted)


def test_alpha_is_dropped_and_the_stored_colours_stay() -> None:
    alpha = np.concatenate([picture(), np.zeros((8, 12, 1), np.uint8)], axis=2)
    assert np.array_equal(decode_image(encoded(alpha), where="a"), picture())
    grey_alpha = PillowImage.fromarray(picture()[:, :, :2], "LA")
    assert np.array_equal(decode_image(encoded(grey_alpha), where="a")[:, :, 1], picture()[:, :, 0])


def test_cmyk_jpeg_becomes_rgb() -> None:
    cmyk = PillowImage.fromarray(smooth(16, 16)).convert("CMYK")
    read = decode_image(encoded(cmyk, "JPEG", quality=100, subsampling=0), where="a")
    assert np.abs(read.astype(int) - smooth(16, 16).astype(int)).max() < 12


def test_animation_gives_its_first_frame() -> None:
    frames = [PillowImage.new("RGB", (5, 4), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "PNG", "TIFF"):
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        assert decode_image(data, where="a")[0, 0].tolist() == [255, 0, 0], form


def test_float_samples_are_refused_because_their_range_is_unknown() -> None:
    with pytest.raises(DatasetError, match="no defined range"):
        decode_image(encoded(np.ones((4, 4), np.float32), "TIFF"), where="a.tif")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "JPEG2000"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_truncated_file_is_an_error_that_names_it(form: str, share: float, tmp_path: Path) -> None:
    data = encoded(picture(64, 64), form)
    path = tmp_path / "cut"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DatasetError, match="cut: .*(truncated|not an image).*fetch or copy it again"):
        read_image(path)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_whose_tail_was_never_written_is_an_error(progressive: bool) -> None:
    data = encoded(picture(64, 64), "JPEG", progressive=progressive, comment=b"\xff\xd9")
    for tail in (b"", bytes(len(data) // 2)):
        for read in (decode_image, image_size):
            with pytest.raises(DatasetError, match="truncated or damaged .the JPEG has no end"):
                read(data[: len(data) // 2] + tail, where="a.jpg")
    assert decode_image(data + b"\0trailing", where="a.jpg").shape == (64, 64, 3)


def filled(data: bytes) -> bytes:
    """Put fill bytes before every marker of a JPEG's headers and before its end, as T.81 B.1.1.2 allows."""
    parts, at = [data[:2]], 2
    while True:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        parts.append(b"\xff\xff" + data[at : at + 2 + length])
        is_scan = data[at + 1] == 0xDA
        at += 2 + length
        if is_scan:
            return b"".join(parts) + data[at:-2] + b"\xff\xff" + data[-2:]


def test_a_jpeg_with_fill_bytes_before_its_markers_is_read_and_still_needs_an_end() -> None:
    data = encoded(smooth(40, 40), "JPEG")
    assert np.array_equal(decode_image(filled(data), where="a"), decode_image(data, where="a"))
    with pytest.raises(DatasetError, match="the JPEG has no end"):
        decode_image(filled(data)[:-2] + bytes(200), where="a")


def test_the_end_of_a_thumbnail_is_not_taken_for_the_end_of_its_jpeg() -> None:
    block = PillowImage.Exif()
    block[0x9286] = b"ASCII\0\0\0" + encoded(smooth(8, 8), "JPEG")
    data = encoded(smooth(40, 40), "JPEG", exif=block.tobytes())
    assert data.count(b"\xff\xd9") == 2
    assert decode_image(data, where="a").shape == (40, 40, 3)
    with pytest.raises(DatasetError, match="the JPEG has no end"):
        decode_image(data[:-2] + bytes(200), where="a")


def test_twelve_bit_grey_of_a_tiff_keeps_its_most_significant_bits() -> None:
    samples = [0, 15, 16, 0x7FF, 0xFEF, 0xFFF]
    packed = b"".join(
        (a << 12 | b).to_bytes(3, "big") for a, b in zip(samples[::2], samples[1::2], strict=True)
    )
    fields = {256: 6, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(packed)}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in fields.items())
    padded = packed + bytes(len(packed) % 2)
    data = b"II*\0" + struct.pack("<I", 8 + len(padded)) + padded
    data += struct.pack("<H", len(fields)) + entries + bytes(4)
    assert decode_image(data, where="a")[0, :, 0].tolist() == [sample >> 4 for sample in samples]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_folder_among_the_images_is_an_error_at_once(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "a.png")
    with pytest.raises(
        DatasetError, match="a.png: the image file cannot be read .it is a folder, a pipe or a device"
    ):
        read_image(tmp_path / "a.png")


def test_absent_empty_and_foreign_files_are_errors_that_name_them(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"absent\.jpg: the image file does not exist"):
        read_image(tmp_path / "absent.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(DatasetError, match=r"empty\.jpg: the image file is empty"):
        read_image(tmp_path / "empty.jpg")
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    with pytest.raises(DatasetError, match=r"page\.jpg: the file is not an image of a known format"):
        read_image(tmp_path / "page.jpg")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_image(tmp_path / "nul\0byte.jpg")


def test_formats_that_would_start_programs_are_not_opened() -> None:
    with pytest.raises(DatasetError, match="not an image of a known format"):
        decode_image(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n", where="a.eps"
        )


@pytest.mark.parametrize("side", [9_000, 13_000, 60_000])
def test_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    for read in (decode_image, image_size):
        with pytest.raises(DatasetError, match="more than 80 million pixels"):
            read(png_of(side, side), where="bomb.png")


def test_lenient_pillow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(DatasetError, match="fill truncated images"):
        decode_image(encoded(picture()), where="a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture()))
    path.chmod(0)
    with pytest.raises(DatasetError, match="Permission denied"):
        read_image(path)


def test_file_names_that_are_not_utf8_are_read_and_shown(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(encoded(picture()))
    assert np.array_equal(read_image(path), picture())
    path.write_bytes(b"broken")
    with pytest.raises(DatasetError) as caught:
        read_image(path)
    assert r"caf\udce9.png" in str(caught.value)
    str(caught.value).encode("utf-8")


JPEG, PNG = encoded(smooth(40, 40), "JPEG"), encoded(smooth(40, 40))
GIF, TIFF = encoded(smooth(40, 40), "GIF"), encoded(smooth(40, 40), "TIFF", compression="tiff_lzw")


@given(st.sampled_from([JPEG, PNG, GIF, TIFF]), st.data())
def test_damaged_bytes_give_an_image_or_a_dataset_error(original: bytes, draw: st.DataObject) -> None:
    data = bytearray(original)
    for _ in range(draw.draw(st.integers(1, 8))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    for read in (decode_image, image_size):
        try:
            read(bytes(data), where="the file")
        except DatasetError as error:
            assert str(error).startswith("the file: ")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_dataset_error(data: bytes) -> None:
    with pytest.raises(DatasetError):
        decode_image(data, where="noise")


def test_digest_is_sha256_of_pixels_and_shape_alone() -> None:
    # printf '1x1x3\n\0\0\0' | sha256sum
    wanted = "e814703d04ab45218c850c81c35b9c1f65375884a6e7e7a1534114fb16309f97"
    assert pixel_digest(np.zeros((1, 1, 3), np.uint8)) == wanted
    a = picture(4, 6)
    assert pixel_digest(a) == pixel_digest(np.asfortranarray(a))
    assert pixel_digest(a) != pixel_digest(a.reshape(6, 4, 3))
    b = a.copy()
    b[3, 5, 2] ^= 1
    assert pixel_digest(a) != pixel_digest(b)


def test_mse_and_psnr_of_known_images() -> None:
    black, white = np.zeros((2, 3, 3), np.uint8), np.full((2, 3, 3), 255, np.uint8)
    assert mse(black, white) == 65025
    assert psnr(black, white) == 0
    one_off = black.copy()
    one_off[0, 0, 0] = 1
    assert mse(black, one_off) == 1 / 18
    assert psnr(one_off, black) == pytest.approx(10 * math.log10(65025 * 18), abs=1e-12)
    assert psnr(picture(), picture()) is None


def test_images_of_different_shape_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        mse(picture(4, 6), picture(6, 4))


def test_mse_is_exact_where_floats_would_round() -> None:
    a, b = picture(700, 900, seed=1), picture(700, 900, seed=2)
    exact = sum((int(x) - int(y)) ** 2 for x, y in zip(a[:50].ravel(), b[:50].ravel(), strict=True))
    assert mse(a[:50], b[:50]) == exact / a[:50].size
    assert mse(a, b) == mse(b, a)


def test_printable_leaves_ordinary_text_alone() -> None:
    assert printable(Path("naïve/日本.png")) == "naïve/日本.png"


def test_kodak_image_is_read(shared_data: Callable[[str], Path]) -> None:
    assert read_image(shared_data("kodak") / "kodim01.png").shape == (512, 768, 3)
