"""COCO 2017 in its standard layout, and any images with annotations in COCO's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from icm_bench.dataset import Dataset, DatasetProvider, ImageRecord, need, refuse, safe_name
from icm_bench.datasets.annotation import read_ground_truth
from icm_bench.datasets.folder import list_folder
from icm_bench.detector import Task


class Coco:
    """COCO 2017 in its standard layout: ``val2017/`` and ``annotations/`` side by side in one folder."""

    name: ClassVar[str] = "coco"
    default_detectors: ClassVar[Mapping[Task, str]] = MappingProxyType(
        {"detection": "fasterrcnn_resnet50_fpn", "segmentation": "maskrcnn_resnet50_fpn"}
    )

    @classmethod
    def open(
        cls,
        *,
        data_root: Path | None = None,
        images: Path | None = None,
        annotations: Path | None = None,
        split: str = "val2017",
    ) -> Dataset:
        """Return a split under ``data_root``.

        It is named ``coco`` for val2017 and ``coco-<split>`` for another; a val2017 that is not whole is
        ``coco-partial<n>`` by its number of images, since its figures are not those of the whole.
        """
        refuse(cls.name, images=images, annotations=annotations)
        root = need(cls.name, "data_root", data_root, "the folder that holds val2017/ and annotations/")
        name = cls.name if split == "val2017" else f"{cls.name}-{safe_name(split)}"
        found = _open_annotated(name, root / split, root / "annotations" / f"instances_{split}.json")
        if split != "val2017" or found.is_full_val2017:
            return found
        return replace(found, name=f"{cls.name}-partial{len(found.images)}")


class CocoFormat(DatasetProvider):
    """Any images with annotations in COCO's object format; named after the annotation file."""

    name: ClassVar[str] = "coco-format"

    @classmethod
    def open(
        cls, *, data_root: Path | None = None, images: Path | None = None, annotations: Path | None = None
    ) -> Dataset:
        """Return the images that the annotation file lists, found by their ``file_name`` under ``images``."""
        refuse(cls.name, data_root=data_root)
        folder = need(cls.name, "images", images, "the folder of the images")
        file = need(cls.name, "annotations", annotations, "the annotation file in COCO's format")
        return _open_annotated(safe_name(Path(file.name.removesuffix(".gz")).stem), folder, file)


def _open_annotated(name: str, folder: Path, annotations: Path) -> Dataset:
    truth = read_ground_truth(annotations)
    list_folder(folder)  # says that the folder is missing rather than its first image
    records = [
        ImageRecord(row["id"], folder / row["file_name"], row["width"], row["height"])
        for row in truth["images"]
    ]
    return Dataset.measure(name, records, truth)
