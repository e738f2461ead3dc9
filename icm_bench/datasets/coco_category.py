"""COCO's 80 object categories under their published ids, which run from 1 to 90 with gaps."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from icm_bench.file import packaged_table

CATEGORIES: Mapping[int, str] = MappingProxyType(
    {int(row["id"]): row["name"] for row in packaged_table("icm_bench.datasets", "coco_category.csv")}
)
