"""Engines: what runs the stages of a run's jobs, here in this process or on pools of processes."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent import futures
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from icm_bench.error import UsageError
from icm_bench.machine import n_cores, one_thread
from icm_bench.pipeline import stage
from icm_bench.pipeline.given import packed
from icm_bench.pipeline.job import Job, Measured
from icm_bench.pipeline.worker import death_of, process_pool

_GPU_NODES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""A Linux machine without any of these has no GPU for torch, which is then not imported to find out."""

_VISIBLE = "CUDA_VISIBLE_DEVICES"

_WAITING_BYTES = 2**30
"""Decoded images that may wait for a detector, where the memory's file system has twice as much free."""

Step: TypeAlias = tuple[int, Measured, bool]
"""The job's place in the list, what a stage of it found, and whether the job is done."""


class Engine(Protocol):
    """Runs jobs.

    Attributes:
        workers: Processes at work.
        predictors: Those of them that predict alone, while the others code; 0 where each does both stages.
    """

    workers: int
    predictors: int

    def run(self, jobs: Sequence[Job]) -> Iterator[Step]:
        """Yield what each stage of each job found, in the order in which they end.

        Args:
            jobs: The jobs, cheap ones first. Where predict workers have enough to do, dear ones are taken from the end.

        Raises:
            IcmBenchError: A job failed, or a worker died; the other jobs are given up.
        """
        ...


@dataclass(frozen=True)
class Device:
    """Where networks run.

    Attributes:
        name: ``cpu`` or ``cuda``, as codecs and detectors are told.
        gpus: What each predict worker sees as its only GPU; empty with no predict worker.
    """

    name: str
    gpus: tuple[str, ...] = ()


def resolve_device(text: str, gpus: int | None = None) -> Device:
    """Return the device for ``auto`` (the GPUs that torch can use, else the processor), ``cpu``, ``cuda``, ``cuda:1``.

    Args:
        text: The device.
        gpus: Predict workers, one a GPU; None for one on each GPU of the device, none on a processor.

    Raises:
        UsageError: There is no such device.
    """
    name, _, index = text.partition(":")
    if name not in ("auto", "cpu", "cuda") or (index and not (name == "cuda" and index.isdecimal())):
        raise UsageError(
            f"there is no device '{text}'", where="--device", hint="use auto, cpu, cuda or cuda:1"
        )
    found = 0 if name == "cpu" else _n_gpus()
    if name == "cpu" or (name == "auto" and not found):
        return Device("cpu", ("",) * (gpus or 0))
    if found <= int(index or 0):
        has = f"{found} GPUs" if found else "no GPU"
        raise UsageError(f"torch finds {has} for '{text}'", where="--device", hint="use --device cpu")
    # A worker that sees one GPU alone needs no plug-in that knows of several.
    visible = [part for part in os.environ.get(_VISIBLE, "").split(",") if part] or list(
        map(str, range(found))
    )
    chosen = [visible[int(index)]] if index else visible[:found]
    return Device("cuda", tuple(chosen if gpus is None else chosen[:gpus]))


def _n_gpus() -> int:
    if sys.platform == "linux" and not any(Path(node).exists() for node in _GPU_NODES):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@contextlib.contextmanager
def local_engine(workers: int | None, device: Device, jobs: Sequence[Job]) -> Iterator[Engine]:
    """Return the engine that uses this machine: processes on its cores, and one for each GPU that has work.

    Args:
        workers: Processes that code; None for one a core. One, with no GPU at work, is this process itself.
        device: Where networks run.
        jobs: What is to be run.
    """
    has_gpu_work = any(job.detectors or job.resource == "gpu" for job in jobs)
    gpus = device.gpus if has_gpu_work else ()
    workers = workers or n_cores()
    if workers == 1 and not gpus:
        yield InProcess()
        return
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_scratch()) if gpus else None
        coders = stack.enter_context(process_pool(workers, scratch=folder))
        predictors = [
            stack.enter_context(process_pool(1, environment={_VISIBLE: gpu} if gpu else {}, scratch=folder))
            for gpu in gpus
        ]
        yield Pools(coders, workers, predictors, folder)


class InProcess:
    """Runs jobs one by one in this process."""

    workers = 1
    predictors = 0

    def run(self, jobs: Sequence[Job]) -> Iterator[Step]:
        """Yield what each job found."""
        with one_thread():
            try:
                for index, job in enumerate(jobs):
                    yield index, stage.measure(job), True
            finally:
                stage.forget()


class Pools:
    """Runs jobs on a pool of processes that code and, where there are GPUs, a process for each that predicts.

    With GPUs, a shard is coded by the first pool, its decoded images wait in shared memory, and a GPU's process looks
    at them: cores and GPUs are busy at once. A codec that runs on a GPU codes in the GPU's process. With no GPU, one
    process does both stages of a job.

    Args:
        coders: The pool that codes.
        workers: Its processes.
        predictors: A pool of one process for each GPU.
        folder: Where decoded images wait, in memory; None with no GPU.
    """

    def __init__(
        self, coders: Executor, workers: int, predictors: Sequence[Executor] = (), folder: Path | None = None
    ) -> None:
        self.workers = workers + len(predictors)
        self.predictors = len(predictors)
        self.coders, self.predict_pools, self.folder = coders, predictors, folder

    def run(self, jobs: Sequence[Job]) -> Iterator[Step]:
        """Yield what each stage of each job found, in the order in which they end."""
        # Threads of this process know what it knows.
        schedule = _Schedule(
            self, jobs if isinstance(self.coders, futures.ThreadPoolExecutor) else packed(jobs)
        )
        try:
            while schedule.fill():
                yield from schedule.ended()
        except BrokenProcessPool as error:
            pools = [self.coders, *self.predict_pools]
            broken = [
                each for each in pools if isinstance(each, futures.ProcessPoolExecutor) and each._broken
            ]
            raise death_of(broken[0]) from error
        finally:
            schedule.cancel()


