"""COCO's object annotation format, read with suspicion."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from icm_bench.error import DatasetError, system_errors
from icm_bench.image import printable
from icm_bench.limit import max_pixels

_LARGEST_ID = 2**63 - 1
_GZIP = b"\x1f\x8b"
_LARGEST_UNPACKED = 4 * 2**30
_HINT = "correct the annotation file, or fetch it again"

GroundTruthRows = dict[str, list[dict[str, Any]]]


def read_ground_truth(path: Path) -> GroundTruthRows:
    """Return a COCO annotation file's ``images``, ``annotations`` and ``categories``, checked field by field.

    Of each row the fields that reading and scoring use are kept: ``id``, ``file_name``, ``width``, ``height``
    of an image; ``id``, ``image_id``, ``category_id``, ``bbox``, ``area``, ``iscrowd`` (0 where absent) and,
    where present and not empty, ``segmentation`` of an annotation; ``id`` and ``name`` of a category.

    Raises:
        DatasetError: The file is missing, is not JSON (gzipped or not, in UTF-8 or UTF-16), lacks a key or
            holds a value of the wrong type or range; an id occurs twice; an annotation names an absent image or
            category; a box or mask is malformed.
    """
    where = printable(path)
    content = _read_json(path)
    images = _table(content, "images", where)
    annotations = _table(content, "annotations", where)
    categories = _table(content, "categories", where)
    image_rows = _rows("image", images, _image, where)
    category_rows = _rows("category", categories, _category, where)
    sizes = {row["id"]: (row["width"], row["height"]) for row in image_rows}
    category_ids = {row["id"] for row in category_rows}
    return {
        "images": image_rows,
        "annotations": _rows(
            "annotation", annotations, lambda row: _annotation(row, sizes, category_ids), where
        ),
        "categories": category_rows,
    }


def _read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file: UTF-8 or UTF-16, with a byte order mark or without, gzipped or not."""
    where = printable(path)
    if not path.exists():
        raise DatasetError(
            "the annotation file does not exist",
            where=where,
            hint="check the folder, or fetch the annotations",
        )
    if not path.is_file():
        raise DatasetError(
            "the annotation file cannot be read (it is a folder, a pipe or a device)",
            where=where,
            hint="name a JSON file",
        )
    try:
        with system_errors(DatasetError, "the annotation file cannot be read", where=where):
            data = _unpacked(path)
        content = json.loads(data.decode(json.detect_encoding(data)))
    except (ValueError, RecursionError, MemoryError, EOFError, zlib.error) as error:
        detail = printable(" ".join(str(error).split()))
        raise DatasetError(f"the annotation file is not JSON ({detail})", where=where, hint=_HINT) from error
    if not isinstance(content, dict):
        raise DatasetError("the annotation file is not a JSON object", where=where, hint=_HINT)
    return content


def _unpacked(path: Path) -> bytes:
    with path.open("rb") as plain:
        is_packed = plain.read(len(_GZIP)) == _GZIP
        plain.seek(0)
        if not is_packed:
            return plain.read()
        with gzip.GzipFile(fileobj=plain) as packed:
            data = packed.read(_LARGEST_UNPACKED + 1)
    if len(data) > _LARGEST_UNPACKED:
        raise ValueError(f"it unpacks to more than {_LARGEST_UNPACKED / 2**30:.0f} GiB")
    return data


class _MalformedError(Exception):
    """A row breaks the format; its message says how."""


def _table(content: dict[str, Any], key: str, where: str) -> list[Any]:
    if key not in content:
        raise DatasetError(
            f"the annotation file has no '{key}'", where=where, hint="use COCO's object format"
        )
    table = content[key]
    if not isinstance(table, list):
        raise DatasetError(f"'{key}' is not a list", where=where, hint="use COCO's object format")
    return table


def _rows(
    kind: str, table: list[Any], parse: Callable[[dict[str, Any]], dict[str, Any]], where: str
) -> list[dict[str, Any]]:
    seen: set[int] = set()
    rows = []
    for position, raw in enumerate(table):
        try:
            if not isinstance(raw, dict):
                _malformed("it is not a JSON object")
            row = parse(raw)
            if row["id"] in seen:
                _malformed("its id occurs twice")
        except _MalformedError as error:
            label = _label(kind, position, raw)
            raise DatasetError(f"{label}: {error}", where=where, hint=_HINT) from None
        seen.add(row["id"])
        rows.append(row)
    return sorted(rows, key=lambda row: row["id"])


def _label(kind: str, position: int, raw: object) -> str:
    row_id = raw.get("id") if isinstance(raw, dict) else None
    return f"{kind} {row_id}" if _is_id(row_id) else f"{kind} number {position + 1}"


def _image(raw: dict[str, Any]) -> dict[str, Any]:
    width, height = _side(raw, "width"), _side(raw, "height")
    if width * height > max_pixels():
        _malformed(f"it has more than {max_pixels() / 1e6:g} million pixels")
    file_name = _file_name(_get(raw, "file_name"))
    return {"id": _id(raw, "id"), "file_name": file_name, "width": width, "height": height}


