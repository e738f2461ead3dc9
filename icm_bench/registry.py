"""Find codecs, detectors, datasets and metrics by name, through entry points: our own like a third party's.

A name may also be given in this process alone, for a class that is not installed.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeAlias

from icm_bench.error import IcmBenchError, UsageError, unknown

Kind: TypeAlias = Literal["codec", "detector", "dataset", "metric", "trainer", "training"]


_given: dict[tuple[Kind, str], Any] = {}
"""What :func:`give` was called with."""


def names(kind: Kind) -> list[str]:
    """Return the names that are provided, sorted, without importing any provider."""
    given = {name for own, name in _given if own == kind}
    return sorted(given | {point.name for point in entry_points(group=_group(kind))})


def give(kind: Kind, name: str, provided: Any) -> None:
    """Let a name stand for a class that is not installed, in this process; it replaces an earlier one.

    Raises:
        UsageError: A distribution provides the name, and provides something else.
    """
    if entry_points(group=_group(kind), name=name):
        if load(kind, name) is not provided:
            raise UsageError(
                f"{_find(kind, name).value} is installed under this name",
                where=f"{kind} '{name}'",
                hint="give your class another name",
            )
        return
    _given[kind, name] = provided


def pack(wanted: Iterable[tuple[Kind, str]]) -> bytes:
    """Return those of the names that were given here, for another process to :func:`unpack`; nothing for none.

    Raises:
        UsageError: A class cannot be sent.
    """
    chosen = {key: _given[key] for key in wanted if key in _given}
    if not chosen:
        return b""
    where = ", ".join(f"{kind} '{name}'" for kind, name in sorted(chosen))
    hint = "give workers=1, or install a package that provides it"
    try:
        import cloudpickle
    except ImportError as error:
        raise UsageError(
            "exists in this process alone, and cloudpickle, which sends it to others, is not installed",
            where=where,
            hint=f"pip install cloudpickle, {hint}",
        ) from error
    try:
        packed: bytes = cloudpickle.dumps(chosen)
    except Exception as error:  # whatever a class or its objects raise
        raise UsageError(f"cannot be sent to other processes ({error})", where=where, hint=hint) from error
    return packed


def unpack(packed: bytes) -> None:
    """Let the names stand for the classes that they stood for where they were packed."""
    if packed:
        _given.update(pickle.loads(packed))  # noqa: S301  (from the process that has this one do its work)


def provider(kind: Kind, name: str) -> str:
    """Return which distribution provides a name, without importing it."""
    if (kind, name) in _given:
        return "this process"
    point = _find(kind, name)
    return point.dist.name if point.dist is not None else "unknown"


def load(kind: Kind, name: str) -> Any:
    """Import the provider of a name.

    Raises:
        UsageError: The name is unknown, or two distributions provide it.
        IcmBenchError: The provider cannot be imported.
    """
    if (kind, name) in _given:
        return _given[kind, name]
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
    return _found(kind, name, tuple(sys.path))


@cache
def _found(kind: Kind, name: str, _path: tuple[str, ...]) -> EntryPoint:
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
