"""Where a photograph shows objects, seen in the latent of the codec: a small network on frozen transforms.

The analysis of a codec that was trained through detectors already says what a detector looks at; a few convolutions
make of it how likely an object is near. The network lies in a file of its own beside the codec's weights, whose
analysis it names by its hash: that of other weights has another latent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from icm_bench.error import CodecError
from icm_bench.image import Image
from icm_codecs.bitstream.weights_file import (
    load_into,
    network_tensors,
    read_tensors,
    reading,
    write_tensors,
)
from icm_codecs.layer import DilatedBlock
from icm_codecs.pixel import padded, to_tensor

FORMAT = "checkerboard-roi-1"
"""What the metadata of a weights file names."""

_HEAD = "head"
_DILATIONS = (1, 2)


class RoiHead(nn.Module):
    """Tell from a latent how likely an object is near: N x latent x h x w -> logits N x 1 x h x w.

    Args:
        latent: Channels of the latent.
        channels: Channels of its own features.
    """

    def __init__(self, latent: int, channels: int = 64) -> None:
        super().__init__()
        self.spread = nn.BatchNorm2d(latent, affine=False)
        self.first = nn.Conv2d(latent, channels, 1)
        self.blocks = nn.Sequential(*(DilatedBlock(channels, dilation) for dilation in _DILATIONS))
        self.last = nn.Conv2d(channels, 1, 1)

    def forward(self, latent: Tensor) -> Tensor:
        """Return the logits, float32."""
        x = self.blocks(self.first(self.spread(latent.float())))
        logits: Tensor = self.last(functional.leaky_relu(x, 0.1))
        return logits.float()


class RoiFinder:
    """A trained head on the analysis of the codec that it belongs to, on one device.

    Args:
        analysis: Image -> latent.
        head: Latent -> logits.
        stride: Pixels of a position of the latent.
        device: "cpu", "cuda".
    """

    def __init__(self, analysis: nn.Module, head: RoiHead, stride: int, device: str) -> None:
        self._analysis, self._head, self._stride, self._device = analysis, head, stride, device

    @torch.inference_mode()
    def region(self, image: Image) -> NDArray[np.float32]:
        """Return how likely an object is near each pixel, height x width, 0 to 1."""
        pixels = padded(to_tensor(image, self._device), self._stride)
        likely = torch.sigmoid(self._head(self._analysis(pixels)))
        near = functional.interpolate(likely, scale_factor=self._stride, mode="bilinear")[0, 0]
        return np.asarray(near[: image.shape[0], : image.shape[1]].cpu().numpy(), np.float32)


def save_head(head: RoiHead, path: Path, facts: Mapping[str, str], analysis: nn.Module) -> None:
    """Write a trained head as a weights file, all or nothing.

    Args:
        head: The head as it was trained.
        path: Where to.
        facts: Metadata: its name, how it was trained.
        analysis: What made the latents that it has seen.
    """
    shape = {"latent": head.first.in_channels, "channels": head.first.out_channels}
    own = {"shape": shape, "analysis_sha256": _sha256(analysis)}
    write_tensors(path, network_tensors(_HEAD, head), {**facts, **own}, FORMAT)


def load_head(path: Path, analysis: nn.Module, *, device: str = "cpu") -> RoiHead:
    """Read the head that belongs to a codec's analysis.

    Raises:
        CodecError: The file is missing, damaged, of another kind, or belongs to other weights.
    """
    with reading(path, "is not an ROI network of this codec"):
        facts, tensors = read_tensors(path, FORMAT)
        head = load_into(RoiHead(**facts["shape"]), _HEAD, tensors, device)
        wanted = facts["analysis_sha256"]
    if wanted != _sha256(analysis):
        raise CodecError("belongs to other weights of the codec", where=path, hint="train it anew from these")
    return head


def _sha256(analysis: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(network_tensors("analysis", analysis).items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
