"""Sets of images with their ground truth, and what a provider of one must offer."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from icm_bench import registry
from icm_bench.detector import NO_DETECTOR, Task
from icm_bench.error import DatasetError, UsageError
from icm_bench.fingerprint import label_bytes, object_bytes, void_bytes
from icm_bench.image import Image
from icm_bench.image_record import ImageRecord as ImageRecord
from icm_bench.image_record import checked_digest
from icm_bench.pose import POSES, show_annotation

GroundTruth: TypeAlias = Mapping[str, Any]
"""COCO's object format: ``images``, ``annotations`` and ``categories``."""

Evaluation: TypeAlias = Literal["coco", "cityscapes", "open-images-challenge"]
"""Whose rules turn predictions into accuracy: COCO's, Cityscapes', or those of the Open Images Challenge."""

VAL2017_IMAGES = 5_000
VAL2017_ANNOTATIONS = 36_781


@dataclass(frozen=True)
class Dataset:
    """A set of images, with ground truth where there is one.

    Attributes:
        name: What results are filed under: letters, digits, ``.``, ``_`` and ``-``.
        images: The images in order of their ids.
        ground_truth: Annotations in COCO's format, of exactly these images; None where there are none.
        fingerprint: What tells two datasets apart, wherever they lie: a SHA-256 over the ids, sizes and file
            contents of the images and over the annotations that scoring uses, as 64 hexadecimal digits.
        provider: The name of the provider that opened it; empty where none did.
        evaluation: Whose rules predictions are scored by.
        subset_of: The name of the dataset that :meth:`limit` took the images from; empty for a whole one.
        truth: What stands for annotations, empty where the ground truth is annotations.
    """

    name: str
    images: tuple[ImageRecord, ...]
    ground_truth: GroundTruth | None
    fingerprint: str
    provider: str = ""
    evaluation: Evaluation = "coco"
    subset_of: str = ""
    truth: str = ""

    def __repr__(self) -> str:
        objects = "" if self.ground_truth is None else f", {len(self.ground_truth['annotations'])} objects"
        return f"Dataset({self.name}: {len(self.images)} images{objects})"

    @classmethod
    def measure(
        cls,
        name: str,
        images: Iterable[ImageRecord],
        ground_truth: GroundTruth | None = None,
        evaluation: Evaluation = "coco",
    ) -> Dataset:
        """Return the dataset of these images, every file checked for its size and taken into the fingerprint.

        Raises:
            DatasetError: An image file is missing, is not an image, or has another size than its record; or
                there is no image; or two images share an id.
        """
        where = f"dataset '{name}'"
        ordered = tuple(sorted(images, key=lambda record: record.id))
        if not ordered:
            raise DatasetError("the dataset has no images", where=where, hint="add images")
        for before, after in pairwise(ordered):
            if before.id == after.id:
                hint = "give each its own id"
                raise DatasetError(f"two images have the id {after.id}", where=where, hint=hint)
        fingerprint = _fingerprint(ordered, ground_truth, evaluation)
        return cls(name, ordered, ground_truth, fingerprint, evaluation=evaluation)

    def read(self, image_id: int) -> Image:
        """Return an image, height x width x 3 RGB.

        Raises:
            DatasetError: The dataset has no such image, or its file is missing, broken or of another size.
        """
        record = self._by_id.get(image_id)
        if record is None:
            raise DatasetError(
                f"there is no image {image_id}",
                where=f"dataset '{self.name}'",
                hint="use an id of its images",
            )
        return record.read()

    def limit(self, n: int) -> Dataset:
        """Return the subset of the n images whose ids come first in order of the SHA-256 of their digits.

        The order depends on the ids alone, so that a smaller subset lies within a larger one. The subset is a
        dataset of its own: its name is ``<name>-<n>``, and its fingerprint that of the images it holds.

        Raises:
            UsageError: n is below 1 or above the number of images.
        """
        if not 1 <= n <= len(self.images):
            raise UsageError(
                f"a limit of {n} images does not fit a set of {len(self.images)}",
                where=f"dataset '{self.name}'",
                hint=f"choose from 1 to {len(self.images)}",
            )
        chosen = sorted(self.images, key=lambda record: hashlib.sha256(str(record.id).encode()).digest())[:n]
        truth = None if self.ground_truth is None else _restrict(self.ground_truth, {r.id for r in chosen})
        taken = Dataset.measure(f"{self.name}-{n}", chosen, truth, self.evaluation)
        return replace(taken, subset_of=self.subset_of or self.name)

    def in_all_poses(self, name: str) -> Dataset:
        """Return the images as they are, mirrored, upside down and turned, four times as many.

        An image's id grows by a multiple of one more than the largest id. Resampling draws the four together. Masks
        must be compressed run lengths.

        Raises:
            DatasetError: An image file is missing or broken.
        """
        stride = 1 + max(record.id for record in self.images)
        shown = list(enumerate(POSES))
        images = [
            replace(record, id=record.id + turn * stride, pose=pose)
            for turn, pose in shown
            for record in self.images
        ]
        truth = self.ground_truth
        if truth is not None:
            first = 1 + max((row["id"] for row in truth["annotations"]), default=0)
            truth = {
                **truth,
                "images": [
                    {**row, "id": row["id"] + turn * stride} for turn, _ in shown for row in truth["images"]
                ],
                "annotations": [
                    {
                        **show_annotation(row, pose),
                        "id": row["id"] + turn * first,
                        "image_id": row["image_id"] + turn * stride,
                    }
                    for turn, pose in shown
                    for row in truth["annotations"]
                ],
            }
        return Dataset.measure(name, images, truth, self.evaluation)

    @cached_property
    def sources(self) -> NDArray[np.int64]:
        """Which file each image is of, numbered from 0: images of one file, in several poses, share their number."""
        numbers: dict[Path, int] = {}
        return np.array([numbers.setdefault(record.path, len(numbers)) for record in self.images])

    @property
    def n_pixels(self) -> int:
        """The number of native pixels over all images: what bits are divided by."""
        return sum(record.width * record.height for record in self.images)

    @cached_property
    def categories(self) -> Mapping[int, str]:
        """The ground truth's category names by id; empty without ground truth."""
        rows = [] if self.ground_truth is None else self.ground_truth["categories"]
        return MappingProxyType({row["id"]: row["name"] for row in rows})

    @property
    def n_objects(self) -> int:
        """The number of objects that count: annotations that are no crowd, which scoring leaves out."""
        rows = () if self.ground_truth is None else self.ground_truth["annotations"]
        return sum(not row["iscrowd"] for row in rows)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What the ground truth can score: nothing, boxes, or boxes and masks where every object has one.

        The Open Images Challenge's rules know objects without a mask, so one mask will do for them.
        """
        if self.ground_truth is None:
            return ()
        enough = any if self.evaluation == "open-images-challenge" else all
        masks = enough(row.get("segmentation") for row in self.ground_truth["annotations"])
        return ("detection", "segmentation") if masks else ("detection",)

    @property
    def is_full_val2017(self) -> bool:
        """Whether this is the whole of COCO val2017 by name and counts: what published figures are for."""
        return (
            self.name == "coco"
            and self.ground_truth is not None
            and len(self.images) == VAL2017_IMAGES
            and len(self.ground_truth["annotations"]) == VAL2017_ANNOTATIONS
        )

    @cached_property
    def _by_id(self) -> Mapping[int, ImageRecord]:
        return {record.id: record for record in self.images}


class DatasetProvider(Protocol):
    """What an entry point of the group ``icm_bench.datasets`` names.

    Attributes:
        name: The provider's name on the command line.
        default_detectors: The detector to take for a task where the user names none, by task; a class that inherits
            from this one may leave it out.
    """

    name: ClassVar[str]
    default_detectors: ClassVar[Mapping[Task, str]] = MappingProxyType({})

    @classmethod
    def open(
        cls, *, data_root: Path | None = None, images: Path | None = None, annotations: Path | None = None
    ) -> Dataset:
        """Return the dataset.

        Args:
            data_root: The folder of a dataset with a layout of its own.
            images: The folder of the images, for providers that take any.
            annotations: The annotation file, for providers that take any.

        Raises:
            UsageError: What it needs was not given, or what it has no use for was.
            DatasetError: A file is missing, broken or of the wrong kind.
        """
        ...


def safe_name(text: str) -> str:
    """Return a text as a dataset's name: all but ASCII letters, digits, ``.`` and ``_`` becomes ``-``."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "dataset"


