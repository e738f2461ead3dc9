"""The file that the codec ships: safetensors, everything that defines a byte or a pixel, and its facts.

Floating-point networks are stored in half precision; the codec computes with exactly those values, in single precision.
What encoder and decoder must agree on is stored as integers, never recomputed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from icm_bench.error import CodecError
from icm_codecs.exact import ExactLayer
from icm_codecs.table import Tables
from icm_codecs.tucodec.exact import ExactScales
from icm_codecs.tucodec.network import Analysis, HyperAnalysis, PostFilter, Shape, Synthesis, TucodecNetwork
from icm_codecs.tucodec.table import laplacian_tables

_FORMAT = "tucodec-1"
_NETWORKS = ("analysis", "synthesis", "post_filter", "hyper_analysis")
_LAYERS = ("first", "second", "third")
_TABLE_FIELDS = ("frequencies", "sizes", "offsets")

_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """A trained codec, ready for use.

    Attributes:
        shape: How large the networks are.
        analysis: Image -> latent.
        synthesis: Latent -> image.
        post_filter: Image -> better image.
        hyper_analysis: Latent -> hyper-latent.
        scales: Hyper-latent -> scale indices, in integers.
        log_gain: Rungs x latent, float32: scales the latent before rounding, by its exponential.
        log_inverse_gain: Rungs x latent, float32: scales it back, likewise.
        laplacians: The latent's and the hyper-latent's tables, scale by scale.
        facts: The file's metadata.
    """

    shape: Shape
    analysis: Analysis
    synthesis: Synthesis
    post_filter: PostFilter
    hyper_analysis: HyperAnalysis
    scales: ExactScales
    log_gain: Tensor
    log_inverse_gain: Tensor
    laplacians: Tables
    facts: Mapping[str, Any]

    def n_parameters(self) -> int:
        """Count the learned values: of the networks and of the scalings, not of the tables."""
        networks = (self.analysis, self.synthesis, self.post_filter, self.hyper_analysis)
        learned = sum(value.numel() for network in networks for value in network.parameters())
        return learned + self.scales.n_values() + self.log_gain.numel() + self.log_inverse_gain.numel()


def save_checkpoint(network: TucodecNetwork, path: Path, facts: Mapping[str, str]) -> None:
    """Write a trained network as a checkpoint file, all or nothing.

    Args:
        network: The network as it was trained.
        path: Where to.
        facts: Metadata: the model's name, how it was trained.
    """
    tensors: dict[str, Tensor] = {
        "log_gain": network.log_gain,
        "log_inverse_gain": network.log_inverse_gain,
    }
    for name in _NETWORKS:
        module: nn.Module = getattr(network, name)
        tensors |= {f"{name}.{key}": value.half() for key, value in module.state_dict().items()}
    exact = ExactScales.of(network.scale_synthesis)
    tensors |= {"scales.gain": exact.gain, "scales.hyper_scale": exact.hyper_scale}
    for name, layer in zip(_LAYERS, exact.layers, strict=True):
        tensors[f"scales.{name}.weight"] = layer.weight
        tensors[f"scales.{name}.bias"] = layer.bias
        tensors[f"scales.{name}.shift"] = torch.tensor(layer.shift)
    tables = laplacian_tables()
    tensors |= {
        f"laplacians.{field}": torch.from_numpy(getattr(tables, field)).int() for field in _TABLE_FIELDS
    }
    # One entry, because the library writes several in no fixed order.
    metadata = {_FORMAT: json.dumps({**facts, "shape": network.shape.as_dict()}, sort_keys=True)}
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    save_file(whole, temporary, metadata=metadata)
    temporary.replace(path)


def load_checkpoint(path: Path, *, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint file.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    try:
        facts, tensors = _read(path)
        shape = Shape(**facts["shape"])
        return Checkpoint(
            shape,
            _load_into(Analysis(shape), "analysis", tensors, device),
            _load_into(Synthesis(shape), "synthesis", tensors, device),
            _load_into(PostFilter(shape), "post_filter", tensors, device),
            _load_into(HyperAnalysis(shape), "hyper_analysis", tensors, device),
            _scales(tensors).to(device),
            tensors["log_gain"].to(device),
            tensors["log_inverse_gain"].to(device),
            _tables(tensors),
            facts,
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CodecError(
            f"is not a checkpoint of this codec: {error}",
            where=path,
            mend="name a file that the training wrote",
        ) from error


def start_from(network: TucodecNetwork, path: Path) -> None:
    """Set a network's parameters to those of a checkpoint file, as a training's start.

    Raises:
        CodecError: The file is missing, damaged, of another kind or of another shape.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.shape != network.shape:
        raise CodecError("holds networks of another shape", where=path, mend="use the same [network] table")
    with torch.no_grad():
        for name in _NETWORKS:
            getattr(network, name).load_state_dict(getattr(checkpoint, name).state_dict())
        network.log_gain.copy_(checkpoint.log_gain)
        network.log_inverse_gain.copy_(checkpoint.log_inverse_gain)
        checkpoint.scales.copy_to(network.scale_synthesis)


def digest(path: Path) -> str:
    """Return the SHA-256 of a checkpoint file, hexadecimal.

    Raises:
        CodecError: The file cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CodecError(
            f"the weights cannot be read ({error.strerror})", where=path, mend="give weights=FILE"
        ) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if _FORMAT not in metadata:
            raise ValueError(f"its metadata has no {_FORMAT}")
        return json.loads(metadata[_FORMAT]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator of its own


def _load_into(module: _Network, name: str, tensors: dict[str, Tensor], device: str) -> _Network:
    prefix = f"{name}."
    own = {key[len(prefix) :]: value.float() for key, value in tensors.items() if key.startswith(prefix)}
    module.load_state_dict(own)
    module.requires_grad_(False).eval().to(device)
    return module.to(memory_format=torch.channels_last)


def _scales(tensors: dict[str, Tensor]) -> ExactScales:
    first, second, third = (
        ExactLayer(
            tensors[f"scales.{name}.weight"],
            tensors[f"scales.{name}.bias"],
            int(tensors[f"scales.{name}.shift"]),
        )
        for name in _LAYERS
    )
    return ExactScales(tensors["scales.gain"], (first, second, third), tensors["scales.hyper_scale"])


def _tables(tensors: dict[str, Tensor]) -> Tables:
    frequencies, sizes, offsets = (
        tensors[f"laplacians.{field}"].numpy().astype(np.int64) for field in _TABLE_FIELDS
    )
    tables = Tables(frequencies, sizes, offsets)
    if not tables.is_valid():
        raise ValueError("its tables are malformed")
    return tables
