"""The files that codecs with a hyperprior ship: everything that defines a byte or a pixel, and its facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from icm_codecs.bitstream import weights_file
from icm_codecs.bitstream.table import Tables, gaussian_tables, prior_tables
from icm_codecs.hyperprior.network import Analysis, HyperAnalysis, Synthesis
from icm_codecs.hyperprior.network_exact import ExactHyperSynthesis
from icm_codecs.hyperprior.variable_rate import HyperpriorShape, VariableRateNetwork

_NETWORKS = ("analysis", "synthesis", "hyper_analysis")


@dataclass(frozen=True)
class Kind:
    """What tells one hyperprior codec's files from another's.

    Attributes:
        format: Its name, in a file's metadata.
        shape: Makes the networks' sizes of what the metadata says of them.
        analysis: Image -> latent, made from the sizes.
        synthesis: Latent -> image, likewise.
        hyper_analysis: Latent -> hyper-latent, likewise.
        complaint: What the error says of a file that cannot be used.
        former: The present names of what older files know by another.
    """

    format: str
    shape: Callable[..., HyperpriorShape]
    analysis: Callable[[Any], nn.Module]
    synthesis: Callable[[Any], nn.Module]
    hyper_analysis: Callable[[Any], nn.Module]
    complaint: str
    former: Mapping[str, str]


HYPERPRIOR = Kind(
    "hyperprior-2",
    HyperpriorShape,
    Analysis,
    Synthesis,
    HyperAnalysis,
    "is no weights file of this codec",
    {},
)


@dataclass(frozen=True)
class HyperpriorCheckpoint(weights_file.StoredNetworks):
    """A trained codec, ready for use.

    Attributes:
        shape: How large the networks are.
        analysis: Image -> latent.
        synthesis: Latent -> image.
        hyper_analysis: Latent -> hyper-latent.
        hyper_synthesis: Hyper-latent -> scale indices and means, in integers.
        gain: Qualities x latent, float32: scales the latent before rounding.
        inverse_gain: Qualities x latent, float32: scales it back.
        prior: The hyper-latent's tables, quality by quality and channel by channel.
        conditional: The latent's tables, scale by scale.
        rdoq_lambda: The squared error, in quantisation steps, that a bit is worth to the encoder.
        facts: The file's metadata.
    """

    shape: HyperpriorShape
    analysis: nn.Module
    synthesis: nn.Module
    hyper_analysis: nn.Module
    hyper_synthesis: ExactHyperSynthesis
    gain: Tensor
    inverse_gain: Tensor
    prior: Tables
    conditional: Tables
    rdoq_lambda: float
    facts: Mapping[str, Any]


def save_checkpoint(
    network: VariableRateNetwork,
    path: Path,
    facts: Mapping[str, Any],
    kind: Kind = HYPERPRIOR,
    further: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a trained network as a checkpoint file, all or nothing; it is moved to the CPU.

    Args:
        network: The network as it was trained.
        path: Where to.
        facts: Metadata: the model's name, how it was trained.
        kind: Which codec's it is.
        further: Tensors that this codec alone has.
    """
    network = network.cpu()
    tensors: dict[str, Tensor] = {
        "gain": torch.exp(network.log_gain),
        "inverse_gain": torch.exp(network.log_inverse_gain),
        **(further or {}),
    }
    for name in _NETWORKS:
        tensors |= weights_file.network_tensors(name, getattr(network, name))
    # Only a training that starts from this file reads these.
    tensors |= {f"training.prior.{key}": value.half() for key, value in network.prior.named_parameters()}
    exact = ExactHyperSynthesis.of(network.hyper_synthesis)
    tensors["hyper_synthesis.gain"] = exact.gain
    tensors |= weights_file.layer_tensors("hyper_synthesis", exact.layers)
    for name, tables in (("prior", prior_tables(network)), ("conditional", gaussian_tables())):
        tensors |= weights_file.table_tensors(name, tables)
    weights_file.write_tensors(path, tensors, {**facts, "shape": network.shape.as_dict()}, kind.format)


def load_checkpoint(path: Path, kind: Kind = HYPERPRIOR, *, device: str = "cpu") -> HyperpriorCheckpoint:
    """Read a checkpoint file.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    with weights_file.reading(path, kind.complaint):
        facts, tensors = weights_file.read_tensors(path, kind.format, kind.former)
        return checkpoint_of(facts, tensors, kind, device)


def checkpoint_of(
    facts: Mapping[str, Any], tensors: Mapping[str, Tensor], kind: Kind, device: str
) -> HyperpriorCheckpoint:
    """Return the checkpoint of what a file holds; what is missing or wrong raises as it comes."""
    shape = kind.shape(**facts["shape"])
    layers = weights_file.read_layers("hyper_synthesis", tensors)
    return HyperpriorCheckpoint(
        shape,
        weights_file.load_into(kind.analysis(shape), "analysis", tensors, device),
        weights_file.load_into(kind.synthesis(shape), "synthesis", tensors, device),
        weights_file.load_into(kind.hyper_analysis(shape), "hyper_analysis", tensors, device),
        ExactHyperSynthesis(tensors["hyper_synthesis.gain"], layers).to(device),
        tensors["gain"].to(device),
        tensors["inverse_gain"].to(device),
        weights_file.read_tables("prior", tensors),
        weights_file.read_tables("conditional", tensors),
        float(facts.get("rdoq_lambda", 0.0)),
        facts,
    )


def start_from(network: VariableRateNetwork, path: Path, kind: Kind = HYPERPRIOR) -> None:
    """Set a network's parameters to those of a checkpoint file, as a training's start.

    Raises:
        CodecError: The file is missing, damaged, of another kind or of another shape.
    """
    checkpoint = load_checkpoint(path, kind)
    weights_file.check_same_shape(checkpoint.shape, network.shape, path)
    with torch.no_grad():
        for name in _NETWORKS:
            getattr(network, name).load_state_dict(getattr(checkpoint, name).state_dict())
        network.log_gain.copy_(torch.log(checkpoint.gain))
        network.log_inverse_gain.copy_(torch.log(checkpoint.inverse_gain))
        _, tensors = weights_file.read_tensors(path, kind.format, kind.former)
        for key, parameter in network.prior.named_parameters():
            parameter.copy_(tensors[f"training.prior.{key}"])
        checkpoint.hyper_synthesis.copy_to(network.hyper_synthesis)
