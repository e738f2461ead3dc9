"""Two folders of results against each other: what changed in every curve, and whether it is a regression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias, Unpack

from icm_bench.curves.comparison import OfGroup
from icm_bench.curves.estimate import Estimate, Options, Settings
from icm_bench.curves.replicates import Replicates
from icm_bench.curves.result import Result, find, main_metric
from icm_bench.error import ResultError, UsageError
from icm_bench.metrics.metric import MAIN_METRICS
from icm_bench.report import pairing
from icm_bench.report.verdict import AccuracyAt, Difference, Verdict, judge

DIRECTION: Final = (
    "Head against base: a negative BD-rate means fewer bits for the same accuracy, which is better; "
    "a positive one more bits, which is worse."
)
"""What signs mean."""

ORDER: Final[tuple[Verdict, ...]] = (
    "worse",
    "not comparable",
    "removed",
    "new",
    "better",
    "unchanged",
    "identical",
)
"""The verdicts, what needs a reader's eye first."""

Key: TypeAlias = tuple[str, str, str, str]


@dataclass(frozen=True)
class Row(OfGroup):
    """One codec on one dataset, task and detector, on both sides.

    Attributes:
        codec: The codec's spec.
        verdict: What became of it.
        reason: What the verdict rests on where the BD-rate alone does not say it, or None.
        bd_rate: Head against base, or None where it was not computed.
        difference: Mean difference of accuracy at matched rates, head less base, or None.
        at_rates: Both accuracies at base's rates.
        points: The operating points that both ladders have.
        bits: Total bits per pixel over those points.
        encode_s: Mean seconds an image over those points.
        decode_s: Mean seconds an image over those points.
        same_machine: Whether both sides' seconds are of one kind of machine; None where a side does not tell.
        changes: Versions, conventions and ladders that differ.
        metric: The accuracy that was compared.
        n_images: Images that head, or else base, was measured on; None where it does not tell.
    """

    codec: str
    verdict: Verdict
    reason: str | None = None
    bd_rate: Estimate | None = None
    difference: Difference | None = None
    at_rates: tuple[AccuracyAt, ...] = ()
    points: tuple[pairing.PointPair, ...] = ()
    bits: pairing.Pair = pairing.NOTHING
    encode_s: pairing.Pair = pairing.NOTHING
    decode_s: pairing.Pair = pairing.NOTHING
    same_machine: bool | None = None
    changes: tuple[pairing.Change, ...] = ()
    metric: str = MAIN_METRICS[0]
    n_images: int | None = None


