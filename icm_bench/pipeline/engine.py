"""Engines: what runs the stages of a run's jobs, here in this process or on pools of processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from icm_bench.error import UsageError
from icm_bench.image import Image
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
        self._coders = coders
        self._n_coders = workers
        self._predict_pools = predictors
        self._folder = folder

    def run(self, jobs: Sequence[Job]) -> Iterator[Step]:
        """Yield what each stage of each job found, in the order in which they end."""
        # Threads of this process know what it knows.
        jobs = jobs if isinstance(self._coders, ThreadPoolExecutor) else packed(jobs)
        schedule = _Schedule(self._coders, self._n_coders, self._predict_pools, self._folder, jobs)
        try:
            while schedule.fill():
                yield from schedule.ended()
        except BrokenProcessPool as error:
            pools = [self._coders, *self._predict_pools]
            broken = [pool for pool in pools if isinstance(pool, ProcessPoolExecutor) and pool._broken]
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

    def __init__(
        self,
        coders: Executor,
        n_coders: int,
        predictors: Sequence[Executor],
        folder: Path | None,
        jobs: Sequence[Job],
    ) -> None:
        self._coders = coders
        self._n_coders = n_coders
        self._predictors = predictors
        self._folder = folder
        on_gpu = [bool(predictors) and job.resource == "gpu" for job in jobs]
        numbered = list(enumerate(jobs))
        self._to_code = deque(item for item, gpu in zip(numbered, on_gpu, strict=True) if not gpu)
        self._to_gpu = deque(item for item, gpu in zip(numbered, on_gpu, strict=True) if gpu)
        self._working: dict[Future[Measured], _Task] = {}
        self._held: dict[int, int] = {}
        """Bytes of decoded images that wait or will wait for a predict worker, by job."""
        self._budget = (
            _WAITING_BYTES if folder is None else min(_WAITING_BYTES, shutil.disk_usage(folder).free // 2)
        )

    def fill(self) -> bool:
        """Give work to whoever has too little, within what may wait; tell whether any is going on."""
        while (item := self._next_to_code()) is not None:
            index, job = item
            if self._folder is not None and job.detectors:
                path = self._folder / f"{index}.images"
                self._held[index] = job.n_bytes
                self._working[self._coders.submit(_code_to, job, path)] = _Task(index, job, path)
            else:
                self._working[self._coders.submit(stage.measure, job)] = _Task(index, job)
        while self._to_gpu and min(self._loads()) < 2:
            self._submit_to_gpu(*self._to_gpu.popleft(), None)
        return bool(self._working)

    def ended(self) -> Iterator[Step]:
        """Wait for a stage to end and yield what ended; what is decoded goes on to a predict worker."""
        done, _ = wait(self._working, return_when=FIRST_COMPLETED)
        for future in done:
            task = self._working.pop(future)
            measured = future.result()
            is_done = task.images is None or task.gpu is not None
            if not is_done:
                self._submit_to_gpu(task.index, task.job, task.images)
            elif task.images is not None:
                self._release(task)
            yield task.index, measured, is_done

    def cancel(self) -> None:
        """Give up what has not begun."""
        for future in self._working:
            future.cancel()

    def _next_to_code(self) -> tuple[int, Job] | None:
        """Take the next job for a coder; None where they have enough, or nothing more may wait for a predict worker."""
        coding = sum(task.gpu is None for task in self._working.values())
        if not self._to_code or coding >= 2 * self._n_coders:
            return None
        if self._folder is None:
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
        return [at_work.count(gpu) for gpu in range(len(self._predictors))]

    def _submit_to_gpu(self, index: int, job: Job, images: Path | None) -> None:
        loads = self._loads()
        gpu = loads.index(min(loads))
        pool = self._predictors[gpu]
        future = (
            pool.submit(stage.measure, job) if images is None else pool.submit(_predict_from, job, images)
        )
        self._working[future] = _Task(index, job, images, gpu)

    def _release(self, task: _Task) -> None:
        del self._held[task.index]
        if task.images is not None:
            task.images.unlink(missing_ok=True)


def _code_to(job: Job, path: Path) -> Measured:
    """Do the code stage and leave the decoded images in a file."""
    measured, images = stage.code(job)
    with path.open("wb") as file:
        for image in images:
            file.write(np.ascontiguousarray(image).data)
    return measured


def _predict_from(job: Job, path: Path) -> Measured:
    """Do the predict stage on decoded images in a file."""
    return stage.predict(job, _mapped(job, path))


def _mapped(job: Job, path: Path) -> Iterator[Image]:
    samples = np.fromfile(path, np.uint8)
    begin = 0
    for record in job.images:
        shape = (record.height, record.width, 3)
        end = begin + record.height * record.width * 3
        yield samples[begin:end].reshape(shape)
        begin = end


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Return a folder in memory for decoded images, or where the machine has none, among the temporary files."""
    memory = Path("/dev/shm")  # noqa: S108  (a folder of our own within it)
    is_roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**28
    with tempfile.TemporaryDirectory(prefix="icm-bench-", dir=memory if is_roomy else None) as folder:
        yield Path(folder)
