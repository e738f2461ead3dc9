"""Scoring: what is stored of a codec's operating points becomes its curve, with bootstrap intervals."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from icm_bench import registry
from icm_bench.codec import Guide, Labels, front_of, guide_of, objective_of, trained_through
from icm_bench.curves import result
from icm_bench.curves.curve import on_front
from icm_bench.curves.interval import interval
from icm_bench.curves.rate_convention import MEASURED
from icm_bench.curves.replicates import Replicates
from icm_bench.curves.result import Result, main_metric, titled
from icm_bench.curves.schema import SCHEMA
from icm_bench.dataset import Dataset
from icm_bench.error import DetectorError, IcmBenchError, ResultError
from icm_bench.metrics import fidelity
from icm_bench.metrics.bootstrap import resample_weights
from icm_bench.metrics.evaluation import evaluation_of
from icm_bench.metrics.fidelity import Fidelity
from icm_bench.pipeline import provenance, store
from icm_bench.pipeline.plan import OperatingPoint, Plan
from icm_bench.pipeline.stage import DetectorChoice
from icm_bench.spec import Spec, create_codec

CONVENTIONS = MEASURED.record()
"""What a rate means here; curves of other conventions are compared with ours only where the user asks for it."""

SCORING = 1
"""Version of scoring, resampling and what a result file derives from them. 1: first."""

PUBLISHED_TOLERANCE = 0.2
"""How far, in AP, the uncompressed images may be from a detector's published figure."""

SUSPICIOUS_AP = 1.0
"""Below this on uncompressed images, a detector is taken to be used wrongly, and a warning says so."""

LEVEL = 0.95
"""Coverage of every interval."""

