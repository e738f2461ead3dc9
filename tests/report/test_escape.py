"""Names from elsewhere in Markdown, LaTeX, CSV and on terminals: text, and nothing else."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from icm_bench.report import escape, record, table
from icm_bench.report.table import Table

HOSTILE = [
    "@someone",
    "[x][r]",
    "[r]: //example.org",
    "![x][r]",
    "www.example.org",
    "https://example.org",
    "<a\nhref=//example.org>y</a>",
    "<a/href=//example.org>",
    "<div><image src=//example.org></div>",
    "a@example.org",
    "mailto:a@example.org",
    "<!<!---- -->",
    "&#64;someone",
    "`code` | cell",
    "# heading",
    "- item",
    "+",
    "---",
    "===",
    "1. item",
    "7)",
    "***bold***",
    "<details><summary>x",
    "$\\href{x}{y}$",
    "\\",
    "\\|",
    "\x1b[2J\x07",
    "a\udcffb",
    "\u202egnp",
    "owner/name#12",
    "GH-12",
]

ALLOWED = {"paragraph", "table", "thead", "tbody", "tr", "th", "td", "strong", "inline"}


def rendered(text: str) -> tuple[set[str], str]:
    """Return the elements that GitHub's Markdown makes of a text, and the text that it shows."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    kinds = {token.type.removesuffix("_open").removesuffix("_close") for token in tokens}
    inline = [child for token in tokens for child in token.children or ()]
    kinds |= {child.type.removesuffix("_open").removesuffix("_close") for child in inline}
    return kinds - {"text", "text_special", "softbreak"}, "".join(child.content for child in inline)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_makes_no_element_but_the_tables(name: str) -> None:
    hostile = Table(name, ("codec", name), ((name, "1"), ("jpeg", name)), (name,))
    elements, shown = rendered(table.markdown(hostile))
    assert elements <= ALLOWED
    lines = [line for line in table.markdown(hostile).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    # What GitHub links without markup is broken up as well.
    for bare in ("@someone", "www.", "://", "mailto:", "#12", "GH-12", "a@example"):
        assert bare not in shown
    assert not any("\x00" <= each < " " or "\ud800" <= each <= "\udfff" for each in shown)


@given(st.text(max_size=40))
def test_no_name_makes_an_element(name: str) -> None:
    elements, _ = rendered(table.markdown(Table("x", ("codec",), ((name,),))))
    assert elements <= ALLOWED


def test_ordinary_specs_stay_as_they_are() -> None:
    for text in ("vvc:preset=medium", "icm, no ROI", "[-1.0, +2.0]", "AP50", "hevc:chroma=444:preset=slow"):
        assert rendered(escape.markdown(text))[1] == text


def test_latex_sets_every_character_as_itself() -> None:
    assert escape.latex("a_b 5% $x$ {~^<>|\\}") == (
        r"a\_b 5\% \$x\$ \{\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}\textbackslash{}\}"
    )
    hostile = table.latex(Table("a\n\\end", ("x\ny",), (("1 & 2",),), ("note\n\\input{x}",)))
    assert [line for line in hostile.splitlines() if line.startswith("%")] == [
        "% a \\end",
        "% note \\input{x}",
    ]
    assert r"1 \& 2 \\" in hostile


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_spreadsheet_computes_no_name(name: str) -> None:
    (row,) = csv.DictReader(io.StringIO(record.to_csv([{"codec": name, "bd_rate_percent": -5.0}])))
    assert row["codec"] == f"'{name}"
    assert float(row["bd_rate_percent"]) == -5.0


def test_nothing_of_a_name_reaches_the_terminal_but_text() -> None:
    output = io.StringIO()
    hostile = "a\x1b]0;title\x07\x1b[2Jb\rc\u202e\udcff"
    table.show(Table(hostile, (hostile, "x"), ((hostile, "1"),), (hostile,)), Console(file=output))
    assert not set(output.getvalue()) & set("\x1b\x07\r\u202e\udcff")
    output.getvalue().encode()
