"""Open Images' CSV files, lists and hierarchy of classes, and what their classes mean."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.error import DatasetError
from icm_bench.file import packaged_table
from icm_bench.image import printable

FETCH_AGAIN: Final = "correct the file, or fetch it again"
_SLACK: Final = 1e-3
"""How far, in parts of the image's side, a box may stray over the border: published ones are rounded."""

_OTHER_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {row["openimages"]: row["coco"] for row in packaged_table("icm_bench.datasets", "openimages_name.csv")}
)
"""What Open Images calls otherwise than COCO. The classes of MPEG's subset bear COCO's names; for the whole split no
map is published, and this is ours."""


@dataclass(frozen=True)
class Classes:
    """Which COCO categories a class's presence and absence tell of.

    Attributes:
        present: By label, the categories that are there where the class is.
        absent: By label, the categories that are not there where the class is not.
    """

    present: Mapping[str, frozenset[int]]
    absent: Mapping[str, frozenset[int]]


def mpeg_classes() -> Classes:
    """Return the classes of MPEG's subset, which bear COCO's names."""
    alone = {name.replace(" ", "_"): frozenset({key}) for key, name in CATEGORIES.items()}
    return Classes(alone, alone)


def published_classes(descriptions: Path, hierarchy: Path) -> Classes:
    """Return the classes of the whole split, read from their names and their hierarchy."""
    by_name = {name: key for key, name in CATEGORIES.items()}
    own: dict[str, frozenset[int]] = {}
    for line, row in lines_of(descriptions):
        if len(row) != 2:
            malformed(descriptions, line, "is not a label and a name")
        label, name = row[0], row[1].lower()
        key = by_name.get(_OTHER_NAMES.get(name, name))
        own[label] = frozenset() if key is None else frozenset({key})
    above, below = _kinships(hierarchy)
    return Classes(
        {label: _union(own, {label} | above.get(label, set())) for label in own},
        {label: _union(own, {label} | below.get(label, set())) for label in own},
    )


def _union(own: Mapping[str, frozenset[int]], labels: Iterable[str]) -> frozenset[int]:
    return frozenset().union(*(own.get(label, frozenset()) for label in labels))


def _kinships(path: Path) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Return of each class the classes that it is a kind of, and those that are kinds of it."""
    above: dict[str, set[str]] = {}
    below: dict[str, set[str]] = {}

    def walk(node: Any, ancestors: tuple[str, ...]) -> None:
        label = node["LabelName"]
        above.setdefault(label, set()).update(ancestors)
        for ancestor in ancestors:
            below.setdefault(ancestor, set()).add(label)
        for kind in node.get("Subcategory", ()):
            walk(kind, (*ancestors, label))

    try:
        walk(json.loads(path.read_text(encoding="utf-8")), ())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(
            f"is not a hierarchy of classes ({type(error).__name__}: {error})",
            where=printable(path),
            hint=FETCH_AGAIN,
        ) from error
    return above, below


def rows_of(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the named columns of a CSV file with the number of each line."""
    lines = lines_of(path)
    _, header = next(lines, (0, []))
    missing = [name for name in columns if name not in header]
    if missing:
        raise DatasetError(
            f"has no column '{missing[0]}'", where=printable(path), hint=f"it needs {', '.join(columns)}"
        )
    places = [header.index(name) for name in columns]
    for line, row in lines:
        if len(row) != len(header):
            malformed(path, line, f"has {len(row)} fields where the header has {len(header)}")
        yield line, [row[place] for place in places]


def lines_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a CSV file that are not empty, as fields, with their numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except OSError as error:
        raise DatasetError(
            f"cannot be read ({error.strerror})", where=printable(path), hint="check its permissions"
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(f"is not a CSV file ({error})", where=printable(path), hint=FETCH_AGAIN) from error


def coordinate(path: Path, line: int, text: str) -> float:
    """Read a coordinate, a share of the image's side."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -_SLACK <= value <= 1 + _SLACK:
        malformed(path, line, f"has the coordinate {text!r}, not a number from 0 to 1")
    return value


def meaning_of(meanings: Mapping[str, frozenset[int]], label: str, path: Path, line: int) -> frozenset[int]:
    """Return the categories that a class tells of."""
    if label not in meanings:
        malformed(path, line, f"has the unknown class {label!r}")
    return meanings[label]


def malformed(path: Path, line: int, why: str) -> NoReturn:
    """Refuse a line of a file."""
    raise DatasetError(f"line {line} {why}", where=printable(path), hint=FETCH_AGAIN)
