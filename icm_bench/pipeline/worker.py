"""The one pure function of a run: code, decode, compare and detect the images of a shard; and processes for it."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from icm_bench import registry
from icm_bench.codec import Codec, Quality, header_bytes, load
from icm_bench.dataset import ImageRecord
from icm_bench.detector import Detector
from icm_bench.error import CodecError, DetectorError, IcmBenchError, StoreError
from icm_bench.image import Image, mse, pixel_digest
from icm_bench.metrics.fidelity import distortion
from icm_bench.pipeline import store
from icm_bench.spec import DETECTOR_SUPPLIED, Spec, arguments, create_codec

_T = TypeVar("_T")

_GPU_NODES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""A Linux machine without any of these has no GPU for torch, which is then not imported to find out."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What tells numerical libraries how many threads to start."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's ``mallopt``."""


@dataclass(frozen=True)
class DetectorChoice:
    """A detector and where its weights come from.

    Attributes:
        spec: The detector.
        weights: A file, or None for the published ones.
    """

    spec: Spec
    weights: Path | None = None

    def create(self, device: str) -> Detector:
        """Return the detector on a device (``cpu``, ``cuda``, ...)."""
        cls = registry.load("detector", self.spec.name)
        detector: Detector = cls(
            weights=self.weights, device=device, **arguments(self.spec, cls, DETECTOR_SUPPLIED)
        )
        return detector


@dataclass(frozen=True)
class Job:
    """A shard at one operating point, and what of it is still to be done.

    Attributes:
        images: The shard's images.
        codec: The codec, or None for the uncompressed images.
        quality: The operating point, None with no codec.
        coded: The finished coded shard, or None where the images are still to be coded.
        is_compared: Whether the decoded images' distortion is on disk, or there is none to measure.
        detector: The detector, or None where the predictions are on disk or not wanted.
        device: ``cpu`` or ``cuda``.
    """

    images: tuple[ImageRecord, ...]
    codec: Spec | None
    quality: Quality | None
    coded: Path | None
    is_compared: bool
    detector: DetectorChoice | None
    device: str


@dataclass(frozen=True)
class Measured:
    """What a job found: rows of the coded, the compared and the predicted store, None where none were asked for.

    Attributes:
        seconds: Wall time by step: load, read, encode, decode, check, compare, detect.
    """

    coded: pa.Table | None
    compared: pa.Table | None
    predicted: pa.Table | None
    seconds: dict[str, float]


