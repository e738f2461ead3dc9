"""Curves that others measured, read from their files with the conventions that their rates follow.

Read are CompressAI's result files, CompressAI-Vision's ``summary.csv``, and tidy tables with a row an operating point.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from icm_bench.curves.rate_convention import (
    BITSTREAM,
    ESTIMATED,
    MEAN,
    NATIVE,
    POOLED,
    UNKNOWN,
    Conventions,
    in_full,
)
from icm_bench.curves.result import Result, load, path_of, save
from icm_bench.error import ResultError, UsageError
from icm_bench.metrics.fidelity import DERIVED, with_decibels
from icm_bench.spec import Spec

if TYPE_CHECKING:
    import pandas as pd

Unit: TypeAlias = Literal["percent", "fraction"]
Column: TypeAlias = list[float | None]

_COMPRESSAI_NAMES: Final = {
    "psnr": "psnr-rgb",
    "ms-ssim": "ms-ssim-rgb",
    "encoding_time": "encode_s",
    "decoding_time": "decode_s",
}
_TIMINGS: Final = ("encode_s", "decode_s", "detect_s")
_GROUP: Final = ("dataset", "task", "detector")
_TASKS: Final = ("detection", "segmentation", "keypoints", "fidelity")
_CONVENTION: Final = "conventions."


@dataclass(frozen=True)
class Group:
    """What a curve was measured on; curves of one group are drawn together.

    Attributes:
        dataset: The dataset's name: letters, digits, ``.``, ``_`` and ``-``.
        task: ``detection``, ``segmentation``, ``keypoints`` (which only others measure) or ``fidelity``.
        detector: The detector's spec; ``none`` for fidelity.

    Raises:
        UsageError: A name is not one, or the task is unknown.
    """

    dataset: str
    task: str = "fidelity"
    detector: str = "none"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.dataset):
            raise UsageError(
                f"'{self.dataset}' is not a dataset's name", hint="use letters, digits, '.', '_' and '-'"
            )
        if self.task not in _TASKS:
            raise UsageError(f"unknown task '{self.task}'", hint=f"choose {', '.join(_TASKS)}")
        Spec.parse(self.detector)


def import_compressai(path: Path, group: Group, *, codec: str | None = None) -> Result:
    """Read one of CompressAI's result files.

    Its columns may stand under ``results`` or at the top; its rates may fall or rise. CompressAI averages per-image
    rates of native images. Bits are estimates where its description says so, real where encoding was timed, and
    unknown in figures taken from papers. A file that this package exported says in its ``meta`` what holds instead.

    Args:
        path: The JSON file.
        group: What it was measured on.
        codec: What to call it; the file's own name for it where None.

    Raises:
        ResultError: The file is missing, is not such a file, or a figure in it is not a number.
        UsageError: The codec's name is not a spec.
    """
    content = _read_json(path)
    columns = content.get("results", content)
    if not isinstance(columns, dict):
        raise ResultError("its results are not columns", where=path, hint=_HINT)
    figures: dict[str, Column] = {}
    for theirs, values in columns.items():
        if isinstance(values, list):
            ours = str(_COMPRESSAI_NAMES.get(theirs, theirs))
            if ours in figures:
                raise ResultError(f"has two columns of {ours}", where=path, hint="remove one of them")
            figures[ours] = [_number(value, path, theirs) for value in values]
    name, description = (_text(content.get(key)) for key in ("name", "description"))
    meta = content.get("meta")
    told = meta.get("conventions") if isinstance(meta, dict) else None
    conventions = Conventions(MEAN, _bits_of(description, figures), NATIVE)
    if isinstance(told, dict):
        conventions = Conventions(**{key: _text(told.get(key)) or UNKNOWN for key in conventions.record()})
    return _result(path, group, codec or name or path.stem, figures, conventions, description)


def _bits_of(description: str, figures: Mapping[str, Column]) -> str:
    # Estimates are timed as well, so the description has the first word.
    if re.search(r"entropy[ -]estimation", description.lower()):
        return ESTIMATED
    return BITSTREAM if "encode_s" in figures else UNKNOWN


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def import_compressai_vision(
    path: Path,
    group: Group,
    *,
    codec: str,
    metric: str = "map",
    unit: Unit | None = None,
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
        frame = _read_csv(file)
        if "bitrate (kbps)" in frame.columns:
            raise ResultError("holds the bit rates of video, not bits per pixel", where=file)
        frame, without = _without_uncompressed(frame, file)
        original += without
        for ours, theirs in (("quality", "qp"), ("bpp", "avg_bpp"), (metric, "end_accuracy")):
            figures[ours] += _numbers(frame, theirs, file)
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
    return _result(
        path, group, codec, figures, conventions, "", {"accuracy": taken, "datasets": sorted(datasets)}
    )


def _without_uncompressed(frame: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, Column]:
    """Return the operating points alone, and the accuracy of the rows of the uncompressed images, ``uncmp``."""
    if "qp" not in frame.columns or frame["qp"].dtype.kind in "if":
        return frame, []
    is_original = np.array([str(value).lower() == "uncmp" for value in frame["qp"]], dtype=bool)
    points = frame[~is_original]
    qualities = _read(path, lambda: points["qp"].astype(float))
    return points.assign(qp=qualities), _numbers(frame[is_original], "end_accuracy", path)


def import_tidy(path: Path, group: Group | None = None) -> list[Result]:
    """Read a table with a row an operating point.

    Columns: ``codec`` and ``bpp``, and where the caller gives no group ``dataset``, ``task`` and ``detector``; if there
    are, ``quality``, ``encode_s``, ``decode_s``, ``uncompressed_map``, ``conventions.bpp``, ``conventions.bits`` and
    ``conventions.pixels``; every other column is a metric. An empty cell is no figure.

    Args:
        path: The CSV file.
        group: What all of it was measured on.

    Returns:
        One result a curve, in the order of the file.

    Raises:
        ResultError: The file is missing, lacks a column, or a figure is not a number.
        UsageError: A codec's name is not a spec.
    """
    frame = _read_csv(path)
    keys = ["codec"] if group else [*_GROUP, "codec"]
    missing = [name for name in [*keys, "bpp"] if name not in frame.columns]
    if missing:
        raise ResultError(
            f"has no column '{missing[0]}'", where=path, hint=f"it needs {', '.join(keys)}, bpp"
        )
    if frame.empty:
        raise ResultError("has no rows", where=path)
    if frame[keys].isna().to_numpy().any():
        raise ResultError(f"has a row without {' or '.join(keys)}", where=path)
    return [
        _tidy_result(path, group or Group(*(str(name) for name in names[:-1])), str(names[-1]), rows)
        for names, rows in frame.groupby(keys, sort=False)
    ]


def _tidy_result(path: Path, group: Group, codec: str, rows: pd.DataFrame) -> Result:
    texts = [*_GROUP, "codec", *(name for name in rows.columns if name.startswith(_CONVENTION))]
    figures = {str(name): _numbers(rows, str(name), path) for name in rows.columns if name not in texts}
    found = {
        name: {str(value) for value in rows[_CONVENTION + name].dropna()}
        for name in Conventions().record()
        if _CONVENTION + name in rows.columns
    }
    mixed = [name for name, values in found.items() if len(values) > 1]
    if mixed:
        raise ResultError(f"mixes conventions of {mixed[0]} in one curve", where=f"{path}, {codec}")
    conventions = Conventions(
        **{name: in_full(name, values.pop()) for name, values in found.items() if values}
    )
    return _result(path, group, codec, figures, conventions, "")


def with_conventions(result: Result, **told: str | None) -> Result:
    """Return an imported curve with what its user knows of its rates.

    Args:
        result: What an importer returned.
        told: See :meth:`icm_bench.curves.rate_convention.Conventions.told`.

    Raises:
        UsageError: There is no such convention.
    """
    conventions = Conventions(**result.meta["conventions"]).told(**told)
    return replace(result, meta={**result.meta, "conventions": conventions.record()})


def save_imported(results: Sequence[Result], root: Path) -> list[Path]:
    """Write imported curves below a results folder, none over a measured curve or over another import.

    Args:
        results: What an importer returned.
        root: The results folder.

    Returns:
        The JSON files.

    Raises:
        ResultError: Two of the curves, or one and a curve that is there, go by the same name, or the folder cannot be
            written; nothing is written then.
    """
    paths: dict[Path, Result] = {}
    for result in results:
        detector = Spec.parse(result.detector).file_name
        path = path_of(root, result.dataset, result.task, detector, Spec.parse(result.codec).file_name)
        there = paths.get(path) or (load(path) if path.exists() else None)
        if there is not None:
            _check_same(there, result, path)
        paths[path] = result
    for path, result in paths.items():
        save(result, path, None)
    return list(paths)


def _check_same(there: Result, result: Result, path: Path) -> None:
    """Refuse to write a curve over one that is not an earlier import of the same."""
    origin, own = there.meta.get("imported"), result.meta["imported"]
    if origin is None:
        raise ResultError("is a curve that was measured here", where=path, hint=_RENAME)
    before, now = ((about.get("file"), about.get("called")) for about in (origin, own))
    if before != now:
        raise ResultError(
            f"is '{before[1]}' of {before[0]}; '{now[1]}' of {now[0]} would be called {result.codec} too",
            where=path,
            hint=_RENAME,
        )


def _result(
    path: Path,
    group: Group,
    name: str,
    figures: Mapping[str, Column],
    conventions: Conventions,
    description: str,
    imported: Mapping[str, Any] | None = None,
) -> Result:
    columns = {key: list(values) for key, values in figures.items()}
    if not columns.get("bpp"):
        raise ResultError("has no bpp", where=path, hint=_HINT)
    lengths = {key: len(values) for key, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ResultError(f"its columns differ in length: {lengths}", where=path, hint=_HINT)
    order = _by_rate(columns["bpp"], path)
    columns = {key: [values[index] for index in order] for key, values in columns.items()}
    qualities = columns.pop("quality", [None] * len(order))
    uncompressed = {
        key.removeprefix("uncompressed_"): columns.pop(key)[0]
        for key in list(columns)
        if key.startswith("uncompressed_")
    }
    columns = _with_decibels(columns)
    columns = {key: values for key, values in columns.items() if any(value is not None for value in values)}
    timings = {key: columns.pop(key) for key in _TIMINGS if key in columns}
    return Result(
        dataset=group.dataset,
        task=group.task,
        detector=str(Spec.parse(group.detector)),
        codec=_codec_name(name),
        description=description,
        results=columns,
        meta={
            "qualities": [_whole(quality) for quality in qualities],
            "dataset": {},
            "detector": {},
            "uncompressed": {key: value for key, value in uncompressed.items() if value is not None},
            "conventions": conventions.record(),
            "imported": {"file": path.name, "called": name, **(imported or {})},
        },
        timings={"results": timings} if timings else {},
    )


def _with_decibels(columns: Mapping[str, Column]) -> dict[str, Column]:
    """Return columns with every MS-SSIM in dB beside it, where the file has not that itself."""
    similarities = {
        key: np.array([np.nan if value is None else value for value in columns[key]])
        for key in columns
        if key.startswith("ms-ssim") and f"{key}-db" in DERIVED and f"{key}-db" not in columns
    }
    derived = {key: values for key, values in with_decibels(similarities).items() if key not in similarities}
    found = {
        key: [None if np.isnan(value) else float(value) for value in values]
        for key, values in derived.items()
    }
    return {**columns, **found}


def _codec_name(name: str) -> str:
    """Return a name as a spec: options stay, other characters than a name's become hyphens."""
    head, separator, options = name.strip().partition(":")
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", head).strip("-_.").lower()
    return str(Spec.parse(plain + separator + options))


