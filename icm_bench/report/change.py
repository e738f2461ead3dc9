"""A comparison of two folders of results as HTML: what became of each curve."""

from __future__ import annotations

import html
from collections.abc import Sequence

from icm_bench.report import difference
from icm_bench.report.regression import DIRECTION, Regression
from icm_bench.report.table import Table


def section(regression: Regression, images: str = "") -> str:
    """Return what changed as one HTML section, the curves that need a reader's eye first, HTML of images last."""
    tables = "".join(map(_table, difference.tables(regression)))
    captions = map(html.escape, difference.notes(regression)[1:])
    notes = "".join(f'<p class="caption">{caption}</p>' for caption in captions)
    return (
        '<section id="change" aria-labelledby="title-change"><h2 id="title-change">What changed</h2>'
        f"<p><strong>{html.escape(difference.headline(regression))}</strong></p>"
        f"<p>{html.escape(DIRECTION)} In the plots earlier curves that differ are dotted.</p>"
        f"{tables}{notes}{images}</section>"
    )


def _table(shown: Table) -> str:
    # Seconds last, so that a screen shows the remark without scrolling.
    order = sorted(range(len(shown.header)), key=lambda index: shown.header[index].endswith(" s"))
    head = "".join(f'<th scope="col">{html.escape(shown.header[index])}</th>' for index in order)
    body = "".join(f'<tr class="{row[1].split()[0]}">{_cells(shown, row, order)}</tr>' for row in shown.rows)
    title = html.escape(shown.title)
    return (
        f'<h3>{title}</h3><div class="scroll" tabindex="0" role="region" aria-label="{title}">'
        f'<table class="change"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cells(shown: Table, row: tuple[str, ...], order: Sequence[int]) -> str:
    def cell(index: int) -> str:
        text = html.escape(row[index])
        if index == 0:
            return f'<th scope="row">{text}</th>'
        if shown.header[index] == "remark":
            return f'<td class="remark">{text}</td>'
        kind = ' class="number"' if shown.is_number(index) and index > 1 else ""
        return f"<td{kind}>{text}</td>"

    return "".join(map(cell, order))
