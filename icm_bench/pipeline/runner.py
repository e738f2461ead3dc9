"""Runs: plan, subtract what is on disk, run the stages on an engine, write what comes back, score it."""

from __future__ import annotations

import datetime
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from icm_bench.codec import Programs, Quality
from icm_bench.curves import result
from icm_bench.curves.result import Result
from icm_bench.dataset import Dataset
from icm_bench.detector import Task
from icm_bench.error import DamageError, ResultError, StoreError
from icm_bench.file import sweep
from icm_bench.machine import one_thread
from icm_bench.pipeline import given, outlook, provenance, stage, store
from icm_bench.pipeline.agenda import Item, Waiting, in_order
from icm_bench.pipeline.cluster import dask_engine
from icm_bench.pipeline.engine import Engine, Pools, local_engine
from icm_bench.pipeline.job import Job, Measured
from icm_bench.pipeline.plan import OperatingPoint, Plan, make_plan
from icm_bench.pipeline.scoring import Ledger
from icm_bench.pipeline.worker import end_if_loaded_by_worker
from icm_bench.spec import Spec

_ATTEMPTS = 3
"""How often a run measures what it finds damaged."""

_UNKNOWN_WORKERS = 32
"""How many workers an executor is taken to have that does not say."""

Progress = Callable[[int, int, str, float], None]
"""Called with shards done, all of them, the operating point of the last one, and the seconds that are left."""


@dataclass
class Summary:
    """What a run did.

    Attributes:
        results: The curves: the codecs in the order in which they were named, by each detector in turn.
        paths: Their JSON files.
        n_encoded: Images encoded.
        n_detected: Images looked at, by each detector.
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

    def __repr__(self) -> str:
        codecs = ", ".join(each.codec for each in self.results)
        return (
            f"Summary({codecs or 'no curves'}: encoded {self.n_encoded} and looked at {self.n_detected} images "
            f"in {self.wall_s:.1f} s)"
        )

    @property
    def harness_share(self) -> float:
        """The share of the workers' time, 0 to 1, that is not encoding, decoding, comparing, detecting or scoring."""
        work = sum(self.seconds.get(step, 0.0) for step in ("encode", "decode", "compare", "detect"))
        work += self.seconds.get("score", 0.0) * self.workers
        return max(0.0, 1.0 - work / (self.wall_s * max(self.workers, 1)))


