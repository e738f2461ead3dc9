"""Tables, in the terminal and for publication."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from icm_bench.bdrate import LOW_OVERLAP
from icm_bench.comparison import METRIC_NAMES, Comparison

if TYPE_CHECKING:
    from icm_bench.doctor import Finding
    from icm_bench.result import Result

Format: TypeAlias = Literal["table", "markdown", "csv", "latex", "json"]


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        title: What is shown.
        header: The columns' names; those from the second on hold numbers and stand to the right, but for the last
            ``n_text`` ones.
        rows: The cells.
        notes: What a reader must know to read it rightly, one line each.
        n_text: How many of the last columns hold text.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    n_text: int = 0

    def is_number(self, column: int) -> bool:
        """Tell whether a column stands to the right."""
        return 0 < column < len(self.header) - self.n_text


def of_run(results: Sequence[Result]) -> Table:
    """Return every operating point of curves that were measured together."""
    rows = []
    first = results[0]
    original = first.meta["uncompressed"]
    rows.append(
        (
            "uncompressed",
            "",
            "",
            *(_number(original.get(key), 1) for key in ("map", "map50", "map75")),
            _interval(original.get("intervals", {}).get("map")),
            "",
            "",
            "",
        )
    )
    for result in results:
        timed = result.timings.get("results", {})
        bounds = result.meta.get("intervals", {}).get("map")
        for index, quality in enumerate(result.qualities):
            figure = _column(result.results, index)
            rows.append(
                (
                    result.codec,
                    _quality(quality),
                    _number(figure("bpp"), 4),
                    *(_number(figure(key), 1) for key in ("map", "map50", "map75")),
                    _interval(bounds[index] if bounds else None),
                    _number(figure("psnr-rgb"), 2),
                    _number(_column(timed, index)("encode_s"), 3),
                    _number(_column(timed, index)("decode_s"), 3),
                )
            )
    dataset = first.meta["dataset"]
    return Table(
        title=f"{first.task} on {first.dataset} by {first.detector}: {dataset['images']} images",
        header=("codec", "quality", "bpp", "AP", "AP50", "AP75", "AP 95 %", "PSNR dB", "enc s", "dec s"),
        rows=tuple(rows),
        notes=(
            "bpp: length of the real bitstreams over the native pixels, pooled over the images. "
            "AP 95 %: bootstrap interval over images. Seconds: mean an image, one thread.",
        ),
    )


def of_comparison(comparisons: Sequence[Comparison]) -> Table:
    """Return BD-rates, head against anchor."""
    rows = []
    for item in comparisons:
        figure = item.bd_rate
        flag = " !" if figure.is_low_overlap else ""
        rows.append(
            (
                item.codec,
                item.anchor,
                METRIC_NAMES.get(item.metric, item.metric),
                "none" if figure.percent is None else f"{figure.percent:+.2f} %",
                ""
                if figure.low is None or figure.high is None
                else f"[{figure.low:+.1f}, {figure.high:+.1f}]",
                "" if figure.overlap is None else f"{figure.overlap:.2f}{flag}",
                figure.reason or "",
            )
        )
    first = comparisons[0] if comparisons else None
    where = "" if first is None else f": {first.task} on {first.dataset} by {first.detector}"
    method = "" if first is None else f"Method: {first.bd_rate.method}. "
    return Table(
        title=f"BD-rate{where}",
        header=("codec", "anchor", "metric", "BD-rate", "95 %", "overlap", "remark"),
        rows=tuple(rows),
        notes=(
            f"Codec against anchor: negative means fewer bits for the same accuracy. {method}"
            f"Overlap: the share of both curves' accuracy range that they have in common; ! below {LOW_OVERLAP}.",
        ),
        n_text=1,
    )


def of_findings(findings: Sequence[Finding]) -> Table:
    """Return what an examination of the machine found."""
    return Table(
        title="What is usable here",
        header=("kind", "name", "state", "detail"),
        rows=tuple((item.kind, item.name, item.state, item.detail) for item in findings),
        n_text=3,
    )


def show(table: Table, console: Console) -> None:
    """Print a table that fits the terminal, and is plain text where the output is not one."""
    plain = not console.is_terminal
    drawn = RichTable(
        title=table.title,
        title_justify="left",
        box=box.ASCII2 if plain else box.SIMPLE_HEAD,
        header_style="bold",
        caption="\n".join(table.notes) or None,
        caption_justify="left",
    )
    for index, name in enumerate(table.header):
        drawn.add_column(
            name, justify="right" if table.is_number(index) else "left", overflow="fold", no_wrap=index == 0
        )
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    if plain:
        # A pipe has no width to fit: nothing is cut.
        console = Console(file=console.file, width=_natural_width(table), highlight=False)
    console.print(drawn)


def markdown(table: Table) -> str:
    """Return a table in GitHub's Markdown."""
    rule = ["---:" if table.is_number(index) else "---" for index in range(len(table.header))]
    lines = [table.header, rule, *table.rows]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    notes = "".join(f"\n\n{note}" for note in table.notes)
    return f"**{table.title}**\n\n{body}{notes}\n"


def latex(table: Table) -> str:
    """Return a table as a LaTeX ``tabular`` for the booktabs package."""
    columns = "".join("r" if table.is_number(index) else "l" for index in range(len(table.header)))
    lines = [f"% {table.title}", f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    lines.append(" & ".join(map(_escape, table.header)) + " \\\\")
    lines.append("\\midrule")
    lines += [" & ".join(map(_escape, row)) + " \\\\" for row in table.rows]
    lines += ["\\bottomrule", "\\end{tabular}", *(f"% {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def records_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Return records as CSV, empty cells where there is no figure."""
    if not records:
        return ""
    output = io.StringIO()
    writer = csv.DictWriter(output, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return output.getvalue()


def records_json(records: Sequence[Mapping[str, Any]]) -> str:
    """Return records as JSON."""
    return json.dumps(list(records), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _column(columns: Mapping[str, Sequence[float | None]], index: int) -> Any:
    return lambda key: columns[key][index] if key in columns else None


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _quality(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _interval(bounds: Sequence[float | None] | None) -> str:
    if not bounds or None in bounds:
        return ""
    return f"[{bounds[0]:.1f}, {bounds[1]:.1f}]"


def _natural_width(table: Table) -> int:
    lines = [table.header, *table.rows]
    columns = sum(max(len(line[index]) for line in lines) + 3 for index in range(len(table.header)))
    return max(columns + 1, 100)


def _escape(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, "\\textbackslash{}" if character == "\\" else f"\\{character}")
    return text
