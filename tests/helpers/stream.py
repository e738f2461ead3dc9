"""What the bitstreams of every learned codec must stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from icm_bench.image import Image

NO_IMAGES: list[Any] = [
    np.zeros((8, 8), dtype=np.uint8),
    np.zeros((8, 8, 4), dtype=np.uint8),
    np.zeros((8, 8, 3), dtype=np.float32),
    np.zeros((0, 8, 3), dtype=np.uint8),
]
"""Arrays that a codec must refuse."""

_PROGRAM = """
import importlib, pathlib, sys
import numpy as np, torch
folder, module, name, quality, *weights = sys.argv[1:]
torch.set_num_threads(2)
options = {"weights": weights[0]} if weights else {}
codec = getattr(importlib.import_module(module), name)(float(quality), **options)
data = (pathlib.Path(folder) / "stream").read_bytes()
np.save(pathlib.Path(folder) / "latent.npy", codec.latents(data).latent.numpy())
np.save(pathlib.Path(folder) / "image.npy", codec.decode(data))
"""


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


def check_threads_and_processes(
    codec: Any, image: Image, folder: Path, quality: float, *weights: str | Path
) -> None:
    """Check that one thread, two, and two in a process of another quality decode the same latents."""
    data = codec.encode(image)
    one = codec.latents(data)
    torch.set_num_threads(2)
    two = codec.latents(data)
    torch.set_num_threads(1)
    assert torch.equal(one.hyper, two.hyper)
    assert torch.equal(one.latent, two.latent)
    (folder / "stream").write_bytes(data)
    cls = type(codec)
    command = [sys.executable, "-c", _PROGRAM, folder, cls.__module__, cls.__name__, str(quality), *weights]
    subprocess.run(command, check=True, timeout=300)
    assert np.array_equal(np.load(folder / "latent.npy"), one.latent.numpy())
    assert np.abs(np.load(folder / "image.npy").astype(int) - codec.decode(data)).max() <= 1
