"""Scenes: a dataset that the project draws itself, so that every command works with nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from icm_bench.dataset import Dataset, refuse
from icm_bench.datasets.coco import CocoFormat
from icm_bench.detector import Task

VALIDATION_SET = Path(__file__).parent / "val"
"""The folder of the validation set: images, and ``instances.json``."""


class Scenes:
    """The validation set of drawn scenes: 70 images of 512 x 384, objects of ten forms with exact masks."""

    name: ClassVar[str] = "scenes"
    default_detectors: ClassVar[Mapping[Task, str]] = MappingProxyType(
        {"detection": "fasterrcnn_scenes", "segmentation": "maskrcnn_scenes"}
    )

    @classmethod
    def open(
        cls, *, data_root: Path | None = None, images: Path | None = None, annotations: Path | None = None
    ) -> Dataset:
        """Return the set that the package carries.

        Raises:
            UsageError: A place was given, though the set lies in the package.
            DatasetError: A file of the package is missing or broken.
        """
        refuse(cls.name, data_root=data_root, images=images, annotations=annotations)
        found = CocoFormat.open(images=VALIDATION_SET, annotations=VALIDATION_SET / "instances.json")
        return Dataset(cls.name, found.images, found.ground_truth, found.fingerprint)


class ScenesPoses(Scenes):
    """The validation set as it is, mirrored, upside down and turned: 280 images of 70 images.

    A change to a codec moves detections in each pose by another chance, so that four poses tell a small loss from
    chance about as well as four times as many images would.
    """

    name: ClassVar[str] = "scenes-poses"

    @classmethod
    def open(
        cls, *, data_root: Path | None = None, images: Path | None = None, annotations: Path | None = None
    ) -> Dataset:
        """Return the set that the package carries, in four poses; raises as :meth:`Scenes.open` does."""
        found = super().open(data_root=data_root, images=images, annotations=annotations)
        return found.in_all_poses(cls.name)
