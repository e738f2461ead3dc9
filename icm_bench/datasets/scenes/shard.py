"""Training scenes on disk: drawn once, read by memory mapping."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from icm_bench.datasets.scenes.scene import HEIGHT, WIDTH, draw_scene

N_SCENES = 100
"""Scenes in a shard."""

_MOST_OBJECTS = 15


@dataclass(frozen=True)
class Shard:
    """A hundred scenes.

    Attributes:
        images: 100 x 384 x 512 x 3.
        instances: 100 x 384 x 512: 0, or 1 + the index of the object that the pixel shows.
        categories: 100 x 15 category ids of the objects, filled up with 0.
    """

    images: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    categories: NDArray[np.uint8]

    def objects(
        self, scene: int, box: tuple[slice, slice], least_visible: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return the masks and categories of a scene's objects within a crop.

        Args:
            scene: Which of the hundred.
            box: The crop's rows and columns.
            least_visible: The share of an object's visible pixels that the crop must hold.

        Returns:
            K x height x width, and K category ids.
        """
        whole = np.asarray(self.instances[scene])
        part = whole[box]
        n_whole = np.bincount(whole.ravel(), minlength=256)
        n_part = np.bincount(part.ravel(), minlength=256)
        kept = np.array(
            [k for k in np.flatnonzero(n_part) if k > 0 and n_part[k] >= least_visible * n_whole[k]], int
        )
        return part[None] == kept[:, None, None], self.categories[scene][kept - 1].astype(np.int64)


def write_shard(folder: Path, seed: int, index: int) -> Path:
    """Draw the scenes ``(seed, 100 index)`` to ``(seed, 100 index + 99)`` unless they are on disk.

    Returns:
        The shard's folder, which exists only once it is whole.
    """
    final = folder / f"{seed}-{index:04d}"
    if final.exists():
        return final
    partial = final.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    images = np.zeros((N_SCENES, HEIGHT, WIDTH, 3), np.uint8)
    instances = np.zeros((N_SCENES, HEIGHT, WIDTH), np.uint8)
    categories = np.zeros((N_SCENES, _MOST_OBJECTS), np.uint8)
    for k in range(N_SCENES):
        scene = draw_scene((seed, index * N_SCENES + k))
        images[k], instances[k] = scene.image, scene.instances
        categories[k, : len(scene.categories)] = scene.categories
    for name, array in (("images", images), ("instances", instances), ("categories", categories)):
        np.save(partial / f"{name}.npy", array)
    partial.rename(final)
    return final


def read_shard(path: Path) -> Shard:
    """Open a shard; its pixels are read when they are used."""
    return Shard(
        *(np.load(path / f"{name}.npy", mmap_mode="r") for name in ("images", "instances", "categories"))
    )
