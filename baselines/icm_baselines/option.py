"""What a codec's constructor may be given, checked."""

from __future__ import annotations

from icm_bench.codec import Quality
from icm_bench.error import UsageError


def whole(value: Quality, low: int, high: int, *, where: str) -> int:
    """Return a whole number within bounds.

    Raises:
        UsageError: It is not whole or lies outside.
    """
    if value != int(value) or not low <= value <= high:
        raise UsageError(f"{value:g} is not a whole number from {low} to {high}", where=where)
    return int(value)


def real(value: Quality, low: float, high: float, *, where: str) -> float:
    """Return a number within bounds.

    Raises:
        UsageError: It lies outside.
    """
    if not low <= value <= high:
        raise UsageError(f"{value:g} is not a number from {low:g} to {high:g}", where=where)
    return float(value)
