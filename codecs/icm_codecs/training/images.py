"""The images that a codec is trained on, cropped, with the objects in them where a task is trained for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps
from pycocotools import mask as run_lengths
from torch import Tensor
from torch.utils.data import IterableDataset

from icm_bench.dataset import Dataset, open_dataset
from icm_bench.error import TrainingError
from icm_bench.image import Image
from icm_bench.network.shard import Shard, shards
from icm_bench.network.target import Target, target_of

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_LEAST_VISIBLE = 0.5

Box: TypeAlias = tuple[slice, slice]
"""The rows and the columns of a crop."""

Objects: TypeAlias = tuple[NDArray[np.bool_], NDArray[np.int64]]
"""Masks in a crop, K x height x width, and the objects' categories, K."""


class Source(Protocol):
    """Images to train on."""

    @property
    def has_objects(self) -> bool:
        """Whether it knows the objects in its images."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image:
        """Return an image, height x width x 3."""

    def objects(self, index: int, box: Box) -> Objects:
        """Return the objects of which at least half lies within a crop."""


class ImageFolders:
    """Every image under some folders, all in memory, without objects.

    Raises:
        TrainingError: There is no image, or one cannot be read.
    """

    has_objects = False

    def __init__(self, folders: Sequence[Path]) -> None:
        paths = sorted(
            path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES
        )
        if not paths:
            where = ", ".join(str(folder) for folder in folders)
            raise TrainingError("holds no image to train on", where=where, hint="name folders of images")
        self._images = [_read_image(path) for path in paths]

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Image:
        """Return an image, height x width x 3."""
        return self._images[index]

    def objects(self, _index: int, box: Box) -> Objects:
        """Return none."""
        height, width = (side.stop - side.start for side in box)
        return np.zeros((0, height, width), bool), np.zeros(0, np.int64)


def _read_image(path: Path) -> Image:
    try:
        with PillowImage.open(path) as file:
            return np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"cannot be read: {error}", where=path, hint="remove or replace it") from error


class Scenes:
    """Drawn scenes, read as they are used from the shards that ``icm-bench data scenes`` wrote."""

    has_objects = True

    def __init__(self, drawn: Sequence[Shard]) -> None:
        self._scenes = [(shard, k) for shard in drawn for k in range(len(shard.images))]

    def __len__(self) -> int:
        return len(self._scenes)

    def image(self, index: int) -> Image:
        """Return a scene, height x width x 3."""
        shard, k = self._scenes[index]
        return np.asarray(shard.images[k])

    def objects(self, index: int, box: Box) -> Objects:
        """Return the objects of which at least half of what is visible lies within a crop."""
        shard, k = self._scenes[index]
        return shard.objects(k, box, _LEAST_VISIBLE)


class LabelledImages:
    """A dataset in COCO's object format: images are read and masks drawn as they are used. Crowds are left out."""

    has_objects = True

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset.images)

    def image(self, index: int) -> Image:
        """Return an image, height x width x 3.

        Raises:
            DatasetError: Its file is missing or broken.
        """
        return self._dataset.images[index].read()

    def objects(self, index: int, box: Box) -> Objects:
        """Return the objects of which at least half lies within a crop."""
        record = self._dataset.images[index]
        masks, labels = [], []
        for row in self._annotations.get(record.id, ()):
            whole = _mask(row, record.height, record.width)
            part = whole[box]
            if part.any() and part.sum() >= _LEAST_VISIBLE * whole.sum():
                masks.append(part)
                labels.append(row["category_id"])
        shape = tuple(side.stop - side.start for side in box)
        return np.array(masks, bool).reshape(-1, *shape), np.array(labels, np.int64)

    @cached_property
    def _annotations(self) -> Mapping[int, list[dict[str, Any]]]:
        truth = self._dataset.ground_truth or {"annotations": ()}
        found: dict[int, list[dict[str, Any]]] = {}
        for row in truth["annotations"]:
            if not row["iscrowd"]:
                found.setdefault(row["image_id"], []).append(row)
        return found


