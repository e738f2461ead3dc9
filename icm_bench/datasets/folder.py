"""A plain folder of images without ground truth."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from icm_bench.dataset import Dataset, ImageRecord, list_folder, need, refuse, safe_name
from icm_bench.detector import Task
from icm_bench.error import DatasetError
from icm_bench.image import image_size, printable, read_bytes

_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)


class Folder:
    """A plain folder of images without ground truth; named after the folder."""

    name: ClassVar[str] = "folder"
    default_detectors: ClassVar[Mapping[Task, str]] = MappingProxyType({})

    @classmethod
    def open(
        cls, *, data_root: Path | None = None, images: Path | None = None, annotations: Path | None = None
    ) -> Dataset:
        """Return the images of a folder, numbered from 1 in the order of their names' bytes.

        Files count as images by their suffix; hidden files, other files and folders within are left out.
        """
        refuse(cls.name, data_root=data_root, annotations=annotations)
        folder = need(cls.name, "images", images, "the folder of the images")
        paths = sorted(
            (p for p in list_folder(folder) if _is_image_name(p)), key=lambda path: os.fsencode(path.name)
        )
        if not paths:
            raise DatasetError(
                "the folder holds no images",
                where=printable(folder),
                hint=f"add files with {', '.join(sorted(_SUFFIXES))}",
            )
        records = []
        for image_id, path in enumerate(paths, start=1):
            width, height = image_size(read_bytes(path), where=path)
            records.append(ImageRecord(image_id, path, width, height))
        return Dataset.measure(safe_name(folder.resolve().name), records)


def _is_image_name(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and not path.is_dir()
