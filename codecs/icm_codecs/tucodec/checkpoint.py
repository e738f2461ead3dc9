"""The file that the codec ships: everything that defines a byte or a pixel, and its facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from icm_codecs.bitstream import weights_file
from icm_codecs.bitstream.table import Tables
from icm_codecs.tucodec.network import (
    Analysis,
    HyperAnalysis,
    PostFilter,
    Synthesis,
    TucodecNetwork,
    TucodecShape,
)
from icm_codecs.tucodec.network_exact import ExactScales
from icm_codecs.tucodec.table import laplacian_tables

FORMAT = "tucodec-1"
"""What the metadata of a weights file names."""

NETWORKS = ("analysis", "synthesis", "post_filter", "hyper_analysis")
"""What is stored in floating point."""


@dataclass(frozen=True)
class TucodecCheckpoint(weights_file.StoredNetworks):
    """A trained codec, ready for use.

    Attributes:
        shape: How large the networks are.
        analysis: Image -> latent.
        synthesis: Latent -> image.
        post_filter: Image -> better image.
        hyper_analysis: Latent -> hyper-latent.
        scales: Hyper-latent -> scale indices, in integers.
        log_gain: Rate points x latent, float32: scales the latent before rounding, by its exponential.
        log_inverse_gain: Rate points x latent, float32: scales it back, likewise.
        laplacians: The latent's and the hyper-latent's tables, scale by scale.
        facts: The file's metadata.
    """

    shape: TucodecShape
    analysis: Analysis
    synthesis: Synthesis
    post_filter: PostFilter
    hyper_analysis: HyperAnalysis
    scales: ExactScales
    log_gain: Tensor
    log_inverse_gain: Tensor
    laplacians: Tables
    facts: Mapping[str, Any]


def save_checkpoint(network: TucodecNetwork, path: Path, facts: Mapping[str, str]) -> None:
    """Write a trained network as a checkpoint file, all or nothing."""
    tensors: dict[str, Tensor] = {"log_gain": network.log_gain, "log_inverse_gain": network.log_inverse_gain}
    for name in NETWORKS:
        tensors |= weights_file.network_tensors(name, getattr(network, name))
    exact = ExactScales.of(network.scale_synthesis)
    tensors |= {"scales.gain": exact.gain, "scales.hyper_scale": exact.hyper_scale}
    tensors |= weights_file.layer_tensors("scales", exact.layers) | weights_file.table_tensors(
        "laplacians", laplacian_tables()
    )
    weights_file.write_tensors(path, tensors, {**facts, "shape": network.shape.as_dict()}, FORMAT)


def load_checkpoint(path: Path, *, device: str = "cpu") -> TucodecCheckpoint:
    """Read a checkpoint file.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    with weights_file.reading(path):
        facts, tensors = weights_file.read_tensors(path, FORMAT, {"rungs": "rate_points"})
        shape = TucodecShape(**facts["shape"])
        return TucodecCheckpoint(
            shape,
            weights_file.load_into(Analysis(shape), "analysis", tensors, device),
            weights_file.load_into(Synthesis(shape), "synthesis", tensors, device),
            weights_file.load_into(PostFilter(shape), "post_filter", tensors, device),
            weights_file.load_into(HyperAnalysis(shape), "hyper_analysis", tensors, device),
            ExactScales(
                tensors["scales.gain"],
                weights_file.read_layers("scales", tensors),
                tensors["scales.hyper_scale"],
            ).to(device),
            tensors["log_gain"].to(device),
            tensors["log_inverse_gain"].to(device),
            weights_file.read_tables("laplacians", tensors),
            facts,
        )
