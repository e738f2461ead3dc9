"""Open Images' instance masks: PNG files that a CSV file names, or run lengths within MPEG's CSV file."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pycocotools.mask
from numpy.typing import NDArray
from PIL import Image as Pillow

from icm_bench.datasets.annotation import covers
from icm_bench.datasets.openimages_file import coordinate, lines_of, malformed, rows_of
from icm_bench.image import read_labels

_MOST_BYTES: Final = 4 * 2**20
_SIDES: Final = ("XMin", "XMax", "YMin", "YMax")


@dataclass(frozen=True)
class Mask:
    """One object's mask.

    Attributes:
        line: The line that names it.
        image: The ImageID.
        label: The object's class.
        edges: Left, top, right and bottom of the object's box, in parts of the image's sides.
        run_lengths: The mask in the image's size, as compressed run lengths.
    """

    line: int
    image: str
    label: str
    edges: tuple[float, float, float, float]
    run_lengths: dict[str, Any]


def read_masks(path: Path, folder: Path, sizes: Mapping[str, tuple[int, int]]) -> Iterator[Mask]:
    """Yield the masks of some images, in the order of the file.

    Non-zero samples of a PNG file belong to the object; a mask of another size than the image is scaled by its nearest
    samples.

    Args:
        path: The CSV file, with columns as Open Images publishes them (``MaskPath``, ``BoxXMin``, ...) or as MPEG's
            subset has them (``XMin``, ..., ``ImageWidth``, ``ImageHeight``, ``Mask``).
        folder: Where the PNG files are, or folders that bear the first character of their names.
        sizes: Width and height in pixels of the images, by ImageID; masks of others are left out.

    Raises:
        DatasetError: A file is missing or broken, or a line is malformed.
    """
    _, header = next(lines_of(path), (0, []))
    is_packed = "Mask" in header
    sides = _SIDES if is_packed else tuple(f"Box{name}" for name in _SIDES)
    source = ("ImageWidth", "ImageHeight", "Mask") if is_packed else ("MaskPath",)
    for line, (image, label, *fields) in rows_of(path, ("ImageID", "LabelName", *sides, *source)):
        if image not in sizes or fields[-1] in ("", "nan"):
            continue
        left, right, top, bottom = (coordinate(path, line, text) for text in fields[:4])
        if is_packed:
            pixels = _unpacked(path, line, *fields[4:])
        else:
            pixels = read_labels(_png(path, line, folder, fields[-1])) != 0
        yield Mask(line, image, label, (left, top, right, bottom), _packed(pixels, sizes[image]))


def _png(path: Path, line: int, folder: Path, name: str) -> Path:
    if "/" in name or "\\" in name or "\0" in name or name.startswith("."):
        malformed(path, line, f"has MaskPath {name!r}, which is not the name of a file")
    places = (folder / name, folder / name[0] / name, folder / name[0].upper() / name)
    return next((place for place in places if place.exists()), places[0])


def _unpacked(path: Path, line: int, width: str, height: str, text: str) -> NDArray[np.bool_]:
    """Return a mask of MPEG's file: base64 of zlib of COCO's compressed run lengths."""
    try:
        size = [int(height), int(width)]
        counts = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), _MOST_BYTES)
        is_whole = covers(counts.decode("ascii"), size[0] * size[1])
    except (ValueError, binascii.Error, zlib.error) as error:
        malformed(path, line, f"has a mask that cannot be unpacked ({error})")
    if not is_whole:
        malformed(path, line, f"has a mask that is not run lengths of {width}x{height} pixels")
    return np.asarray(pycocotools.mask.decode({"size": size, "counts": counts}), np.bool_)


def _packed(pixels: NDArray[np.bool_], size: tuple[int, int]) -> dict[str, Any]:
    if pixels.shape != size[::-1]:
        pixels = np.asarray(Pillow.fromarray(pixels).resize(size, Pillow.Resampling.NEAREST))
    found: dict[str, Any] = pycocotools.mask.encode(np.asfortranarray(pixels, np.uint8))
    return {"size": list(size[::-1]), "counts": found["counts"].decode("ascii")}
