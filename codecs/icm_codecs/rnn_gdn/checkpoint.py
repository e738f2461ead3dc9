"""The weights file: safetensors, every parameter in half precision, and its facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from icm_codecs.bitstream import weights_file
from icm_codecs.rnn_gdn.network import RnnNetwork, RnnShape

_FORMAT = "rnn-gdn-1"


@dataclass(frozen=True)
class RnnCheckpoint(weights_file.StoredNetworks):
    """Trained networks, ready for use.

    Attributes:
        network: The networks, without gradients, in single precision.
        facts: The file's metadata.
    """

    network: RnnNetwork
    facts: Mapping[str, Any]


def save_checkpoint(network: RnnNetwork, path: Path, facts: Mapping[str, str]) -> None:
    """Write networks as a weights file, all or nothing."""
    tensors = {name: value.half() for name, value in network.named_parameters()}
    weights_file.write_tensors(path, tensors, {**facts, "shape": network.shape.as_dict()}, _FORMAT)


def load_checkpoint(path: Path, *, device: str = "cpu") -> RnnCheckpoint:
    """Read a weights file.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    with weights_file.reading(path):
        facts, tensors = weights_file.read_tensors(path, _FORMAT)
        network = RnnNetwork(RnnShape(**facts["shape"]))
        # Half precision has no place for the constants of the normalisations: those are made anew.
        constants = dict(network.named_buffers())
        network.load_state_dict({name: value.float() for name, value in tensors.items()} | constants)
    network.requires_grad_(False).eval().to(device)
    return RnnCheckpoint(network.to(memory_format=torch.channels_last), facts)
