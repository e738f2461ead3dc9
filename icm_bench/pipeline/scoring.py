"""Scoring: what is stored of a codec's operating points becomes its curve, with bootstrap intervals."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icm_bench.curves import result
from icm_bench.curves.interval import interval
from icm_bench.curves.rate_convention import MEASURED
from icm_bench.curves.replicates import Replicates
from icm_bench.curves.result import Result, titled
from icm_bench.curves.schema import SCHEMA
from icm_bench.dataset import Dataset
from icm_bench.error import DetectorError, ResultError
from icm_bench.metrics import fidelity
from icm_bench.metrics.bootstrap import resample_weights
from icm_bench.metrics.evaluation import evaluation_of
from icm_bench.metrics.fidelity import Fidelity
from icm_bench.pipeline import fact, provenance, store
from icm_bench.pipeline.front import reduced
from icm_bench.pipeline.outcome import own_values
from icm_bench.pipeline.plan import OperatingPoint, Plan
from icm_bench.pipeline.pseudo import with_pseudo_truth
from icm_bench.pipeline.rate import Rates, fidelity_of
from icm_bench.spec import Spec

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

_log = logging.getLogger(__name__)


class Ledger:
    """Turns the stores into curves; scores each operating point once."""

    def __init__(
        self, plan: Plan, results: Path, bootstrap: int, config: Mapping[str, Any] | None = None
    ) -> None:
        self._plan = plan
        self._results = results
        self._bootstrap = bootstrap
        self._config = {"config": dict(config)} if config else {}

    def check_published(self) -> None:
        """Stop the run where the detector misses its published AP on the whole of val2017; warn below 1 AP."""
        plan = self._plan
        if plan.detector is None:
            return
        found = self._uncompressed.figures.metrics[evaluation_of(self._dataset).figures[0]] or 0.0
        if found < SUSPICIOUS_AP:
            _log.warning(
                "WARNING: detector '%s' reaches %.2f AP on the uncompressed images of %s: "
                "its weights, its input or the categories do not fit, and its curves measure nothing",
                plan.detector_spec,
                found,
                plan.dataset.name,
            )
        if plan.judge is None or plan.judge.published is None or not self._dataset.is_full_val2017:
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
        path = result.path_of(self._results, plan.scored_name, plan.task, detector, codec.file_name)
        points = plan.ladder(codec)
        digests = [fact.digest_bitstreams(plan, point) for point in points]
        basis = self._basis(points, digests)
        try:
            found = result.load(path)
            is_whole = bool(found.timings) and not found.warnings and found.why_no_replicates is None
            is_whole = is_whole and result.is_as_written(found)
            has_replicates = (found.replicates is not None) == bool(self._bootstrap)
            if found.meta.get("basis") == basis and is_whole and has_replicates:
                return found, path
        except ResultError as error:
            if path.exists():
                _log.warning("%s: %s; it is written anew", path, error.what)
        made, replicates = self._measured(codec, points)
        made = replace(made, meta={**made.meta, "bitstreams": digests, "basis": basis})
        made, replicates = reduced(made, replicates)
        result.save(made, path, replicates)
        return result.load(path), path

    def _basis(self, points: Sequence[OperatingPoint], digests: Sequence[str]) -> str:
        # All that the curve's file is a function of, so that a finished curve is not scored again.
        parts = [
            [SCHEMA, SCORING, fidelity.VERSION, self._bootstrap, self._plan.task, provenance.versions()],
            [self._plan.predicted_identity(point) for point in points],
            digests,
            *([own] if (own := fact.metric_facts(self._plan)) else []),
            *self._config.values(),
        ]
        if self._plan.truth_score is not None:
            parts.append([self._plan.truth_score])
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _measured(self, codec: Spec, points: Sequence[OperatingPoint]) -> tuple[Result, Replicates | None]:
        plan = self._plan
        rates = [Rates.of(plan, point) for point in points]
        distortions = [fidelity_of(plan, point) for point in points]
        scores = [] if plan.detector is None else [self._score(point) for point in points]
        original = _NOTHING if plan.detector is None else self._uncompressed.figures
        figures = [self._compared(distortion) for distortion in distortions]
        if scores:
            figures = [pixels | scored.figures for pixels, scored in zip(figures, scores, strict=True)]
        if plan.metrics:
            figures = [each | self._own(point) for each, point in zip(figures, points, strict=True)]
            original |= self._own(plan.points[0]) if scores else _NOTHING
        columns: dict[str, list[float | None]] = {
            key: [getattr(rate, key) for rate in rates] for key in ("bpp", "bpp_mean", "bpp_payload")
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
        dataset = self._dataset
        stored_as = {} if dataset is plan.dataset else {"stored_as": plan.dataset.name}
        names = dataset.categories if scores else {}
        return Result(
            dataset=dataset.name,
            task=plan.task,
            detector=str(plan.detector_spec),
            codec=str(codec),
            description=f"{codec}: {titled(plan.task, dataset.name, str(plan.detector_spec))}",
            results=columns,
            categories={
                name: [scored.per_category.get(identifier) for scored in scores]
                for identifier, name in names.items()
            },
            meta={
                "qualities": [point.quality for point in points],
                "codec_version": [point.version for point in points],
                **fact.codec_facts(plan, codec, points[0]),
                **fact.complexity_facts(codec, [point.quality for point in points]),
                "dataset": fact.dataset_facts(dataset) | stored_as,
                "detector": {} if plan.detector is None else {"version": plan.detector_version},
                "uncompressed": {**original.metrics, "intervals": original.intervals} if scores else {},
                "fidelity": {
                    **fidelity.CONVENTIONS,
                    "undefined": {
                        key: reason for each in distortions for key, reason in each.reasons().items()
                    },
                },
                **({"metrics": own} if (own := fact.metric_facts(plan)) else {}),
                "intervals": self._intervals(rates, figures, columns),
                "versions": provenance.versions(),
                "command": fact.command_of(plan, codec, points),
                **self._config,
                "conventions": CONVENTIONS,
            },
            timings={
                "results": {
                    **{step: [rate.seconds[step] for rate in rates] for step in rates[0].seconds},
                    **({"detect_s": [scored.detect_s for scored in scores]} if scores else {}),
                },
                "machine": store.read_header(plan.coded_path(points[0], 0))["machine"],
            },
        ), replicates

    def _intervals(
        self, rates: Sequence[Rates], figures: Sequence[_Metrics], columns: Collection[str]
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
        sources = dataset.sources
        of_sources = resample_weights(int(sources.max()) + 1, dataset.fingerprint, self._bootstrap)
        return np.asarray(of_sources[:, sources])

    @cached_property
    def _dataset(self) -> Dataset:
        """The dataset with what stands for its objects."""
        plan = self._plan
        if plan.truth_score is None or plan.judge is None:
            return plan.dataset
        found = (
            (row["image_id"], each)
            for shard in range(plan.n_shards)
            for row in store.read(plan.predicted_path(plan.points[0], shard)).to_pylist()
            for each in row["predictions"]
        )
        return with_pseudo_truth(plan.dataset, plan.judge, found, plan.truth_score)

    @cached_property
    def _ground_truth(self) -> Any:
        dataset = self._dataset
        return evaluation_of(dataset).read(dataset.ground_truth or {})

    @cached_property
    def _uncompressed(self) -> _Scored:
        return self._score(self._plan.points[0])

    def _compared(self, distortion: Fidelity) -> _Metrics:
        replicated = {} if self._weights is None else distortion.resampled(self._weights)
        return _Metrics.of(distortion.metrics(), replicated)

    def _own(self, point: OperatingPoint) -> _Metrics:
        values = own_values(self._plan, point)
        means = {name: float(np.mean(each)) for name, each in values.items()}
        replicated = {
            name: fidelity.mean_over_images(self._weights, each)
            for name, each in values.items()
            if self._weights is not None
        }
        known = {name: value if math.isfinite(value) else None for name, value in means.items()}
        return _Metrics.of(known, replicated)

    def _score(self, point: OperatingPoint) -> _Scored:
        plan = self._plan
        rows = []
        detect_s = []
        for shard in range(plan.n_shards):
            for row in store.read(plan.predicted_path(point, shard)).to_pylist():
                detect_s.append(row["detect_s"])
                rows += [{"image_id": row["image_id"], **found} for found in row["predictions"]]
        evaluation = evaluation_of(self._dataset)
        scored = evaluation.score(self._ground_truth, rows, plan.task)
        replicated = {} if self._weights is None else scored.resampled(self._weights)
        replicated = {key: replicated[key] for key in evaluation.figures if key in replicated}
        figures = _Metrics.of(scored.metrics(), replicated)
        return _Scored(figures, scored.per_category(), float(np.mean(detect_s)))


@dataclass(frozen=True)
class _Metrics:
    """Metrics of one operating point; of some also replicates and intervals."""

    metrics: Mapping[str, float | None]
    replicates: Mapping[str, NDArray[np.float64]]
    intervals: Mapping[str, list[float | None]]

    @classmethod
    def of(
        cls, metrics: Mapping[str, float | None], replicates: Mapping[str, NDArray[np.float64]]
    ) -> _Metrics:
        # Where there is no figure, the resamples that have one say nothing of it.
        intervals: dict[str, list[float | None]] = {
            key: [None, None] if metrics[key] is None else _finite(interval(values, LEVEL))
            for key, values in replicates.items()
        }
        return cls(metrics, replicates, intervals)

    def __or__(self, other: _Metrics) -> _Metrics:
        return _Metrics(
            {**self.metrics, **other.metrics},
            {**self.replicates, **other.replicates},
            {**self.intervals, **other.intervals},
        )


_NOTHING = _Metrics({}, {}, {})


@dataclass(frozen=True)
class _Scored:
    """One operating point's accuracy."""

    figures: _Metrics
    per_category: Mapping[int, float | None]
    detect_s: float


def _finite(bounds: tuple[float | None, float | None]) -> list[float | None]:
    return [None if bound is None or not math.isfinite(bound) else bound for bound in bounds]
