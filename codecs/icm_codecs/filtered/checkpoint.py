"""The filter's weights file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from icm_bench.image import Image
from icm_codecs.bitstream.weights_file import (
    check_same_shape,
    load_into,
    network_tensors,
    read_tensors,
    reading,
    write_tensors,
)
from icm_codecs.filtered.network import STRIDE, FilterNetwork, FilterShape
from icm_codecs.pixel import padded, to_image, to_tensor

FORMAT = "filtered-1"
"""What the metadata of a weights file names."""

_NETWORK = "filter"


class Filter:
    """A trained filter on one device.

    Args:
        network: The network, on the device.
        device: "cpu", "cuda".
    """

    def __init__(self, network: FilterNetwork, device: str) -> None:
        self.network = network
        self._device = device

    @property
    def n_parameters(self) -> int:
        """How many learned values it has."""
        return sum(value.numel() for value in self.network.parameters())

    @torch.inference_mode()
    def apply(self, image: Image, qp: float) -> Image:
        """Return a decoded image as machines see it better."""
        pixels = padded(to_tensor(image, self._device), STRIDE).contiguous(memory_format=torch.channels_last)
        return to_image(self.network(pixels, torch.tensor([qp], device=self._device)), *image.shape[:2])


def save_checkpoint(network: FilterNetwork, path: Path, facts: Mapping[str, str]) -> None:
    """Write a trained filter as a weights file, all or nothing."""
    tensors: dict[str, Tensor] = network_tensors(_NETWORK, network)
    write_tensors(path, tensors, {**facts, "shape": network.shape.as_dict()}, FORMAT)


def load_checkpoint(path: Path, *, device: str = "cpu") -> Filter:
    """Read a weights file.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    with reading(path):
        facts, tensors = read_tensors(path, FORMAT)
        network = FilterNetwork(FilterShape.from_dict(facts["shape"]))
        return Filter(load_into(network, _NETWORK, tensors, device), device)


def start_from(network: FilterNetwork, path: Path) -> None:
    """Set a network's parameters to those of a weights file, as a training's start.

    Raises:
        CodecError: The file is missing, damaged, of another kind or of another shape.
    """
    start = load_checkpoint(path).network
    check_same_shape(start.shape, network.shape, path)
    network.load_state_dict(start.state_dict())
