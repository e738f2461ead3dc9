"""Result files of CompressAI, and summaries of CompressAI-Vision."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from icm_bench.curves.rate_convention import BITSTREAM, ESTIMATED, MEAN, NATIVE, POOLED, UNKNOWN, Conventions
from icm_bench.curves.result import Result
from icm_bench.error import ResultError
from icm_bench.formats import foreign
from icm_bench.formats.foreign import CHECK_FORMAT, Column, Group

if TYPE_CHECKING:
    import pandas as pd

Unit: TypeAlias = Literal["percent", "fraction"]

_COMPRESSAI_NAMES: Final = {
    "psnr": "psnr-rgb",
    "ms-ssim": "ms-ssim-rgb",
    "encoding_time": "encode_s",
    "decoding_time": "decode_s",
}


def import_compressai(path: Path, group: Group, *, codec: str | None = None) -> Result:
    """Read one of CompressAI's result files.

    Its columns may stand under ``results`` or at the top; its rates may fall or rise. CompressAI averages per-image
    rates of native images. Bits are estimates where its description says so, real where encoding was timed, and
    unknown in figures taken from papers. A file that this package exported says in its ``meta`` what holds instead.
    With no name for the codec, the file's own is taken.

    Raises:
        ResultError: The file is missing, is not such a file, or a figure in it is not a number.
        UsageError: The codec's name is not a spec.
    """
    content = _read_json(path)
    columns = content.get("results", content)
    if not isinstance(columns, dict):
        raise ResultError("its results are not columns", where=path, hint=CHECK_FORMAT)
    figures: dict[str, Column] = {}
    for theirs, values in columns.items():
        if isinstance(values, list):
            ours = str(_COMPRESSAI_NAMES.get(theirs, theirs))
            if ours in figures:
                raise ResultError(f"has two columns of {ours}", where=path, hint="remove one of them")
            figures[ours] = [foreign.number(value, path, theirs) for value in values]
    name, description = (_text(content.get(key)) for key in ("name", "description"))
    meta = content.get("meta")
    told = meta.get("conventions") if isinstance(meta, dict) else None
    conventions = Conventions(MEAN, _bits_of(description, figures), NATIVE)
    if isinstance(told, dict):
        conventions = Conventions(**{key: _text(told.get(key)) or UNKNOWN for key in conventions.record()})
    return foreign.foreign_result(path, group, codec or name or path.stem, figures, conventions, description)


def _bits_of(description: str, figures: Mapping[str, Column]) -> str:
    # Estimates are timed as well, so the description has the first word.
    if re.search(r"entropy[ -]estimation", description.lower()):
        return ESTIMATED
    return BITSTREAM if "encode_s" in figures else UNKNOWN


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def import_compressai_vision(
    path: Path, group: Group, *, codec: str, metric: str = "map", unit: Unit | None = None
) -> Result:
    """Read the ``summary.csv`` files of CompressAI-Vision, each an operating point or several.

    It pools real bytes over the pixels of the images as they were given. Its files say neither which accuracy they hold
    nor in which unit. A run of quality ``uncmp`` is of the uncompressed images.

    Args:
        path: One file, or a folder below which all of that name are read.
        group: What it was measured on.
        codec: What to call the codec.
        metric: What its accuracy is.
        unit: ``percent`` or ``fraction``; where None, accuracies that are all 1 or less are taken for fractions.

    Raises:
        ResultError: There is no such file, its columns are others, or rates are those of video.
        UsageError: The codec's name is not a spec.
    """
    files = sorted(path.rglob("summary.csv")) if path.is_dir() else [path]
    if not files:
        raise ResultError("no summary.csv below this folder", where=path)
    figures: dict[str, Column] = {"quality": [], "bpp": [], metric: []}
    original: Column = []
    datasets: set[str] = set()
    for file in files:
        frame = foreign.read_csv(file)
        if "bitrate (kbps)" in frame.columns:
            raise ResultError("holds the bit rates of video, not bits per pixel", where=file)
        frame, without = _without_uncompressed(frame, file)
        original += without
        for ours, theirs in (("quality", "qp"), ("bpp", "avg_bpp"), (metric, "end_accuracy")):
            figures[ours] += foreign.numbers(frame, theirs, file)
        datasets |= {str(name) for name in frame["Dataset"].tolist()} if "Dataset" in frame.columns else set()
    if len(datasets) > 1:
        raise ResultError(
            f"holds several datasets: {', '.join(sorted(datasets))}", where=path, hint="import one at a time"
        )
    measured = [abs(value) for value in figures[metric] if value is not None]
    taken = unit or ("fraction" if max(measured, default=math.inf) <= 1 else "percent")
    if original:
        figures[f"uncompressed_{metric}"] = original[:1] * len(figures["bpp"])
    if taken == "fraction":
        for key in figures.keys() - {"quality", "bpp"}:
            figures[key] = [None if value is None else 100 * value for value in figures[key]]
    conventions = Conventions(POOLED, BITSTREAM, NATIVE)
    told = {"accuracy": taken, "datasets": sorted(datasets)}
    return foreign.foreign_result(path, group, codec, figures, conventions, "", told)


def _without_uncompressed(frame: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, Column]:
    """Return the operating points alone, and the accuracy of the rows of the uncompressed images, ``uncmp``."""
    if "qp" not in frame.columns or frame["qp"].dtype.kind in "if":
        return frame, []
    is_original = np.array([str(value).lower() == "uncmp" for value in frame["qp"]], dtype=bool)
    points = frame[~is_original]
    qualities = foreign.reading(path, lambda: points["qp"].astype(float))
    return points.assign(qp=qualities), foreign.numbers(frame[is_original], "end_accuracy", path)


def _read_json(path: Path) -> dict[str, Any]:
    content = foreign.reading(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(content, dict):
        raise ResultError("is not a result file", where=path, hint=CHECK_FORMAT)
    return content
