"""What a run is to measure, and what of it is still to be done."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from icm_bench import limit
from icm_bench.codec import Codec, Programs, Quality, coded_as, ladder_of, runs_on, s_per_megapixel
from icm_bench.curves.schema import check_names
from icm_bench.dataset import Dataset, ImageRecord, default_detector
from icm_bench.detector import NO_DETECTOR, Task
from icm_bench.error import DamageError, StoreError, UsageError
from icm_bench.file import sweep
from icm_bench.metrics import fidelity
from icm_bench.metrics.image_metric import load_metric
from icm_bench.pipeline import provenance, stage, store
from icm_bench.pipeline.engine import Device, resolve_device
from icm_bench.pipeline.job import DetectorChoice, Job
from icm_bench.pipeline.judge import Judge, choose_detectors, examined
from icm_bench.pipeline.point import UNCOMPRESSED as UNCOMPRESSED
from icm_bench.pipeline.point import OperatingPoint as OperatingPoint
from icm_bench.pipeline.pseudo import check_score, pseudo_name
from icm_bench.pipeline.store import SCHEMA, SHARD_IMAGES, Identity, Kind, Store
from icm_bench.spec import Spec, create_codec, parse_qualities, resolve_codec

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A whole run: every operating point, over every shard of a dataset, through any number of detectors.

    What is said of the detector, its predictions and its accuracy is of a plan with one judge, or none:
    :attr:`apart` has one for each judge.

    Attributes:
        dataset: What is coded and looked at.
        task: What is measured.
        judges: What looks, in the order in which they were named; none where fidelity alone is measured.
        points: The uncompressed images first, where there is a detector to look at them, then each codec's ladder in
            order.
        store: Where shards stand.
        device: Where networks run.
        batch: Images that a detector gets at once, where it takes batches.
        truth_score: From which score on a detector's findings on the uncompressed images are the objects that it is
            scored against; None for the dataset's annotations.
        fresh: Whether what was made under other conditions is measured again; otherwise it is an error.
        again: Codecs of which everything is measured again.
        metrics: Metrics of other packages that curves have too.
        programs: Where programs lie, for codecs that run them.
    """

    dataset: Dataset
    task: Task
    judges: tuple[Judge, ...]
    points: tuple[OperatingPoint, ...]
    store: Store
    device: Device
    batch: int = 1
    truth_score: float | None = None
    fresh: bool = False
    again: frozenset[Spec] = frozenset()
    metrics: tuple[str, ...] = ()
    programs: Programs | None = None

    @property
    def scored_name(self) -> str:
        """What results call the dataset: its name, with a mark where findings stand for its annotations."""
        name, score = self.dataset.name, self.truth_score
        return name if score is None else pseudo_name(name, score)

    @property
    def codecs(self) -> list[Spec]:
        """The codecs of the plan, each once, in the order in which they were named."""
        return list(dict.fromkeys(point.codec for point in self.points if point.codec is not None))

    @cached_property
    def apart(self) -> tuple[Plan, ...]:
        """The plans of each judge alone; of fidelity, the plan itself."""
        if len(self.judges) < 2:
            return (self,)
        return tuple(replace(self, judges=(judge,)) for judge in self.judges)

    @property
    def judge(self) -> Judge | None:
        """The one judge; None where fidelity alone is measured.

        Raises:
            UsageError: There are several.
        """
        if len(self.judges) > 1:
            raise UsageError(f"has {len(self.judges)} detectors", where="plan", hint="take the plans apart")
        return self.judges[0] if self.judges else None

    @property
    def detector(self) -> DetectorChoice | None:
        """What looks; None where fidelity alone is measured."""
        return None if self.judge is None else self.judge.choice

    @property
    def detector_version(self) -> str | None:
        """The detector's version, None with no detector."""
        return None if self.judge is None else self.judge.version

    @property
    def detector_spec(self) -> Spec:
        """The detector's spec; ``none`` where there is no detector."""
        return Spec.parse(NO_DETECTOR) if self.detector is None else self.detector.spec

    def ladder(self, codec: Spec | None) -> list[OperatingPoint]:
        """Return a codec's operating points, or the uncompressed one for None."""
        return [point for point in self.points if point.codec == codec]

    @property
    def n_shards(self) -> int:
        """How many shards the dataset makes."""
        return -(-len(self.dataset.images) // SHARD_IMAGES)

    def coded_path(self, point: OperatingPoint, shard: int) -> Path:
        """Return where a point's coded shard stands."""
        return self._path("coded", point, shard)

    def compared_path(self, point: OperatingPoint, shard: int) -> Path:
        """Return where the distortion of a point's coded shard stands."""
        return self._path("compared", point, shard)

    def predicted_path(self, point: OperatingPoint, shard: int) -> Path:
        """Return where a point's predicted shard stands."""
        return self._path("predicted", point, shard, self.detector_spec.file_name)

    def _path(self, kind: Kind, point: OperatingPoint, shard: int, *detector: str) -> Path:
        folder = self.store.folder(kind, self.dataset.name, point.folder, point.coder_quality, *detector)
        return folder / store.shard_name(shard)

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

    def compared_identity(self, point: OperatingPoint) -> dict[str, Any]:
        """Return what the distortion of a point's coded shard must agree with to be reused."""
        return self.coded_identity(point) | {"fidelity": fidelity.VERSION}

    def predicted_identity(self, point: OperatingPoint) -> dict[str, Any]:
        """Return what a predicted shard of a point must agree with to be reused."""
        return self.coded_identity(point) | {
            "detector": str(self.detector_spec),
            "detector_version": self.detector_version,
        }

    def shards(self) -> list[tuple[ImageRecord, ...]]:
        """Return the images of each shard."""
        images = self.dataset.images
        return [images[first : first + SHARD_IMAGES] for first in range(0, len(images), SHARD_IMAGES)]

    def distinct(self, points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
        """Return the first of the points that are coded alike."""
        distinct: dict[Path, OperatingPoint] = {}
        for point in points:
            distinct.setdefault(next(self.paths(point, 0)), point)
        return list(distinct.values())

    def jobs(self, points: Sequence[OperatingPoint]) -> Iterator[tuple[OperatingPoint, int, Job]]:
        """Yield what is not on disk yet, shard by shard so that neighbours share their images.

        Of points that are coded alike, the first alone is yielded.

        Raises:
            StoreError: A shard on disk was made under other conditions, and the plan is not fresh.
        """
        distinct = self.distinct(points)
        for shard, images in enumerate(self.shards()):
            for point in distinct:
                job = self._job(point, shard, images)
                is_coded = job.codec is None or job.coded is not None
                if not (is_coded and job.is_compared and not job.detectors):
                    yield point, shard, job

    def _job(self, point: OperatingPoint, shard: int, images: tuple[ImageRecord, ...]) -> Job:
        """Return what of a shard at a point is still to be done."""
        coded, is_compared = None, True
        ids = [record.id for record in images]
        header: dict[str, Any] = {}
        if point.codec is not None:
            path = self.coded_path(point, shard)
            header = self._coded(point, path, ids)
            coded = path if header else None
            path = self.compared_path(point, shard)
            compared = self._finished(path, self.compared_identity(point), ids) if header else {}
            is_compared = _is_from(compared, header)
        detectors = []
        for plan in self.apart:
            predicted = {}
            if header or point.codec is None:
                path = plan.predicted_path(point, shard)
                predicted = self._finished(path, plan.predicted_identity(point), ids)
            if plan.detector and not _is_from(predicted, header if point.codec else predicted):
                detectors.append(plan.detector)
        return Job(
            images,
            point.coder,
            point.coder_quality,
            coded,
            is_compared,
            tuple(detectors),
            self.device.name,
            point.resource,
            self.batch,
            self.programs,
            limit.chosen(),
        )

    def _coded(self, point: OperatingPoint, path: Path, ids: Sequence[int]) -> dict[str, Any]:
        """Return the header of a finished coded shard; empty where it is to be measured."""
        header = {} if point.codec in self.again else self._finished(path, self.coded_identity(point), ids)
        if point.coder is None or point.coder_quality is None or not header.get("probe"):
            return header
        # A network's floating-point numbers differ between processors, and its bytes may: there, nothing is known.
        if header["machine"]["processor"] != provenance.machine()["processor"]:
            return header
        device = self.device.name if point.resource == "gpu" else "cpu"
        if stage.probe(point.coder, point.coder_quality, device, self.programs) == header["probe"]:
            return header
        if self.fresh:
            return {}
        raise StoreError(
            f"{point.coder} at {point.coder_quality} no longer makes the same bytes of a small image, and its version"
            f" is still '{point.version}'",
            where=path,
            hint="give --fresh to measure it again, and have version() name all that can change a byte",
        )

    def _finished(self, path: Path, identity: Identity, ids: Sequence[int]) -> dict[str, Any]:
        """Return the header of a finished shard; empty where there is none, or none that is to be used."""
        try:
            return store.finished(path, identity, ids) or {}
        except DamageError as error:
            _LOG.warning("%s is measured again: it %s", path, error.what)
        except StoreError:
            if not self.fresh:
                raise
        return {}

    def remove_damaged(self) -> bool:
        """Read every shard of the plan, remove those that are damaged, and tell whether there was one."""
        is_damaged = False
        for point in self.points:
            for shard in range(self.n_shards):
                for path in self.paths(point, shard):
                    try:
                        store.read(path)
                    except FileNotFoundError:
                        continue
                    except DamageError as error:
                        _LOG.warning("%s is measured again: it %s", path, error.what)
                        path.unlink(missing_ok=True)
                        is_damaged = True
        return is_damaged

    def sweep(self) -> None:
        """Remove what killed runs left half-written in the plan's folders."""
        for point in self.points:
            for path in self.paths(point, 0):
                sweep(path.parent)

    def paths(self, point: OperatingPoint, shard: int) -> Iterator[Path]:
        """Yield where all that is made of a shard at a point stands."""
        for plan in self.apart if self.judges else ():
            yield plan.predicted_path(point, shard)
        if point.codec is not None:
            yield self.coded_path(point, shard)
            yield self.compared_path(point, shard)


def _is_from(header: dict[str, Any], coded: dict[str, Any]) -> bool:
    """Tell whether a shard is finished and was made from the bitstreams of a coded shard."""
    made = coded.get("bitstreams")
    return bool(header and coded and header.get("bitstreams", made) == made)


def make_plan(
    dataset: Dataset,
    *,
    task: Task,
    codecs: Sequence[str],
    runs: str | Path,
    device: str,
    detector: str | Sequence[str] | None = None,
    weights: Path | None = None,
    qualities: Sequence[str] = (),
    gpus: int | None = None,
    batch: int = 1,
    truth_score: float | None = None,
    fresh: bool = False,
    again: Sequence[str] = (),
    metrics: Sequence[str] = (),
    programs: Programs | None = None,
) -> Plan:
    """Check everything that was asked for and return the plan of it; see :func:`icm_bench.pipeline.runner.run`.

    Raises:
        UsageError: A codec, detector, metric, option or quality does not exist or does not fit.
        DatasetError: A detector is to be scored, and the dataset has no ground truth.
    """
    if not codecs:
        raise UsageError("there is no codec to measure", where="--codecs", hint="write --codecs jpeg,vvc")
    has_truth = truth_score is None
    if truth_score is not None:
        if task == "fidelity":
            raise UsageError("has no use for --truth", where="task 'fidelity'", hint="leave it out")
        check_score(truth_score)
    chosen_device = resolve_device(device, gpus)
    detector = detector or default_detector(dataset, task)
    choices = choose_detectors(detector, weights, task, dataset, has_truth=has_truth)
    ladders = parse_qualities(qualities)
    points = [OperatingPoint()] if choices else []
    for text in dict.fromkeys(codecs):
        spec, cls = resolve_codec(text, task=task, provider=dataset.provider)
        if any(point.codec == spec for point in points):
            raise UsageError(f"'{text}' names {spec} again", where="--codecs")
        override = ladders.pop(str(Spec.parse(text)), None) or ladders.pop(str(spec), None)
        points += [
            _point(spec, quality, chosen_device.name, programs)
            for quality in override or ladder_of(cls, dict(spec.options))
        ]
    if ladders:
        raise UsageError(f"'{next(iter(ladders))}' is not among the codecs", where="--qualities")
    anew = [resolve_codec(text, task=task, provider=dataset.provider)[0] for text in again]
    for spec in anew:
        if all(point.codec != spec for point in points):
            raise UsageError(f"{spec} is not among the codecs", where="--again")
    judges = tuple(
        examined(choice, task, dataset, chosen_device.name, has_truth=has_truth) for choice in choices
    )
    own = tuple(dict.fromkeys(metrics))
    for name in own:
        load_metric(name)
    specs = [*(choice.spec for choice in choices), *(point.codec for point in points)]
    check_names(dataset.name, [str(spec) for spec in specs if spec is not None])
    return Plan(
        dataset,
        task,
        judges,
        tuple(points),
        Store(Path(runs)),
        chosen_device,
        batch=batch,
        truth_score=truth_score,
        fresh=fresh,
        again=frozenset(anew),
        metrics=own,
        programs=programs,
    )


def stored_as(spec: Spec, quality: Quality) -> tuple[Spec, Quality]:
    """Return the codec and the quality that an operating point is coded and stored as.

    Raises:
        UsageError: The codec, an option or the quality does not exist.
    """
    return _stored_as(spec, quality, create_codec(spec, quality, "cpu"))


def _point(spec: Spec, quality: Quality, device: str, programs: Programs | None) -> OperatingPoint:
    codec = create_codec(spec, quality, device, programs)
    stored = _stored_as(spec, quality, codec)
    other = None if stored == (spec, quality) else stored
    return OperatingPoint(spec, quality, codec.version(), other, runs_on(codec), s_per_megapixel(codec))


def _stored_as(spec: Spec, quality: Quality, codec: Codec) -> tuple[Spec, Quality]:
    other = coded_as(codec)
    return (spec, quality) if other is None else (resolve_codec(other[0])[0], other[1])
