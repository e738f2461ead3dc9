"""A comparison of two folders of results, as text, Markdown, JSON and JUnit XML."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias
from xml.etree import ElementTree

from rich.console import Console

from icm_bench.curves.estimate import Estimate
from icm_bench.curves.result import titled
from icm_bench.metrics.metric import metric_of
from icm_bench.report import escape, table
from icm_bench.report.pairing import Pair
from icm_bench.report.regression import DIRECTION, Regression, Row
from icm_bench.report.table import Table
from icm_bench.report.verdict import SURE

Format: TypeAlias = Literal["text", "markdown", "json", "junit"]

ENDINGS: Final[Mapping[str, Format]] = {".txt": "text", ".md": "markdown", ".json": "json", ".xml": "junit"}
"""The format that a file's ending names."""

SCHEMA: Final = 1
"""Version of the JSON. 1: first."""

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(regression: Regression, format_: Format) -> str:
    """Return a comparison in a format, ending in a newline."""
    return {"text": text, "markdown": markdown, "json": to_json, "junit": junit}[format_](regression)


def headline(regression: Regression) -> str:
    """Say the outcome in one line."""
    counted = ", ".join(f"{count} {verdict}" for verdict, count in regression.counts.items())
    unknown = "Not all comparable" if regression.counts.get("not comparable") else "No regression"
    outcome = "Worse" if regression.is_worse else unknown
    return f"{outcome}: {regression.head} against {regression.base}: {counted}."


def text(regression: Regression) -> str:
    """Return a comparison as plain text."""
    output = io.StringIO()
    console = Console(file=output, width=200, highlight=False)
    console.print(headline(regression), markup=False, soft_wrap=True)
    for shown in tables(regression):
        console.print()
        table.show(shown, console)
    for row in regression.rows:
        for line in _detail_lines(row):
            console.print(line, markup=False, soft_wrap=True)
    console.print()
    for note in notes(regression):
        console.print(note, markup=False, soft_wrap=True)
    return output.getvalue()


def markdown(regression: Regression) -> str:
    """Return a comparison as GitHub's Markdown, the long part folded away."""
    parts = [f"### {escape.markdown(headline(regression))}", DIRECTION]
    parts += [table.markdown(shown).strip() for shown in tables(regression)]
    details = "\n\n".join(
        _markdown_details(row)
        for row in regression.rows
        if row.verdict != "identical" and (row.points or row.changes)
    )
    if details:
        parts.append(f"<details>\n<summary>Operating points, versions</summary>\n\n{details}\n\n</details>")
    parts += [escape.markdown(note) for note in notes(regression)[1:]]
    return "\n\n".join(parts) + "\n"


def to_json(regression: Regression) -> str:
    """Return a comparison as JSON, None where there is no figure."""
    content = {
        "schema": SCHEMA,
        "direction": DIRECTION,
        "base": regression.base,
        "head": regression.head,
        "metric": ", ".join(regression.metrics),
        "tolerance_percent": regression.tolerance_percent,
        "is_worse": regression.is_worse,
        "counts": regression.counts,
        "rows": [_record(row) for row in regression.rows],
    }
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def junit(regression: Regression) -> str:
    """Return a comparison as JUnit XML: a curve is a test case, a worse one a failure, one without verdict skipped."""
    suites = ElementTree.Element("testsuites", name="icm-bench compare")
    for group, rows in _groups(regression).items():
        verdicts = [row.verdict for row in rows]
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=_xml(" / ".join(group)),
            tests=str(len(rows)),
            failures=str(verdicts.count("worse")),
            skipped=str(verdicts.count("not comparable")),
            errors="0",
        )
        for row in rows:
            case = ElementTree.SubElement(
                suite, "testcase", classname=_xml(".".join(group)), name=_xml(row.codec)
            )
            if row.verdict in ("worse", "not comparable"):
                kind = "failure" if row.verdict == "worse" else "skipped"
                ElementTree.SubElement(case, kind, message=_xml(_sentence(row)))
            said = "\n".join([_sentence(row), *_detail_lines(row), DIRECTION])
            ElementTree.SubElement(case, "system-out").text = _xml(said)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _groups(regression: Regression) -> dict[tuple[str, str, str], list[Row]]:
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in regression.rows:
        groups.setdefault((row.dataset, row.task, row.detector), []).append(row)
    return groups


def tables(regression: Regression) -> list[Table]:
    """Return a table for each dataset, task and detector."""
    made = []
    for group, rows in _groups(regression).items():
        dataset, task, detector = group
        title = f"{titled(task, dataset, detector)}{_counted(rows)}"
        gained = f"{metric_of(rows[0].metric).label} gained"
        measured = ("BD-rate", "95 %", "overlap", gained, "95 %", "bits", "enc s", "dec s")
        header = ("codec", "verdict", *measured, "remark")
        made.append(Table(title, header, tuple(map(_cells, rows)), n_text=1))
    return made


