"""Codecs, detectors and datasets by name, through entry points: ours exactly as a third party's."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeAlias

from icm_bench.error import IcmBenchError, UsageError, unknown

Kind: TypeAlias = Literal["codec", "detector", "dataset", "trainer", "training"]


def names(kind: Kind) -> list[str]:
    """Return the names that are provided, sorted, without importing any provider."""
    return sorted({point.name for point in entry_points(group=_group(kind))})


def provider(kind: Kind, name: str) -> str:
    """Return which distribution provides a name, without importing it."""
    point = _find(kind, name)
    return point.dist.name if point.dist is not None else "unknown"


def load(kind: Kind, name: str) -> Any:
    """Import the provider of a name.

    Raises:
        UsageError: The name is unknown, or two distributions provide it.
        IcmBenchError: The provider cannot be imported.
    """
    point = _find(kind, name)
    try:
        return point.load()
    except ImportError as error:
        raise IcmBenchError(
            f"its provider {point.value} cannot be imported ({error})",
            where=f"{kind} '{name}'",
            hint="install what it needs, or remove the package that provides it",
        ) from error


def _find(kind: Kind, name: str) -> EntryPoint:
    # An editable and a built install of one distribution may both be visible: the same value is one provider.
    found = {point.value: point for point in entry_points(group=_group(kind), name=name)}
    if not found:
        raise unknown(kind, name, names(kind))
    if len(found) > 1:
        providers = " and ".join(sorted(found))
        raise UsageError(f"two providers ({providers})", where=f"{kind} '{name}'", hint="uninstall one")
    return next(iter(found.values()))


def _group(kind: Kind) -> str:
    return f"icm_bench.{kind}s"
