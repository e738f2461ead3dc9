"""The engine that runs on a Dask cluster (the extra ``cluster``): many machines, the same stages, the same results."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from icm_bench.error import IcmBenchError, UsageError
from icm_bench.image import Image
from icm_bench.machine import one_thread
from icm_bench.pipeline import stage
from icm_bench.pipeline.engine import Step
from icm_bench.pipeline.given import packed
from icm_bench.pipeline.job import Job, Measured
from icm_bench.pipeline.provenance import versions

_LOG = logging.getLogger(__name__)

_TASKS_A_WORKER = 2
"""Jobs in flight for each worker: enough to keep them busy, few enough for any scheduler."""

_PATIENCE_S = 60.0
"""How long a cluster may have no worker before the run is given up."""


@contextlib.contextmanager
def dask_engine(address: str) -> Iterator[DaskEngine]:
    """Return the engine on a Dask cluster.

    Args:
        address: The scheduler's address, or ``local`` for a cluster of processes on this machine.

    Raises:
        UsageError: Dask is not installed, or no scheduler answers.
        IcmBenchError: A worker has another version of a package that can change a number.
    """
    try:
        from distributed import Client
    except ImportError as error:
        hint = "install icm-bench[cluster]"
        raise UsageError("Dask is not installed here", where="--dask", hint=hint) from error
    options: dict[str, Any] = {} if address != "local" else {"threads_per_worker": 1, "processes": True}
    try:
        client = Client(None if address == "local" else address, set_as_default=False, timeout=30, **options)
    except (OSError, ValueError) as error:
        hint = "start one with: dask scheduler"
        raise UsageError(f"no scheduler answers ({error})", where=f"--dask {address}", hint=hint) from error
    with client:
        yield DaskEngine(client)


class DaskEngine:
    """Runs jobs on a Dask cluster.

    Where a worker offers the resource ``GPU``, it predicts, and the others code; the decoded images go from worker to
    worker. A job whose worker dies runs again elsewhere.

    Args:
        client: A client of the cluster.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._wait_for_workers()
        self.workers = len(self._workers())
        for address, worker in self._workers().items():
            if worker["nthreads"] > 1:
                hint = "start it with: dask worker ADDRESS --nthreads 1 (and --nworkers N for more)"
                raise UsageError(
                    "has several threads, and codecs want one", where=f"worker {address}", hint=hint
                )
        self.predictors = sum("GPU" in worker["resources"] for worker in self._workers().values())
        _check_versions(client)

    def run(self, jobs: Sequence[Job]) -> Iterator[Step]:
        """Yield what each job found, in the order in which they end."""
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        jobs = packed(jobs)
        sends = self._must_send(jobs)
        todo = deque(enumerate(jobs))
        working: dict[Any, int] = {}
        ended = as_completed(loop=self._client.loop)
        try:
            while todo or working:
                while todo and len(working) < _TASKS_A_WORKER * max(1, len(self._workers())):
                    # With predict workers, cheap and dear jobs in turn: both kinds of workers have something to do.
                    is_dear = self.predictors and len(todo) % 2
                    index, job = todo.pop() if is_dear else todo.popleft()
                    files = {path: Path(path).read_bytes() for path in _paths(job)} if sends else {}
                    future = self._submit(job, files)
                    working[future.key] = index
                    ended.add(future)
                future = next(ended)
                index = working.pop(future.key)
                yield index, future.result(), True
        except KilledWorker as error:
            raise IcmBenchError(
                "the same job has ended several workers (out of memory?)",
                hint="run again to continue, with more memory for each worker",
            ) from error
        finally:
            self._client.cancel(list(ended.futures))

    def _submit(self, job: Job, files: Mapping[str, bytes]) -> Any:
        submit = functools.partial(self._client.submit, pure=False)
        if not self.predictors or (not job.detectors and job.resource == "cpu"):
            return submit(_measure, job, files)
        if job.resource == "gpu":
            return submit(_measure, job, files, resources={"GPU": 1})
        return submit(_predict, job, files, submit(_code, job, files), resources={"GPU": 1})

    def _must_send(self, jobs: Sequence[Job]) -> bool:
        """Tell whether a worker does not see the files of the first job, and say so."""
        paths = _paths(jobs[0]) if jobs else []
        for worker, sees in self._client.run(_sees, paths).items() if paths else ():
            if not sees:
                _LOG.warning("worker %s does not see %s: files are sent", worker, paths[0])
                return True
        return False

    def _workers(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        return found

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not self._workers():
            if time.monotonic() > deadline:
                hint = "start some with: dask worker ADDRESS --nthreads 1"
                raise IcmBenchError("the cluster has no worker", where="--dask", hint=hint)
            time.sleep(0.2)


def _check_versions(client: Any) -> None:
    here = versions()
    for worker, there in client.run(versions).items():
        for package in sorted({*here, *there}):
            if here.get(package) != there.get(package):
                raise IcmBenchError(
                    f"has {package} {there.get(package)}, and this machine {here.get(package)}",
                    where=f"worker {worker}",
                    hint="install the same versions everywhere: they can change a number",
                )


def _paths(job: Job) -> list[str]:
    weights = (detector.weights for detector in job.detectors)
    paths = (*(image.path for image in job.images), job.coded, *weights)
    return [str(path) for path in paths if path is not None]


def _sees(paths: Sequence[str]) -> bool:
    return all(Path(path).is_file() for path in paths)


@contextlib.contextmanager
def _at_hand(job: Job, files: Mapping[str, bytes]) -> Iterator[Job]:
    """Yield the job with the files that were sent with it in place of its own, on one thread."""
    with one_thread(), contextlib.ExitStack() as stack:
        if files:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="icm-bench-")))
            job = _moved(job, {path: _written(folder, path, data) for path, data in files.items()})
        yield job


def _moved(job: Job, places: Mapping[str, Path]) -> Job:
    # Kept for as long as the worker lives, as the detectors that are made of them are.
    detectors = tuple(
        detector
        if detector.weights is None
        else dataclasses.replace(detector, weights=_kept(places[str(detector.weights)].read_bytes()))
        for detector in job.detectors
    )
    images = tuple(dataclasses.replace(image, path=places[str(image.path)]) for image in job.images)
    coded = None if job.coded is None else places[str(job.coded)]
    return dataclasses.replace(job, images=images, coded=coded, detectors=detectors)


def _written(folder: Path, path: str, data: bytes) -> Path:
    # Below its own folders' names, since a shard says where it belongs.
    place = folder.joinpath(*Path(path).parts[1:])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return place


@functools.lru_cache(maxsize=32)
def _kept(data: bytes) -> Path:
    place = Path(tempfile.mkdtemp(prefix="icm-bench-")) / hashlib.sha256(data).hexdigest()
    place.write_bytes(data)
    return place


def _measure(job: Job, files: Mapping[str, bytes]) -> Measured:
    with _at_hand(job, files) as here:
        return stage.measure(here)


def _code(job: Job, files: Mapping[str, bytes]) -> tuple[Measured, list[Image]]:
    with _at_hand(job, files) as here:
        return stage.code(here)


def _predict(job: Job, files: Mapping[str, bytes], coded: tuple[Measured, list[Image]]) -> Measured:
    measured, images = coded
    with _at_hand(job, files) as here:
        found = stage.predict(here, images)
    seconds = {
        step: measured.seconds.get(step, 0.0) + found.seconds.get(step, 0.0)
        for step in {*measured.seconds, *found.seconds}
    }
    return Measured(measured.coded, measured.compared, found.predicted, measured.origin, seconds)
