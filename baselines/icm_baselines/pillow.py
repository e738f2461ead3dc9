"""Pillow as a codec: images to bytes in one named format, and back without trust."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Mapping

import numpy as np
import PIL
from PIL import Image as PillowImage
from PIL import features

from icm_bench import limit
from icm_bench.error import CodecError
from icm_bench.image import Image, check_image

# What Pillow's format plug-ins raise on bytes that they do not like.
_REFUSALS = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    KeyError,
    EOFError,
    struct.error,
    OverflowError,
    MemoryError,
    PillowImage.DecompressionBombError,
    PillowImage.DecompressionBombWarning,
)


# PNG: deflate makes at most 1,032 bytes of one. JPEG: a block of 8x8 takes a bit for its mean, and a colour a third of
# the blocks of luma, or half.
_PIXELS_A_BYTE = {"PNG": 1032 // 3, "JPEG": 8 * 64}

# OpenJPEG keeps every sample in four bytes: 20 bytes a pixel with what Pillow makes of them. No byte of an empty code
# block is needed, so a short stream may claim all that is allowed.
_MOST_PIXELS = {"JPEG2000": 50_000_000}


def encode(image: Image, form: str, options: Mapping[str, object]) -> bytes:
    """Return an image as a file of Pillow's format ``form``, saved with the given options.

    Raises:
        CodecError: It is no image, or Pillow or the library below it refuses it.
    """
    check_image(image, where=form)
    file = io.BytesIO()
    try:
        PillowImage.fromarray(image).save(file, form, **options)
    except _REFUSALS as error:
        raise CodecError(f"cannot be coded ({error})", where=form) from error
    return file.getvalue()


def decode(data: bytes, form: str) -> Image:
    """Return the RGB image of a file that must be of Pillow's format ``form``.

    Raises:
        CodecError: The bytes are truncated, damaged, empty or foreign, or describe no RGB image or a giant
            one.
    """
    if not data:
        raise CodecError("the bitstream is empty", where=form)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PillowImage.DecompressionBombWarning)
            limit.chosen()
            with PillowImage.open(io.BytesIO(data), formats=[form]) as picture:
                limit.check_claim(
                    *picture.size,
                    len(data),
                    where=form,
                    pixels_a_byte=_PIXELS_A_BYTE.get(form),
                    usual=_MOST_PIXELS.get(form, limit.MAX_PIXELS),
                )
                picture.load()
                mode, pixels = picture.mode, np.array(picture)
    except PIL.UnidentifiedImageError as error:
        raise CodecError("the bitstream is damaged or of another format", where=form) from error
    except _REFUSALS as error:
        raise CodecError(f"the bitstream is truncated or damaged ({error})", where=form) from error
    if mode != "RGB":
        raise CodecError(f"the bitstream holds a picture of mode {mode}, not RGB", where=form)
    return pixels


def version(library: str) -> str:
    """Return the versions of Pillow and of one library in it, by the name that ``PIL.features`` gives it."""
    return f"{library} {features.version(library)}, Pillow {PIL.__version__}"
