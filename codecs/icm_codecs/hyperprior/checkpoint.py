"""The file that the codec ships, in the manner of :mod:`icm_codecs.checkpoint`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from icm_bench.error import CodecError
from icm_codecs.hyperprior.exact import ExactScaleSynthesis
from icm_codecs.hyperprior.network import Analysis, HyperAnalysis, HyperpriorNetwork, Shape, Synthesis
from icm_codecs.table import Tables, gaussian_tables, prior_tables
from icm_codecs.tensor_file import (
    UNUSABLE,
    layer_tensors,
    load_into,
    network_tensors,
    read_layers,
    read_tables,
    read_tensors,
    table_tensors,
    write_tensors,
)

_FORMAT = "hyperprior-1"
_NETWORKS = ("analysis", "synthesis", "hyper_analysis")


@dataclass(frozen=True)
class Checkpoint:
    """A trained codec, ready for use: :class:`icm_codecs.coder.Networks`.

    Attributes:
        shape: How large the networks are.
        analysis: Image -> latent.
        synthesis: Latent -> image.
        hyper_analysis: Latent -> hyper-latent.
        hyper_synthesis: Hyper-latent -> scale indices, in integers.
        gain: Qualities x latent, float32: scales the latent before rounding.
        inverse_gain: Qualities x latent, float32: scales it back.
        prior: The hyper-latent's tables, quality by quality and channel by channel.
        conditional: The latent's tables, scale by scale.
        bit_price: The squared error, in quantisation steps, that a bit is worth to the encoder.
    """

    shape: Shape
    analysis: Analysis
    synthesis: Synthesis
    hyper_analysis: HyperAnalysis
    hyper_synthesis: ExactScaleSynthesis
    gain: Tensor
    inverse_gain: Tensor
    prior: Tables
    conditional: Tables
    bit_price: float

    def n_parameters(self) -> int:
        """Count the learned values: of the networks and of the scalings, not of the tables."""
        networks = (self.analysis, self.synthesis, self.hyper_analysis)
        learned = [value.numel() for network in networks for value in network.parameters()]
        exact = self.hyper_synthesis
        learned += [value.numel() for layer in exact.layers for value in (layer.weight, layer.bias)]
        return sum(learned) + sum(value.numel() for value in (exact.gain, self.gain, self.inverse_gain))


def save_checkpoint(network: HyperpriorNetwork, path: Path, facts: Mapping[str, str]) -> None:
    """Write a trained network as a weights file, all or nothing; the network is left where it is."""
    exact = ExactScaleSynthesis.of(network.hyper_synthesis)
    tensors: dict[str, Tensor] = {
        "gain": torch.exp(network.log_gain),
        "inverse_gain": torch.exp(network.log_inverse_gain),
        "hyper_synthesis.gain": exact.gain,
    }
    for name in _NETWORKS:
        tensors |= network_tensors(name, getattr(network, name))
    # Only a training that starts from this file reads these.
    tensors |= {f"training.prior.{key}": value.half() for key, value in network.prior.named_parameters()}
    tensors |= layer_tensors("hyper_synthesis", exact.layers)
    tensors |= table_tensors("prior", prior_tables(network)) | table_tensors("conditional", gaussian_tables())
    write_tensors(path, tensors, {**facts, "shape": network.shape.as_dict()}, _FORMAT)


def load_checkpoint(path: Path, *, device: str = "cpu") -> Checkpoint:
    """Read a weights file.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    try:
        facts, tensors = read_tensors(path, _FORMAT)
        shape = Shape(**facts["shape"])
        return Checkpoint(
            shape,
            load_into(Analysis(shape), "analysis", tensors, device),
            load_into(Synthesis(shape), "synthesis", tensors, device),
            load_into(HyperAnalysis(shape), "hyper_analysis", tensors, device),
            ExactScaleSynthesis(tensors["hyper_synthesis.gain"], read_layers("hyper_synthesis", tensors)).to(
                device
            ),
            tensors["gain"].to(device),
            tensors["inverse_gain"].to(device),
            read_tables("prior", tensors),
            read_tables("conditional", tensors),
            float(facts.get("bit_price", 0.0)),
        )
    except UNUSABLE as error:
        raise CodecError(
            f"is no weights file of this codec: {error}",
            where=path,
            mend="name a file that the training wrote",
        ) from error


def start_from(network: HyperpriorNetwork, path: Path) -> None:
    """Set a network's parameters to those of a weights file, as a training's start.

    Raises:
        CodecError: The file is missing, damaged, of another kind or of another shape.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.shape != network.shape:
        raise CodecError("holds networks of another shape", where=path, mend="use the same [network] table")
    _, tensors = read_tensors(path, _FORMAT)
    with torch.no_grad():
        for name in _NETWORKS:
            getattr(network, name).load_state_dict(getattr(checkpoint, name).state_dict())
        network.log_gain.copy_(torch.log(checkpoint.gain))
        network.log_inverse_gain.copy_(torch.log(checkpoint.inverse_gain))
        for key, parameter in network.prior.named_parameters():
            parameter.copy_(tensors[f"training.prior.{key}"])
        checkpoint.hyper_synthesis.copy_to(network.hyper_synthesis)