def need(provider: str, option: str, value: Path | None, meaning: str) -> Path:
    """Return what a provider needs.

    Raises:
        UsageError: It was not given.
    """
    if value is None:
        flag = "--" + option.replace("_", "-")
        raise UsageError(f"needs {meaning}", where=f"dataset '{provider}'", hint=f"give {flag}")
    return value


def refuse(provider: str, **options: Path | None) -> None:
    """Refuse what a provider has no use for.

    Raises:
        UsageError: It was given.
    """
    for option, value in options.items():
        if value is not None:
            what = f"has no use for --{option.replace('_', '-')}"
            hint = _INSTEAD.get(option, "leave it out")
            raise UsageError(what, where=f"dataset '{provider}'", hint=hint)


_INSTEAD = {
    "images": "give --annotations FILE too, or --dataset folder --task fidelity",
    "annotations": "add --images FOLDER, where the images are",
}


def _restrict(truth: GroundTruth, ids: set[int]) -> GroundTruth:
    return {
        **truth,
        "images": [row for row in truth["images"] if row["id"] in ids],
        "annotations": [row for row in truth["annotations"] if row["image_id"] in ids],
    }


def _fingerprint(images: Sequence[ImageRecord], truth: GroundTruth | None, evaluation: Evaluation) -> str:
    digest = hashlib.sha256()
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        for record, file_digest in zip(images, threads.map(checked_digest, images), strict=True):
            pose = "" if record.pose == "upright" else f" {record.pose}"
            digest.update(f"{record.id} {record.width}x{record.height} {file_digest}{pose}\n".encode())
    if truth is not None:
        digest.update(object_bytes(truth))
        if evaluation in _FURTHER_BYTES:
            digest.update(_FURTHER_BYTES[evaluation](truth))
    return digest.hexdigest()


