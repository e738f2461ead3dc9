"""Images as every codec and detector sees them, and the one place where files become pixels."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageFile, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from icm_bench.error import CodecError, DatasetError, UsageError
from icm_bench.limit import max_pixels
from icm_bench.text import first_line as first_line
from icm_bench.text import printable as printable

Image: TypeAlias = NDArray[np.uint8]
"""Height x width x 3, RGB, 0 to 255, contiguous."""

# Formats with a decoder of Pillow's own: others (EPS, WMF) would start programs or need a screen.
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_EXIF_ORIENTATION = 0x0112
_END_OF_IMAGE = b"\xff\xd9"
_QUARTER_TURNS = (5, 6, 7, 8)
_BITS_PER_SAMPLE = 0x0102


def check_image(image: Image, *, where: str) -> None:
    """Refuse what is no image, height x width x 3 uint8 and neither side 0, as a codec's caller may give it.

    Raises:
        CodecError: It is something else.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise CodecError(
            f"an array of {image.dtype} {image.shape} is no image", where=where, hint="give H x W x 3 uint8"
        )


def read_image(path: Path) -> Image:
    """Return the image of a file as height x width x 3 RGB bytes.

    EXIF orientation is applied. Grey, palette, CMYK and YCCK images become RGB without colour management;
    samples of 12 and 16 bits keep their most significant 8 bits; alpha is dropped, which leaves the colours that are
    stored, as the detectors' own loaders do; of an animation or a multi-page file the first frame is taken.

    Raises:
        DatasetError: The file is absent, unreadable, empty, truncated, damaged, not an image, larger than
            :func:`icm_bench.limit.max_pixels` or of a sample type that has no defined range (floats, 32-bit integers).
    """
    return decode_image(read_bytes(path), where=path)


def read_bytes(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        DatasetError: The file is absent, unreadable or empty.
    """
    try:
        # A pipe among the images would be waited for without end, and a device read without end.
        if path.exists() and not path.is_file():
            raise DatasetError(
                "the image file cannot be read (it is a folder, a pipe or a device)",
                where=path,
                hint="remove it from the images",
            )
        data = path.read_bytes()
    except FileNotFoundError:
        hint = "restore it or correct the dataset's folder"
        raise DatasetError("the image file does not exist", where=path, hint=hint) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DatasetError(
            f"the image file cannot be read ({printable(reason)})",
            where=path,
            hint="check its name and its permissions",
        ) from error
    if not data:
        raise DatasetError("the image file is empty", where=path, hint="fetch or copy it again")
    return data


def decode_image(data: bytes, *, where: object) -> Image:
    """Return the image of an image file's bytes as ``read_image`` does; ``where`` is what an error names.

    Raises:
        DatasetError: As ``read_image``.
    """
    _refuse_lenient_decoding()
    with _opened(data, where) as opened:
        opened.load()
        depth = _depth(opened) if _is_deep_grey(opened) else None
        upright = _upright(opened)
        return _rgb(upright, where) if depth is None else _grey(upright, depth)


def read_labels(path: Path) -> NDArray[np.int32]:
    """Return the samples of an image file with one channel, height x width: what label and mask files hold.

    A palette's indices are the samples; those of a bilevel image are 0 and 1.

    Raises:
        DatasetError: As ``read_image``; or the image has several channels.
    """
    data = read_bytes(path)
    _refuse_lenient_decoding()
    with _opened(data, path) as opened:
        opened.load()
        mode, samples = opened.mode, np.asarray(opened)
    if samples.ndim != 2 or samples.dtype.kind == "f":
        raise DatasetError(
            f"holds {mode} samples, not one whole number a pixel",
            where=path,
            hint="fetch or copy it again",
        )
    return samples.astype(np.int32)


def image_size(data: bytes, *, where: object) -> tuple[int, int]:
    """Return width and height in pixels of an image file's bytes, EXIF orientation applied, undecoded.

    Raises:
        DatasetError: The bytes are not an image, or one larger than :func:`icm_bench.limit.max_pixels`.
    """
    (width, height), is_turned = _size(data, where)
    return (height, width) if is_turned else (width, height)


def is_turned(data: bytes, *, where: object) -> bool:
    """Tell whether EXIF orientation swaps width and height of an image file's bytes.

    Raises:
        DatasetError: As ``image_size``.
    """
    return _size(data, where)[1]


def pixel_digest(image: Image) -> str:
    """Return the SHA-256 of an image's shape and bytes as 64 hexadecimal digits."""
    digest = hashlib.sha256("x".join(map(str, image.shape)).encode() + b"\n")
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def mse(a: Image, b: Image) -> float:
    """Return the mean squared error of two images over pixels and channels, in squared levels, 0 to 65025.

    The sum is taken in integers, hence exact.

    Raises:
        UsageError: The images differ in shape.
    """
    if a.shape != b.shape:
        raise UsageError(f"images of shape {a.shape} and {b.shape} cannot be compared")
    # Whole numbers below 2^53 are exact in float64, in whatever order they are added.
    difference = np.subtract(a, b, dtype=np.int16).ravel().astype(np.float64)
    return float(difference @ difference) / a.size


def psnr(a: Image, b: Image) -> float | None:
    """Return the peak signal-to-noise ratio of two images in dB, peak 255, over the RGB channels jointly.

    Identical images have an infinite ratio, which no result file can hold: they give None.

    Raises:
        UsageError: The images differ in shape.
    """
    error = mse(a, b)
    return None if error == 0 else 10 * math.log10(255**2 / error)


def _size(data: bytes, where: object) -> tuple[tuple[int, int], bool]:
    with _opened(data, where) as opened:
        # Pillow turns TIFF itself, and says the turned size from the start.
        turned = _orientation(opened) in _QUARTER_TURNS and opened.format != "TIFF"
        return opened.size, turned


@contextlib.contextmanager
def _opened(data: bytes, where: object) -> Iterator[PillowImage.Image]:
    try:
        with _open(data, where) as opened:
            yield opened
    except DatasetError:
        raise
    except Exception as error:
        # Pillow's decoders raise what the damage leads to: struct.error, KeyError, ...
        raise _broken(where, error) from error


def _refuse_lenient_decoding() -> None:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise DatasetError(
            "Pillow has been told to fill truncated images with grey",
            hint="set PIL.ImageFile.LOAD_TRUNCATED_IMAGES to False before images are read",
        )


def _open(data: bytes, where: object) -> PillowImage.Image:
    most = max_pixels()
    try:
        opened = PillowImage.open(io.BytesIO(data), formats=_FORMATS)
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning):
        raise _too_large(where) from None
    if opened.width * opened.height > most:
        raise _too_large(where)
    if opened.width < 1 or opened.height < 1:
        raise DatasetError("the image has no pixels", where=where, hint="remove or replace it")
    if opened.format in {"JPEG", "MPO"} and not _has_end_marker(data):
        raise _broken(where, EOFError("the JPEG has no end"))
    return opened


