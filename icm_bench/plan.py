"""What a run is to measure, and what of it is still to be done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icm_bench import registry
from icm_bench.codec import Codec, Quality
from icm_bench.dataset import Dataset
from icm_bench.detector import Task
from icm_bench.error import DatasetError, UsageError
from icm_bench.file import sweep
from icm_bench.spec import CODEC_SUPPLIED, Spec, arguments, parse_qualities, resolve_codec
from icm_bench.store import SCHEMA, SHARD_IMAGES, Store, is_finished
from icm_bench.worker import DetectorChoice, Job, resolve_device

UNCOMPRESSED = "uncompressed"
"""The name under which the originals' predictions are stored."""


@dataclass(frozen=True)
class OperatingPoint:
    """One operating point of one codec, or the uncompressed images.

    Attributes:
        codec: The codec, or None for the uncompressed images.
        quality: The operating point, None with no codec.
        version: The codec's version at this point.
        coded_as: The codec and the quality that the point is coded and stored as, where it is another codec's;
            a codec says so in ``coded_as()``, which returns a spec as text and a quality.
    """

    codec: Spec | None = None
    quality: Quality | None = None
    version: str | None = None
    coded_as: tuple[Spec, Quality] | None = None

    @property
    def coder(self) -> Spec | None:
        """The codec that codes the point, None for the uncompressed images."""
        return self.codec if self.coded_as is None else self.coded_as[0]

    @property
    def coder_quality(self) -> Quality | None:
        """The point in the scale of the codec that codes it."""
        return self.quality if self.coded_as is None else self.coded_as[1]

    @property
    def folder(self) -> str:
        """The name that the point's coder has in the stores."""
        return UNCOMPRESSED if self.coder is None else self.coder.file_name


