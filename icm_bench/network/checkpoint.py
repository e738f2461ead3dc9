"""Weights of torch models: published checkpoints, fetched once, and files of the user's own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import platformdirs
import safetensors.torch
import torch
from torch import Tensor, nn

from icm_bench.download import download
from icm_bench.error import DetectorError, IcmBenchError
from icm_bench.image import first_line, printable
from icm_bench.network.pickle_guard import check_pth

CACHE_VARIABLE = "ICM_BENCH_CACHE"


@dataclass(frozen=True)
class Checkpoint:
    """A state dictionary and the SHA-256 of the file that it came from."""

    state: dict[str, Tensor]
    sha256: str


def cache_folder() -> Path:
    """Return where published checkpoints are kept: ``$ICM_BENCH_CACHE``, or the platform's folder for caches."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else platformdirs.user_cache_path("icm-bench")


def cached_checkpoint(url: str) -> Path:
    """Return where the file of a published checkpoint is kept, or will be."""
    return cache_folder() / PurePosixPath(url).name


def fetch_checkpoint(url: str) -> Path:
    """Return the cached file of a published checkpoint, fetched first where it is not there.

    Args:
        url: Its address; the file's name ends in ``-`` and the first digits of its SHA-256, as torchvision's do.

    Raises:
        DownloadError: It cannot be fetched, or its SHA-256 is another one.
    """
    path = cached_checkpoint(url)
    download(url, path, sha256=path.stem.rpartition("-")[2])
    return path


def read_pth(data: bytes) -> Any:
    """Return what a ``.pth`` file holds, by torch's restricted unpickler, which makes tensors and nothing else.

    Raises:
        RefusedPickleError: Its values would be too many, too deep or within themselves.
    """
    check_pth(data)
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


Reader: TypeAlias = Callable[[bytes], Any]
"""Returns the state dictionary that a file's bytes hold, or raises whatever their damage leads to."""

READERS: Final[Mapping[str, Reader]] = MappingProxyType(
    {".safetensors": safetensors.torch.load, ".pth": read_pth, ".pt": read_pth}
)
"""How files of weights are read, by suffix."""


@contextlib.contextmanager
def damage_refused(where: str, kind: type[IcmBenchError]) -> Iterator[None]:
    """Raise an error of a kind, which names the file, where a reader of weights fails on what it holds."""
    try:
        yield
    except Exception as error:  # the readers raise whatever the damage leads to: EOFError, KeyError, ...
        raise kind(
            f"the weights are damaged, or hold more than tensors ({first_line(error)})",
            where=where,
            hint="fetch them again, or save the model's state dictionary alone",
        ) from error


def read_checkpoint(path: Path, readers: Mapping[str, Reader] = READERS) -> Checkpoint:
    """Return the state dictionary in a file.

    Args:
        path: The file; its suffix tells its kind.
        readers: How each kind is read; by default ``.safetensors`` and ``.pth``.

    Raises:
        DetectorError: The file is missing, of another kind, damaged, or holds anything but finite tensors by name.
    """
    where = printable(path)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        kinds = sorted(readers)
        raise DetectorError(
            f"weights of the kind '{path.suffix}' are not read",
            where=where,
            hint=f"give a {', '.join(kinds[:-1])} or {kinds[-1]} file",
        )
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise DetectorError(
            f"the weights cannot be read ({printable(error)})", where=where, hint="check the path"
        ) from error
    with damage_refused(where, DetectorError):
        state = reader(data)
    _check_state(state, where)
    return Checkpoint(state, hashlib.sha256(data).hexdigest())


def load_into(model: nn.Module, checkpoint: Checkpoint, where: Path) -> None:
    """Copy a checkpoint's tensors into a model.

    Raises:
        DetectorError: Names or shapes are not the model's.
    """
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    # Frozen and trainable normalisation differ in this counter alone, which inference has no use for.
    given = {name: t for name, t in checkpoint.state.items() if not name.endswith(".num_batches_tracked")}
    needed = {name for name in wanted if not name.endswith(".num_batches_tracked")}
    difference = _difference(needed, given.keys()) or next(
        (
            f"{name} is {list(given[name].shape)} instead of {list(wanted[name])}"
            for name in sorted(needed)
            if given[name].shape != wanted[name]
        ),
        None,
    )
    if difference is not None:
        raise DetectorError(
            f"the weights are of another model ({difference})",
            where=printable(where),
            hint="give the weights that this detector was trained to",
        )
    model.load_state_dict(given, strict=False)


def _check_state(state: object, where: str) -> None:
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise DetectorError(
            "the file holds no state dictionary", where=where, hint="save the model's state dictionary alone"
        )
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DetectorError(
                f"the tensor {name} holds numbers that are not finite",
                where=where,
                hint="fetch the weights again",
            )


def _difference(needed: set[str], given: Any) -> str | None:
    missing, surplus = sorted(needed - set(given)), sorted(set(given) - needed)
    parts = [
        f"{len(names)} tensors {kind}, e.g. {names[0]}"
        for kind, names in (("missing", missing), ("too many", surplus))
        if names
    ]
    return " and ".join(parts) or None