def run(
    dataset: Dataset,
    *,
    task: Task,
    codecs: Sequence[given.CodecLike],
    detector: given.DetectorLike | Sequence[given.DetectorLike] | None = None,
    weights: Path | None = None,
    qualities: Sequence[str] | Mapping[str, Sequence[Quality]] = (),
    results: str | Path = "results",
    runs: str | Path = "runs",
    device: str = "auto",
    workers: int | None = None,
    gpus: int | None = None,
    batch: int = 1,
    bootstrap: int = 1000,
    truth_score: float | None = None,
    fresh: bool = False,
    again: Sequence[str] = (),
    metrics: Sequence[given.MetricLike] = (),
    programs: Programs | None = None,
    part: tuple[int, int] | None = None,
    dask: str | None = None,
    config: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Measure codecs on a dataset, through frozen detectors or by their pixels alone, and write their curves.

    What is on disk is reused. Each image is coded once, and decoded once for all detectors; they look at the
    uncompressed images first.

    Args:
        dataset: Images, with ground truth where a detector is to be scored.
        task: What is measured; every task's curves have fidelity too.
        codecs: Codec specs; or classes or objects that need not be installed, see :mod:`icm_bench.pipeline.given`.
        detector: A detector's spec, class or object, or several; a spec may name its weights, as in
            ``yolox:weights=FILE``. None for the dataset's own.
        weights: The weights of the one detector, or None for the published ones.
        qualities: Ladders in place of the codecs' own: ``{spec: qualities}``, or ``spec=quality,quality...`` each.
        results: Folder for the curves.
        runs: Folder for the coded and predicted stores.
        device: ``auto``, ``cpu``, ``cuda``, or ``cuda:1`` and so on.
        workers: Processes that code; None for one a core. One, with no GPU, is this process itself.
        gpus: Processes that predict, one a GPU; None for every GPU of the device. With none, who codes predicts.
        batch: Images that a detector gets at once, where it takes batches.
        bootstrap: Resamples of the images for the intervals; 0 for none.
        truth_score: From which score on, in (0, 1], a detector's findings on the uncompressed images are the objects
            that it is scored against; None for the dataset's annotations.
        fresh: Measure again what is on disk and was made under other conditions.
        again: Codecs of which everything is measured again.
        metrics: Metrics that curves are to have too: names of those of other packages, classes or objects.
        programs: Where programs lie, for codecs that run them; None to look for them.
        part: The number of this part, from 1, and how many there are: measures its share of the shards and writes no
            curve. A run without a part does that, and measures what is missing.
        dask: The address of a Dask scheduler that runs the jobs, or ``local``; needs the extra ``cluster``.
        config: The file that the arguments come from, as the curves are to record it.
        executor: Runs the jobs in place of this machine's processes; its workers call what they are given.
        progress: Told of each finished shard.

    Raises:
        IcmBenchError: An image, a codec or a detector failed; what was finished before stays on disk.
    """
    end_if_loaded_by_worker()
    began = time.perf_counter()
    stage.forget()  # a notebook's class may have been defined anew
    if isinstance(qualities, Mapping):
        qualities = [f"{spec}={','.join(map(str, ladder))}" for spec, ladder in qualities.items()]
    plan = make_plan(
        dataset,
        task=task,
        codecs=given.codec_specs(codecs),
        detector=given.detector_specs(detector),
        weights=weights,
        qualities=qualities,
        runs=runs,
        device=device,
        gpus=gpus,
        batch=batch,
        truth_score=truth_score,
        fresh=fresh,
        again=again,
        metrics=given.metric_names(metrics),
        programs=programs,
    )
    summary = Summary()
    plan.sweep()
    for judged in plan.apart:
        _check_neighbours(judged, Path(results))
    start = functools.partial(_engine, executor, dask, workers, plan)
    for _ in range(_ATTEMPTS):
        try:
            ledgers = (
                [] if part else [Ledger(judged, Path(results), bootstrap, config) for judged in plan.apart]
            )
            with outlook.marked(plan) as mark:
                _measure(plan, ledgers, start, summary, progress, part, mark)
            settled = [_settle(ledger, codec, summary) for ledger in ledgers for codec in plan.codecs]
            summary.results, summary.paths = [made for made, _ in settled], [path for _, path in settled]
            break
        except (DamageError, FileNotFoundError):
            # Damage shows where a shard is read, which may be late; what is named again has been done by then.
            plan = replace(plan, again=frozenset())
            if not plan.remove_damaged() and not list(plan.jobs(plan.points)):
                raise
    else:
        raise StoreError(
            "its shards change while they are read", where=runs, hint="see who else writes there"
        )
    summary.wall_s = time.perf_counter() - began
    return summary


def _measure(
    plan: Plan,
    ledgers: Sequence[Ledger],
    start: Callable[[Sequence[Job]], AbstractContextManager[Engine]],
    summary: Summary,
    progress: Progress | None,
    part: tuple[int, int] | None,
    mark: Path,
) -> None:
    """Measure what is missing."""
    with one_thread():
        todo = list(plan.jobs(plan.points))
    stage.forget()
    if part:
        mine = outlook.parts(plan, part[1])
        todo = [item for item in todo if mine[item[0], item[1]] == part[0]]
    todo = in_order(todo)
    waiting = Waiting(plan, todo)
    _conclude(waiting.done(), ledgers, summary)
    if not todo:
        return
    with start([job for _, _, job in todo]) as engine:
        summary.workers = max(summary.workers, engine.workers)
        for index in _execute(plan, todo, engine, summary, progress, mark):
            _conclude(waiting.done(index), ledgers, summary)


def _conclude(measured: Sequence[Spec | None], ledgers: Sequence[Ledger], summary: Summary) -> None:
    """Write the curves of the codecs that are measured, and check the detectors once the originals are."""
    for ledger in ledgers:
        for codec in measured:
            if codec is None:
                ledger.check_published()
            else:
                _settle(ledger, codec, summary)


def _settle(ledger: Ledger, codec: Spec, summary: Summary) -> tuple[Result, Path]:
    """Write a curve."""
    clock = time.perf_counter()
    settled = ledger.settle(codec)
    summary.seconds["score"] = summary.seconds.get("score", 0.0) + time.perf_counter() - clock
    return settled


def _engine(
    executor: Executor | None, dask: str | None, workers: int | None, plan: Plan, jobs: Sequence[Job]
) -> AbstractContextManager[Engine]:
    if dask is not None:
        return dask_engine(dask)
    if executor is None:
        return local_engine(workers, plan.device, jobs)
    return nullcontext(Pools(executor, getattr(executor, "_max_workers", _UNKNOWN_WORKERS)))


def _execute(
    plan: Plan, todo: Sequence[Item], engine: Engine, summary: Summary, progress: Progress | None, mark: Path
) -> Iterator[int]:
    """Run jobs and keep what they find; yield the index of each that is done."""
    header = {
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "commit": provenance.commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    forecast = outlook.Forecast(
        [(point, job.n_bytes / 3e6) for point, _, job in todo], engine.workers, engine.predictors
    )
    n_done = 0
    origins: dict[int, Mapping[str, str]] = {}
    for index, measured, is_done in engine.run([job for _, _, job in todo]):
        point, shard, _ = todo[index]
        if measured.origin is not None:
            origins[index] = asdict(measured.origin)
        _keep(plan, point, shard, measured, {**header, **origins.get(index, {})}, summary)
        forecast.spend(index, measured.seconds)
        if not is_done:
            continue
        summary.n_jobs += 1
        n_done += 1
        forecast.done(index)
        mark.write_text(_label(point), encoding="utf-8")
        if progress is not None:
            progress(n_done, len(todo), _label(point), forecast.left_s)
        yield index


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
        device = plan.device.name if point.resource == "gpu" else "cpu"
        made = {"identity": identity, "device": device, **header}
        store.write(plan.coded_path(point, shard), measured.coded, made)
        summary.n_encoded += measured.coded.num_rows
    if measured.compared is not None:
        identity = plan.compared_identity(point)
        store.write(plan.compared_path(point, shard), measured.compared, {"identity": identity, **header})
    for judged in plan.apart if measured.predicted else ():
        predicted = measured.predicted.get(judged.detector_spec)
        if predicted is not None:
            identity = judged.predicted_identity(point)
            store.write(judged.predicted_path(point, shard), predicted, {"identity": identity, **header})
            summary.n_detected += predicted.num_rows
    for step, seconds in measured.seconds.items():
        summary.seconds[step] = summary.seconds.get(step, 0.0) + seconds


def _check_neighbours(plan: Plan, results: Path) -> None:
    """Refuse to write over or beside curves of another dataset, of another detector, or imported, of the same name."""
    folder = result.path_of(results, plan.scored_name, plan.task, plan.detector_spec.file_name, "any").parent
    sweep(folder)  # of what killed runs left half-written
    replaced = {f"{codec.file_name}.json" for codec in plan.codecs}
    for path in sorted(folder.glob("*.json")):
        if path.name.endswith(".timings.json"):
            continue
        try:
            neighbour = result.load(path).meta
        except ResultError:
            if path.name in replaced:
                continue  # measured again from the stores
            raise
        if path.name in replaced and "imported" in neighbour:
            raise ResultError(
                f"was imported from {neighbour['imported'].get('file')}, and has the name of a codec to be measured",
                where=path,
                hint="import it under another name with --codec, or give another folder with --results",
            )
        for key, found, wanted in (
            ("dataset", neighbour["dataset"].get("fingerprint"), plan.dataset.fingerprint),
            ("detector", neighbour["detector"].get("version"), plan.detector_version),
        ):
            if found is None or found == wanted or (key == "detector" and path.name in replaced):
                continue
            advice = "call this one otherwise with --name, " if key == "dataset" else ""
            raise ResultError(
                f"was measured with another {key} of this name ({found}, now {wanted})",
                where=path,
                hint=f"{advice}give another folder with --results, or remove the old curves",
            )


def _label(point: OperatingPoint) -> str:
    return "uncompressed" if point.codec is None else f"{point.codec} at {point.quality}"
