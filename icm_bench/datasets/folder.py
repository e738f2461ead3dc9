"""A plain folder of images without ground truth."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from icm_bench.dataset import Dataset, DatasetProvider, ImageRecord, need, refuse, safe_name
from icm_bench.error import DatasetError, system_errors
from icm_bench.image import image_size, printable, read_bytes

_SUFFIXES = frozenset(
    f".{ending}"
    for ending in "apng bmp gif j2k jfif jp2 jpe jpeg jpg jpx pgm png pnm ppm tif tiff webp".split()  # noqa: SIM905
)
_NOT_READ = frozenset(
    f".{ending}"
    for ending in "arw avif bpg cr2 cr3 dng exr hdr heic heif hif jxl jxr nef orf psd raf rw2 svg tga".split()  # noqa: SIM905
)
"""Suffixes of images that are named where they are left out, as they may be meant to be measured."""

_N_NAMED = 3
_log = logging.getLogger(__name__)


class Folder(DatasetProvider):
    """A plain folder of images without ground truth; named after the folder."""

    name: ClassVar[str] = "folder"

    @classmethod
    def open(
        cls, *, data_root: Path | None = None, images: Path | None = None, annotations: Path | None = None
    ) -> Dataset:
        """Return the images of a folder, numbered from 1 in the order of their names' bytes.

        Files count as images by their suffix; hidden files and other files are left out. A warning names images of
        formats that are not read and folders within, which are left out too.
        """
        refuse(cls.name, data_root=data_root, annotations=annotations)
        folder = need(cls.name, "images", images, "the folder of the images")
        shown = sorted(
            (path for path in list_folder(folder) if not path.name.startswith(".")),
            key=lambda path: os.fsencode(path.name),
        )
        paths = [path for path in shown if path.suffix.lower() in _SUFFIXES and not path.is_dir()]
        left_out = [path for path in shown if path.suffix.lower() in _NOT_READ or path.is_dir()]
        if not paths:
            raise DatasetError(
                f"the folder holds no images{_named(left_out)}",
                where=printable(folder),
                hint=f"add files with {', '.join(sorted(_SUFFIXES))}, or name the folder that holds them",
            )
        if left_out:
            _log.warning(
                "%s: only its own images of known formats are taken%s", printable(folder), _named(left_out)
            )
        records = []
        for image_id, path in enumerate(paths, start=1):
            width, height = image_size(read_bytes(path), where=path)
            records.append(ImageRecord(image_id, path, width, height))
        return Dataset.measure(safe_name(folder.resolve().name), records)


def list_folder(folder: Path) -> list[Path]:
    """Return what lies in a folder of images, in no order.

    Raises:
        DatasetError: The folder is missing, or cannot be listed.
    """
    with system_errors(DatasetError, "the folder of images cannot be listed", where=printable(folder)):
        return list(folder.iterdir())


def _named(left_out: Sequence[Path]) -> str:
    if not left_out:
        return ""
    names = [printable(path.name) + ("/" if path.is_dir() else "") for path in left_out]
    more = f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else ""
    return f"; left out: {', '.join(names[:_N_NAMED])}{more}"
