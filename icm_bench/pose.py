"""Mirror an image and its objects, turn them upside down, or both: to a codec, each is another image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths

from icm_bench.image import Image

Pose: TypeAlias = Literal["upright", "mirrored", "upside-down", "turned"]
"""As it is, left and right exchanged, top and bottom exchanged, or both: turned by 180 degrees."""

POSES: Final[tuple[Pose, ...]] = ("upright", "mirrored", "upside-down", "turned")


def show(image: Image, pose: Pose) -> Image:
    """Return an image of height x width x 3 in a pose, contiguous."""
    return np.ascontiguousarray(_posed(image, pose))


def show_annotation(annotation: Mapping[str, Any], pose: Pose) -> dict[str, Any]:
    """Return an object of COCO's format in a pose, its mask in compressed run lengths as it was given."""
    mask = run_lengths.decode(annotation["segmentation"])
    encoded = run_lengths.encode(np.asfortranarray(_posed(mask, pose)))
    height, width = mask.shape
    left, top, box_width, box_height = annotation["bbox"]
    if pose in ("mirrored", "turned"):
        left = width - left - box_width
    if pose in ("upside-down", "turned"):
        top = height - top - box_height
    return {
        **annotation,
        "bbox": [left, top, box_width, box_height],
        "segmentation": {"size": [height, width], "counts": encoded["counts"].decode("ascii")},
    }


def _posed(pixels: NDArray[np.uint8], pose: Pose) -> NDArray[np.uint8]:
    rows = slice(None, None, -1 if pose in ("upside-down", "turned") else 1)
    columns = slice(None, None, -1 if pose in ("mirrored", "turned") else 1)
    return pixels[rows, columns]