def _has_end_marker(data: bytes) -> bool:
    """Return whether the scans of a JPEG come to an end.

    libjpeg fills up what is missing, or decodes the zeros of a file that was never written to its end. Pillow reads
    the headers, in which a thumbnail may have an end of its own, up to the first scan; within a scan no byte pair
    looks like a marker.
    """
    file = io.BytesIO(data)
    JpegImageFile(file)
    return data.find(_END_OF_IMAGE, file.tell()) >= 0


def _orientation(opened: PillowImage.Image) -> int:
    try:
        return int(opened.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing of the pixels, which may be whole
        return 1


def _upright(opened: PillowImage.Image) -> PillowImage.Image:
    if _orientation(opened) == 1:
        return opened
    opened.info.clear()  # else Pillow would write the rest of the EXIF block anew, and fail where it is damaged
    return ImageOps.exif_transpose(opened)


def _depth(opened: PillowImage.Image) -> int:
    """Return the bits of a deep grey image's samples. Pillow widens those of all formats but TIFF to 16."""
    found = getattr(opened, "tag_v2", {}).get(_BITS_PER_SAMPLE, 16)
    return int(found[0] if isinstance(found, tuple) else found)


def _is_deep_grey(opened: PillowImage.Image) -> bool:
    # Pillow widens the 16 bits of a PGM, and in older versions of a PNG, to its 32-bit mode.
    return opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in {"PNG", "PPM"})


def _grey(opened: PillowImage.Image, depth: int) -> Image:
    grey = (np.asarray(opened).astype(np.uint16) >> (depth - 8)).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))


def _rgb(opened: PillowImage.Image, where: object) -> Image:
    if opened.mode in {"I", "F"}:
        raise DatasetError(
            f"samples of Pillow's mode {opened.mode} have no defined range",
            where=where,
            hint="convert the image to 8 or 16 bits a sample",
        )
    opened.info.pop("transparency", None)  # else Pillow warns that a palette's alpha gets lost, as is wanted
    return np.array(opened.convert("RGB"), dtype=np.uint8, order="C")


def _too_large(where: object) -> DatasetError:
    return DatasetError(
        f"the image claims more than {max_pixels() / 1e6:g} million pixels",
        where=where,
        hint="remove it, or give --max-pixels if it is genuine",
    )


def _broken(where: object, error: Exception) -> DatasetError:
    if isinstance(error, UnidentifiedImageError):
        what = "the file is not an image of a known format"
    else:
        detail = printable(" ".join(str(error).split())) or type(error).__name__
        what = f"the image is truncated or damaged ({detail})"
    return DatasetError(what, where=where, hint="fetch or copy it again, or remove it from the dataset")
