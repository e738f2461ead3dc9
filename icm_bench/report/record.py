"""Results as flat records, and records as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from icm_bench.curves.result import Result
from icm_bench.report import escape
from icm_bench.report.style import labels_of


def of_points(results: Sequence[Result], given: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return every operating point of curves of one group as a flat record, None where there is no value."""
    labels = labels_of(results, given)
    return [
        {
            **dict(zip(("dataset", "task", "detector"), result.group, strict=True)),
            "codec": result.codec,
            "label": labels[result.codec],
            "quality": quality,
            **{key: values[index] for key, values in result.results.items()},
            **{
                f"{key}_{edge}": bounds[index][place] if bounds[index] else None
                for key, bounds in result.meta.get("intervals", {}).items()
                if key in result.results
                for place, edge in enumerate(("low", "high"))
            },
            **{key: values[index] for key, values in result.timings.get("results", {}).items()},
            **{key: result.meta[key] for key in ("parameters",) if key in result.meta},
            **{
                key: result.meta[key][index] for key in ("encoder_kmac", "decoder_kmac") if key in result.meta
            },
        }
        for result in results
        for index, quality in enumerate(result.qualities)
    ]


def to_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Return records as CSV: a column for every key of any, empty cells where there is no figure."""
    filled = _filled(records)
    if not filled:
        return ""
    output = io.StringIO()
    writer = csv.DictWriter(output, fieldnames=list(filled[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: escape.cell(value) for key, value in record.items()} for record in filled)
    return output.getvalue()


def to_json(records: Sequence[Mapping[str, Any]]) -> str:
    """Return records as JSON: every key of any in each, null where there is no figure."""
    return json.dumps(_filled(records), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _filled(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    keys = dict.fromkeys(key for record in records for key in record)
    return [{key: record.get(key) for key in keys} for record in records]
