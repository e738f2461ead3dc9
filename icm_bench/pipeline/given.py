"""Codecs, detectors and metrics that are not installed: classes or objects of a notebook, known by their names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from icm_bench import registry
from icm_bench.codec import Codec, HasLadders
from icm_bench.detector import Detector
from icm_bench.error import UsageError
from icm_bench.metrics.image_metric import ImageMetric
from icm_bench.pipeline.job import Job

CodecLike: TypeAlias = str | type[Codec] | Codec
"""A codec's spec, a class, or an object of one, which is one operating point and has an attribute ``quality``."""

DetectorLike: TypeAlias = str | type[Detector] | Detector
"""A detector's spec, a class, or an object of one."""

MetricLike: TypeAlias = str | type[ImageMetric] | ImageMetric
"""A metric's name, a class, or an object of one."""

_CODEC = ("name", "encode", "decode", "version")
_DETECTOR = ("name", "tasks", "categories", "published", "predict", "version")
_METRIC = ("name", "label", "unit", "digits", "measure", "version")


def codec_specs(codecs: Iterable[CodecLike]) -> list[str]:
    """Return codecs as specs, which this process understands from now on.

    Objects of one name are the operating points of one codec, in the order in which they are given.

    Raises:
        UsageError: A class or an object is no codec, or an installed codec has its name.
    """
    specs: list[str] = []
    objects: dict[str, list[Any]] = {}
    for each in codecs:
        if isinstance(each, str):
            specs.append(each)
            continue
        _check(each, "codec", _CODEC)
        if isinstance(each, type):
            if not isinstance(each, HasLadders):
                _check(each, "codec", ("qualities",))
            registry.give("codec", each.name, each)
        else:
            _check(each, "codec", ("quality",))
            objects.setdefault(each.name, []).append(each)
        specs.append(each.name)
    for name, points in objects.items():
        registry.give("codec", name, _codec_of(points))
    return list(dict.fromkeys(specs))


def detector_specs(detector: DetectorLike | Sequence[DetectorLike] | None) -> str | list[str] | None:
    """Return detectors as specs, which this process understands from now on; None for None.

    Raises:
        UsageError: A class or an object is no detector, or an installed detector has its name.
    """
    if detector is None:
        return None
    if isinstance(detector, Sequence) and not isinstance(detector, str):
        return [_name_of(each, "detector", _DETECTOR, _detector_of) for each in detector]
    return _name_of(detector, "detector", _DETECTOR, _detector_of)


def metric_names(metrics: Iterable[MetricLike]) -> list[str]:
    """Return metrics as names, which this process understands from now on.

    Raises:
        UsageError: A class or an object is no metric, or an installed metric has its name.
    """
    return [_name_of(each, "metric", _METRIC, _metric_of) for each in metrics]


def packed(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs with what other processes cannot load by its name.

    Raises:
        UsageError: A codec or a detector is not installed and cannot be sent.
    """
    wanted: dict[tuple[registry.Kind, str], None] = {}
    for job in jobs:
        if job.codec is not None:
            wanted["codec", job.codec.name] = None
        wanted |= {("detector", choice.spec.name): None for choice in job.detectors}
    given = registry.pack(wanted)
    return [dataclasses.replace(job, given=given) for job in jobs] if given else list(jobs)


def _name_of(given: Any, kind: registry.Kind, needed: Iterable[str], class_of: Callable[[Any], Any]) -> str:
    """Return the name of a class or an object, which stands for it from now on; a name as it is."""
    if isinstance(given, str):
        return given
    _check(given, kind, needed)
    registry.give(kind, given.name, given if isinstance(given, type) else class_of(given))
    return str(given.name)


def _check(thing: Any, kind: str, needed: Iterable[str]) -> None:
    missing = [name for name in needed if not hasattr(thing, name)]
    if missing:
        called = thing.__name__ if isinstance(thing, type) else f"an object of {type(thing).__name__}"
        raise UsageError(f"has no {missing[0]}", where=f"{kind} {called}", hint="see docs/python.md")


def _codec_of(points: list[Any]) -> Any:
    """Return a class whose objects are the given ones, by their qualities."""
    by_quality = {point.quality: point for point in points}

    class Given(type(points[0])):  # type: ignore[misc]
        qualities = tuple(by_quality)
        always_named = ()

        def __new__(cls, quality: Any, *, device: str = "cpu") -> Any:
            del device
            if quality not in by_quality:
                raise UsageError(f"there is no object of quality {quality}", where=f"codec '{cls.name}'")
            return by_quality[quality]

    return Given


def _detector_of(detector: Any) -> Any:
    """Return a class whose one object is the given one."""

    class Given(type(detector)):  # type: ignore[misc]
        name, tasks = detector.name, detector.tasks
        categories, published = detector.categories, detector.published

        def __new__(cls, *, weights: Any = None, device: str = "cpu") -> Any:
            del device
            if weights is not None:
                raise UsageError("has weights already", where=f"detector '{cls.name}'")
            return detector

    return Given


def _metric_of(metric: Any) -> Any:
    """Return a class whose one object is the given one."""

    class Given(type(metric)):  # type: ignore[misc]
        name, label, unit, digits = metric.name, metric.label, metric.unit, metric.digits

        def __new__(cls) -> Any:
            return metric

    return Given
