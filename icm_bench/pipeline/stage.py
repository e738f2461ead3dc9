"""The two stages of a run, each a pure function of its inputs: code (encode, decode, compare) and predict.

The code stage needs a processor core, or a GPU for a learned codec on CUDA. The predict stage needs the GPU where there
is one. Decoded images go from one to the next in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from icm_bench import limit, registry
from icm_bench.codec import Codec, Programs, Quality, header_bytes, load, pixel_tolerance
from icm_bench.dataset import ImageRecord
from icm_bench.detector import Detector, Prediction, PredictsBatches
from icm_bench.error import CodecError, DatasetError, DetectorError, IcmBenchError
from icm_bench.image import Image, pixel_digest
from icm_bench.machine import one_thread
from icm_bench.metrics.fidelity import distortion
from icm_bench.pipeline import store
from icm_bench.pipeline.job import DetectorChoice, Job, Measured, Origin
from icm_bench.pipeline.pixel_check import check_pixels, sample, schema_of
from icm_bench.spec import Spec, create_codec

_PROBE_SIDE = 64
"""Side of the small image that tells whether a codec still makes the same bytes."""


def measure(job: Job) -> Measured:
    """Do both stages of a job, image by image.

    Raises:
        IcmBenchError: An image failed; the error names the codec and the image.
    """
    with limit.chosen_as(job.max_pixels):
        coding = _Coding(job)
        predicted = _predict(job, coding.images(), coding.clock)
    return dataclasses.replace(coding.measured(), predicted=predicted)


def code(job: Job) -> tuple[Measured, list[Image]]:
    """Do the code stage: encode and decode a shard's images, or decode its stored bitstreams, and compare them.

    Returns:
        Rows of the coded and the compared store, and the decoded images.

    Raises:
        IcmBenchError: An image failed; the error names the codec and the image.
    """
    with limit.chosen_as(job.max_pixels):
        coding = _Coding(job)
        images = list(coding.images())
    return coding.measured(), images


def predict(job: Job, images: Iterable[Image]) -> Measured:
    """Do the predict stage: have each of the job's detectors look at its images as they were decoded, in order.

    Raises:
        IcmBenchError: An image failed; the error names the codec and the image.
    """
    clock = _Clock()
    return Measured(predicted=_predict(job, images, clock), seconds=clock.seconds)


@functools.lru_cache(maxsize=1)
def _unpack(given: bytes) -> None:
    registry.unpack(given)
    # Under the same names there may be other classes now.
    forget()


def decode_stored(codec: Spec, quality: Quality, device: str, row: Mapping[str, Any]) -> Image:
    """Return the image of a row of the coded store, decoded as a run does: on one thread, and checked.

    ``device`` is where it was coded.

    Raises:
        CodecError: The bitstream cannot be decoded.
        StoreError: It decodes to other pixels than those that were measured.
    """
    with one_thread():
        decoder = _ready_codec(codec, quality, device, None)
        image = _decode(decoder, row["bitstream"], (row["height"], row["width"], 3))
    check_pixels(image, row, decoder, codec)
    return image


def forget() -> None:
    """Let go of the codecs, detectors and images that this process keeps between jobs."""
    for kept in (_original, _ready_codec, _detector, probe):
        kept.cache_clear()


@functools.lru_cache(maxsize=1024)
def probe(codec: Spec, quality: Quality, device: str, programs: Programs | None = None) -> str:
    """Return the SHA-256 of what a codec makes of a small image: another one means another codec.

    Raises:
        IcmBenchError: The codec cannot code the image; the error names the codec.
    """
    with _named(f"{codec} at {quality}, a small image", CodecError):
        made = _ready_codec(codec, quality, device, programs).encode(_small_image())
        return hashlib.sha256(made).hexdigest()


def _small_image() -> Image:
    # Smooth, with an edge and some texture: all parts of an encoder have something to do.
    y, x = np.mgrid[0:_PROBE_SIDE, 0:_PROBE_SIDE]
    texture = (x * x * 7 + y * y * 13 + x * y * 3) % 31
    planes = [x * 3 + texture, y * 3 + 40 * (x > y), 255 - 2 * x - y]
    return np.ascontiguousarray(np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8))


class _Coding:
    """The code stage of one job, which yields its images one at a time and gathers rows meanwhile."""

    def __init__(self, job: Job) -> None:
        _unpack(job.given)
        self.clock = _Clock()
        self._job = job
        self._coded: list[dict[str, Any]] = []
        self._compared: list[dict[str, Any]] = []
        self._bitstreams = hashlib.sha256()

    def images(self) -> Iterator[Image]:
        job = self._job
        stored = None if job.coded is None else store.read(job.coded).to_pylist()
        for index, record in enumerate(job.images):
            with _named(_where(job, record), CodecError if job.codec else DatasetError):
                if job.codec is None:
                    with self.clock("read"):
                        image = _source(record)
                elif stored is None:
                    image = self._code(record)
                else:
                    image = self._decode_stored(stored[index])
                if not job.is_compared:
                    with self.clock("compare"):
                        measured = distortion(_original(record)[0], image)
                    self._compared.append({"image_id": record.id, **dataclasses.asdict(measured)})
            yield image

    def measured(self) -> Measured:
        return Measured(
            coded=pa.Table.from_pylist(self._coded, schema_of(self._coded[0])) if self._coded else None,
            compared=pa.Table.from_pylist(self._compared, store.COMPARED) if self._compared else None,
            origin=self._origin(),
            seconds=self.clock.seconds,
        )

    def _codec(self) -> Codec:
        job = self._job
        if job.codec is None or job.quality is None:
            raise CodecError("the uncompressed images have no codec")
        with self.clock("load"):
            return _ready_codec(job.codec, job.quality, job.codec_device, job.programs)

    def _origin(self) -> Origin | None:
        job = self._job
        if job.codec is None or job.quality is None:
            return None
        with self.clock("check"):
            small = probe(job.codec, job.quality, job.codec_device, job.programs)
            return Origin(self._bitstreams.hexdigest(), small)

    def _code(self, record: ImageRecord) -> Image:
        codec = self._codec()
        with self.clock("read"):
            source = _source(record)
        with self.clock("encode") as encoding:
            data = codec.encode(source)
        if not isinstance(data, bytes) or not data:
            raise CodecError("encode returned no bytes")
        self._bitstreams.update(data)
        with self.clock("decode") as decoding:
            image = _decode(codec, data, source.shape)
        with self.clock("check"):
            self._coded.append(
                {
                    "image_id": record.id,
                    "width": source.shape[1],
                    "height": source.shape[0],
                    "bitstream": data,
                    "n_bytes": len(data),
                    "header_bytes": header_bytes(codec, data),
                    "encode_s": encoding.seconds,
                    "decode_s": decoding.seconds,
                    "source_sha256": _original(record)[1],
                    "decoded_sha256": pixel_digest(image),
                }
                | ({"decoded_sample": sample(image)} if pixel_tolerance(codec) else {})
            )
        return image

    def _decode_stored(self, row: dict[str, Any]) -> Image:
        codec = self._codec()
        self._bitstreams.update(row["bitstream"])
        with self.clock("decode"):
            image = _decode(codec, row["bitstream"], (row["height"], row["width"], 3))
        with self.clock("check"):
            check_pixels(image, row, codec, self._job.codec)
        return image


def _predict(job: Job, images: Iterable[Image], clock: _Clock) -> dict[Spec, pa.Table]:
    """Have each detector look at each image; with no detector, the images are coded for their own sake."""
    _unpack(job.given)
    rows: dict[Spec, list[dict[str, Any]]] = {choice.spec: [] for choice in job.detectors}
    decoded = iter(images)
    for first in range(0, len(job.images), job.batch):
        records = job.images[first : first + job.batch]
        batch = list(islice(decoded, len(records)))
        for choice in job.detectors:
            with _named(_where(job, records[0]), DetectorError):
                with clock("load"):
                    detector = _detector(choice, job.device)
                with clock("detect") as detecting:
                    # Copies, since a detector may write to what it is given, and others look at it after it.
                    found = _look(detector, [image.copy() for image in batch])
            detect_s = detecting.seconds / len(records)
            rows[choice.spec] += [
                {"image_id": record.id, "detect_s": detect_s, "predictions": predictions}
                for record, predictions in zip(records, found, strict=True)
            ]
    return {spec: pa.Table.from_pylist(found, store.PREDICTED) for spec, found in rows.items()}


def _look(detector: Detector, images: list[Image]) -> list[list[Prediction]]:
    if len(images) > 1 and isinstance(detector, PredictsBatches):
        found = detector.predict_batch(images)
        if len(found) != len(images):
            raise DetectorError(f"predict_batch returned {len(found)} results for {len(images)} images")
        return found
    return [detector.predict(image) for image in images]


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


# What is dear to make is kept until forget(), or the end of the worker process, which is the end of the run.
@functools.lru_cache(maxsize=32)
def _ready_codec(spec: Spec, quality: Quality, device: str, programs: Programs | None) -> Codec:
    codec = create_codec(spec, quality, device, programs)
    load(codec)
    return codec


@functools.lru_cache(maxsize=32)
def _detector(choice: DetectorChoice, device: str) -> Detector:
    return choice.create(device)


@dataclass
class _Lap:
    seconds: float = 0.0


class _Clock:
    """Adds up wall time by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, step: str) -> Iterator[_Lap]:
        lap = _Lap()
        began = time.perf_counter()
        try:
            yield lap
        finally:
            lap.seconds = time.perf_counter() - began
            self.seconds[step] = self.seconds.get(step, 0.0) + lap.seconds


def _where(job: Job, record: ImageRecord) -> str:
    return str(record.path) if job.codec is None else f"{job.codec} at {job.quality}, {record.path}"


@contextlib.contextmanager
def _named(where: str, fallback: type[IcmBenchError]) -> Iterator[None]:
    """Add codec and image to an error that passes, and turn a plug-in's own exceptions into ours."""
    try:
        yield
    except IcmBenchError as error:
        if error.where is not None and error.where not in where:
            where = f"{where} ({error.where})"
        raise type(error)(error.what, where=where, hint=error.hint) from error
    except Exception as error:
        raise fallback(f"raised {type(error).__name__}: {error}", where=where) from error
