"""Annotated objects as COCO describes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from icm_bench.error import DatasetError

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Annotated objects, in the order of image and category.

    Attributes:
        image_ids: The images that are scored, sorted; every per-image array and weight follows this order.
        category_ids: The categories that are scored, sorted.
        known_image_ids: Every image of the annotation file, scored or not.
        sizes: Height and width of each scored image, pixels; zeros where the file does not give them.
        image: Of each object, the index of its image.
        category: Of each object, the index of its category.
        boxes: Objects x 4, [x, y, width, height] in pixels.
        areas: Of each object, the annotated area, square pixels.
        crowd: Of each object, whether it is a crowd region.
        segmentations: Of each object, its polygons or run lengths as annotated, or None.
    """

    image_ids: Indices
    category_ids: Indices
    known_image_ids: Indices
    sizes: Indices
    image: Indices
    category: Indices
    boxes: Floats
    areas: Floats
    crowd: Flags
    segmentations: tuple[Any, ...] = field(repr=False)

    @classmethod
    def from_coco(
        cls, ground_truth: Mapping[str, Any], image_ids: Iterable[int] | None = None
    ) -> GroundTruth:
        """Read a COCO annotation file's content.

        Args:
            ground_truth: ``images``, ``categories`` and ``annotations`` in COCO's format.
            image_ids: The images to score; all of the file's where None. Predictions on the file's other
                images are ignored.

        Raises:
            DatasetError: A part is missing or malformed, or an image to score is not in the file.
        """
        try:
            images = {int(image["id"]): image for image in ground_truth["images"]}
            category_ids = np.unique([int(category["id"]) for category in ground_truth["categories"]])
            annotations = list(ground_truth["annotations"])
            known = np.array(sorted(images), dtype=np.int64)
            scored = known if image_ids is None else np.unique(np.array(list(image_ids), dtype=np.int64))
            unknown = np.setdiff1d(scored, known)
            if unknown.size:
                raise DatasetError(f"image {unknown[0]} is not among its images", where="ground truth")
            category_ids = category_ids.astype(np.int64)
            return _ordered(images, annotations, known, scored, category_ids)
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"not COCO annotations ({type(error).__name__}: {error})",
                where="ground truth",
                hint="give images, categories and annotations with id, image_id, category_id, bbox and area",
            ) from error

    @property
    def n_images(self) -> int:
        """Count the scored images."""
        return len(self.image_ids)

    @cached_property
    def groups(self) -> Indices:
        """Number each object's pair of category and image; objects stand in rising order of it."""
        return self.category * self.n_images + self.image

    @cached_property
    def masks(self) -> list[dict[str, Any]]:
        """Return each object's mask as compressed run lengths.

        Raises:
            DatasetError: An object has no segmentation.
        """
        return [
            self._mask(segmentation, image)
            for segmentation, image in zip(self.segmentations, self.image.tolist(), strict=True)
        ]

    def some(self, chosen: Flags) -> GroundTruth:
        """Return the same images with some of the objects."""
        places = np.flatnonzero(chosen)
        return replace(
            self,
            image=self.image[places],
            category=self.category[places],
            boxes=self.boxes[places],
            areas=self.areas[places],
            crowd=self.crowd[places],
            segmentations=tuple(self.segmentations[place] for place in places.tolist()),
        )

    def ignored(self, low: float, high: float) -> Flags:
        """Tell which objects are neither found nor missed: crowds, and areas outside [low, high]."""
        return self.crowd | (self.areas < low) | (self.areas > high)

    def _mask(self, segmentation: Any, image: int) -> dict[str, Any]:
        height, width = self.sizes[image].tolist()
        where = f"image {self.image_ids[image]}"
        if not segmentation or not height or not width:
            raise DatasetError("an object without a segmentation, or an image without a size", where=where)
        if isinstance(segmentation, list):
            merged: dict[str, Any] = rle.merge(rle.frPyObjects(segmentation, height, width))
            return merged
        if isinstance(segmentation["counts"], list):
            compressed: dict[str, Any] = rle.frPyObjects(segmentation, height, width)
            return compressed
        return dict(segmentation)


def _ordered(
    images: Mapping[int, Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    known: Indices,
    scored: Indices,
    category_ids: Indices,
) -> GroundTruth:
    ids = [annotation["id"] for annotation in annotations if "id" in annotation]
    if len(set(ids)) != len(ids):
        raise DatasetError("two annotations share one id", where="ground truth")
    image, image_known = positions_among(scored, [annotation["image_id"] for annotation in annotations])
    category, category_known = positions_among(
        category_ids, [annotation["category_id"] for annotation in annotations]
    )
    kept = np.flatnonzero(image_known & category_known)
    kept = kept[np.argsort(category[kept] * len(scored) + image[kept], kind="stable")]
    chosen = [annotations[index] for index in kept.tolist()]
    areas = np.array([annotation["area"] for annotation in chosen], dtype=np.float64)
    boxes = np.array([annotation["bbox"] for annotation in chosen], dtype=np.float64).reshape(-1, 4)
    if not (np.isfinite(areas).all() and np.isfinite(boxes).all()):
        raise DatasetError("an area or a box that is not finite", where="ground truth")
    return GroundTruth(
        image_ids=scored,
        category_ids=category_ids,
        known_image_ids=known,
        sizes=np.array(
            [[images[key].get("height", 0), images[key].get("width", 0)] for key in scored.tolist()],
            dtype=np.int64,
        ).reshape(-1, 2),
        image=image[kept],
        category=category[kept],
        boxes=boxes,
        areas=areas,
        crowd=np.array([bool(annotation.get("iscrowd", 0)) for annotation in chosen], dtype=np.bool_),
        segmentations=tuple(annotation.get("segmentation") for annotation in chosen),
    )


def positions_among(sorted_ids: Indices, ids: Sequence[int] | Indices) -> tuple[Indices, Flags]:
    """Return where each id stands among the sorted ones, and whether it stands there at all."""
    wanted = np.array(ids, dtype=np.int64)
    if not sorted_ids.size:
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=np.bool_)
    position = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
    return position, sorted_ids[position] == wanted
