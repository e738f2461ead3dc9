"""Text of unknown origin, made fit for Markdown, LaTeX and spreadsheets.

Names come from result files, which a pull request may bring: they must not become markup, mention anyone, or be
computed.
"""

from __future__ import annotations

import html
import re
from typing import Final

from icm_bench.text import printable

_GAP: Final = "\u200b"
"""A space of no width, which parts what GitHub would make a link or a mention of."""

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{each: f"\\{each}" for each in "&%$#_{}"},
}


def markdown(text: str) -> str:
    """Return a text that GitHub's Markdown shows as it is, in one line, within a table or without.

    No element, link, image, mention or reference to an issue comes of it, whatever the text says.
    """
    plain = html.escape(printable(" ".join(text.split())), quote=False)
    escaped = re.sub(r"([\\`*_\[\]~!|$])", r"\\\1", plain)
    # At the beginning of a line these would make a list, a rule or a heading.
    escaped = re.sub(r"^([-+=])(?=\1|\s|$)|^(\d{1,9})(?=[.)](\s|$))", _unblocked, escaped)
    escaped = re.sub(r"([@#])", rf"\1{_GAP}", escaped)
    # GitHub makes links of bare addresses too, wherever they stand.
    escaped = re.sub(r"(?i)\b(www)(?=\.)", rf"\1{_GAP}", escaped)
    escaped = re.sub(r":(?=//)", f":{_GAP}", escaped)
    escaped = re.sub(r"(?i)\b(mailto|xmpp)(?=:)", rf"\1{_GAP}", escaped)
    return re.sub(r"(?i)\b(gh)(?=-\d)", rf"\1{_GAP}", escaped)


def latex(text: str) -> str:
    """Return a text that LaTeX sets as it is, in one line."""
    return "".join(_LATEX.get(each, each) for each in printable(" ".join(text.split())))


def cell(value: object) -> object:
    """Return a value for a cell of a CSV file: a text that a spreadsheet would compute is quoted by an apostrophe."""
    if not isinstance(value, str):
        return value
    shown = printable(value)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@") else shown


def _unblocked(found: re.Match[str]) -> str:
    return f"\\{found[1]}" if found[1] else f"{found[2]}{_GAP}"