@dataclass(frozen=True)
class _Task:
    index: int
    job: Job
    images: Path | None = None
    """Where the job's decoded images wait, or will wait, for a predict worker; None where one process does it all."""
    gpu: int | None = None
    """The predict worker that has the task; None for one that codes."""


class _Schedule:
    """Which jobs wait, which are at work, and what they may hold."""

    def __init__(self, pools: Pools, jobs: Sequence[Job]) -> None:
        self._pools = pools
        self._to_code: deque[tuple[int, Job]] = deque()
        self._to_gpu: deque[tuple[int, Job]] = deque()
        for item in enumerate(jobs):
            on_gpu = pools.predictors and item[1].resource == "gpu"
            (self._to_gpu if on_gpu else self._to_code).append(item)
        self._working: dict[futures.Future[Measured], _Task] = {}
        self._held: dict[int, int] = {}
        """Bytes of decoded images that wait or will wait for a predict worker, by job."""
        self._budget = min(_WAITING_BYTES, shutil.disk_usage(pools.folder).free // 2) if pools.folder else 0

    def fill(self) -> bool:
        """Give work to whoever has too little, within what may wait; tell whether any is going on."""
        while (item := self._next_to_code()) is not None:
            index, job = item
            submit, folder = self._pools.coders.submit, self._pools.folder
            if folder is not None and job.detectors:
                path = folder / f"{index}.images"
                self._held[index] = job.n_bytes
                self._working[submit(_code_to, job, path)] = _Task(index, job, path)
            else:
                self._working[submit(stage.measure, job)] = _Task(index, job)
        while self._to_gpu and min(self._loads()) < 2:
            self._submit_to_gpu(*self._to_gpu.popleft(), None)
        return bool(self._working)

    def ended(self) -> Iterator[Step]:
        """Wait for a stage to end and yield what ended; what is decoded goes on to a predict worker."""
        done, _ = futures.wait(self._working, return_when=futures.FIRST_COMPLETED)
        for future in done:
            task = self._working.pop(future)
            measured = future.result()
            is_done = task.images is None or task.gpu is not None
            if not is_done:
                self._submit_to_gpu(task.index, task.job, task.images)
            elif task.images is not None:
                del self._held[task.index]
                task.images.unlink(missing_ok=True)
            yield task.index, measured, is_done

    def cancel(self) -> None:
        """Give up what has not begun."""
        for future in self._working:
            future.cancel()

    def _next_to_code(self) -> tuple[int, Job] | None:
        """Take the next job for a coder; None where they have enough, or nothing more may wait for a predict worker."""
        coding = sum(task.gpu is None for task in self._working.values())
        if not self._to_code or coding >= 2 * (self._pools.workers - self._pools.predictors):
            return None
        if self._pools.folder is None:
            return self._to_code.popleft()
        # Cheap jobs keep predict workers busy; once enough of them wait, coders go on with dear ones.
        held = sum(self._held.values())
        is_cheap = held + self._to_code[0][1].n_bytes <= self._budget // 2
        _, job = self._to_code[0 if is_cheap else -1]
        # One shard goes even where it alone is more than may wait: the run must end.
        if self._held and job.detectors and held + job.n_bytes > self._budget:
            return None
        return self._to_code.popleft() if is_cheap else self._to_code.pop()

    def _loads(self) -> list[int]:
        at_work = [task.gpu for task in self._working.values()]
        return [at_work.count(gpu) for gpu in range(self._pools.predictors)]

    def _submit_to_gpu(self, index: int, job: Job, images: Path | None) -> None:
        loads = self._loads()
        gpu = loads.index(min(loads))
        submit = self._pools.predict_pools[gpu].submit
        future = submit(stage.measure, job) if images is None else submit(_predict_from, job, images)
        self._working[future] = _Task(index, job, images, gpu)


def _code_to(job: Job, path: Path) -> Measured:
    """Do the code stage and leave the decoded images in a file."""
    measured, images = stage.code(job)
    with path.open("wb") as file:
        for image in images:
            file.write(np.ascontiguousarray(image).data)
    return measured


def _predict_from(job: Job, path: Path) -> Measured:
    """Do the predict stage on decoded images in a file."""
    shapes = [(record.height, record.width, 3) for record in job.images]
    parts = np.split(np.fromfile(path, np.uint8), np.cumsum([math.prod(shape) for shape in shapes])[:-1])
    return stage.predict(job, [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Return a folder in memory for decoded images, or where the machine has none, among the temporary files."""
    memory = Path("/dev/shm")  # noqa: S108  (a folder of our own within it)
    is_roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**28
    with tempfile.TemporaryDirectory(prefix="icm-bench-", dir=memory if is_roomy else None) as folder:
        yield Path(folder)