@contextlib.contextmanager
def process_pool(workers: int | None, device: str) -> Iterator[ProcessPoolExecutor]:
    """Return processes for :func:`measure`, each on one thread; an error ends them at once.

    Args:
        workers: How many; None for one a core on a CPU, one on a GPU.
        device: ``cpu`` or ``cuda``.
    """
    if workers is None:
        workers = 1 if device.startswith("cuda") else os.cpu_count() or 1
    # Spawned, since a forked child of a process that has used threads or a GPU may hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=start)
    with _one_thread_a_process():
        try:
            yield pool
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _one_thread_a_process() -> Iterator[None]:
    # Libraries read these once, when they are loaded: before a child could set them for itself.
    before = {variable: os.environ.get(variable) for variable in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                del os.environ[variable]
            else:
                os.environ[variable] = value


def start() -> None:
    """Prepare a worker process: memory that is freed is kept, and it does not outlive its parent."""
    _keep_freed_memory()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed: giving it back and faulting it in anew takes a tenth of a detector's time."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
    mallopt(_M_TRIM_THRESHOLD, 2**30)


def measure(job: Job) -> Measured:
    """Code and decode a shard's images, or decode its stored bitstreams; compare and detect what comes out.

    Raises:
        IcmBenchError: An image failed; the error names the codec and the image.
    """
    clock = _Clock()
    stored = None if job.coded is None else store.read(job.coded).to_pylist()
    coded: list[dict[str, Any]] = []
    compared: list[dict[str, Any]] = []
    predicted: list[dict[str, Any]] = []
    for index, record in enumerate(job.images):
        with _named(job, str(record.path)):
            if job.codec is None or job.quality is None:
                image = clock("read", functools.partial(_source, record))
            elif stored is None:
                row, image = _code(job, record, clock)
                coded.append(row)
            else:
                image = _decode_stored(job, stored[index], clock)
            if not job.is_compared:
                measured = clock("compare", functools.partial(distortion, _original(record)[0], image))
                compared.append({"image_id": record.id, **dataclasses.asdict(measured)})
            if job.detector is not None:
                detector = clock("load", functools.partial(_detector, job.detector, job.device))
                began = clock.seconds.get("detect", 0.0)
                found = clock("detect", functools.partial(detector.predict, image))
                detect_s = clock.seconds["detect"] - began
                predicted.append({"image_id": record.id, "detect_s": detect_s, "predictions": found})
    return Measured(
        coded=pa.Table.from_pylist(coded, store.CODED) if coded else None,
        compared=pa.Table.from_pylist(compared, store.COMPARED) if compared else None,
        predicted=pa.Table.from_pylist(predicted, store.PREDICTED) if predicted else None,
        seconds=clock.seconds,
    )


def resolve_device(device: str) -> str:
    """Return ``cuda`` for ``auto`` where there is a GPU that torch can use, else ``cpu``; others as they are."""
    if device != "auto":
        return device
    if sys.platform == "linux" and not any(Path(node).exists() for node in _GPU_NODES):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _code(job: Job, record: ImageRecord, clock: _Clock) -> tuple[dict[str, Any], Image]:
    codec = clock("load", lambda: _codec(job.codec, job.quality, job.device))
    source = clock("read", lambda: _source(record))
    before = dict(clock.seconds)
    data = clock("encode", lambda: codec.encode(source))
    if not isinstance(data, bytes) or not data:
        raise CodecError("encode returned no bytes")
    image = clock("decode", lambda: _decode(codec, data, source.shape))
    row = {
        "image_id": record.id,
        "width": source.shape[1],
        "height": source.shape[0],
        "bitstream": data,
        "n_bytes": len(data),
        "header_bytes": header_bytes(codec, data),
        "encode_s": clock.seconds["encode"] - before.get("encode", 0.0),
        "decode_s": clock.seconds["decode"] - before.get("decode", 0.0),
    }
    row |= clock(
        "check",
        lambda: {
            "source_sha256": _original(record)[1],
            "decoded_sha256": pixel_digest(image),
            "mse": mse(source, image),
        },
    )
    return row, image


def _decode_stored(job: Job, row: dict[str, Any], clock: _Clock) -> Image:
    codec = clock("load", lambda: _codec(job.codec, job.quality, job.device))
    image = clock("decode", lambda: _decode(codec, row["bitstream"], (row["height"], row["width"], 3)))
    if clock("check", lambda: pixel_digest(image)) != row["decoded_sha256"]:
        raise StoreError(
            "the stored bitstream no longer decodes to the pixels that were measured",
            hint="the decoder or the machine changed: give --fresh to measure again",
        )
    return image


def _decode(codec: Codec, data: bytes, shape: tuple[int, ...]) -> Image:
    image = codec.decode(data)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != shape:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise CodecError(f"decode returned {found} where uint8 {shape} was encoded")
    return image


def _source(record: ImageRecord) -> Image:
    # A copy, since a codec may write to what it is given.
    return _original(record)[0].copy()


@functools.lru_cache(maxsize=store.SHARD_IMAGES)
def _original(record: ImageRecord) -> tuple[Image, str]:
    image = record.read()
    return image, pixel_digest(image)


# What is dear to make is kept for as long as the worker process lives, which is one run.
@functools.lru_cache(maxsize=32)
def _codec(spec: Spec, quality: Quality, device: str) -> Codec:
    codec = create_codec(spec, quality, device)
    load(codec)
    return codec


@functools.lru_cache(maxsize=2)
def _detector(choice: DetectorChoice, device: str) -> Detector:
    return choice.create(device)


class _Clock:
    """Adds up wall time by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, step: str, call: Callable[[], _T]) -> _T:
        began = time.perf_counter()
        try:
            return call()
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - began


class _named:  # noqa: N801  (reads as a word where it is used)
    """Adds codec and image to an error that passes, and turns a plug-in's own exceptions into ours."""

    def __init__(self, job: Job, path: str) -> None:
        self.where = path if job.codec is None else f"{job.codec} at {job.quality}, {path}"
        self.fallback = DetectorError if job.codec is None else CodecError

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, IcmBenchError):
            where = (
                self.where
                if error.where is None or error.where in self.where
                else f"{self.where} ({error.where})"
            )
            raise type(error)(error.what, where=where, hint=error.hint) from error
        if isinstance(error, Exception):
            raise self.fallback(f"raised {type(error).__name__}: {error}", where=self.where) from error


def _end_with(parent: Any) -> None:
    # A pool's workers outlive a parent that is killed outright; they would go on burning a core each.
    parent.join()
    os._exit(1)
