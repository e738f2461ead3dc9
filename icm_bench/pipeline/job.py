"""What the stages of a run are given, and what they find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from icm_bench.codec import Programs, Quality, Resource
from icm_bench.dataset import ImageRecord
from icm_bench.detector import Detector
from icm_bench.spec import Spec, create_detector


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
        return create_detector(self.spec, self.weights, device)


@dataclass(frozen=True)
class Job:
    """A shard at one operating point, and what of it is still to be done.

    Attributes:
        images: The shard's images.
        codec: The codec, or None for the uncompressed images.
        quality: The operating point, None with no codec.
        coded: The finished coded shard, or None where the images are still to be coded.
        is_compared: Whether the decoded images' distortion is on disk, or there is none to measure.
        detectors: The detectors whose predictions are wanted and not on disk.
        device: Where the detectors run, and a codec that runs on a GPU: ``cpu`` or ``cuda``.
        resource: What the code stage needs.
        batch: Images that a detector gets at once, where it takes batches.
        programs: Where programs lie, for codecs that run them.
        max_pixels: The most pixels of an image that the user allows, None where the user names no limit.
        given: Codec and detectors that exist in the planning process alone: :func:`icm_bench.pipeline.given.packed`.
    """

    images: tuple[ImageRecord, ...]
    codec: Spec | None
    quality: Quality | None
    coded: Path | None
    is_compared: bool
    detectors: tuple[DetectorChoice, ...]
    device: str = "cpu"
    resource: Resource = "cpu"
    batch: int = 1
    programs: Programs | None = None
    max_pixels: int | None = None
    given: bytes = b""

    @property
    def codec_device(self) -> str:
        """Where the codec runs."""
        return self.device if self.resource == "gpu" else "cpu"

    @property
    def n_bytes(self) -> int:
        """Bytes of the shard's decoded images."""
        return sum(3 * record.width * record.height for record in self.images)


@dataclass(frozen=True)
class Origin:
    """What rows come from.

    Attributes:
        bitstreams: SHA-256 of the shard's bitstreams, one after the other.
        probe: SHA-256 of what the codec makes of a small image.
    """

    bitstreams: str
    probe: str


@dataclass(frozen=True)
class Measured:
    """What a stage found: rows of the coded and the compared store, None where none were asked for.

    Attributes:
        predicted: Rows of the predicted store by the spec of each detector that looked.
        origin: What the rows come from: a digest of the bitstreams, and one of what the codec makes of a small image;
            None of the uncompressed images, and of the predict stage alone.
        seconds: Wall time by step: load, read, encode, decode, check, compare, detect.
    """

    coded: pa.Table | None = None
    compared: pa.Table | None = None
    predicted: Mapping[Spec, pa.Table] = field(default_factory=dict)
    origin: Origin | None = None
    seconds: dict[str, float] = field(default_factory=dict)
