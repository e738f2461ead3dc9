"""Results as one HTML file that needs nothing else: curves, BD-rates, operating points, versions."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from icm_bench.curves.comparison import comparable, grouped
from icm_bench.curves.result import find
from icm_bench.error import IcmBenchError, ResultError
from icm_bench.file import replacing, write_text
from icm_bench.report import content, plot
from icm_bench.report.browser import IOU, LONGEST_SIDE, Album, Places, Stores, make_album
from icm_bench.report.change import section
from icm_bench.report.content import Group
from icm_bench.report.regression import Regression, compare
from icm_bench.report.selection import Selection
from icm_bench.report.style import check_labels
from icm_bench.report.worse import Sides, worse_images

TITLE: Final = "Image coding for machines, measured"

LARGEST_FILE: Final = 20_000_000
"""Bytes of pictures above which they go to a folder beside the file."""

_BASE64: Final = 4 / 3
_PICTURE: Final = re.compile(r"[0-9a-f]{16}\.webp")


@dataclass(frozen=True)
class Pictures:
    """Where a report finds its pictures.

    Attributes:
        stores: The stores.
        places: Where datasets lie.
        n_images: How many images of each dataset, task and detector are shown.
        base: The stores of the earlier results, where the report is of a change.
    """

    stores: Stores
    places: Places
    n_images: int = 12
    base: Stores | None = None


def write(
    results: Path,
    output: Path,
    *,
    metric: str = "map",
    pictures: Pictures | None = None,
    base: Path | None = None,
    base_name: str | None = None,
    selection: Selection | None = None,
    labels: Mapping[str, str] | None = None,
) -> list[str]:
    """Write the report of a folder of results.

    Pictures that would make the file larger than 20 MB go to a folder beside it, from which those of an earlier report
    are removed.

    Args:
        results: The folder.
        output: The HTML file.
        metric: What the BD-rates are on, and what the plots show first.
        pictures: Where pictures come from; none are shown where None.
        base: The folder of earlier results, where the report is of a change.
        base_name: What to call them; the folder where None.
        selection: Which curves to show; all where None.
        labels: Codecs' labels by spec, or by name; those that no curve answers to are left out.

    Returns:
        What a reader will miss, one line each: curves that are left out or not shown in images, and why.

    Raises:
        ResultError: The folder does not exist or holds no curve that can be read, or the report cannot be written.
        IcmBenchError: No curve at all could be shown in pictures that were asked for.
    """
    errors: list[ResultError] = []
    selected = (selection or Selection()).of(find(results, errors.append))
    check_labels(labels or {}, selected)
    compared = [comparable(curves) for curves in grouped(selected).values()]
    missed = [
        f"left out: {line}" for line in [*map(str, errors), *(line for _, left in compared for line in left)]
    ]
    earlier = [] if base is None else list(find(base))
    groups = [content.make_group(curves, metric, base=earlier, labels=labels) for curves, _ in compared]
    if errors and not groups:
        raise errors[0]
    if not groups:
        raise ResultError("holds no curves", where=results, hint="make some with icm-bench run")
    change, worse = None, ""
    if base is not None:
        change = compare(base, results, base_name=base_name, head_name="these results", metric=metric)
        if pictures is not None and pictures.base is not None:
            sides = Sides(pictures.base, pictures.stores, pictures.places)
            worse = worse_images(change, earlier, selected, sides)
    albums = _albums(groups, pictures)
    made = [album for album in albums if isinstance(album, Album)]
    folder = output.with_name(f"{output.stem}_files")
    kept: set[str] = set()
    if sum(album.n_bytes for album in made) * _BASE64 <= LARGEST_FILE:
        for album in made:
            album.embed()
    else:
        for album in made:
            for name, picture in album.pictures.items():
                with replacing(folder / name, ResultError) as temporary:
                    temporary.write_bytes(picture)
            album.refer(quote(folder.name))
            kept |= set(album.pictures)
    # Names of files may hold bytes that are no text.
    write_text(output, render(groups, albums, change, worse), ResultError, errors="backslashreplace")
    _sweep(folder, kept)
    return missed + [f"no images: {album}" for album in albums if isinstance(album, IcmBenchError)]


def render(
    groups: Sequence[Group],
    albums: Sequence[Album | IcmBenchError | None] = (),
    change: Regression | None = None,
    worse: str = "",
) -> str:
    """Return the report's HTML.

    ``albums`` are the pictures of each group, or why it has none, or None where none were asked for; ``change`` is how
    earlier results compare, and ``worse`` HTML of the images that became worse.
    """
    script, style = _asset("page.js"), _asset("page.css")
    browsers = [album.data if isinstance(album, Album) else None for album in albums]
    data = {"groups": [content.plot_data(group) for group in groups], "browsers": browsers}
    padded = [*albums, *[None] * (len(groups) - len(albums))]
    sections = [_section(index, *pair) for index, pair in enumerate(zip(groups, padded, strict=True))]
    if change is not None:
        sections.insert(0, section(change, worse))
    return _filled(
        _asset("page.html"),
        {
            "POLICY": _policy(script, style),
            "TITLE": TITLE,
            "STYLE": style,
            "CONTENTS": _contents(groups),
            "SECTIONS": "\n".join(sections),
            "FOOTER": html.escape(plot.made_by()),
            "DATA": content.embedded_json(data),
            "SCRIPT": script,
        },
    )


def _albums(groups: Sequence[Group], pictures: Pictures | None) -> list[Album | IcmBenchError | None]:
    if pictures is None:
        return [None] * len(groups)
    albums: list[Album | IcmBenchError | None] = []
    for group in groups:
        try:
            albums.append(make_album(group, pictures.stores, pictures.places, pictures.n_images))
        except IcmBenchError as error:
            albums.append(type(error)(error.what, where=error.where or group.title, hint=error.hint))
    if not any(isinstance(album, Album) for album in albums):
        raise next(album for album in albums if isinstance(album, IcmBenchError))
    return albums


def _sweep(folder: Path, kept: set[str]) -> None:
    """Remove the pictures of an earlier report, and nothing that a report does not write."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if _PICTURE.fullmatch(path.name) and path.name not in kept:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        # Only where nothing is left in it.
        folder.rmdir()


