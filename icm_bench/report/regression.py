"""Two folders of results against each other: what changed in every curve, and whether it is a regression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from icm_bench.curves.curve import Monotone
from icm_bench.curves.estimate import Estimate, Method
from icm_bench.curves.replicates import Replicates
from icm_bench.curves.result import Result, find, main_metric
from icm_bench.error import ResultError, UsageError
from icm_bench.metrics.metric import MAIN_METRICS
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
class Pair:
    """One figure on both sides; None where a side has none."""

    base: float | None
    head: float | None

    @property
    def percent(self) -> float | None:
        """Head above base, percent."""
        if self.base is None or self.head is None or self.base <= 0:
            return None
        return 100 * (self.head / self.base - 1)


@dataclass(frozen=True)
class PointPair:
    """One operating point that both ladders have.

    Attributes:
        quality: The codec's own setting.
        bpp: Bits per pixel.
        accuracy: In the metric's unit.
        encode_s: Mean seconds an image.
        decode_s: Mean seconds an image.
        same_bitstreams: Whether the bitstreams are byte for byte the same; None where a side does not tell.
    """

    quality: float
    bpp: Pair
    accuracy: Pair
    encode_s: Pair
    decode_s: Pair
    same_bitstreams: bool | None


@dataclass(frozen=True)
class Change:
    """Something other than a figure that differs.

    Attributes:
        name: What, such as ``codec_version`` or ``versions.pillow``.
        base: What it was.
        head: What it is.
    """

    name: str
    base: str
    head: str


@dataclass(frozen=True)
class Row:
    """One codec on one dataset, task and detector, on both sides.

    Attributes:
        dataset: The dataset's name.
        task: What accuracy is measured on.
        detector: The detector's spec.
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

    dataset: str
    task: str
    detector: str
    codec: str
    verdict: Verdict
    reason: str | None = None
    bd_rate: Estimate | None = None
    difference: Difference | None = None
    at_rates: tuple[AccuracyAt, ...] = ()
    points: tuple[PointPair, ...] = ()
    bits: Pair = Pair(None, None)
    encode_s: Pair = Pair(None, None)
    decode_s: Pair = Pair(None, None)
    same_machine: bool | None = None
    changes: tuple[Change, ...] = ()
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
    metric: str = "map",
    tolerance_percent: float = 0.5,
    method: Method = "pchip",
    monotone: Monotone = "pareto",
) -> Regression:
    """Compare every curve of two folders of results.

    Args:
        base: The folder of the earlier results.
        head: The folder of the later ones.
        base_name: What to call base; its path where None.
        head_name: What to call head; its path where None.
        metric: A column of the results; AP stands for what curves that have none are compared on.
        tolerance_percent: The BD-rate that is let pass, percent, 0 or more.
        method: How a curve runs between its points.
        monotone: ``pareto`` or ``isotonic``.

    Raises:
        ResultError: A folder does not exist, holds a broken file, or holds no curve.
        UsageError: The tolerance is negative, or the policy is ``error``.
    """
    if not tolerance_percent >= 0:
        raise UsageError(f"a tolerance of {tolerance_percent:g} %", hint="give 0 or more")
    if monotone == "error":
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
    settings = _Settings(metric, tolerance_percent, method, monotone)
    rows = [_row(key, sides[0].get(key), sides[1].get(key), settings) for key in {**sides[0], **sides[1]}]
    rows = [replace(row, reason=row.reason and _named(row.reason, places)) for row in rows]
    rows.sort(key=lambda row: (ORDER.index(row.verdict), row.dataset, row.task, row.detector, row.codec))
    metrics = tuple(sorted({row.metric for row in rows}))
    return Regression(*names, metrics, tolerance_percent, tuple(rows))


def _named(text: str, places: Mapping[Path, str]) -> str:
    """Return a text that calls folders by their names: those of a revision are temporary."""
    for folder, name in places.items():
        text = text.replace(str(folder), name)
    return text


@dataclass(frozen=True)
class _Settings:
    metric: str
    tolerance_percent: float
    method: Method
    monotone: Monotone


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


