"""The weights file: everything that defines a byte or a pixel, and its facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from icm_bench.error import TrainingError
from icm_codecs.bitstream.integer_layer import ExactLayer
from icm_codecs.bitstream.table import Tables
from icm_codecs.bitstream.weights_file import (
    StoredNetworks,
    check_same_shape,
    is_of_format,
    layer_entries,
    load_into,
    network_tensors,
    read_facts,
    read_layer,
    read_tables,
    read_tensors,
    reading,
    table_tensors,
    write_tensors,
)
from icm_codecs.checkerboard.network import CheckerboardNetwork, CheckerboardShape, HyperAnalysis
from icm_codecs.checkerboard.network_exact import ExactEntropyModel, ExactPass, at
from icm_codecs.learned import MOST_QUALITIES
from icm_codecs.tucodec import checkpoint as tucodec
from icm_codecs.tucodec.network import Analysis, PostFilter, Synthesis
from icm_codecs.tucodec.table import laplacian_tables

FORMAT = "checkerboard-1"
"""What the metadata of a weights file names."""

_NETWORKS = ("analysis", "synthesis", "post_filter", "hyper_analysis")
_TRAINING = "training"


@dataclass(frozen=True)
class CheckerboardCheckpoint(StoredNetworks):
    """A trained codec, ready for use.

    Attributes:
        shape: How large the networks are.
        positions: Where each rate point lies between the positions that were trained, rising.
        analysis: Image -> latent.
        synthesis: Latent -> image.
        post_filter: Image -> better image.
        hyper_analysis: Latent -> hyper-latent.
        entropy_model: Hyper-latent and decoded latents -> scale indices and means, in integers.
        gain: Qualities x latent, float32: scales the latent before rounding.
        inverse_gain: Qualities x latent, float32: scales it back.
        laplacians: The latent's and the hyper-latent's tables, scale by scale.
        rdoq_lambda: The squared error, in quantisation steps, that a bit is worth to the encoder.
        facts: The file's metadata.
    """

    shape: CheckerboardShape
    positions: tuple[float, ...]
    analysis: Analysis
    synthesis: Synthesis
    post_filter: PostFilter
    hyper_analysis: HyperAnalysis
    entropy_model: ExactEntropyModel
    gain: Tensor
    inverse_gain: Tensor
    laplacians: Tables
    rdoq_lambda: float
    facts: Mapping[str, Any]


def save_checkpoint(
    network: CheckerboardNetwork, path: Path, facts: Mapping[str, str], positions: Sequence[float]
) -> None:
    """Write a trained network as a weights file, all or nothing; it is moved to the CPU.

    The positions say where the rate points lie, 0 to ``rate_points - 1``, rising, at most 16.

    Raises:
        TrainingError: The positions are no ladder.
    """
    top = network.shape.rate_points - 1
    rises = list(positions) == sorted(set(positions))
    if not (rises and 1 <= len(positions) <= MOST_QUALITIES and positions[0] >= 0 and positions[-1] <= top):
        hint = f"give 1 to {MOST_QUALITIES} positions from 0 to {top}, rising"
        raise TrainingError(f"{list(positions)} is no ladder", where=path, hint=hint)
    network = network.cpu()
    where = torch.tensor(positions, dtype=torch.float32)
    tensors: dict[str, Tensor] = {
        "gain": torch.exp(at(network.log_gain, where)),
        "inverse_gain": torch.exp(at(network.log_inverse_gain, where)),
    }
    for name in _NETWORKS:
        tensors |= network_tensors(name, getattr(network, name))
    exact = ExactEntropyModel.of(network, positions)
    tensors |= {"entropy_model.gain": exact.gain, "entropy_model.hyper_scale": exact.hyper_scale}
    for name, layer in exact.layers().items():
        tensors |= layer_entries(f"entropy_model.{name}", layer)
    tensors |= table_tensors("laplacians", laplacian_tables())
    # Only a training that starts from this file reads these: what the ladder's rows were interpolated from.
    tensors |= {f"{_TRAINING}.{key}": value.half() for key, value in _rows(network).items()}
    own = {"shape": network.shape.as_dict(), "positions": list(positions)}
    write_tensors(path, tensors, {**facts, **own}, FORMAT)


def load_checkpoint(path: Path, *, device: str = "cpu") -> CheckerboardCheckpoint:
    """Read a weights file.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    with reading(path):
        facts, tensors = read_tensors(path, FORMAT)
        shape = CheckerboardShape.from_dict(facts["shape"])
        return CheckerboardCheckpoint(
            shape,
            tuple(facts["positions"]),
            load_into(Analysis(shape.transforms), "analysis", tensors, device),
            load_into(Synthesis(shape.transforms), "synthesis", tensors, device),
            load_into(PostFilter(shape.transforms), "post_filter", tensors, device),
            load_into(HyperAnalysis(shape), "hyper_analysis", tensors, device),
            _read_entropy_model(shape, tensors, device),
            tensors["gain"].to(device),
            tensors["inverse_gain"].to(device),
            read_tables("laplacians", tensors),
            float(facts.get("rdoq_lambda", 0.0)),
            facts,
        )