def _section(index: int, group: Group, album: Album | IcmBenchError | None) -> str:
    return (
        f'<section id="group-{index}" aria-labelledby="title-{index}">'
        f'<h2 id="title-{index}">{html.escape(group.title)}</h2>'
        f"{content.facts(group)}"
        f'<div data-plot="{index}"><noscript>{_still(group)}</noscript></div>'
        f"<h3>BD-rate</h3>{content.matrix_table(group)}"
        f"<h3>Operating points</h3>{content.points_table(group)}"
        f"{_pictures(index, album)}"
        f"<h3>How it was measured</h3>{content.manifest(group)}"
        "</section>"
    )


def _still(group: Group) -> str:
    """Return the plot as an image, for where no script runs."""
    try:
        plotted = plot.to_svg(group.results, group.metric)
    except ResultError as error:
        return f"<p>No plot: {html.escape(str(error))}.</p>"
    encoded = base64.b64encode(plotted).decode("ascii")
    name = html.escape(f"{group.metric} against rate, {group.title}")
    return f'<img class="still" alt="{name}" src="data:image/svg+xml;base64,{encoded}">'


def _pictures(index: int, album: Album | IcmBenchError | None) -> str:
    if album is None:
        return ""
    if isinstance(album, IcmBenchError):
        return f"<h3>Images</h3><p>None: {html.escape(str(album))}.</p>"
    return (
        '<h3>Images</h3><p class="caption">The images that lose most over all operating points. A detection is true '
        f"where it overlaps an object of its category by an IoU of {IOU} or more. They are shown reduced to "
        f"{LONGEST_SIDE} pixels, as WebP.</p>"
        f'<div data-browser="{index}"><noscript>They need JavaScript.</noscript></div>'
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
