"""Which category each of a detector's labels names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.error import DetectorError
from icm_bench.image import printable

COCO_80 = "coco80"
"""Labels 0 to 79 are COCO's categories in the order of their ids."""

COCO_91 = "coco91"
"""Labels are COCO's category ids, 1 to 90."""


@dataclass(frozen=True)
class LabelMap:
    """Labels and the categories that they name.

    Attributes:
        category_ids: The category id by label.
        categories: The categories' names by id.
    """

    category_ids: Mapping[int, int]
    categories: Mapping[int, str]

    @property
    def n_labels(self) -> int:
        """One more than the largest label."""
        return max(self.category_ids) + 1

    @classmethod
    def coco(cls, name: str) -> LabelMap:
        """Return COCO's categories, labelled without gaps (``coco80``) or by their ids (``coco91``)."""
        if name == COCO_80:
            return cls(MappingProxyType(dict(enumerate(CATEGORIES))), CATEGORIES)
        return cls(MappingProxyType({label: label for label in CATEGORIES}), CATEGORIES)

    @classmethod
    def read(cls, path: Path) -> LabelMap:
        """Return the categories of a JSON file: a list of ``{"id", "name"}``, or an object with it as ``categories``.

        A row's label is its position, or its ``label`` where it has one.

        Raises:
            DetectorError: The file is missing or not of that form; or two rows share a label or an id.
        """
        where = printable(path)
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DetectorError(
                f"the categories cannot be read ({printable(error)})",
                where=where,
                hint="give a JSON file beside the weights, coco80 or coco91",
            ) from error
        rows = content.get("categories") if isinstance(content, dict) else content
        try:
            return cls._of_rows(rows)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise DetectorError(
                f"the file is no list of categories ({printable(error)})",
                where=where,
                hint='give rows of {"id": 1, "name": "person"}, in the order of the labels or with "label"',
            ) from error

    @classmethod
    def _of_rows(cls, rows: Any) -> LabelMap:
        ids: dict[int, int] = {}
        names: dict[int, str] = {}
        for position, row in enumerate(rows):
            label, identifier, name = row.get("label", position), row["id"], row["name"]
            if (
                type(label) is not int
                or type(identifier) is not int
                or not isinstance(name, str)
                or label < 0
            ):
                raise ValueError(f"row {position} is {row}")
            if label in ids or identifier in names:
                raise ValueError(f"row {position} repeats a label or an id")
            ids[label], names[identifier] = identifier, name
        if not ids or max(ids) > 100_000:
            raise ValueError("no rows, or a label above 100000")
        return cls(MappingProxyType(ids), MappingProxyType(names))
