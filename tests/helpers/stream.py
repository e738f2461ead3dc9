"""What the bitstreams of every learned codec must stand."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from icm_bench.error import CodecError
from icm_bench.image import Image
from tests.helpers.mutation import mutated

NO_IMAGES: list[Any] = [
    np.zeros((8, 8), dtype=np.uint8),
    np.zeros((8, 8, 4), dtype=np.uint8),
    np.zeros((8, 8, 3), dtype=np.float32),
    np.zeros((0, 8, 3), dtype=np.uint8),
]
"""Arrays that a codec must refuse."""

_PROGRAM = """
import importlib, pathlib, pickle, sys
import torch
folder, module, name, quality, weights = sys.argv[1:]
torch.set_num_threads(2)
codec = getattr(importlib.import_module(module), name)(float(quality), weights=weights)
data = (pathlib.Path(folder) / "stream").read_bytes()
found = codec.latents(data) if hasattr(codec, "latents") else ()
(pathlib.Path(folder) / "read").write_bytes(pickle.dumps((tuple(found), codec.decode(data))))
"""


def image_of(height: int, width: int, *, seed: int = 1) -> Image:
    """Make an image with edges, gradients and texture."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / random.uniform(3, 40) + y / random.uniform(3, 40)) for _ in range(3)]
    image = 128 + 60 * np.stack(waves, axis=-1) + 40 * ((x // 23 + y // 31) % 2)[..., None]
    noisy: Image = np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    return noisy


def check_drift(steady: Any, drifted: Any, image: Image) -> None:
    """Check that a codec whose float networks drift reads the latents that another has written."""
    data = steady.encode(image)
    model = drifted._coder._model
    torch.manual_seed(2)
    for name in ("analysis", "synthesis", "post_filter", "hyper_analysis"):
        for parameter in getattr(model, name).parameters() if hasattr(model, name) else ():
            parameter.mul_(1 + 1e-3 * torch.randn_like(parameter))
    assert not np.array_equal(drifted.decode(data), steady.decode(data))
    assert torch.equal(drifted.latents(data).latent, steady.latents(data).latent)


def check_bad_weights(made: Callable[[str], Any], weights: str | Path, folder: Path) -> None:
    """Check that a codec's weights that are missing, cut short or foreign end in one line that names them."""
    whole = Path(weights).read_bytes()
    path = folder / "bad.safetensors"
    for content in (None, whole[:-100], whole[:5000], b"no weights at all", b""):
        if content is not None:
            path.write_bytes(content)
        for call in ("load", "version") if content is None else ("load",):
            with pytest.raises(CodecError) as caught:
                getattr(made(str(path)), call)()
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)


def check_damage(codec: Any, image: Image, count: int = 300, *, all_refused: bool = True) -> None:
    """Check that damaged bitstreams are refused in one line, or decoded where a check may pass by chance."""
    data, random = codec.encode(image), np.random.default_rng(1)
    for other in filter(data.__ne__, (mutated(data, random) for _ in range(count))):
        try:
            decoded = codec.decode(other)
        except CodecError as error:
            assert "\n" not in str(error)
        else:
            assert not all_refused
            assert decoded.dtype == np.uint8


def check_threads(codec: Any, data: bytes, tolerance: int = 1) -> None:
    """Check that one thread and two read the same latents in a bitstream, and pixels to within a tolerance."""
    one = _read(codec, data)
    torch.set_num_threads(2)
    two = _read(codec, data)
    torch.set_num_threads(1)
    _compare(one, two, tolerance)


def check_threads_and_processes(
    codec: Any, image: Image, folder: Path, quality: float, weights: str | Path, tolerance: int = 1
) -> None:
    """Check that one thread, two, and two in a process of another quality read the same in a bitstream."""
    data = codec.encode(image)
    check_threads(codec, data, tolerance)
    (folder / "stream").write_bytes(data)
    cls = type(codec)
    names = [cls.__module__, cls.__name__, str(quality), str(weights)]
    subprocess.run([sys.executable, "-c", _PROGRAM, str(folder), *names], check=True, timeout=300)
    _compare(_read(codec, data), pickle.loads((folder / "read").read_bytes()), tolerance)


def _read(codec: Any, data: bytes) -> tuple[tuple[Any, ...], Image]:
    return tuple(codec.latents(data)) if hasattr(codec, "latents") else (), codec.decode(data)


def _compare(
    one: tuple[tuple[Any, ...], Image], other: tuple[tuple[Any, ...], Image], tolerance: int
) -> None:
    for ours, theirs in zip(one[0], other[0], strict=True):
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    assert np.abs(one[1].astype(int) - other[1]).max() <= tolerance
