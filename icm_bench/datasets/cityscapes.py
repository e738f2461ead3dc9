"""Cityscapes: its validation images with their fine annotations of instances, in the layout in which it is published.

What a folder holds::

    leftImg8bit/val/<city>/<name>_leftImg8bit.png            the images
    gtFine/val/<city>/<name>_gtFine_instanceIds.png          which instance of which label each pixel belongs to

A sample of an ``instanceIds`` file is a label, or a thousand times a label plus the number of an instance. The files
``labelIds`` say nothing more and are not read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final

import numpy as np
import pycocotools.mask
from numpy.typing import NDArray

from icm_bench.dataset import Dataset, ImageRecord, need, refuse
from icm_bench.datasets.cityscapes_category import CATEGORIES
from icm_bench.detector import Task
from icm_bench.error import DatasetError
from icm_bench.image import printable, read_labels

VAL_IMAGES: Final = 500

_VOID: Final = (*range(7), 9, 10, 14, 15, 16, 18, 29, 30)
"""The labels that the evaluation ignores. An instance of one (29001, say) is not among them, as there."""

_LAST_LABEL: Final = 33
_GROUPS: Final = 1000
"""Instances are numbered from here on; a sample below is a label, which of a scored one means a group."""

_IMAGE, _INSTANCES = "_leftImg8bit.png", "_gtFine_instanceIds.png"


class Cityscapes:
    """Cityscapes' 500 validation images; masks are scored by Cityscapes' own rules and by COCO's."""

    name: ClassVar[str] = "cityscapes"
    default_detectors: ClassVar[Mapping[Task, str]] = MappingProxyType(
        dict.fromkeys(("detection", "segmentation"), "detectron2:mask_rcnn_R_50_FPN")
    )

    @classmethod
    def open(
        cls, *, data_root: Path | None = None, images: Path | None = None, annotations: Path | None = None
    ) -> Dataset:
        """Return the validation images under ``data_root``, numbered from 1 in the order of cities and names.

        It is named ``cityscapes`` where it is whole, else ``cityscapes-partial<n>`` by its number of images.

        Raises:
            UsageError: No folder was given, or more than a folder was.
            DatasetError: A file is missing, broken or of the wrong kind.
        """
        refuse(cls.name, images=images, annotations=annotations)
        root = need(cls.name, "data_root", data_root, "the folder that holds leftImg8bit/ and gtFine/")
        paths = sorted((root / "leftImg8bit" / "val").glob(f"*/*{_IMAGE}"), key=_city_and_name)
        if not paths:
            raise DatasetError(
                "there is no image in leftImg8bit/val/<city>/",
                where=printable(root),
                hint="unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there",
            )
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
            annotated = list(threads.map(_read, paths))
        records = [
            ImageRecord(number, path, item.width, item.height)
            for number, (path, item) in enumerate(zip(paths, annotated, strict=True), start=1)
        ]
        rows = [
            {"image_id": record.id, **row}
            for record, item in zip(records, annotated, strict=True)
            for row in item.objects
        ]
        truth = {
            "images": [
                {
                    "id": record.id,
                    "file_name": "/".join(_city_and_name(record.path)),
                    "width": record.width,
                    "height": record.height,
                    "void": item.void,
                }
                for record, item in zip(records, annotated, strict=True)
            ],
            "annotations": [{"id": number, **row} for number, row in enumerate(rows, start=1)],
            "categories": [{"id": key, "name": name} for key, name in CATEGORIES.items()],
        }
        name = cls.name if len(records) == VAL_IMAGES else f"{cls.name}-partial{len(records)}"
        return Dataset.measure(name, records, truth, "cityscapes")


@dataclass(frozen=True)
class _Annotated:
    """What an ``instanceIds`` file holds: objects in COCO's format without ids, and the void pixels if any."""

    width: int
    height: int
    objects: tuple[dict[str, Any], ...]
    void: dict[str, Any] | None


def _city_and_name(path: Path) -> tuple[str, str]:
    return path.parent.name, path.name


def _read(image: Path) -> _Annotated:
    city, name = _city_and_name(image)
    path = image.parents[3] / "gtFine" / "val" / city / (name.removesuffix(_IMAGE) + _INSTANCES)
    samples = read_labels(path)
    height, width = samples.shape
    objects = []
    for sample, mask in _regions(samples):
        label = sample if sample < _GROUPS else sample // _GROUPS
        if not 0 <= label <= _LAST_LABEL:
            raise DatasetError(
                f"holds the sample {sample}, which is neither a label nor an instance of one",
                where=printable(path),
                hint="fetch or copy it again",
            )
        if label in CATEGORIES:
            objects.append(
                {
                    "category_id": label,
                    "bbox": pycocotools.mask.toBbox(mask).tolist(),
                    "area": int(pycocotools.mask.area(mask)),
                    "iscrowd": int(sample < _GROUPS),
                    "segmentation": mask,
                }
            )
    void = dict(_regions(np.isin(samples, _VOID))).get(True)
    return _Annotated(width, height, tuple(objects), void)


def _regions(samples: NDArray[np.int32] | NDArray[np.bool_]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each value of an array with its pixels as compressed run lengths, in rising order."""
    # Run lengths go down the columns. All values at once: one mask a value would read the array as often.
    flat = samples.ravel(order="F")
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])
    values = flat[edges[:-1]]
    for value in np.unique(values).tolist():
        mine = values == value
        bounds = np.stack([edges[:-1][mine], edges[1:][mine]], axis=1).ravel()
        counts = np.diff(bounds, prepend=0, append=flat.size)
        packed = pycocotools.mask.frPyObjects(
            {"size": list(samples.shape), "counts": counts.tolist()}, *samples.shape
        )
        yield value, {"size": list(samples.shape), "counts": packed["counts"].decode("ascii")}
