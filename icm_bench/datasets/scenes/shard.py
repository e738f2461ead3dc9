"""Training scenes, drawn once, as the shards that :mod:`icm_bench.network.shard` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from icm_bench.datasets.scenes.scene import HEIGHT, WIDTH, draw_scene

N_SCENES = 100
"""Scenes in a shard."""

_MOST_OBJECTS = 15


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
