"""Runs: plan, subtract what is on disk, map one function over an executor, write what comes back, score it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from icm_bench import provenance, store
from icm_bench.curves import result
from icm_bench.curves.interval import interval
from icm_bench.curves.rate_convention import MEASURED
from icm_bench.curves.result import Draws, Result, titled
from icm_bench.dataset import Dataset, default_detector
from icm_bench.detector import Task
from icm_bench.error import DetectorError, IcmBenchError, ResultError
from icm_bench.metrics import fidelity
from icm_bench.metrics.bootstrap import resample_weights
from icm_bench.metrics.evaluation import evaluation_of
from icm_bench.metrics.fidelity import Fidelity
from icm_bench.plan import OperatingPoint, Plan, make_plan
from icm_bench.spec import Spec
from icm_bench.worker import Job, Measured, measure, process_pool

CONVENTIONS = MEASURED.record()
"""What a rate means here; curves of other conventions are not compared with ours unasked."""

SCORING = 1
"""Version of scoring, resampling and what a result file derives from them. 1: first."""

PUBLISHED_TOLERANCE = 0.2
"""How far, in AP, the uncompressed images may be from a detector's published figure."""

LEVEL = 0.95
"""Coverage of every interval."""

Progress = Callable[[int, int, str], None]
"""Called with shards done, all of them, and the operating point of the last one."""


@dataclass
class Summary:
    """What a run did.

    Attributes:
        results: The curves, in the order in which their codecs were named.
        paths: Their JSON files.
        n_encoded: Images encoded.
        n_detected: Images that the detector looked at.
        n_jobs: Shards finished.
        seconds: Time by step, summed over the workers: load, read, encode, decode, check, compare, detect;
            and score.
        wall_s: Wall time of the whole run.
        workers: Processes at work.
    """

    results: list[Result] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    n_encoded: int = 0
    n_detected: int = 0
    n_jobs: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    wall_s: float = 0.0
    workers: int = 0

    @property
    def harness_share(self) -> float:
        """The share of the workers' time, 0 to 1, that is not encoding, decoding, comparing, detecting or scoring."""
        busy = self.wall_s * max(self.workers, 1)
        score_s = self.seconds.get("score", 0.0)
        work = (
            sum(self.seconds.get(step, 0.0) for step in ("encode", "decode", "compare", "detect"))
            + score_s * self.workers
        )
        return max(0.0, 1.0 - work / busy)