@dataclass(frozen=True)
class Plan:
    """A whole run: every operating point, over every shard of a dataset, through one detector.

    Attributes:
        dataset: What is coded and looked at.
        task: What accuracy is measured on.
        detector: What looks.
        detector_version: Its version.
        points: The uncompressed images first, then each codec's ladder in order.
        store: Where shards stand.
        device: ``cpu`` or ``cuda``.
    """

    dataset: Dataset
    task: Task
    detector: DetectorChoice
    detector_version: str
    points: tuple[OperatingPoint, ...]
    store: Store
    device: str

    @property
    def codecs(self) -> list[Spec]:
        """The codecs of the plan, each once, in the order in which they were named."""
        return list(dict.fromkeys(point.codec for point in self.points if point.codec is not None))

    def ladder(self, codec: Spec | None) -> list[OperatingPoint]:
        """Return a codec's operating points, or the uncompressed one for None."""
        return [point for point in self.points if point.codec == codec]

    @property
    def n_shards(self) -> int:
        """How many shards the dataset makes."""
        return -(-len(self.dataset.images) // SHARD_IMAGES)

    def coded_path(self, point: OperatingPoint, shard: int) -> Path:
        """Return where a point's coded shard stands.

        Raises:
            UsageError: The point is the uncompressed one, of which nothing is coded.
        """
        if point.coder_quality is None:
            raise UsageError("the uncompressed images have no bitstreams")
        return self.store.coded(self.dataset.name, point.folder, point.coder_quality, shard)

    def predicted_path(self, point: OperatingPoint, shard: int) -> Path:
        """Return where a point's predicted shard stands."""
        detector = self.detector.spec.file_name
        return self.store.predicted(self.dataset.name, point.folder, point.coder_quality, detector, shard)

    def coded_identity(self, point: OperatingPoint) -> dict[str, Any]:
        """Return what a coded shard of a point must agree with to be reused."""
        return {
            "schema": SCHEMA,
            "shard_images": SHARD_IMAGES,
            "dataset": self.dataset.fingerprint,
            "codec": None if point.coder is None else str(point.coder),
            "quality": point.coder_quality,
            "codec_version": point.version,
        }

    def predicted_identity(self, point: OperatingPoint) -> dict[str, Any]:
        """Return what a predicted shard of a point must agree with to be reused."""
        return self.coded_identity(point) | {
            "detector": str(self.detector.spec),
            "detector_version": self.detector_version,
        }

    def jobs(self, points: Sequence[OperatingPoint]) -> Iterator[tuple[OperatingPoint, int, Job]]:
        """Yield what is not on disk yet, shard by shard so that neighbours share their images.

        Of points that are coded alike, the first alone is yielded.

        Raises:
            StoreError: A shard on disk was made under other conditions.
        """
        distinct: dict[Path, OperatingPoint] = {}
        for point in points:
            distinct.setdefault(self.predicted_path(point, 0), point)
        for shard in range(self.n_shards):
            images = self.dataset.images[shard * SHARD_IMAGES : (shard + 1) * SHARD_IMAGES]
            for point in distinct.values():
                predicted = is_finished(self.predicted_path(point, shard), self.predicted_identity(point))
                coded = None
                if point.codec is not None:
                    path = self.coded_path(point, shard)
                    coded = path if is_finished(path, self.coded_identity(point)) else None
                    if predicted and coded is not None:
                        continue
                elif predicted:
                    continue
                detector = None if predicted else self.detector
                yield (
                    point,
                    shard,
                    Job(images, point.coder, point.coder_quality, coded, detector, self.device),
                )

    def discard(self) -> None:
        """Remove every shard of the plan from the disk, so that all is measured again."""
        for point in self.points:
            for shard in range(self.n_shards):
                self.predicted_path(point, shard).unlink(missing_ok=True)
                if point.codec is not None:
                    self.coded_path(point, shard).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what killed runs left half-written in the plan's folders."""
        for point in self.points:
            sweep(self.predicted_path(point, 0).parent)
            if point.codec is not None:
                sweep(self.coded_path(point, 0).parent)


def make_plan(
    *,
    dataset: Dataset,
    task: Task,
    codecs: Sequence[str],
    detector: str,
    weights: Path | None,
    qualities: Sequence[str],
    store: Store,
    device: str,
) -> Plan:
    """Check everything that was asked for and return the plan of it.

    Raises:
        UsageError: A codec, detector, option or quality does not exist or does not fit.
        DatasetError: The dataset has no ground truth, or its categories are not the detector's.
    """
    device = resolve_device(device)
    choice = _choose_detector(detector, weights, task, dataset)
    ladders = parse_qualities(qualities)
    points = [OperatingPoint()]
    for text in dict.fromkeys(codecs):
        spec, cls = resolve_codec(text, task=task, dataset=dataset.name)
        if any(point.codec == spec for point in points):
            raise UsageError(f"'{text}' names {spec} again", where="--codecs")
        override = ladders.pop(str(Spec.parse(text)), None) or ladders.pop(str(spec), None)
        points += [_point(spec, quality) for quality in override or cls.qualities]
    if ladders:
        raise UsageError(f"'{next(iter(ladders))}' is not among the codecs", where="--qualities")
    version = choice.create(device).version()
    return Plan(dataset, task, choice, version, tuple(points), store, device)


def stored_as(spec: Spec, quality: Quality) -> tuple[Spec, Quality]:
    """Return the codec and the quality that an operating point is coded and stored as.

    Raises:
        UsageError: The codec, an option or the quality does not exist.
    """
    return _stored_as(spec, quality, _codec(spec, quality))


def _point(spec: Spec, quality: Quality) -> OperatingPoint:
    codec = _codec(spec, quality)
    stored = _stored_as(spec, quality, codec)
    return OperatingPoint(spec, quality, codec.version(), None if stored == (spec, quality) else stored)


def _stored_as(spec: Spec, quality: Quality, codec: Codec) -> tuple[Spec, Quality]:
    if not hasattr(codec, "coded_as"):
        return spec, quality
    coder, coder_quality = codec.coded_as()
    return resolve_codec(coder)[0], coder_quality


def _codec(spec: Spec, quality: Quality) -> Codec:
    cls = registry.load("codec", spec.name)
    codec: Codec = cls(quality, device="cpu", **arguments(spec, cls, CODEC_SUPPLIED))
    return codec


def _choose_detector(text: str, weights: Path | None, task: Task, dataset: Dataset) -> DetectorChoice:
    if dataset.ground_truth is None:
        raise DatasetError(
            f"has no annotations to measure {task} on",
            where=f"dataset '{dataset.name}'",
            mend="give --annotations FILE in COCO format",
        )
    spec = Spec.parse(text)
    cls = registry.load("detector", spec.name)
    if task not in cls.tasks:
        raise UsageError(
            f"does not do {task}", where=f"detector '{spec}'", mend=f"it does {', '.join(cls.tasks)}"
        )
    if weights is not None and not weights.is_file():
        raise UsageError("no such file", where=f"--detector-weights {weights}")
    _check_categories(dataset.categories, cls.categories, spec, dataset.name)
    return DetectorChoice(spec, None if weights is None else weights.resolve())


def _check_categories(wanted: Mapping[int, str], known: Mapping[int, str], spec: Spec, dataset: str) -> None:
    for identifier, name in wanted.items():
        if known.get(identifier) != name:
            raise UsageError(
                f"category {identifier} is '{name}' in dataset '{dataset}' and "
                f"'{known.get(identifier, 'absent')}' to the detector",
                where=f"detector '{spec}'",
                mend="choose a detector that was trained on this dataset's categories",
            )