_FURTHER_BYTES: Mapping[Evaluation, Callable[[GroundTruth], bytes]] = MappingProxyType(
    {"cityscapes": void_bytes, "open-images-challenge": label_bytes}
)


def open_dataset(
    name: str,
    *,
    data_root: Path | None = None,
    images: Path | None = None,
    annotations: Path | None = None,
    limit: int | None = None,
    called: str | None = None,
) -> Dataset:
    """Open a dataset by its name, or any images with their annotations.

    Args:
        name: A dataset's name; ignored where images and annotations are both given.
        data_root: The folder of a dataset with a layout of its own.
        images: A folder of images.
        annotations: Their annotations in COCO's format.
        limit: Take a stable subset of this many images.
        called: What results call it; by default what its provider calls it.

    Raises:
        UsageError: The name is unknown, what it is to be called is no name, or what the dataset needs was not given.
        DatasetError: A file is missing, broken or of the wrong kind.
    """
    if images is not None and annotations is not None:
        name = "coco-format"
    provider: type[DatasetProvider] = registry.load("dataset", name)
    dataset = provider.open(data_root=data_root, images=images, annotations=annotations)
    if called is not None:
        if safe_name(called) != called:
            raise UsageError(
                f"'{called}' is no name", where="--name", hint="use letters, digits, '.', '_' and '-'"
            )
        dataset = replace(dataset, name=called)
    return replace(dataset if limit is None else dataset.limit(limit), provider=name)


def default_detector(dataset: Dataset, task: Task) -> str:
    """Return the detector that a dataset's provider names for a task; ``none`` for fidelity, which needs none.

    Raises:
        UsageError: It names none, and the task needs one.
    """
    if task == "fidelity":
        return NO_DETECTOR
    known = registry.load("dataset", dataset.provider).default_detectors if dataset.provider else {}
    if task not in known:
        raise UsageError(
            f"has no default detector for {task}", where=f"dataset '{dataset.name}'", hint="give --detector"
        )
    return str(known[task])