def _counted(rows: list[Row]) -> str:
    counts = {row.n_images for row in rows}
    return f": {counts.pop()} images" if len(counts) == 1 and None not in counts else ""


def notes(regression: Regression) -> list[str]:
    """Return what a reader must know of the tables, what the signs mean first."""
    name = " or ".join(metric_of(metric).label for metric in regression.metrics)
    return [
        DIRECTION,
        f"Worse: the BD-rate on {name} is above {regression.tolerance_percent:g} % and its paired {100 * SURE:g} % "
        "interval over the images is above zero; better: the mirror image. Of 100 curves that differ by chance alone, "
        "one to three are called worse on 70 images or more, and about six on 16. Shown are 95 % intervals.",
        f"{name} gained: mean difference at base's rates. bits: more or fewer at the same settings. Seconds: mean an "
        "image, base and head; ~ where they ran on different machines. identical: the bitstreams and all values are "
        "equal.",
    ]


def _cells(row: Row) -> tuple[str, ...]:
    figure, difference = row.bd_rate or Estimate(value=None, method="pchip"), row.difference
    return (
        row.codec,
        row.verdict,
        "" if figure.value is None else f"{figure.value:+.2f} %",
        "" if figure.value is None else table.bounds(figure.low, figure.high, "+.2f"),
        table.overlap(figure),
        "" if difference is None else f"{difference.mean:+.2f}",
        "" if difference is None else table.bounds(difference.low, difference.high, "+.2f"),
        _percent(row.bits),
        # Nothing changed that could take another time: what differs is the machine's noise.
        "" if row.verdict == "identical" else _seconds(row.encode_s, row.same_machine),
        "" if row.verdict == "identical" else _seconds(row.decode_s, row.same_machine),
        _remark(row),
    )


def _remark(row: Row) -> str:
    parts = [row.reason or "", *(() if row.bd_rate is None else dict.fromkeys(row.bd_rate.dips))]
    names = [change.name for change in row.changes]
    if names:
        parts.append(f"changed: {', '.join(names)}")
    return "; ".join(filter(None, parts))


def _sentence(row: Row) -> str:
    percent, limits = _cells(row)[2:4]
    figure = f": BD-rate {percent} {limits}".rstrip() if percent else ""
    return f"{row.codec} is {row.verdict}{figure}" + (f" ({row.reason})" if row.reason else "")


def _detail_lines(row: Row) -> list[str]:
    return [f"{row.codec}: {change.name}: {change.base} -> {change.head}" for change in row.changes]


def _markdown_details(row: Row) -> str:
    name = metric_of(row.metric).label
    where = f"{row.dataset}, {row.task}, {row.detector}"
    parts = []
    if row.points:
        points = Table(
            f"{row.codec} ({where})",
            ("quality", "bpp", "bpp, head", "bits", name, f"{name}, head", "enc s", "dec s", "bitstreams"),
            tuple(
                (
                    f"{point.quality:g}",
                    table.number(point.bpp.base, 4),
                    table.number(point.bpp.head, 4),
                    _percent(point.bpp),
                    table.number(point.accuracy.base, 2),
                    table.number(point.accuracy.head, 2),
                    _seconds(point.encode_s, row.same_machine),
                    _seconds(point.decode_s, row.same_machine),
                    {None: "", True: "same", False: "differ"}[point.same_bitstreams],
                )
                for point in row.points
            ),
            n_text=1,
        )
        parts.append(table.markdown(points).strip())
    if row.at_rates:
        at_rates = Table(
            f"{row.codec}: {name} at base's rates",
            ("bpp", "base", "head", "difference", "95 %"),
            tuple(
                (
                    f"{at.bpp:.4f}",
                    f"{at.base:.2f}",
                    f"{at.head:.2f}",
                    f"{at.difference:+.2f}",
                    table.bounds(at.low, at.high, "+.2f"),
                )
                for at in row.at_rates
            ),
        )
        parts.append(table.markdown(at_rates).strip())
    parts += [f"- {escape.markdown(line)}" for line in _detail_lines(row)]
    return "\n\n".join(parts)


def _record(row: Row) -> dict[str, Any]:
    record = dataclasses.asdict(row)
    if record["bd_rate"] is not None:
        # The name that readers of this JSON know.
        record["bd_rate"]["percent"] = record["bd_rate"].pop("value")
    for key in ("bits", "encode_s", "decode_s"):
        record[key]["percent"] = getattr(row, key).percent
    for at, filed in zip(row.at_rates, record["at_rates"], strict=True):
        filed["difference"] = at.difference
    return record


def _percent(pair: Pair) -> str:
    return "" if pair.percent is None else f"{pair.percent:+.2f} %"


def _seconds(pair: Pair, same_machine: bool | None) -> str:
    if pair.base is None or pair.head is None:
        return ""
    return f"{pair.base:.3g} -> {pair.head:.3g}" + ("" if same_machine else " ~")


def _xml(content: str) -> str:
    return _NOT_XML.sub("\ufffd", content)
