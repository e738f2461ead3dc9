"""Tables, in the terminal and for publication."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from icm_bench.curves.comparison import Comparison, FixedAccuracy
from icm_bench.curves.estimate import LOW_OVERLAP, Estimate, dip_notes
from icm_bench.curves.result import Result, main_metric, titled
from icm_bench.detector import NO_DETECTOR
from icm_bench.metrics.metric import metric_of
from icm_bench.report import escape
from icm_bench.report.style import labels_of
from icm_bench.text import printable

MIXED = "†"
"""Marks a figure whose curves count their bits or pixels differently."""


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


_RATE: Final = "bpp: length of the real bitstreams over the native pixels, pooled over the images."
_BOUNDS: Final = "bootstrap interval over images. Seconds: mean an image, one thread."


def of_run(results: Sequence[Result]) -> Table:
    """Return every operating point of curves that were measured together."""
    main = main_metric(results)
    columns: tuple[tuple[str, str, int], ...]
    rows = []
    if results[0].detector == NO_DETECTOR:
        columns = (
            *(("PSNR dB", "psnr-rgb", 2), ("PSNR 95 %", "", 1), ("luma dB", "psnr-luma", 2)),
            *(("MS-SSIM", "ms-ssim-rgb", 4), ("in dB", "ms-ssim-rgb-db", 2), ("of luma", "ms-ssim-luma", 4)),
        )
        bounded = "PSNR and MS-SSIM: mean over the images, of RGB unless said otherwise. PSNR"
        undefined = dict.fromkeys(
            f"{result.codec}: no {metric_of(key).label}, since {reason}."
            for result in results
            for key, reason in result.meta.get("fidelity", {}).get("undefined", {}).items()
        )
        notes = (f"{_RATE} {bounded} 95 %: {_BOUNDS}", *undefined)
    else:
        accuracies = [
            (metric_of(key).label, key, 1)
            for key in (("map", "map50", "map75") if main == "map" else (main,))
        ]
        bounded = accuracies[0][0]
        columns = (*accuracies, (f"{bounded} 95 %", "", 1), ("PSNR dB", "psnr-rgb", 2))
        notes = (f"{_RATE} {bounded} 95 %: {_BOUNDS}",)
        original = results[0].meta.get("uncompressed") or {}
        bounds = original.get("intervals", {}).get(main)
        values = (number(original.get(key), 1) for _, key, _ in accuracies)
        rows.append(("uncompressed", "", "", *values, _interval(bounds), "", "", ""))
    for result in results:
        timed = result.timings.get("results", {})
        bounds = result.meta.get("intervals", {}).get(main)
        for index, quality in enumerate(result.qualities):
            figure, seconds = _column(result.results, index), _column(timed, index)
            cells = (
                number(figure(key), digits) if key else _interval(bounds[index] if bounds else None)
                for _, key, digits in columns
            )
            steps = (number(seconds(step), 3) for step in ("encode_s", "decode_s"))
            rows.append((result.codec, _quality(quality), number(figure("bpp"), 4), *cells, *steps))
    header = ("codec", "quality", "bpp", *(name for name, _, _ in columns), "enc s", "dec s")
    return _with_complexity(Table(_title(results[0]), header, tuple(rows), notes), results)


def _with_complexity(table: Table, results: Sequence[Result]) -> Table:
    """Return a table of operating points with what the networks take, where any codec has networks."""
    counted = [result for result in results if "encoder_kmac" in result.meta]
    if not counted:
        return table
    cells = [
        tuple(
            number(result.meta[key][index], 1) if result in counted else ""
            for key in ("encoder_kmac", "decoder_kmac")
        )
        for result in results
        for index in range(len(result.qualities))
    ]
    before = [("", "")] * (len(table.rows) - len(cells))
    rows = tuple((*row, *cell) for row, cell in zip(table.rows, [*before, *cells], strict=True))
    labels = labels_of(results)
    sizes = ", ".join(f"{labels[each.codec]} {each.meta['parameters'] / 1e6:.2f} M" for each in counted)
    note = f"kMAC: thousands of multiply-accumulates of the networks, per pixel. Parameters: {sizes}."
    header = (*table.header, "enc kMAC", "dec kMAC")
    return replace(table, header=header, rows=rows, notes=(*table.notes, note))


def of_comparison(comparisons: Sequence[Comparison]) -> Table:
    """Return BD-rates and BD-accuracies of a group, codec against anchor."""
    first = comparisons[0]
    metric = metric_of(first.metric).label
    rows = []
    for item in comparisons:
        rate, gain = item.bd_rate, item.bd_accuracy
        rows.append(
            (
                item.codec,
                "none" if rate.value is None else f"{rate.value:+.2f} %",
                bounds(rate.low, rate.high, "+.1f"),
                overlap(rate),
                "none" if gain.value is None else f"{gain.value:+.2f}",
                bounds(gain.low, gain.high, "+.1f"),
                f"{MIXED} {remark(rate)}".strip() if item.mixed else remark(rate),
            )
        )
    return Table(
        title=f"BD-rate against {first.anchor}: {titled(first.task, first.dataset, first.detector)}",
        header=("codec", "BD-rate", "95 %", "overlap", f"BD-{metric}", "95 %", "remark"),
        rows=tuple(rows),
        notes=(
            f"Codec against anchor: a negative BD-rate means fewer bits for the same {metric}, a positive BD-{metric} "
            f"more of it for the same bits. Method: {first.bd_rate.method}. Overlap: the share of both curves' "
            f"{metric} range that they have in common; ! below {LOW_OVERLAP}.",
            *dip_notes(item.bd_rate for item in comparisons),
            *mixtures(comparisons),
        ),
        n_text=1,
    )


def of_matrix(comparisons: Sequence[Comparison]) -> Table:
    """Return the BD-rate of every codec of a group, in rows, against every other, in columns."""
    first = comparisons[0]
    codecs = list(dict.fromkeys(item.codec for item in comparisons))
    found = {(item.codec, item.anchor): item for item in comparisons}

    def cell(codec: str, anchor: str) -> str:
        item = found.get((codec, anchor))
        if item is None or item.bd_rate.value is None:
            return "" if item is None else "none"
        return f"{percent(item.bd_rate)}{' ' + MIXED if item.mixed else ''}"

    metric = metric_of(first.metric).label
    return Table(
        title=f"BD-rate of each codec against each: {titled(first.task, first.dataset, first.detector)}",
        header=("codec against", *codecs),
        rows=tuple((codec, *(cell(codec, anchor) for anchor in codecs)) for codec in codecs),
        notes=(
            f"Row against column: negative means fewer bits for the same {metric}. Method: {first.bd_rate.method}. "
            f"! marks an overlap below {LOW_OVERLAP}.",
            *dip_notes(item.bd_rate for item in comparisons),
            *mixtures(comparisons),
        ),
    )


def of_fixed_accuracies(figures: Sequence[FixedAccuracy]) -> Table:
    """Return the rate of each codec of a group, in rows, at each accuracy, in columns."""
    first = figures[0]
    metric = metric_of(first.metric).label
    targets = list(dict.fromkeys(item.target for item in figures))
    codecs = list(dict.fromkeys(item.codec for item in figures))
    found = {(item.codec, item.target): item.rate for item in figures}
    mixed = {item.codec for item in figures if item.mixed}

    def cells(codec: str) -> Iterator[str]:
        for target in targets:
            rate = found[codec, target]
            yield "none" if rate.value is None else f"{rate.value:.4f}"
            yield bounds(rate.low, rate.high, ".3f")

    def name(target: float) -> str:
        return f"{target:g}" if target >= 0 else f"uncompressed - {-target:g}"

    reasons = dict.fromkeys(
        (codec, rate.reason) for (codec, _), rate in found.items() if rate.reason is not None
    )
    return Table(
        title=f"Bits per pixel at a fixed {metric}: {titled(first.task, first.dataset, first.detector)}",
        header=("codec", *(text for target in targets for text in (f"{metric} {name(target)}", "95 %"))),
        rows=tuple((f"{codec} {MIXED}" if codec in mixed else codec, *cells(codec)) for codec in codecs),
        notes=(
            f"Method: {first.rate.method}.",
            *dip_notes(item.rate for item in figures),
            *mixtures(figures),
            *(_sentence(codec, reason, first.metric) for codec, reason in reasons),
        ),
    )


def labelled(table: Table, results: Sequence[Result], given: Mapping[str, str] | None = None) -> Table:
    """Return a table of one group's curves that calls codecs by their labels, with the specs in a note.

    Labels may be given by spec, or by a codec's name.
    """
    labels = labels_of(results, given)

    def named(cell: str) -> str:
        spec, mark, _ = cell.partition(f" {MIXED}")
        return labels.get(spec, spec) + mark

    rows = tuple((named(row[0]), *row[1:]) for row in table.rows)
    title = re.sub(r"(?<=against )\S+(?=: )", lambda match: named(match[0]), table.title)
    shown = {named(cell) for cell in (*table.header, *(row[0] for row in table.rows))} | {title}
    specs = [
        f"{label}: {spec}"
        for spec, label in labels.items()
        if label.casefold() != spec and any(label in text for text in shown)
    ]
    header = tuple(map(named, table.header))
    notes = (*table.notes, f"Codecs: {'; '.join(specs)}.") if specs else table.notes
    return replace(table, title=title, header=header, rows=rows, notes=notes)


def show(table: Table, console: Console) -> None:
    """Print a table that fits the terminal, and is plain text where the output is not one."""
    plain = not console.is_terminal
    if plain:
        # A pipe has no width to fit: nothing is cut or folded.
        console = Console(file=console.file, width=10_000, highlight=False)
    drawn = RichTable(box=box.ASCII2 if plain else box.SIMPLE_HEAD, header_style="bold")
    for index, name in enumerate(table.header):
        drawn.add_column(
            Text(printable(name)),
            justify="right" if table.is_number(index) else "left",
            overflow="fold",
            no_wrap=index == 0,
        )
    for row in table.rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    console.print(Text(printable(table.title), style="bold"))
    console.print(drawn)
    for note in table.notes:
        console.print(Text(printable(note), style="dim"))


def markdown(table: Table) -> str:
    """Return a table in GitHub's Markdown, in which no name becomes markup."""
    rule = ["---:" if table.is_number(index) else "---" for index in range(len(table.header))]
    header, *rows = (map(escape.markdown, line) for line in (table.header, *table.rows))
    body = "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))
    notes = "".join(f"\n\n{escape.markdown(note)}" for note in table.notes)
    return f"**{escape.markdown(table.title)}**\n\n{body}{notes}\n"