def _by_rate(rates: Column, path: Path) -> list[int]:
    for index, rate in enumerate(rates):
        if rate is None or rate <= 0:
            raise ResultError(f"operating point {index + 1} has the rate {rate}, not above 0", where=path)
    return [int(index) for index in np.argsort(np.array(rates, dtype=np.float64), kind="stable")]


def _whole(number: float | None) -> float | None:
    return int(number) if number is not None and number == int(number) else number


def _number(value: Any, path: Path, name: str) -> float | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ResultError(f"'{name}' holds {value!r}, which is not a finite number", where=path, hint=_HINT)
    return float(value)


def _numbers(frame: pd.DataFrame, name: str, path: Path) -> Column:
    if name not in frame.columns:
        raise ResultError(f"has no column '{name}'", where=path, hint=_HINT)
    return [_number(value, path, name) for value in frame[name].tolist()]


def _read_json(path: Path) -> dict[str, Any]:
    content = _read(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(content, dict):
        raise ResultError("is not a result file", where=path, hint=_HINT)
    return content


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = _read(
        path, lambda: pd.read_csv(path, encoding="utf-8", keep_default_na=False, na_values=[""])
    )
    return frame


def _read(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except FileNotFoundError as error:
        raise ResultError("no such file", where=path) from error
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ResultError(f"cannot be read ({reason})", where=path, hint=_HINT) from error


_RENAME: Final = "give the imported codec another name with --codec"
_HINT: Final = "check that it is of the format that was named"
