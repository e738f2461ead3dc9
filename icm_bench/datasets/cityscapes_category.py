"""The categories of Cityscapes' instances."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from icm_bench.file import packaged_table

CATEGORIES: Final[Mapping[int, str]] = MappingProxyType(
    {int(row["id"]): row["name"] for row in packaged_table("icm_bench.datasets", "cityscapes_category.csv")}
)
"""The labels whose instances are scored, name by id."""