def _file_name(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        _malformed("its file_name is not a file name")
    if PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts:
        _malformed(f"its file_name {_shown(value)} leaves the folder of images")
    return value


def _category(raw: dict[str, Any]) -> dict[str, Any]:
    name = _get(raw, "name")
    if not isinstance(name, str) or not name:
        _malformed("its name is not a text")
    return {"id": _id(raw, "id"), "name": name}


def _annotation(
    raw: dict[str, Any], sizes: dict[int, tuple[int, int]], category_ids: Collection[int]
) -> dict[str, Any]:
    image_id, category_id = _id(raw, "image_id"), _id(raw, "category_id")
    if image_id not in sizes:
        _malformed(f"it names image {image_id}, which is not in 'images'")
    if category_id not in category_ids:
        _malformed(f"it names category {category_id}, which is not in 'categories'")
    crowd = raw.get("iscrowd", 0)
    if isinstance(crowd, float | str | list | dict) or crowd not in (0, 1):
        _malformed(f"its iscrowd is {_shown(crowd)}, not 0 or 1")
    area = _number(_get(raw, "area"), "area")
    if area < 0:
        _malformed(f"its area {area} is negative")
    row = {
        "id": _id(raw, "id"),
        "image_id": image_id,
        "category_id": category_id,
        "bbox": _box(_get(raw, "bbox"), sizes[image_id]),
        "area": area,
        "iscrowd": int(crowd),
    }
    mask = raw.get("segmentation")
    if mask is not None and mask != []:
        row["segmentation"] = _mask(mask, sizes[image_id])
    return row


def _box(value: object, size: tuple[int, int]) -> list[int | float]:
    if not isinstance(value, list) or len(value) != 4:
        _malformed(f"its bbox {_shown(value)} is not [x, y, width, height]")
    box = [_number(number, "bbox") for number in value]
    if box[2] < 0 or box[3] < 0:
        _malformed(f"its bbox {_shown(value)} has a negative size")
    _check_near([box[0], box[0] + box[2]], size[0], "bbox")
    _check_near([box[1], box[1] + box[3]], size[1], "bbox")
    return box


def _mask(value: object, size: tuple[int, int]) -> list[list[int | float]] | dict[str, Any]:
    if isinstance(value, list):
        return [_polygon(polygon, size) for polygon in value]
    if not isinstance(value, dict):
        _malformed("its segmentation is neither polygons nor run lengths")
    return _run_lengths(value, size)


def _polygon(value: object, size: tuple[int, int]) -> list[int | float]:
    if not isinstance(value, list) or len(value) < 6 or len(value) % 2:
        _malformed("its segmentation has a polygon that is not three or more pairs of coordinates")
    polygon = [_number(number, "segmentation") for number in value]
    _check_near(polygon[0::2], size[0], "segmentation")
    _check_near(polygon[1::2], size[1], "segmentation")
    return polygon


def _run_lengths(value: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    if _get(value, "size") != [size[1], size[0]]:
        _malformed(f"its segmentation has the size {_shown(value['size'])}, its image [{size[1]}, {size[0]}]")
    counts = _get(value, "counts")
    if isinstance(counts, str):
        lengths: Sequence[object] = _uncompress(counts)
    elif isinstance(counts, list):
        lengths = counts
    else:
        _malformed("its segmentation's counts are neither numbers nor a text")
    if not all(isinstance(run, int) and not isinstance(run, bool) and run >= 0 for run in lengths):
        _malformed("its segmentation's counts are not run lengths")
    if sum(run for run in lengths if isinstance(run, int)) != size[0] * size[1]:
        _malformed("its segmentation's run lengths do not add up to the image's pixels")
    return {"size": [size[1], size[0]], "counts": counts}


def covers(counts: str, n_pixels: int) -> bool:
    """Return whether a text is compressed run lengths of so many pixels."""
    try:
        runs = _uncompress(counts)
    except _MalformedError:
        return False
    return all(run >= 0 for run in runs) and sum(runs) == n_pixels > 0


def _uncompress(counts: str) -> list[int]:
    """Return the run lengths that COCO's text form holds.

    Each is a little-endian sequence of 5-bit groups in characters from '0' on, bit 5 set where another
    follows and the last group's bit 4 the sign; from the fourth run on it is the difference to the run two
    before.
    """
    runs: list[int] = []
    run = shift = 0
    for character in counts:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 60:
            _malformed("its segmentation's counts are not compressed run lengths")
        run |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            run -= 1 << shift
        runs.append(run + runs[-2] if len(runs) > 2 else run)
        run = shift = 0
    if shift:
        _malformed("its segmentation's counts end within a run length")
    return runs


def _check_near(coordinates: Sequence[int | float], extent: int, field: str) -> None:
    # Real annotations stray over the border by a pixel or so; far beyond it, rasterisers run out of memory.
    if min(coordinates) < -extent or max(coordinates) > 2 * extent:
        _malformed(f"its {field} lies outside its image")


def _get(raw: dict[str, Any], key: str) -> Any:
    if key not in raw:
        _malformed(f"it has no '{key}'")
    return raw[key]


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_ID


def _id(raw: dict[str, Any], key: str) -> int:
    value = _get(raw, key)
    if not _is_id(value):
        _malformed(f"its {key} {_shown(value)} is not a whole number of 0 or more")
    return int(value)


def _side(raw: dict[str, Any], key: str) -> int:
    value = _get(raw, key)
    if not _is_id(value) or value < 1:
        _malformed(f"its {key} {_shown(value)} is not a whole number of 1 or more")
    return int(value)


def _number(value: object, field: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        _malformed(f"its {field} holds {_shown(value)}, which is not a finite number")
    return value


def _is_finite(value: int | float) -> bool:
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= _LARGEST_ID


def _shown(value: object) -> str:
    text = (
        printable(repr(value)) if not isinstance(value, int) or abs(value) <= _LARGEST_ID else "a huge number"
    )
    return text if len(text) <= 60 else text[:57] + "..."


def _malformed(why: str) -> NoReturn:
    raise _MalformedError(why)