_POINTWISE = ("qualities", "codec_version", "bitstreams")
"""What in ``meta`` has one entry an operating point, beside the intervals."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Ledger:
    """Turns the stores into curves; scores each operating point once."""

    def __init__(self, plan: Plan, results: Path, bootstrap: int) -> None:
        self._plan = plan
        self._results = results
        self._bootstrap = bootstrap

    def check_published(self) -> None:
        """Stop the run where the detector misses its published AP on the whole of val2017; warn below 1 AP."""
        plan = self._plan
        if plan.detector is None:
            return
        found = self._uncompressed.figures.metrics[evaluation_of(plan.dataset).figures[0]] or 0.0
        if found < SUSPICIOUS_AP:
            _log.warning(
                "WARNING: detector '%s' reaches %.2f AP on the uncompressed images of %s: "
                "its weights, its input or the categories do not fit, and its curves measure nothing",
                plan.detector_spec,
                found,
                plan.dataset.name,
            )
        if plan.judge is None or plan.judge.published is None or not plan.dataset.is_full_val2017:
            return
        if abs(found - plan.judge.published) > PUBLISHED_TOLERANCE:
            raise DetectorError(
                f"{found:.2f} AP on uncompressed val2017, where {plan.judge.published:.1f} is published",
                where=f"detector '{plan.detector_spec}'",
                hint="check its weights and its input: the curves would measure another detector",
            )

    def settle(self, codec: Spec) -> tuple[Result, Path]:
        """Write a codec's curve, or return the one that is on disk where nothing has changed."""
        plan = self._plan
        detector = plan.detector_spec.file_name
        path = result.path_of(self._results, plan.dataset.name, plan.task, detector, codec.file_name)
        points = plan.ladder(codec)
        digests = [_digest(plan, point) for point in points]
        basis = self._basis(points, digests)
        with contextlib.suppress(ResultError):
            found = result.load(path)
            is_whole = not found.warnings and bool(found.timings) and found.why_no_replicates is None
            has_replicates = (found.replicates is not None) == bool(self._bootstrap)
            if found.meta.get("basis") == basis and is_whole and has_replicates:
                return found, path
        made, replicates = self._measured(codec, points)
        made = replace(made, meta={**made.meta, "bitstreams": digests, "basis": basis})
        made, replicates = reduced(made, replicates)
        result.save(made, path, replicates)
        return result.load(path), path

    def _basis(self, points: Sequence[OperatingPoint], digests: Sequence[str]) -> str:
        # All that the curve's file is a function of, so that a finished curve is not scored again.
        parts = [
            [
                SCHEMA,
                SCORING,
                fidelity.VERSION,
                self._bootstrap,
                self._plan.task,
                provenance.versions(),
            ],
            [self._plan.predicted_identity(point) for point in points],
            digests,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _measured(self, codec: Spec, points: Sequence[OperatingPoint]) -> tuple[Result, Replicates | None]:
        plan = self._plan
        rates = [_Rates.of(plan, point) for point in points]
        distortions = [_fidelity(plan, point) for point in points]
        scores = [] if plan.detector is None else [self._score(point) for point in points]
        original = _NOTHING if plan.detector is None else self._uncompressed.figures
        figures = [self._compared(distortion) for distortion in distortions]
        if scores:
            figures = [pixels | scored.figures for pixels, scored in zip(figures, scores, strict=True)]
        columns: dict[str, list[float | None]] = {
            "bpp": [rate.bpp for rate in rates],
            "bpp_mean": [rate.bpp_mean for rate in rates],
            "bpp_payload": [rate.bpp_payload for rate in rates],
        }
        columns |= {key: [each.metrics[key] for each in figures] for key in figures[0].metrics}
        columns = {
            key: values for key, values in columns.items() if any(value is not None for value in values)
        }
        replicates = None
        if self._weights is not None:
            replicates = Replicates(
                bpp=np.stack([rate.resampled(self._weights) for rate in rates]),
                metrics={
                    key: np.stack([each.replicates[key] for each in figures])
                    for key in figures[0].replicates
                    if key in columns and key not in fidelity.DERIVED
                },
                uncompressed=original.replicates,
            )
        names = plan.dataset.categories if scores else {}
        return Result(
            dataset=plan.dataset.name,
            task=plan.task,
            detector=str(plan.detector_spec),
            codec=str(codec),
            description=f"{codec}: {titled(plan.task, plan.dataset.name, str(plan.detector_spec))}",
            results=columns,
            categories={
                name: [scored.per_category.get(identifier) for scored in scores]
                for identifier, name in names.items()
            },
            meta={
                "qualities": [point.quality for point in points],
                "codec_version": [point.version for point in points],
                **_facts(codec, points[0]),
                "dataset": {
                    "provider": plan.dataset.provider or None,
                    **_subset(plan.dataset),
                    "fingerprint": plan.dataset.fingerprint,
                    "images": len(plan.dataset.images),
                    "pixels": plan.dataset.n_pixels,
                    **_truth(plan.dataset),
                },
                "detector": {} if plan.detector is None else {"version": plan.detector_version},
                "uncompressed": {**original.metrics, "intervals": original.intervals} if scores else {},
                "fidelity": {
                    **fidelity.CONVENTIONS,
                    "undefined": {
                        key: reason for each in distortions for key, reason in each.reasons().items()
                    },
                },
                "intervals": self._intervals(rates, figures, columns),
                **_guide(plan, codec, points),
                "versions": provenance.versions(),
                "command": _command(plan, codec, points),
                "conventions": CONVENTIONS,
            },
            timings={
                "results": {
                    "encode_s": [rate.encode_s for rate in rates],
                    "decode_s": [rate.decode_s for rate in rates],
                    **({"detect_s": [scored.detect_s for scored in scores]} if scores else {}),
                },
                "machine": store.read_header(plan.coded_path(points[0], 0))["machine"],
            },
        ), replicates

    def _intervals(
        self, rates: Sequence[_Rates], figures: Sequence[_Figures], columns: Collection[str]
    ) -> dict[str, Any]:
        if self._weights is None:
            return {}
        intervals: dict[str, Any] = {"level": LEVEL, "resamples": self._bootstrap}
        intervals["bpp"] = [_finite(interval(rate.resampled(self._weights), LEVEL)) for rate in rates]
        for key in figures[0].intervals:
            if key in columns:
                intervals[key] = [each.intervals[key] for each in figures]
        return intervals

    @cached_property
    def _weights(self) -> NDArray[np.int32] | None:
        if not self._bootstrap:
            return None
        dataset = self._plan.dataset
        pictures = dataset.pictures
        of_pictures = resample_weights(int(pictures.max()) + 1, dataset.fingerprint, self._bootstrap)
        return np.asarray(of_pictures[:, pictures])

    @property
    def _replicated_metrics(self) -> tuple[str, ...]:
        return evaluation_of(self._plan.dataset).figures

    @cached_property
    def _ground_truth(self) -> Any:
        dataset = self._plan.dataset
        return evaluation_of(dataset).read(dataset.ground_truth or {})

    @cached_property
    def _uncompressed(self) -> _Scored:
        return self._score(self._plan.points[0])

    def _compared(self, distortion: Fidelity) -> _Figures:
        replicated = {} if self._weights is None else distortion.resampled(self._weights)
        return _Figures.of(distortion.metrics(), replicated)

    def _score(self, point: OperatingPoint) -> _Scored:
        plan = self._plan
        rows = []
        detect_s = []
        for shard in range(plan.n_shards):
            for row in store.read(plan.predicted_path(point, shard)).to_pylist():
                detect_s.append(row["detect_s"])
                rows += [{"image_id": row["image_id"], **found} for found in row["predictions"]]
        scored = evaluation_of(plan.dataset).score(self._ground_truth, rows, plan.task)
        replicated = {} if self._weights is None else scored.resampled(self._weights)
        return _Scored(
            figures=_Figures.of(
                scored.metrics(),
                {key: replicated[key] for key in self._replicated_metrics if key in replicated},
            ),
            per_category=scored.per_category(),
            detect_s=float(np.mean(detect_s)),
        )


@dataclass(frozen=True)
class _Figures:
    """Metrics of one operating point; of some also replicates and intervals."""

    metrics: Mapping[str, float | None]
    replicates: Mapping[str, NDArray[np.float64]]
    intervals: Mapping[str, list[float | None]]

    @classmethod
    def of(
        cls, metrics: Mapping[str, float | None], replicates: Mapping[str, NDArray[np.float64]]
    ) -> _Figures:
        # Where there is no figure, the resamples that have one say nothing of it.
        intervals: dict[str, list[float | None]] = {
            key: [None, None] if metrics[key] is None else _finite(interval(values, LEVEL))
            for key, values in replicates.items()
        }
        return cls(metrics, replicates, intervals)

    def __or__(self, other: _Figures) -> _Figures:
        return _Figures(
            {**self.metrics, **other.metrics},
            {**self.replicates, **other.replicates},
            {**self.intervals, **other.intervals},
        )


_NOTHING = _Figures({}, {}, {})


@dataclass(frozen=True)
class _Scored:
    """One operating point's accuracy."""

    figures: _Figures
    per_category: Mapping[int, float | None]
    detect_s: float


@dataclass(frozen=True)
class _Rates:
    """One operating point's rate and time, an entry an image in order of the image ids."""

    n_bits: NDArray[np.float64]
    n_header_bits: NDArray[np.float64] | None
    n_pixels: NDArray[np.float64]
    seconds: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of(cls, plan: Plan, point: OperatingPoint) -> _Rates:
        columns = ["n_bytes", "header_bytes", "width", "height", "encode_s", "decode_s"]
        tables = [store.read(plan.coded_path(point, shard), columns) for shard in range(plan.n_shards)]
        frame = pa.concat_tables(tables).to_pandas()
        headers = frame["header_bytes"].to_numpy(np.float64)
        return cls(
            n_bits=8.0 * frame["n_bytes"].to_numpy(np.float64),
            n_header_bits=None if np.isnan(headers).any() else 8.0 * headers,
            n_pixels=frame["width"].to_numpy(np.float64) * frame["height"].to_numpy(np.float64),
            seconds={key: frame[key].to_numpy(np.float64) for key in ("encode_s", "decode_s")},
        )

    @property
    def bpp(self) -> float:
        return float(self.n_bits.sum() / self.n_pixels.sum())

    @property
    def bpp_mean(self) -> float:
        return float(np.mean(self.n_bits / self.n_pixels))

    @property
    def bpp_payload(self) -> float | None:
        if self.n_header_bits is None:
            return None
        return float((self.n_bits - self.n_header_bits).sum() / self.n_pixels.sum())

    @property
    def encode_s(self) -> float:
        return float(self.seconds["encode_s"].mean())

    @property
    def decode_s(self) -> float:
        return float(self.seconds["decode_s"].mean())

    def resampled(self, weights: NDArray[np.int32]) -> NDArray[np.float64]:
        replicated: NDArray[np.float64] = (weights @ self.n_bits) / (weights @ self.n_pixels)
        return replicated


def _fidelity(plan: Plan, point: OperatingPoint) -> Fidelity:
    tables = [store.read(plan.compared_path(point, shard)) for shard in range(plan.n_shards)]
    frame = pa.concat_tables(tables).to_pandas()
    keys = ("mse_rgb", "mse_luma", "ms_ssim_rgb", "ms_ssim_luma")
    return Fidelity(
        np.array([record.width * record.height for record in plan.dataset.images], dtype=np.float64),
        *(frame[key].to_numpy(np.float64) for key in keys),
    )


def _truth(dataset: Dataset) -> dict[str, Any]:
    if dataset.ground_truth is None:
        return {}
    named = {"truth": dataset.truth} if dataset.truth else {}
    return {"objects": len(dataset.ground_truth["annotations"]), "evaluation": dataset.evaluation, **named}


def _guide(plan: Plan, codec: Spec, points: Sequence[OperatingPoint]) -> dict[str, Any]:
    """Record what guided the encoder, and whether it is the detector that judges the codec."""
    guide = guide_of(create_codec(codec, points[0].quality or 0, "cpu"))
    if guide is None:
        return {}
    return {
        "guide": {"spec": guide.spec, "is_judge": plan.detector is not None and _is_one(guide, plan.detector)}
    }


def _is_one(guide: Guide, judge: DetectorChoice) -> bool:
    if guide.weights is not None and judge.weights is not None:
        return guide.weights.read_bytes() == judge.weights.read_bytes()
    return guide.spec == str(judge.spec)


def _subset(dataset: Dataset) -> dict[str, Any]:
    return {"limit": len(dataset.images), "subset_of": dataset.subset_of} if dataset.subset_of else {}


def _facts(codec: Spec, point: OperatingPoint) -> dict[str, Any]:
    """Return what a codec says of itself: its short name, what it was trained for and through which detectors."""
    made = create_codec(codec, point.quality or 0, "cpu")
    cls = type(made)
    return {
        "label": cls.label(dict(codec.options)) if isinstance(cls, Labels) else None,
        "objective": objective_of(made),
        "trained_through": list(trained_through(made)),
    }


def _digest(plan: Plan, point: OperatingPoint) -> str:
    """Digest a point's bitstreams: equal digests mean byte-identical coding."""
    shards = [
        store.read_header(plan.coded_path(point, shard))["bitstreams"] for shard in range(plan.n_shards)
    ]
    return hashlib.sha256("".join(shards).encode()).hexdigest()[:16]


def _command(plan: Plan, codec: Spec, points: Sequence[OperatingPoint]) -> str:
    """Return the command that measures this curve, without the paths of one machine."""
    dataset = plan.dataset
    limit = f" --limit {len(dataset.images)}" if dataset.subset_of else ""
    truth = f" --truth pseudo --truth-score {dataset.truth.split()[-2]}" if dataset.truth else ""
    ladder = ",".join(str(point.quality) for point in points)
    detector = "" if plan.detector is None else f" --detector {plan.detector.spec}"
    return (
        f"icm-bench run --task {plan.task} --codecs {codec} --qualities {codec}={ladder} "
        f"--dataset {dataset.provider}{limit}{truth}{detector}"
    )


def _finite(bounds: tuple[float | None, float | None]) -> list[float | None]:
    return [None if bound is None or not math.isfinite(bound) else bound for bound in bounds]


def front(result: Result, replicates: Replicates | None, metric: str) -> tuple[Result, Replicates | None]:
    """Return a curve's Pareto front: the operating points that no other beats in both rate and accuracy.

    The front is of the figures over the whole dataset and the same for every other metric and in every resample:
    it is a choice of operating points, made once. ``meta`` says of how many it is.

    Args:
        result: The curve; points without the metric are left out.
        replicates: Its resamples.
        metric: The accuracy.

    Returns:
        Curve and resamples with the front's points alone, in order of their rates; both as they are where no point
        has the metric.
    """
    accuracies = np.array(result.results.get(metric, ()), dtype=np.float64)
    chosen = on_front(np.array(result.results["bpp"], dtype=np.float64)[: len(accuracies)], accuracies)
    if not chosen:
        return result, replicates
    meta = {
        **result.meta,
        **{key: _each(result.meta[key], chosen) for key in _POINTWISE if key in result.meta},
        "intervals": {
            key: _each(value, chosen) if isinstance(value, list) else value
            for key, value in result.meta.get("intervals", {}).items()
        },
        "front": {"metric": metric, "points": len(accuracies)},
    }
    timings = dict(result.timings)
    if "results" in timings:
        timings["results"] = {key: _each(values, chosen) for key, values in timings["results"].items()}
    kept = replace(
        result,
        results={key: _each(values, chosen) for key, values in result.results.items()},
        categories={key: _each(values, chosen) for key, values in result.categories.items()},
        meta=meta,
        timings=timings,
    )
    if replicates is None:
        return kept, None
    return kept, replace(
        replicates,
        bpp=replicates.bpp[chosen],
        metrics={key: values[chosen] for key, values in replicates.metrics.items()},
    )


def _each(values: Sequence[_T], chosen: Sequence[int]) -> list[_T]:
    return [values[index] for index in chosen]


def reduced(result: Result, replicates: Replicates | None) -> tuple[Result, Replicates | None]:
    """Return what is kept of a curve: of a codec whose class keeps a front, the front alone.

    The front is of the dataset's own accuracy where the dataset has not that metric.
    """
    metric = _front_metric(result.codec)
    if metric is None:
        return result, replicates
    return front(result, replicates, metric if metric in result.results else main_metric([result]))


def _front_metric(codec: str) -> str | None:
    """Return what a codec's class says its front is of; None of imported curves, whose codecs nobody provides."""
    try:
        cls = registry.load("codec", Spec.parse(codec).name)
    except IcmBenchError:
        return None
    return front_of(cls)
