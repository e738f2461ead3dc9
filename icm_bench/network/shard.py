"""Training images on disk with their objects: folders of arrays, read by memory mapping."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shard:
    """Scenes, of which ``icm-bench data scenes`` draws a hundred to a shard.

    Attributes:
        images: N x 384 x 512 x 3.
        instances: N x 384 x 512: 0, or 1 + the index of the object that the pixel shows.
        categories: N x 15 category ids of the objects, filled up with 0.
    """

    images: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    categories: NDArray[np.uint8]

    def objects(
        self, scene: int, box: tuple[slice, slice], least_visible: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return the masks and categories of a scene's objects within a crop.

        Args:
            scene: Which of them.
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


def shards(folder: Path) -> list[Shard]:
    """Open the finished shards in a folder; their pixels are read when they are used."""
    names = ("images", "instances", "categories")
    return [
        Shard(*(np.load(path.with_name(f"{name}.npy"), mmap_mode="r") for name in names))
        for path in sorted(folder.glob("*-????/images.npy"))
    ]
