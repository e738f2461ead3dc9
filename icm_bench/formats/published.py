"""Curves from publications, as data: what others measured, with its source and what its rates mean.

A curve says in its ``meta`` where it was published. No comparison takes it beside curves from elsewhere unless asked,
see :func:`icm_bench.curves.rate_convention.differing`, and plots draw it dashed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from icm_bench.curves.rate_convention import UNKNOWN, Conventions, in_full
from icm_bench.curves.result import Result
from icm_bench.error import UsageError, unknown
from icm_bench.formats.foreign import Group
from icm_bench.formats.tidy import import_tidy

_FOLDER: Final = Path(__file__).parent / "published_curves"


@dataclass(frozen=True)
class Publication:
    """Where curves were published.

    Attributes:
        source: Authors, place and year.
        holds: What was measured, in one sentence.
        conventions: What the rates mean, where the table's own columns do not say it.
        remark: What a reader must know before comparing.
    """

    source: str
    holds: str
    conventions: Conventions
    remark: str


def _publication(conventions: Mapping[str, str], **told: str) -> Publication:
    texts = {key: in_full(key, text) for key, text in conventions.items()}
    return Publication(**told, conventions=Conventions(**texts))


PUBLICATIONS: Final[Mapping[str, Publication]] = MappingProxyType(
    {
        name: _publication(**told)
        for name, told in tomllib.loads((_FOLDER / "publications.toml").read_text(encoding="utf-8")).items()
    }
)
"""The publications by name."""


def published(name: str, *, dataset: str | None = None, detector: str | None = None) -> list[Result]:
    """Return the curves of a publication.

    Args:
        name: One of :data:`PUBLICATIONS`.
        dataset: What to file them under in place of their own dataset, to lay them beside curves of that one.
        detector: The same of the detector; curves of fidelity, which have none, keep none.

    Raises:
        UsageError: There is no such publication, or a name is not one.
    """
    if name not in PUBLICATIONS:
        raise unknown("publication", name, list(PUBLICATIONS))
    publication = PUBLICATIONS[name]
    curves = import_tidy(_FOLDER / f"{name}.csv")
    if detector is not None and all(curve.task == "fidelity" for curve in curves):
        raise UsageError(
            "has no curves of a detector", where=f"publication '{name}'", hint="leave out --detector"
        )
    return [_filed(curve, publication, dataset, detector) for curve in curves]


def _filed(curve: Result, publication: Publication, dataset: str | None, detector: str | None) -> Result:
    is_detected = curve.task != "fidelity"
    group = Group(dataset or curve.dataset, curve.task, (detector if is_detected else None) or curve.detector)
    own = {key: value for key, value in curve.meta["conventions"].items() if value != UNKNOWN}
    meta = {
        **curve.meta,
        "conventions": publication.conventions.record() | own,
        "published": {
            "source": publication.source,
            "remark": publication.remark,
            "dataset": curve.dataset,
            "detector": curve.detector,
        },
    }
    return replace(
        curve, dataset=group.dataset, detector=group.detector, description=publication.holds, meta=meta
    )