def run(
    dataset: Dataset,
    *,
    task: Task,
    codecs: Sequence[str],
    detector: str | None = None,
    weights: Path | None = None,
    qualities: Sequence[str] = (),
    results: str | Path = "results",
    runs: str | Path = "runs",
    device: str = "auto",
    workers: int | None = None,
    bootstrap: int = 1000,
    fresh: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Measure codecs on a dataset, through a frozen detector or by their pixels alone, and write their curves.

    What is on disk is reused; a detector looks at the uncompressed images first.

    Args:
        dataset: Images, with ground truth where a detector is to be scored.
        task: What is measured; of fidelity, every task's curves tell.
        codecs: Codec specs.
        detector: A detector's spec, or None for the dataset's own.
        weights: The detector's weights, or None for the published ones.
        qualities: Ladder overrides, each ``spec=quality,quality...``.
        results: Folder for the curves.
        runs: Folder for the coded and predicted stores.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: Processes; None for one a core on a CPU, one on a GPU.
        bootstrap: Resamples of the images for the intervals; 0 for none.
        fresh: Measure again what is on disk.
        executor: Runs the jobs in place of the local process pool; its workers call what they are given.
        progress: Told of each finished shard.

    Raises:
        IcmBenchError: An image, a codec or a detector failed; what was finished before stays on disk.
    """
    began = time.perf_counter()
    plan = make_plan(
        dataset=dataset,
        task=task,
        codecs=codecs,
        detector=detector or default_detector(dataset, task),
        weights=weights,
        qualities=qualities,
        store=store.Store(Path(runs)),
        device=device,
    )
    summary = Summary()
    if fresh:
        plan.discard()
    plan.sweep()
    ledger = _Ledger(plan, Path(results), bootstrap)
    _check_neighbours(plan, Path(results))
    originals = plan.ladder(None)
    coded = [point for point in plan.points if point not in originals]
    todo = [list(plan.jobs(originals)), list(plan.jobs(coded))]
    total = sum(map(len, todo))
    with contextlib.ExitStack() as stack:
        pool = executor
        if pool is None and total:
            pool = stack.enter_context(process_pool(workers, plan.device))
        summary.workers = getattr(pool, "_max_workers", workers or 1) if total else 0
        for jobs in todo:
            if pool is not None:
                _execute(plan, jobs, pool, summary, total, progress)
            if jobs is todo[0]:
                ledger.check_published()
    for codec in plan.codecs:
        clock = time.perf_counter()
        made, path = ledger.settle(codec)
        summary.results.append(made)
        summary.paths.append(path)
        summary.seconds["score"] = summary.seconds.get("score", 0.0) + time.perf_counter() - clock
    summary.wall_s = time.perf_counter() - began
    return summary


def _execute(
    plan: Plan,
    jobs: Iterable[tuple[OperatingPoint, int, Job]],
    pool: Executor,
    summary: Summary,
    total: int,
    progress: Progress | None,
) -> None:
    header = {
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "commit": provenance.commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    waiting: dict[Future[Measured], tuple[OperatingPoint, int]] = {}
    try:
        for point, shard, job in jobs:
            waiting[pool.submit(measure, job)] = (point, shard)
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                point, shard = waiting.pop(future)
                _keep(plan, point, shard, future.result(), header, summary)
                summary.n_jobs += 1
                if progress is not None:
                    progress(summary.n_jobs, total, _label(point))
    except BrokenProcessPool as error:
        raise IcmBenchError(
            "a worker process died (killed, or out of memory)",
            mend="run again to continue, with fewer --workers if memory is short",
        ) from error
    finally:
        for future in waiting:
            future.cancel()


def _keep(
    plan: Plan,
    point: OperatingPoint,
    shard: int,
    measured: Measured,
    header: Mapping[str, Any],
    summary: Summary,
) -> None:
    if measured.coded is not None:
        identity = plan.coded_identity(point)
        bitstreams = hashlib.sha256(b"".join(measured.coded["bitstream"].to_pylist())).hexdigest()
        path = plan.coded_path(point, shard)
        store.write(path, measured.coded, {"identity": identity, "bitstreams": bitstreams, **header})
        summary.n_encoded += measured.coded.num_rows
    if measured.compared is not None:
        identity = plan.compared_identity(point)
        store.write(plan.compared_path(point, shard), measured.compared, {"identity": identity, **header})
    if measured.predicted is not None:
        identity = plan.predicted_identity(point)
        store.write(plan.predicted_path(point, shard), measured.predicted, {"identity": identity, **header})
        summary.n_detected += measured.predicted.num_rows
    for step, seconds in measured.seconds.items():
        summary.seconds[step] = summary.seconds.get(step, 0.0) + seconds


class _Ledger:
    """Turns the stores into curves; scores each operating point once."""

    def __init__(self, plan: Plan, results: Path, bootstrap: int) -> None:
        self._plan = plan
        self._results = results
        self._bootstrap = bootstrap

    def check_published(self) -> None:
        """Stop the run where the detector does not reach its published figure on the whole of val2017."""
        plan = self._plan
        if plan.published is None or not plan.dataset.is_full_val2017:
            return
        found = self._uncompressed.figures.metrics["map"] or 0.0
        if abs(found - plan.published) > PUBLISHED_TOLERANCE:
            raise DetectorError(
                f"{found:.2f} AP on uncompressed val2017, where {plan.published:.1f} is published",
                where=f"detector '{plan.detector_spec}'",
                mend="check its weights and its input: the curves would measure another detector",
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
            if found.meta.get("basis") == basis and (found.draws is not None or not self._bootstrap):
                return found, path
        made, draws = self._measured(codec, points)
        made = dataclasses.replace(made, meta={**made.meta, "bitstreams": digests, "basis": basis})
        result.save(made, path, draws)
        return result.load(path), path

    def _basis(self, points: Sequence[OperatingPoint], digests: Sequence[str]) -> str:
        # All that the curve's file is a function of, so that a finished curve is not scored again.
        parts = [
            [
                result.SCHEMA,
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

    def _measured(self, codec: Spec, points: Sequence[OperatingPoint]) -> tuple[Result, Draws | None]:
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
        draws = None
        if self._weights is not None:
            draws = Draws(
                bpp=np.stack([rate.resampled(self._weights) for rate in rates]),
                metrics={
                    key: np.stack([each.draws[key] for each in figures])
                    for key in figures[0].draws
                    if key in columns and key not in fidelity.DERIVED
                },
                uncompressed=original.draws,
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
                "dataset": {
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
        ), draws

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
    def _drawn(self) -> tuple[str, ...]:
        return evaluation_of(self._plan.dataset).figures

    @cached_property
    def _ground_truth(self) -> Any:
        dataset = self._plan.dataset
        return evaluation_of(dataset).read(dataset.ground_truth or {})

    @cached_property
    def _uncompressed(self) -> _Scored:
        return self._score(self._plan.points[0])

    def _compared(self, distortion: Fidelity) -> _Figures:
        drawn = {} if self._weights is None else distortion.resampled(self._weights)
        return _Figures.of(distortion.metrics(), drawn)

    def _score(self, point: OperatingPoint) -> _Scored:
        plan = self._plan
        rows = []
        detect_s = []
        for shard in range(plan.n_shards):
            for row in store.read(plan.predicted_path(point, shard)).to_pylist():
                detect_s.append(row["detect_s"])
                rows += [{"image_id": row["image_id"], **found} for found in row["predictions"]]
        scored = evaluation_of(plan.dataset).score(self._ground_truth, rows, plan.task)
        drawn = {} if self._weights is None else scored.resampled(self._weights)
        return _Scored(
            figures=_Figures.of(scored.metrics(), {key: drawn[key] for key in self._drawn if key in drawn}),
            per_category=scored.per_category(),
            detect_s=float(np.mean(detect_s)),
        )


@dataclass(frozen=True)
class _Figures:
    """Metrics of one operating point; of some also draws and intervals."""

    metrics: Mapping[str, float | None]
    draws: Mapping[str, NDArray[np.float64]]
    intervals: Mapping[str, list[float | None]]

    @classmethod
    def of(cls, metrics: Mapping[str, float | None], draws: Mapping[str, NDArray[np.float64]]) -> _Figures:
        # Where there is no figure, the resamples that have one say nothing of it.
        intervals: dict[str, list[float | None]] = {
            key: [None, None] if metrics[key] is None else _finite(interval(values, LEVEL))
            for key, values in draws.items()
        }
        return cls(metrics, draws, intervals)

    def __or__(self, other: _Figures) -> _Figures:
        return _Figures(
            {**self.metrics, **other.metrics},
            {**self.draws, **other.draws},
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
        drawn: NDArray[np.float64] = (weights @ self.n_bits) / (weights @ self.n_pixels)
        return drawn


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
    return {"objects": len(dataset.ground_truth["annotations"]), "evaluation": dataset.evaluation}


def _digest(plan: Plan, point: OperatingPoint) -> str:
    """Digest a point's bitstreams: equal digests mean byte-identical coding."""
    shards = [
        store.read_header(plan.coded_path(point, shard))["bitstreams"] for shard in range(plan.n_shards)
    ]
    return hashlib.sha256("".join(shards).encode()).hexdigest()[:16]


def _check_neighbours(plan: Plan, results: Path) -> None:
    """Refuse to write a curve beside curves of another dataset or detector that goes by the same name."""
    folder = result.path_of(results, plan.dataset.name, plan.task, plan.detector_spec.file_name, "any").parent
    replaced = {f"{codec.file_name}.json" for codec in plan.codecs}
    for path in sorted(folder.glob("*.json")):
        if path.name in replaced or path.name.endswith(".timings.json"):
            continue
        neighbour = result.load(path).meta
        for key, found, wanted in (
            ("dataset", neighbour["dataset"].get("fingerprint"), plan.dataset.fingerprint),
            ("detector", neighbour["detector"].get("version"), plan.detector_version),
        ):
            if found is not None and found != wanted:
                raise ResultError(
                    f"was measured with another {key} of this name ({found}, now {wanted})",
                    where=path,
                    mend="give another folder with --results, or remove the old curves",
                )


def _command(plan: Plan, codec: Spec, points: Sequence[OperatingPoint]) -> str:
    """Return the command that measures this curve, without the paths of one machine."""
    dataset = plan.dataset
    n_images = len(dataset.images)
    limit = f" --limit {n_images}" if dataset.name.endswith(f"-{n_images}") else ""
    ladder = ",".join(str(point.quality) for point in points)
    detector = "" if plan.detector is None else f" --detector {plan.detector.spec}"
    return (
        f"icm-bench run --task {plan.task} --codecs {codec} --qualities {codec}={ladder} "
        f"--dataset {dataset.provider}{limit}{detector}"
    )


def _finite(bounds: tuple[float | None, float | None]) -> list[float | None]:
    return [None if bound is None or not math.isfinite(bound) else bound for bound in bounds]


def _label(point: OperatingPoint) -> str:
    return "uncompressed" if point.codec is None else f"{point.codec} at {point.quality}"
