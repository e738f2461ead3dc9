"""Tidy tables: a row an operating point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from icm_bench.curves.rate_convention import Conventions, in_full
from icm_bench.curves.result import Result
from icm_bench.error import ResultError

if TYPE_CHECKING:
    import pandas as pd
from icm_bench.formats.foreign import Group, foreign_result, numbers, read_csv

_GROUP: Final = ("dataset", "task", "detector")

_CONVENTION: Final = "conventions."


def import_tidy(path: Path, group: Group | None = None) -> list[Result]:
    """Read a table with a row an operating point.

    Columns: ``codec`` and ``bpp``, and where the caller gives no group ``dataset``, ``task`` and ``detector``; if there
    are, ``quality``, ``encode_s``, ``decode_s``, ``uncompressed_map``, ``conventions.bpp``, ``conventions.bits`` and
    ``conventions.pixels``; every other column is a metric. An empty cell is no figure. The curves are in the order of
    the file.

    Raises:
        ResultError: The file is missing, lacks a column, or a figure is not a number.
        UsageError: A codec's name is not a spec.
    """
    frame = read_csv(path)
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
    figures = {str(name): numbers(rows, str(name), path) for name in rows.columns if name not in texts}
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
    return foreign_result(path, group, codec, figures, conventions, "")