def is_checkerboard(path: Path) -> bool:
    """Return whether a file holds weights of this codec; what cannot be read holds none."""
    return is_of_format(path, FORMAT)


def count_rates(path: Path) -> int:
    """Return how many rate points a weights file serves.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    with reading(path):
        return len(read_facts(path, FORMAT)["positions"])


def start_from(network: CheckerboardNetwork, path: Path) -> None:
    """Set a network's parameters to those of a weights file, as a training's start.

    A file of tucodec gives its transforms and gains alone: the entropy model is then what is to be learned.

    Raises:
        CodecError: The file is missing, damaged, of another kind or of another shape.
    """
    if is_of_format(path, tucodec.FORMAT):
        _start_transforms(network, path)
        return
    checkpoint = load_checkpoint(path)
    check_same_shape(checkpoint.shape, network.shape, path)
    with reading(path), torch.no_grad():
        for name in _NETWORKS:
            getattr(network, name).load_state_dict(getattr(checkpoint, name).state_dict())
        _, tensors = read_tensors(path, FORMAT)
        for key, parameter in _rows(network).items():
            parameter.copy_(tensors[f"{_TRAINING}.{key}"])
        own = dict(network.hyper_synthesis.named_parameters()) | {
            f"passes.{key}": value for key, value in network.passes.named_parameters()
        }
        for key, layer in checkpoint.entropy_model.layers().items():
            own[f"{key}.weight"].copy_(layer.weight * 2.0**-layer.shift)


def _start_transforms(network: CheckerboardNetwork, path: Path) -> None:
    checkpoint = tucodec.load_checkpoint(path)
    check_same_shape(checkpoint.shape, network.shape.transforms, path)
    with torch.no_grad():
        for name in ("analysis", "synthesis", "post_filter"):
            getattr(network, name).load_state_dict(getattr(checkpoint, name).state_dict())
        network.log_gain.copy_(checkpoint.log_gain)
        network.log_inverse_gain.copy_(checkpoint.log_inverse_gain)


def _rows(network: CheckerboardNetwork) -> dict[str, Tensor]:
    """Return what each rate point has of its own, but for what stays in floating point."""
    parts = {"hyper_synthesis": network.hyper_synthesis, "passes": network.passes}
    named = {
        f"{part}.{key}": value for part, module in parts.items() for key, value in module.named_parameters()
    }
    rows: dict[str, Tensor] = {key: value for key, value in named.items() if value.ndim == 2}
    return rows | {"log_gain": network.log_gain, "log_inverse_gain": network.log_inverse_gain}


def _read_entropy_model(
    shape: CheckerboardShape, tensors: Mapping[str, Tensor], device: str
) -> ExactEntropyModel:
    def layer(name: str) -> ExactLayer:
        return read_layer(f"entropy_model.{name}", tensors).to(device)

    passes = [
        ExactPass(
            layer(f"passes.{k}.features"),
            layer(f"passes.{k}.output"),
            layer(f"passes.{k}.anchors") if k % 2 else None,
            layer(f"passes.{k}.earlier") if k >= 2 else None,
        )
        for k in range(2 * len(shape.groups))
    ]
    return ExactEntropyModel(
        shape.groups,
        tensors["entropy_model.gain"].to(device),
        tensors["entropy_model.hyper_scale"].to(device),
        layer("first"),
        layer("second"),
        tuple(passes),
    )
