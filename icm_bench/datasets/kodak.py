"""The Kodak set: the 24 images on which pixel fidelity is compared everywhere, checked pixel by pixel."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from icm_bench.dataset import Dataset, DatasetProvider, ImageRecord, need, refuse
from icm_bench.download import Patience, Progress, download
from icm_bench.error import DatasetError
from icm_bench.file import packaged_table
from icm_bench.image import pixel_digest, printable, read_image

KODAK_URL: Final = "http://r0k.us/graphics/kodak/kodak"
"""Where the images are published. The checksums vouch for the files."""

KODAK_URL_VARIABLE: Final = "ICM_BENCH_KODAK_URL"


@dataclass(frozen=True)
class KodakImage:
    """What an image must be.

    Attributes:
        n_bytes: Size of its PNG file as published.
        width: In pixels.
        height: In pixels.
        sha256: Of its PNG file as published.
        pixels: :func:`icm_bench.image.pixel_digest` of the image, whatever file it is read from.
    """

    n_bytes: int
    width: int
    height: int
    sha256: str
    pixels: str


def _published() -> tuple[KodakImage, ...]:
    rows = (row.values() for row in packaged_table("icm_bench.datasets", "kodak.csv"))
    return tuple(KodakImage(int(n), int(width), int(height), *digests) for n, width, height, *digests in rows)


IMAGES: Final = _published()
"""``kodim01`` to ``kodim24``."""


class Kodak(DatasetProvider):
    """The 24 images of the Kodak set as ``kodim01.png`` to ``kodim24.png`` in one folder; no ground truth."""

    name: ClassVar[str] = "kodak"

    @classmethod
    def open(
        cls, *, data_root: Path | None = None, images: Path | None = None, annotations: Path | None = None
    ) -> Dataset:
        """Return the set under ``data_root``.

        Its fingerprint is of the pixels, which losslessly optimised files share with those that are published.

        Raises:
            DatasetError: An image is missing, broken, or another image than the published one.
        """
        refuse(cls.name, images=images, annotations=annotations)
        root = need(cls.name, "data_root", data_root, "the folder that holds kodim01.png to kodim24.png")
        paths = [_path(root, number) for number in range(1, len(IMAGES) + 1)]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise DatasetError(
                f"lacks {len(missing)} of the {len(IMAGES)} images: {', '.join(missing)}",
                where=printable(root),
                hint="fetch them with icm-bench data kodak",
            )
        records = []
        fingerprint = hashlib.sha256()
        for number, (path, published) in enumerate(zip(paths, IMAGES, strict=True), start=1):
            if pixel_digest(read_image(path)) != published.pixels:
                raise DatasetError(
                    "is not the image that was published under this name",
                    where=printable(path),
                    hint="remove it and fetch it with icm-bench data kodak",
                )
            records.append(ImageRecord(number, path, published.width, published.height))
            fingerprint.update(f"{number} {published.width}x{published.height} {published.pixels}\n".encode())
        return Dataset(cls.name, tuple(records), None, fingerprint.hexdigest())


def fetch_kodak(
    root: Path,
    *,
    base_url: str | None = None,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Path:
    """Fetch the images that are not there yet, 15 MB in all, and return their folder.

    Args:
        root: Where the images go.
        base_url: Another server with images of these names; by default the environment's ``ICM_BENCH_KODAK_URL``, or
            else where they are published.
        progress: What to tell of the bytes that arrive.
        patience: How long to bear with the network.

    Raises:
        DownloadError: As :func:`icm_bench.download.download`.
    """
    base = (base_url or os.environ.get(KODAK_URL_VARIABLE) or KODAK_URL).rstrip("/")
    for number, published in enumerate(IMAGES, start=1):
        path = _path(root, number)
        download(
            f"{base}/{path.name}",
            path,
            sha256=published.sha256,
            size=published.n_bytes,
            progress=progress,
            patience=patience or Patience(),
        )
    return root


def _path(root: Path, number: int) -> Path:
    return root / f"kodim{number:02d}.png"