def _row(key: Key, base: Result | None, head: Result | None, settings: _Settings) -> Row:
    metric = main_metric([side for side in (base, head) if side is not None], settings.metric)
    n_images = next((side.meta["dataset"].get("images") for side in (head, base) if side is not None), None)
    if base is None or head is None:
        return Row(*key, verdict="new" if base is None else "removed", metric=metric, n_images=n_images)
    points = _paired(base, head, metric)
    row = Row(
        *key,
        verdict="not comparable",
        points=points,
        bits=_pooled([point.bpp for point in points]),
        encode_s=_pooled([point.encode_s for point in points]),
        decode_s=_pooled([point.decode_s for point in points]),
        same_machine=_same_machine(base, head),
        changes=tuple(_changes(base, head)),
        metric=metric,
        n_images=n_images,
    )
    refusal = _refusal(base, head)
    if refusal:
        return replace(row, reason=refusal)
    if _is_identical(base, head):
        return replace(
            row,
            verdict="identical",
            bd_rate=Estimate(value=0.0, low=0.0, high=0.0, method=settings.method, overlap=1.0),
        )
    try:
        judged = judge(
            base.curve,
            head.curve,
            *_common(base.replicates, head.replicates),
            metric=metric,
            tolerance_percent=settings.tolerance_percent,
            method=settings.method,
            monotone=settings.monotone,
        )
    except ResultError as error:
        return replace(row, reason=str(error))
    return replace(
        row,
        verdict=judged.verdict,
        reason=judged.reason,
        bd_rate=judged.bd_rate,
        difference=judged.difference,
        at_rates=judged.at_rates,
    )


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
    originals = [_accuracies(result.meta.get("uncompressed")) for result in (base, head)]
    if detectors[0] != detectors[1] and originals[0] != originals[1]:
        seen = [_figure(original.get("map")) for original in originals]
        return (
            f"the detector changed: AP {seen[0]} on the uncompressed images, now {seen[1]} "
            f"({detectors[0]}, now {detectors[1]})"
        )
    return None


def _is_identical(base: Result, head: Result) -> bool:
    digests = [result.meta.get("bitstreams") for result in (base, head)]
    return (
        digests[0] is not None
        and digests[0] == digests[1]
        and base.qualities == head.qualities
        and base.results == head.results
    )


def _common(base: Replicates | None, head: Replicates | None) -> tuple[Replicates | None, Replicates | None]:
    """Return the bootstrap replicates that both have."""
    if base is None or head is None:
        return base, head
    n_replicates = min(base.bpp.shape[1], head.bpp.shape[1])
    return base.first(n_replicates), head.first(n_replicates)


def _paired(base: Result, head: Result, metric: str) -> tuple[PointPair, ...]:
    places = {quality: index for index, quality in enumerate(head.qualities) if quality is not None}
    return tuple(
        _point_pair(quality, (base, index), (head, places[quality]), metric)
        for index, quality in enumerate(base.qualities)
        if quality in places and quality is not None
    )


def _point_pair(quality: float, base: tuple[Result, int], head: tuple[Result, int], metric: str) -> PointPair:
    def pair(read: Any) -> Pair:
        return Pair(read(*base), read(*head))

    digests = [_item(result.meta.get("bitstreams"), index) for result, index in (base, head)]
    return PointPair(
        quality,
        bpp=pair(lambda result, index: result.results["bpp"][index]),
        accuracy=pair(lambda result, index: _item(result.results.get(metric), index)),
        encode_s=pair(lambda result, index: _timed(result, "encode_s", index)),
        decode_s=pair(lambda result, index: _timed(result, "decode_s", index)),
        same_bitstreams=None if None in digests else digests[0] == digests[1],
    )


def _timed(result: Result, step: str, index: int) -> float | None:
    seconds: float | None = _item(result.timings.get("results", {}).get(step), index)
    return seconds


def _item(values: Any, index: int) -> Any:
    return values[index] if isinstance(values, list) and index < len(values) else None


def _pooled(pairs: list[Pair]) -> Pair:
    return Pair(_mean([pair.base for pair in pairs]), _mean([pair.head for pair in pairs]))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _same_machine(base: Result, head: Result) -> bool | None:
    machines = [result.timings.get("machine") for result in (base, head)]
    return None if None in machines else machines[0] == machines[1]


def _changes(base: Result, head: Result) -> Iterable[Change]:
    described = [_described(result) for result in (base, head)]
    for name in sorted({**described[0], **described[1]}):
        was, now = (side.get(name, "absent") for side in described)
        if was != now:
            yield Change(name, was, now)


def _described(result: Result) -> dict[str, str]:
    """Return what a change of figures may come from, by name."""
    versions: Mapping[str, Any] = result.meta.get("versions", {})
    codec = result.meta.get("codec_version")
    described = {f"versions.{name}": str(version) for name, version in versions.items()}
    described["codec_version"] = " | ".join(dict.fromkeys(codec)) if isinstance(codec, list) else str(codec)
    described["detector.version"] = str(result.meta["detector"].get("version"))
    described["ladder"] = ", ".join(f"{quality}" for quality in result.qualities)
    for name, value in _accuracies(result.meta.get("uncompressed")).items():
        if name == "map":
            described["uncompressed AP"] = _figure(value)
    return described


def _accuracies(uncompressed: Mapping[str, Any] | None) -> dict[str, float | None]:
    return {name: value for name, value in (uncompressed or {}).items() if name != "intervals"}


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
