"""Which curves of a folder of results are shown, and how their codecs are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from icm_bench.curves.result import Result
from icm_bench.error import UsageError, unknown
from icm_bench.report.style import matching


@dataclass(frozen=True)
class Selection:
    """Curves by what they are of; a field that is empty takes all.

    Attributes:
        codecs: Specs, or names, each of which takes every curve of that codec.
        datasets: Datasets' names.
        detectors: Detectors' specs.
    """

    codecs: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    detectors: tuple[str, ...] = ()

    @classmethod
    def parse(cls, codecs: str = "", datasets: str = "", detectors: str = "") -> Selection:
        """Read lists that are separated by commas."""
        lists = [text.split(",") for text in (codecs, datasets, detectors)]
        return cls(*(tuple(map(str.strip, filter(str.strip, items))) for items in lists))

    def of(self, results: Iterable[Result]) -> list[Result]:
        """Return the results that are selected, in the order of ``codecs``.

        Raises:
            UsageError: A codec, a dataset or a detector is not among the results.
        """
        found = list(results)
        for kind in ("dataset", "detector"):
            wanted: Sequence[str] = getattr(self, f"{kind}s")
            known = sorted({getattr(result, kind) for result in found})
            for name in wanted:
                if name not in known:
                    raise unknown(kind, name, known)
            found = [result for result in found if not wanted or getattr(result, kind) in wanted]
        if not self.codecs:
            return found
        known = sorted({result.codec for result in found})
        chosen = {codec: None for text in self.codecs for codec in _named(text, known)}
        return [result for codec in chosen for result in found if result.codec == codec]


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """Read labels, each ``codec=label``.

    Raises:
        UsageError: A text is not of that form.
    """
    labels = {}
    for text in texts:
        codec, separator, label = text.rpartition("=")
        if not (separator and codec.strip() and label.strip()):
            raise UsageError(f"'{text}' is not codec=label", where="--labels")
        labels[codec.strip()] = label.strip()
    return labels


def _named(text: str, known: list[str]) -> list[str]:
    named = matching(text, known)
    if not named:
        raise unknown("codec", text, known)
    return named
