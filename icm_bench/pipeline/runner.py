"""Runs: plan, subtract what is on disk, map one function over an executor, write what comes back, score it."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icm_bench.curves import result
from icm_bench.curves.result import Result
from icm_bench.dataset import Dataset, default_detector
from icm_bench.detector import Task
from icm_bench.error import IcmBenchError, ResultError
from icm_bench.pipeline import provenance, store
from icm_bench.pipeline.plan import OperatingPoint, Plan, make_plan
from icm_bench.pipeline.scoring import Ledger
from icm_bench.pipeline.worker import Job, Measured, measure, process_pool

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
    ledger = Ledger(plan, Path(results), bootstrap)
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
            hint="run again to continue, with fewer --workers if memory is short",
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
                    hint="give another folder with --results, or remove the old curves",
                )


def _label(point: OperatingPoint) -> str:
    return "uncompressed" if point.codec is None else f"{point.codec} at {point.quality}"
