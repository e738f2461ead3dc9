"""Imported curves: what their user knows of their rates, and how they are written among the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from icm_bench.curves.rate_convention import Conventions
from icm_bench.curves.result import Result, load, path_of, save
from icm_bench.error import ResultError
from icm_bench.spec import Spec


def with_conventions(result: Result, **told: str | None) -> Result:
    """Return an imported curve with what its user told of its rates, as for ``Conventions.told``.

    Raises:
        UsageError: There is no such convention.
    """
    conventions = Conventions(**result.meta["conventions"]).told(**told)
    return replace(result, meta={**result.meta, "conventions": conventions.record()})


def save_imported(results: Sequence[Result], root: Path) -> list[Path]:
    """Write imported curves below a results folder, none over a measured curve or another import; return the files.

    Raises:
        ResultError: Two of the curves, or one and a curve that is there, go by the same name, or the folder cannot be
            written; nothing is written then.
    """
    paths: dict[Path, Result] = {}
    for result in results:
        detector = Spec.parse(result.detector).file_name
        path = path_of(root, result.dataset, result.task, detector, Spec.parse(result.codec).file_name)
        there = paths.get(path) or (load(path) if path.exists() else None)
        if there is not None:
            _check_same(there, result, path)
        paths[path] = result
    for path, result in paths.items():
        save(result, path, None)
    return list(paths)


def _check_same(there: Result, result: Result, path: Path) -> None:
    """Refuse to write a curve over one that is not an earlier import of the same."""
    origin, own = there.meta.get("imported"), result.meta["imported"]
    if origin is None:
        raise ResultError("is a curve that was measured here", where=path, hint=_RENAME)
    before, now = ((about.get("file"), about.get("called")) for about in (origin, own))
    if before != now:
        raise ResultError(
            f"is '{before[1]}' of {before[0]}; '{now[1]}' of {now[0]} would be called {result.codec} too",
            where=path,
            hint=_RENAME,
        )


_RENAME: Final = "give the imported codec another name with --codec"
