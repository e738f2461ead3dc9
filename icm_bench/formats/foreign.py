"""Curves that others measured: what all their files have in common, and how columns become a curve."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from icm_bench.curves.rate_convention import Conventions
from icm_bench.curves.result import Result
from icm_bench.error import ResultError, UsageError
from icm_bench.metrics.fidelity import DERIVED, with_decibels
from icm_bench.spec import Spec

if TYPE_CHECKING:
    import pandas as pd


Column: TypeAlias = list[float | None]

_TIMINGS: Final = ("encode_s", "decode_s", "detect_s")

_TASKS: Final = ("detection", "segmentation", "keypoints", "fidelity")


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


def foreign_result(
    path: Path,
    group: Group,
    name: str,
    figures: Mapping[str, Column],
    conventions: Conventions,
    description: str,
    imported: Mapping[str, Any] | None = None,
) -> Result:
    """Return the curve of named columns, in order of the rates; refuse what is no curve."""
    columns = {key: list(values) for key, values in figures.items()}
    if not columns.get("bpp"):
        raise ResultError("has no bpp", where=path, hint=CHECK_FORMAT)
    lengths = {key: len(values) for key, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ResultError(f"its columns differ in length: {lengths}", where=path, hint=CHECK_FORMAT)
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


def number(value: Any, path: Path, name: str) -> float | None:
    """Return a cell as a number, None for an empty one."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ResultError(
            f"'{name}' holds {value!r}, which is not a finite number", where=path, hint=CHECK_FORMAT
        )
    return float(value)


def numbers(frame: pd.DataFrame, name: str, path: Path) -> Column:
    """Return a column as numbers."""
    if name not in frame.columns:
        raise ResultError(f"has no column '{name}'", where=path, hint=CHECK_FORMAT)
    return [number(_read_cell(value, path, name), path, name) for value in frame[name].tolist()]


def _read_cell(value: Any, path: Path, name: str) -> Any:
    """Return the number that a text says: one cell that is no number makes text of its whole column."""
    if not isinstance(value, str):
        return value
    if not _DECIMAL.fullmatch(value.strip()):
        hint = "write a number, or leave the cell empty"
        raise ResultError(f"'{name}' holds '{value}', which is not a finite number", where=path, hint=hint)
    return float(value)


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV file; an empty cell is no number."""
    import pandas as pd

    frame: pd.DataFrame = reading(
        path, lambda: pd.read_csv(path, encoding="utf-8", keep_default_na=False, na_values=[""])
    )
    return frame


def reading(path: Path, read: Callable[[], Any]) -> Any:
    """Read a file; what goes wrong is a ``ResultError`` that names it."""
    try:
        return read()
    except FileNotFoundError as error:
        raise ResultError("no such file", where=path) from error
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ResultError(f"cannot be read ({reason})", where=path, hint=CHECK_FORMAT) from error


_DECIMAL: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
CHECK_FORMAT: Final = "check that it is of the format that was named"
