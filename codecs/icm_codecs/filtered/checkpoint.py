"""The filter's weights file."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from icm_bench.image import Image
from icm_codecs.bitstream import weights_file
from icm_codecs.filtered.network import STRIDE, FilterNetwork, FilterShape
from icm_codecs.pixel import padded, to_image, to_tensor

FORMAT = "filtered-1"
"""What the metadata of a weights file names."""

_NETWORK = "filter"

_AT_ONCE = 2**21
"""Most pixels that are filtered at once, 2048x1024; the network takes 220 bytes for each."""

_TILE = 1024
"""Side of the tiles of larger images, a multiple of the stride."""

_MARGIN = 128
"""What a tile shows of its neighbours: no pixel depends on any that is 128 away."""


class Filter:
    """A trained filter on one device, "cpu" or "cuda"."""

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
        height, width = image.shape[:2]
        if height * width <= _AT_ONCE:
            return self._apply_at_once(image, qp)
        filtered = np.empty_like(image)
        for top, left in itertools.product(range(0, height, _TILE), range(0, width, _TILE)):
            first, start = max(0, top - _MARGIN), max(0, left - _MARGIN)
            bottom, right = top + _TILE, left + _TILE
            seen = self._apply_at_once(image[first : bottom + _MARGIN, start : right + _MARGIN], qp)
            filtered[top:bottom, left:right] = seen[
                top - first : bottom - first, left - start : right - start
            ]
        return filtered

    def _apply_at_once(self, image: Image, qp: float) -> Image:
        pixels = padded(to_tensor(image, self._device), STRIDE).contiguous(memory_format=torch.channels_last)
        return to_image(self.network(pixels, torch.tensor([qp], device=self._device)), *image.shape[:2])


def save_checkpoint(network: FilterNetwork, path: Path, facts: Mapping[str, str]) -> None:
    """Write a trained filter as a weights file, all or nothing."""
    tensors: dict[str, Tensor] = weights_file.network_tensors(_NETWORK, network)
    weights_file.write_tensors(path, tensors, {**facts, "shape": network.shape.as_dict()}, FORMAT)


def load_checkpoint(path: Path, *, device: str = "cpu") -> Filter:
    """Read a weights file.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    with weights_file.reading(path):
        facts, tensors = weights_file.read_tensors(path, FORMAT)
        network = FilterNetwork(FilterShape.from_dict(facts["shape"]))
        return Filter(weights_file.load_into(network, _NETWORK, tensors, device), device)
