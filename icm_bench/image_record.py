"""One image of a dataset: where its file lies, and how large it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from icm_bench.error import DatasetError
from icm_bench.image import Image, decode_image, image_size, is_turned, read_bytes
from icm_bench.pose import Pose, show


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset: all that a worker process needs to read it.

    Attributes:
        id: The image's id in the dataset, unique and not negative.
        path: Its file.
        width: Its width in pixels, EXIF orientation applied.
        height: Its height in pixels, EXIF orientation applied.
        pose: How the file's image is shown.
    """

    id: int
    path: Path
    width: int
    height: int
    pose: Pose = "upright"

    @property
    def title(self) -> str:
        """The file's name, and the pose where it is not upright."""
        return self.path.name if self.pose == "upright" else f"{self.path.name}, {self.pose}"

    def read(self) -> Image:
        """Return the image, height x width x 3 RGB.

        Raises:
            DatasetError: The file is missing or broken, or has not the recorded size.
        """
        data = read_bytes(self.path)
        image = decode_image(data, where=self.path)
        _check_size(self, (image.shape[1], image.shape[0]), data)
        return image if self.pose == "upright" else show(image, self.pose)


def checked_digest(record: ImageRecord) -> str:
    """Return the SHA-256 of an image's file, whose size is checked, as hexadecimal digits."""
    data = read_bytes(record.path)
    _check_size(record, image_size(data, where=record.path), data)
    return hashlib.sha256(data).hexdigest()


def _check_size(record: ImageRecord, found: tuple[int, int], data: bytes) -> None:
    if found == (record.width, record.height):
        return
    oriented, hint = "", "restore the file, or correct its size in the annotations"
    if found == (record.height, record.width):
        hint = "swap its width and height in the annotations"
        if is_turned(data, where=record.path):
            oriented, hint = " once its EXIF orientation is applied", "annotate the upright image"
    raise DatasetError(
        f"the image is {found[0]}x{found[1]}{oriented}, its record says {record.width}x{record.height}",
        where=record.path,
        hint=hint,
    )
