"""Values, operating points and descriptions of one codec in two folders of results, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from icm_bench.curves.result import Result


@dataclass(frozen=True)
class Pair:
    """One value on both sides; None where a side has none."""

    base: float | None
    head: float | None

    @property
    def percent(self) -> float | None:
        """Head above base, percent."""
        if self.base is None or self.head is None or self.base <= 0:
            return None
        return 100 * (self.head / self.base - 1)


NOTHING: Final = Pair(None, None)


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
    """Something other than a value that differs.

    Attributes:
        name: What, such as ``codec_version`` or ``versions.pillow``.
        base: What it was.
        head: What it is.
    """

    name: str
    base: str
    head: str


def paired_points(base: Result, head: Result, metric: str) -> tuple[PointPair, ...]:
    """Return the operating points that both ladders have, in the order of base's."""
    places = {quality: index for index, quality in enumerate(head.qualities) if quality is not None}
    return tuple(
        _point_pair(quality, (base, index), (head, places[quality]), metric)
        for index, quality in enumerate(base.qualities)
        if quality in places and quality is not None
    )


def _point_pair(quality: float, base: tuple[Result, int], head: tuple[Result, int], metric: str) -> PointPair:
    def pair(column: Callable[[Result], Any]) -> Pair:
        return Pair(*(_item(column(result), index) for result, index in (base, head)))

    digests = [_item(result.meta.get("bitstreams"), index) for result, index in (base, head)]
    return PointPair(
        quality,
        bpp=pair(lambda result: result.results["bpp"]),
        accuracy=pair(lambda result: result.results.get(metric)),
        encode_s=pair(lambda result: result.timings.get("results", {}).get("encode_s")),
        decode_s=pair(lambda result: result.timings.get("results", {}).get("decode_s")),
        same_bitstreams=None if None in digests else digests[0] == digests[1],
    )


def _item(values: Any, index: int) -> Any:
    return values[index] if isinstance(values, list) and index < len(values) else None


def pooled(pairs: list[Pair]) -> Pair:
    """Return the means of both sides; None where a value is missing."""
    return Pair(_mean([pair.base for pair in pairs]), _mean([pair.head for pair in pairs]))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def is_same_machine(base: Result, head: Result) -> bool | None:
    """Tell whether both sides' seconds are of one kind of machine; None where a side does not tell."""
    machines = [result.timings.get("machine") for result in (base, head)]
    return None if None in machines else machines[0] == machines[1]


def changes_between(base: Result, head: Result) -> Iterable[Change]:
    """Yield the versions, ladders and originals that differ, by name."""
    described = [_described(result) for result in (base, head)]
    for name in sorted({**described[0], **described[1]}):
        was, now = (side.get(name, "absent") for side in described)
        if was != now:
            yield Change(name, was, now)


def _described(result: Result) -> dict[str, str]:
    """Return what a change of values may come from, by name."""
    versions: Mapping[str, Any] = result.meta.get("versions", {})
    codec = result.meta.get("codec_version")
    described = {f"versions.{name}": str(version) for name, version in versions.items()}
    described["codec_version"] = " | ".join(dict.fromkeys(codec)) if isinstance(codec, list) else str(codec)
    described["detector.version"] = str(result.meta["detector"].get("version"))
    described["ladder"] = ", ".join(f"{quality}" for quality in result.qualities)
    original = result.meta.get("uncompressed") or {}
    return described | ({"uncompressed AP": printed(original["map"])} if "map" in original else {})


def accuracies(uncompressed: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Return the accuracies among what is recorded of the uncompressed images."""
    return {name: value for name, value in (uncompressed or {}).items() if name != "intervals"}


def printed(value: float | None) -> str:
    """Return a value in four digits."""
    return "none" if value is None else f"{value:.4f}"
