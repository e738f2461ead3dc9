"""Results as one HTML file that needs nothing else: curves, BD-rates, operating points, versions."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from icm_bench import provenance
from icm_bench.comparison import grouped
from icm_bench.error import ResultError
from icm_bench.file import replacing
from icm_bench.report.content import (
    Group,
    embedded_json,
    facts,
    make_group,
    manifest,
    matrix_table,
    plot_data,
    points_table,
)
from icm_bench.result import find

TITLE = "Image coding for machines, measured"


def write(results: Path, output: Path, *, metric: str = "map") -> Path:
    """Write the report of a folder of results.

    Args:
        results: The folder.
        output: The HTML file.
        metric: What the BD-rates are on, and what the plots show first.

    Returns:
        The HTML file.

    Raises:
        ResultError: The folder does not exist, holds no curve or a broken file, or the report cannot be written.
    """
    groups = [make_group(curves, metric) for curves in grouped(find(results)).values()]
    if not groups:
        raise ResultError("holds no curves", where=results, mend="make some with icm-bench run")
    page = render(groups)
    with replacing(output, ResultError) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return output


def render(groups: Sequence[Group]) -> str:
    """Return the report's HTML."""
    script, style = _asset("page.js"), _asset("page.css")
    data = {"groups": [plot_data(group) for group in groups], "browsers": []}
    return _filled(
        _asset("page.html"),
        {
            "POLICY": _policy(script, style),
            "TITLE": TITLE,
            "STYLE": style,
            "CONTENTS": _contents(groups),
            "SECTIONS": "\n".join(_section(index, group) for index, group in enumerate(groups)),
            "FOOTER": html.escape(
                f"icm-bench {provenance.versions(['icm-bench']).get('icm-bench', '')}".strip()
            ),
            "DATA": embedded_json(data),
            "SCRIPT": script,
        },
    )


def _section(index: int, group: Group) -> str:
    return (
        f'<section id="group-{index}" aria-labelledby="title-{index}">'
        f'<h2 id="title-{index}">{html.escape(group.title)}</h2>'
        f"{facts(group)}"
        f'<div data-plot="{index}"><noscript><p>The plot needs JavaScript; the tables do not.</p></noscript></div>'
        f"<h3>BD-rate</h3>{matrix_table(group)}"
        f"<h3>Operating points</h3>{points_table(group)}"
        f"<h3>How it was measured</h3>{manifest(group)}"
        "</section>"
    )


def _contents(groups: Sequence[Group]) -> str:
    if len(groups) < 2:
        return ""
    entries = "".join(
        f'<li><a href="#group-{index}">{html.escape(group.title)}</a></li>'
        for index, group in enumerate(groups)
    )
    return f'<nav aria-label="Contents"><ul>{entries}</ul></nav>'


def _policy(script: str, style: str) -> str:
    """Return a policy under which the page runs its own script and loads nothing from anywhere."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    # Positions of hints are set by the script, as style attributes of its own elements.
    return (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
        "img-src data: file: 'self'; base-uri 'none'; form-action 'none'"
    )


def _filled(template: str, parts: Mapping[str, Any]) -> str:
    # One pass over the template, so that nothing in a part is taken for a place of another.
    pieces = template.split("@@")
    return "".join(parts[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def _asset(name: str) -> str:
    return (files("icm_bench.report") / name).read_text(encoding="utf-8")
