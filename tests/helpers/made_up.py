"""Curves that nobody measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from icm_bench.curves.rate_convention import MEASURED
from icm_bench.curves.result import Result

BLOBS = ("blobs", "detection", "fake")


def made_up(
    codec: str,
    results: Mapping[str, Sequence[float | None]],
    group: tuple[str, str, str] = BLOBS,
    **meta: Any,
) -> Result:
    """Return a curve that holds the least that every curve does, and further or other facts."""
    least = {
        "qualities": list(range(1, len(results["bpp"]) + 1)),
        "dataset": {},
        "detector": {},
        "conventions": MEASURED.record(),
    }
    return Result(*group, codec, {name: list(column) for name, column in results.items()}, least | meta)
