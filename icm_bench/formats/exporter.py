"""Results in the formats of other tools.

Curves go out as a tidy table or as CompressAI's result files; operating points as COCO result files; images one by
one as the batches that Codec-Compare shows. Everything is written whole or not at all, and the same input gives the
same bytes.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from icm_bench.curves.result import Result
from icm_bench.error import ResultError, StoreError
from icm_bench.file import replacing
from icm_bench.pipeline import store

LOSSLESS_PSNR: Final = 99.0
"""Stands for the infinite PSNR of a lossless image, in dB, where a format has only numbers."""


def export_tidy(results: Iterable[Result], path: Path) -> None:
    """Write a table with a row an operating point.

    Columns: dataset, task, detector, codec, quality, bpp; then the metrics, seconds an image, the accuracy on
    uncompressed images and the conventions of the rates, each by name. A figure that is not defined is an empty cell.

    Args:
        results: The curves.
        path: The CSV file.

    Raises:
        ResultError: The file cannot be written.
    """
    rows = [row for result in results for row in _tidy_rows(result)]
    leading = ["dataset", "task", "detector", "codec", "quality", "bpp"]
    others = {key for row in rows for key in row}.difference(leading)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*leading, *sorted(others)], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _inert(value) for key, value in row.items()} for row in rows)
    _write(path, text.getvalue())


def _inert(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )


def _tidy_rows(result: Result) -> Iterator[dict[str, Any]]:
    timed: Mapping[str, Sequence[float | None]] = result.timings.get("results", {})
    original: Mapping[str, Any] = result.meta.get("uncompressed") or {}
    constant: dict[str, Any] = dict(zip(("dataset", "task", "detector"), result.group, strict=True))
    constant["codec"] = result.codec
    constant |= {f"conventions.{key}": value for key, value in result.meta.get("conventions", {}).items()}
    constant |= {
        f"uncompressed_{key}": value for key, value in original.items() if isinstance(value, int | float)
    }
    for index, quality in enumerate(result.qualities):
        figures = {key: values[index] for key, values in (*result.results.items(), *timed.items())}
        yield constant | {"quality": quality} | figures


def export_compressai(result: Result, path: Path) -> None:
    """Write a curve as CompressAI's tools read it: name, description and columns of numbers.

    Points are in order of rising rate. A metric that is not defined at every point is left out: the format has no
    word for it. The conventions of the rates go along as ``meta``.

    Args:
        result: The curve.
        path: The JSON file.

    Raises:
        ResultError: The file cannot be written.
    """
    renamed = {"encode_s": "encoding_time", "decode_s": "decoding_time"}
    columns = {**result.results, **result.timings.get("results", {})}
    rates = [point.bpp for point in result.curve.points]
    order = sorted(range(len(rates)), key=lambda index: rates[index])
    content = {
        "name": result.codec,
        "description": result.description,
        "meta": {
            **dict(zip(("dataset", "task", "detector"), result.group, strict=True)),
            "qualities": [result.qualities[index] for index in order],
            "conventions": result.meta.get("conventions", {}),
        },
        "results": {
            renamed.get(key, key): [values[index] for index in order]
            for key, values in columns.items()
            if None not in values
        },
    }
    _write_json(path, content, indent=2)


def export_coco(folder: Path, path: Path, images: Collection[int] | None = None) -> int:
    """Write what a detector saw at one operating point as a COCO result file.

    Args:
        folder: The operating point's folder in the predicted store:
            ``runs/predicted/<dataset>/<codec>/<quality>/<detector>``.
        path: The JSON file: ``image_id``, ``category_id``, ``bbox``, ``score`` and, of a detector that segments,
            ``segmentation``.
        images: The dataset's image ids, all of which must be there; not checked where None.

    Returns:
        How many detections were written.

    Raises:
        StoreError: The folder has no shards, lacks an image, or mixes runs.
        ResultError: The file cannot be written.
    """
    seen = [row for shard in store.shards(folder) for row in store.read(shard).to_pylist()]
    _check_all_there(folder, {row["image_id"] for row in seen}, images)
    rows = [
        {"image_id": row["image_id"]} | {key: value for key, value in found.items() if value is not None}
        for row in seen
        for found in row["predictions"]
    ]
    _write_json(path, rows, indent=None)
    return len(rows)


def export_codec_compare(folder: Path, path: Path, names: Mapping[int, str] | None = None) -> int:
    """Write every image at every quality of one codec as a batch that Codec-Compare reads.

    Args:
        folder: The codec's folder in the coded store: ``runs/coded/<dataset>/<codec>``.
        path: The JSON file.
        names: The file names of all of the dataset's images; their ids are taken, and none need be there, where None.

    Returns:
        How many rows were written.

    Raises:
        StoreError: The folder has no shards, lacks an image, or mixes runs.
        ResultError: The file cannot be written, or an image has no name.
    """
    qualities = [entry for entry in sorted(folder.iterdir()) if entry.is_dir()] if folder.is_dir() else []
    if not qualities:
        raise StoreError("holds nothing coded", where=folder, hint="name a codec's folder in the coded store")
    headers = [store.read_header(next(store.shards(quality))) for quality in qualities]
    rows: list[list[Any]] = []
    for quality, header in sorted(zip(qualities, headers, strict=True), key=_quality_of):
        coded = [row for shard in store.shards(quality) for row in store.read(shard, _CODED).to_pylist()]
        _check_all_there(quality, {row["image_id"] for row in coded}, names)
        rows += [_image_row(row, header["identity"]["quality"], names) for row in coded]
    identity = headers[0]["identity"]
    constants = {
        "name": ("Name of this batch", f"{identity['codec']} on {folder.parent.name}"),
        "codec": ("Codec", str(identity["codec"])),
        "version": ("Version of the codec", str(identity["codec_version"])),
        "source_data_set": ("Dataset", folder.parent.name),
        **({"time": ("When coding began", headers[0]["date"])} if "date" in headers[0] else {}),
    }
    content = {
        "constant_descriptions": [{key: description} for key, (description, _) in constants.items()],
        "constant_values": [value for _, value in constants.values()],
        "field_descriptions": [{key: description} for key, description in _FIELDS.items()],
        "field_values": rows,
    }
    _write_json(path, content, indent=None)
    return len(rows)


_CODED: Final = ["image_id", "width", "height", "n_bytes", "encode_s", "decode_s", "mse"]
_FIELDS: Final = {
    "original_name": "File name of the original image",
    "width": "Pixel columns of the original image",
    "height": "Pixel rows of the original image",
    "quality": "Quality setting of the codec",
    "encoded_size": "Size of the bitstream in bytes, headers included",
    "bpp": "Bits of the bitstream per pixel of the original image",
    "encoding_time": "Encoding time in seconds, one thread",
    "decoding_time": "Decoding time in seconds, one thread",
    "psnr": f"PSNR over R, G and B in dB; {LOSSLESS_PSNR:g} where lossless",
}


def _image_row(row: Mapping[str, Any], quality: Any, names: Mapping[int, str] | None) -> list[Any]:
    identifier = row["image_id"]
    if names is not None and identifier not in names:
        raise ResultError(f"image {identifier} has no name", hint="name every image of the dataset")
    return [
        str(identifier) if names is None else names[identifier],
        row["width"],
        row["height"],
        quality,
        row["n_bytes"],
        8 * row["n_bytes"] / (row["width"] * row["height"]),
        row["encode_s"],
        row["decode_s"],
        LOSSLESS_PSNR if row["mse"] == 0 else 10 * math.log10(255**2 / row["mse"]),
    ]


def _quality_of(entry: tuple[Path, Mapping[str, Any]]) -> float:
    return float(entry[1]["identity"]["quality"])


def _check_all_there(folder: Path, found: Collection[int], wanted: Collection[int] | None) -> None:
    missing = sorted(set(wanted or ()) - set(found))
    if missing:
        raise StoreError(
            f"lacks image {missing[0]} and {len(missing) - 1} more", where=folder, hint="finish the run first"
        )


def _write_json(path: Path, content: Any, indent: int | None) -> None:
    try:
        text = json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False) + "\n"
    except ValueError as error:
        raise ResultError("holds a figure that is not finite", where=path) from error
    _write(path, text)


def _write(path: Path, text: str) -> None:
    with replacing(path, ResultError) as temporary:
        temporary.write_text(text, encoding="utf-8")
