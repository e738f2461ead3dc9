"""Results in the formats of other tools.

Curves go out as a tidy table or as CompressAI's result files; what runs have stored, by
:mod:`icm_bench.pipeline.export`. Everything is written whole or not at all, and the same input gives the same bytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from icm_bench.curves.result import Result
from icm_bench.error import ResultError
from icm_bench.file import write_json, write_text


def export_tidy(results: Iterable[Result], path: Path) -> None:
    """Write a table with a row an operating point.

    Columns: dataset, task, detector, codec, quality, bpp; then the metrics, seconds an image, the accuracy on
    uncompressed images and the conventions of the rates, each by name. A figure that is not defined is an empty cell.

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
    write_text(path, text.getvalue(), ResultError)


def _inert(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    is_computed = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_computed else value


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
    write_json(path, content, ResultError, indent=2)