def _mask(row: Mapping[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    shape = row.get("segmentation")
    if not shape:
        left, top, box_width, box_height = row["bbox"]
        shape = [
            [left, top, left + box_width, top, left + box_width, top + box_height, left, top + box_height]
        ]
    if isinstance(shape, list):
        shape = run_lengths.merge(run_lengths.frPyObjects(shape, height, width))
    elif isinstance(shape["counts"], list):
        shape = run_lengths.frPyObjects(shape, height, width)
    return np.asarray(run_lengths.decode(shape), bool)


class JoinedImages:
    """Images of several sources that know their objects, one after the other."""

    has_objects = True

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._ends = list(accumulate(map(len, sources)))

    def __len__(self) -> int:
        return self._ends[-1]

    def image(self, index: int) -> Image:
        """Return an image, height x width x 3."""
        source, own = self._place(index)
        return source.image(own)

    def objects(self, index: int, box: Box) -> Objects:
        """Return the objects of which at least half lies within a crop."""
        source, own = self._place(index)
        return source.objects(own, box)

    def _place(self, index: int) -> tuple[Source, int]:
        number = bisect_right(self._ends, index)
        return self._sources[number], index - (self._ends[number - 1] if number else 0)


def open_source(folders: Sequence[Path], annotations: Sequence[Path] = ()) -> Source:
    """Open what folders hold: drawn scenes, images with annotations, or images alone.

    Args:
        folders: Folders of images, or one of scenes. One that is named twice is drawn from twice as often.
        annotations: Files in COCO's object format, none or one for each folder, in their order.

    Raises:
        TrainingError: There is no image, one cannot be read, or not every folder is annotated.
        DatasetError: The annotations are not in COCO's format, or their images are missing.
    """
    if annotations:
        if len(annotations) != len(folders):
            what = f"{len(annotations)} files of annotations are not of {len(folders)} folders"
            hint = "give --annotations once for each --data, in the same order"
            raise TrainingError(what, where=annotations[0], hint=hint)
        labelled = [
            LabelledImages(open_dataset("coco-format", images=folder, annotations=file))
            for folder, file in zip(folders, annotations, strict=True)
        ]
        return labelled[0] if len(labelled) == 1 else JoinedImages(labelled)
    if len(folders) == 1 and (drawn := shards(folders[0])):
        return Scenes(drawn)
    return ImageFolders(folders)


class Crops(IterableDataset[tuple[Tensor, list[Target]]]):
    """Random, randomly mirrored crops: batches N x 3 x height x width, uint8, and what each shows.

    An image smaller than a crop is padded by replication. Every batch follows from the seed, its step and the
    device's rank alone, so a resumed training goes on where it was.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch: int,
        size: tuple[int, int],
        seed: int,
        rank: int,
        start: int,
        with_objects: bool = False,
    ) -> None:
        self._source, self._batch, self._size = source, batch, size
        self._seed, self._rank, self._start = seed, rank, start
        self._with_objects = with_objects

    def __iter__(self) -> Iterator[tuple[Tensor, list[Target]]]:
        step = self._start
        while True:
            random = np.random.default_rng((self._seed, self._rank, step))
            crops = [self._crop(random) for _ in range(self._batch)]
            images = torch.from_numpy(np.stack([image for image, _ in crops]))
            yield images, [target for _, target in crops if target is not None]
            step += 1

    def _crop(self, random: np.random.Generator) -> tuple[Image, Target | None]:
        index = int(random.integers(len(self._source)))
        image = self._source.image(index)
        box = self._box(random, image)
        crop = image[box]
        missing = [(0, wanted - side) for wanted, side in zip(self._size, crop.shape, strict=False)]
        crop = np.pad(crop, [*missing, (0, 0)], mode="edge")
        step = -1 if random.random() < 0.5 else 1
        pixels = np.ascontiguousarray(crop[:, ::step].transpose(2, 0, 1))
        if not self._with_objects:
            return pixels, None
        masks, labels = self._source.objects(index, box)
        masks = np.pad(masks, [(0, 0), *missing])[:, :, ::step]
        return pixels, target_of(masks, labels)

    def _box(self, random: np.random.Generator, image: Image) -> Box:
        rows, columns = (
            slice(start := int(random.integers(max(0, side - wanted) + 1)), min(side, start + wanted))
            for side, wanted in zip(image.shape, self._size, strict=False)
        )
        return rows, columns
