"""Small shards of training scenes: whole ones take a minute to draw."""

from __future__ import annotations

from pathlib import Path

import pytest

from icm_bench.datasets.scenes.shard import write_shard


def write_scenes(folder: Path, seed: int, n_scenes: int = 1) -> None:
    """Write the first scenes of a seed as a shard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("icm_bench.datasets.scenes.shard.N_SCENES", n_scenes)
        write_shard(folder, seed, 0)
