"""What runs have stored, in the formats of other tools.

Operating points go out as COCO result files, images one by one as the batches that Codec-Compare shows. Everything is
written whole or not at all, and the same input gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from icm_bench.error import ResultError, StoreError
from icm_bench.file import write_json
from icm_bench.pipeline import store

LOSSLESS_PSNR: Final = 99.0
"""Stands for the infinite PSNR of a lossless image, in dB, where a format has only numbers."""


def export_coco(folder: Path, path: Path, images: Collection[int] | None = None) -> int:
    """Write what a detector saw at one operating point as a COCO result file; return how many detections.

    The folder is ``runs/predicted/<dataset>/<codec>/<quality>/<detector>``. A row has ``image_id``, ``category_id``,
    ``bbox``, ``score`` and, of a detector that segments, ``segmentation``. ``images`` are the dataset's image ids, all
    of which must be there; not checked where None.

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
    write_json(path, rows, ResultError)
    return len(rows)


def export_codec_compare(folder: Path, path: Path, names: Mapping[int, str] | None = None) -> int:
    """Write every image at every quality of one codec as a batch that Codec-Compare reads; return how many rows.

    The folder is ``runs/coded/<dataset>/<codec>``. ``names`` are the file names of all of the dataset's images; where
    None, their ids are taken, and none need be there.

    Raises:
        StoreError: The folder has no shards, lacks an image, or mixes runs.
        ResultError: The file cannot be written, or an image has no name.
    """
    qualities = [entry for entry in sorted(folder.iterdir()) if entry.is_dir()] if folder.is_dir() else []
    if not qualities:
        raise StoreError("holds nothing coded", where=folder, hint="name a codec's folder in the coded store")
    headers = [store.read_header(next(store.shards(quality))) for quality in qualities]
    rows: list[list[Any]] = []
    pairs = zip(qualities, headers, strict=True)
    for quality, header in sorted(pairs, key=lambda pair: float(pair[1]["identity"]["quality"])):
        coded = [row for shard in store.shards(quality) for row in store.per_image(shard).to_pylist()]
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
    write_json(path, content, ResultError)
    return len(rows)


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
        LOSSLESS_PSNR if row["mse_rgb"] == 0 else 10 * math.log10(255**2 / row["mse_rgb"]),
    ]


def _check_all_there(folder: Path, found: Collection[int], wanted: Collection[int] | None) -> None:
    missing = sorted(set(wanted or ()) - set(found))
    if missing:
        raise StoreError(
            f"lacks image {missing[0]} and {len(missing) - 1} more", where=folder, hint="finish the run first"
        )