@dataclass(frozen=True)
class Regression:
    """Two folders of results against each other.

    Attributes:
        base: What the earlier results are called.
        head: What the later results are called.
        metrics: The accuracies that were compared: the one asked for, or each curve's own.
        tolerance_percent: The BD-rate that was let pass.
        rows: One a curve, those that need a reader's eye first.
    """

    base: str
    head: str
    metrics: tuple[str, ...]
    tolerance_percent: float
    rows: tuple[Row, ...]

    @property
    def is_worse(self) -> bool:
        """Whether any curve is worse."""
        return any(row.verdict == "worse" for row in self.rows)

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many curves there are of each verdict that occurs."""
        counted = Counter(row.verdict for row in self.rows)
        return {verdict: counted[verdict] for verdict in ORDER if counted[verdict]}


def compare(
    base: Path,
    head: Path,
    *,
    base_name: str | None = None,
    head_name: str | None = None,
    tolerance_percent: float = 0.5,
    **options: Unpack[Options],
) -> Regression:
    """Compare every curve of two folders of results.

    Args:
        base: The folder of the earlier results.
        head: The folder of the later ones.
        base_name: What to call base; its path where None.
        head_name: What to call head; its path where None.
        tolerance_percent: The BD-rate that is let pass, percent, 0 or more.
        options: ``metric``, a column of the results, where AP stands for what curves that have none are compared on;
            ``method``; and ``monotone``, which is ``pareto`` or ``isotonic``.

    Raises:
        ResultError: A folder does not exist, holds a broken file, or holds no curve.
        UsageError: The tolerance is negative, or the policy is ``error``.
    """
    if not tolerance_percent >= 0:
        raise UsageError(f"a tolerance of {tolerance_percent:g} %", hint="give 0 or more")
    settings = Settings(**options)
    if settings.monotone == "error":
        raise UsageError(
            "bootstrap replicates cannot be refused for a dip", hint="choose the pareto or isotonic policy"
        )
    names = (base_name or str(base), head_name or str(head))
    places = dict(zip((base, head), names, strict=True))
    try:
        sides = [_keyed(find(folder), folder) for folder in (base, head)]
    except ResultError as error:
        raise ResultError(
            _named(error.what, places), where=_named(str(error.where), places), hint=error.hint
        ) from error
    for side, name in zip(sides, names, strict=True):
        if not side:
            raise ResultError(
                "0 curves: there is nothing to compare with", where=name, hint="name a folder of results"
            )
    rows = [
        _row(key, sides[0].get(key), sides[1].get(key), settings, tolerance_percent)
        for key in {**sides[0], **sides[1]}
    ]
    rows = [replace(row, reason=row.reason and _named(row.reason, places)) for row in rows]
    rows.sort(key=lambda row: (ORDER.index(row.verdict), row.dataset, row.task, row.detector, row.codec))
    metrics = tuple(sorted({row.metric for row in rows}))
    return Regression(*names, metrics, tolerance_percent, tuple(rows))


def _named(text: str, places: Mapping[Path, str]) -> str:
    """Return a text that calls folders by their names: those of a revision are temporary."""
    for folder, name in places.items():
        text = text.replace(str(folder), name)
    return text


def _keyed(results: Iterable[Result], folder: Path) -> dict[Key, Result]:
    keyed: dict[Key, Result] = {}
    for result in results:
        key = (*result.group, result.codec)
        if key in keyed:
            raise ResultError(
                f"holds {result.codec} twice, in {keyed[key].source} and {result.source}", where=folder
            )
        keyed[key] = result
    return keyed


def _row(
    key: Key, base: Result | None, head: Result | None, settings: Settings, tolerance_percent: float
) -> Row:
    metric = main_metric([side for side in (base, head) if side is not None], settings.metric)
    n_images = next((side.meta["dataset"].get("images") for side in (head, base) if side is not None), None)
    if base is None or head is None:
        return Row(*key, verdict="new" if base is None else "removed", metric=metric, n_images=n_images)
    points = pairing.paired_points(base, head, metric)
    row = Row(
        *key,
        verdict="not comparable",
        points=points,
        bits=pairing.pooled([point.bpp for point in points]),
        encode_s=pairing.pooled([point.encode_s for point in points]),
        decode_s=pairing.pooled([point.decode_s for point in points]),
        same_machine=pairing.is_same_machine(base, head),
        changes=tuple(pairing.changes_between(base, head)),
        metric=metric,
        n_images=n_images,
    )
    refusal = _refusal(base, head)
    if refusal:
        return replace(row, reason=refusal)
    if _is_identical(base, head):
        nothing = Estimate(value=0.0, low=0.0, high=0.0, method=settings.method, overlap=1.0)
        return replace(row, verdict="identical", bd_rate=nothing)
    try:
        judged = judge(
            # Both are of one codec: what is said of them says which.
            replace(base.curve, codec="base"),
            replace(head.curve, codec="head"),
            *_common(base.replicates, head.replicates),
            tolerance_percent=tolerance_percent,
            metric=metric,
            method=settings.method,
            monotone=settings.monotone,
        )
    except ResultError as error:
        return replace(row, reason=str(error))
    return replace(row, **vars(judged))


def _refusal(base: Result, head: Result) -> str | None:
    """Return why two curves must not be compared, or None."""
    prints = [result.meta["dataset"].get("fingerprint") for result in (base, head)]
    if None in prints or prints[0] != prints[1]:
        named = " and ".join("unknown" if found is None else str(found)[:12] for found in prints)
        return f"measured on other images or annotations: fingerprints {named}"
    conventions = [result.meta.get("conventions", {}) for result in (base, head)]
    for name in sorted({**conventions[0], **conventions[1]}):
        if conventions[0].get(name) != conventions[1].get(name):
            return f"another convention of {name}: '{conventions[0].get(name)}', now '{conventions[1].get(name)}'"
    detectors = [result.meta["detector"].get("version") for result in (base, head)]
    originals = [pairing.accuracies(result.meta.get("uncompressed")) for result in (base, head)]
    if detectors[0] != detectors[1] and originals[0] != originals[1]:
        seen = [pairing.printed(original.get("map")) for original in originals]
        return (
            f"the detector changed: AP {seen[0]} on the uncompressed images, now {seen[1]} "
            f"({detectors[0]}, now {detectors[1]})"
        )
    return None


def _is_identical(base: Result, head: Result) -> bool:
    sides = [(each.meta.get("bitstreams"), each.qualities, each.results) for each in (base, head)]
    return sides[0][0] is not None and sides[0] == sides[1]


def _common(base: Replicates | None, head: Replicates | None) -> tuple[Replicates | None, Replicates | None]:
    """Return the bootstrap replicates that both have."""
    if base is None or head is None:
        return base, head
    n_replicates = min(base.bpp.shape[1], head.bpp.shape[1])
    return base.first(n_replicates), head.first(n_replicates)