def latex(table: Table) -> str:
    """Return a table as a LaTeX ``tabular`` for the booktabs package."""
    columns = "".join("r" if table.is_number(index) else "l" for index in range(len(table.header)))
    lines = [_comment(table.title), f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    lines.append(" & ".join(map(escape.latex, table.header)) + " \\\\")
    lines.append("\\midrule")
    lines += [" & ".join(map(escape.latex, row)) + " \\\\" for row in table.rows]
    lines += ["\\bottomrule", "\\end{tabular}", *map(_comment, table.notes)]
    return "\n".join(lines) + "\n"


def _column(columns: Mapping[str, Sequence[float | None]], index: int) -> Any:
    return lambda key: columns[key][index] if key in columns else None


def number(value: float | None, digits: int) -> str:
    """Return a value as a table shows it; nothing where there is none."""
    return "" if value is None else f"{value:.{digits}f}"


def _quality(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _interval(bounds: Sequence[float | None] | None) -> str:
    return "" if not bounds or None in bounds else f"[{bounds[0]:.1f}, {bounds[1]:.1f}]"


def overlap(rate: Estimate) -> str:
    """Return how much of their ranges curves share as a table shows it, ! where it is little."""
    return "" if rate.overlap is None else f"{rate.overlap:.2f}{' !' if rate.is_low_overlap else ''}"


def percent(rate: Estimate) -> str:
    """Return a BD-rate as a table shows it, ! where it rests on little overlap."""
    return "none" if rate.value is None else f"{rate.value:+.1f} %{' !' if rate.is_low_overlap else ''}"


def bounds(low: float | None, high: float | None, form: str) -> str:
    """Return an interval as a table shows it; nothing where there is none."""
    return "" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def _sentence(codec: str, reason: str, metric: str) -> str:
    named = reason if reason.startswith(codec) else f"{codec}: {reason}"
    return named.replace(f" {metric},", f" {metric_of(metric).label},") + "."


def mixtures(items: Sequence[Comparison] | Sequence[FixedAccuracy]) -> list[str]:
    """Return a note on rates of different conventions, where there are any."""
    kinds = dict.fromkeys(text for item in items for text in item.mixed)
    return [f"{MIXED} rates of different conventions: {'; '.join(kinds)}."] if kinds else []


def remark(rate: Estimate) -> str:
    """Return why there is no estimate or no interval; nothing where there are both."""
    if rate.reason:
        return rate.reason
    return f"{rate.n_without} of {rate.n_resamples} replicates without a value" if rate.n_without else ""


def _title(result: Result) -> str:
    n_images = result.meta["dataset"].get("images")
    counted = "" if n_images is None else f": {n_images} images"
    return f"{titled(result.task, result.dataset, result.detector)}{counted}"


def _comment(text: str) -> str:
    return f"% {printable(' '.join(text.split()))}"
