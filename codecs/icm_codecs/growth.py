"""Start a network that has channels of detail from one that has none, so that its training need not be repeated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from icm_codecs.checkpoint import load_checkpoint, start_from
from icm_codecs.network import SCALES, IcmNetwork

_SPREAD = 0.2
"""The standard deviation of detail before it is scaled, as random first weights give it."""


def start_from_narrower(network: IcmNetwork, path: Path) -> None:
    """Set a network's parameters to those of a checkpoint file, which may lack the channels of detail.

    Without them, the network at first decodes the images that the file's would: what the synthesis makes of the detail
    is zero, and it says nothing to the hyperprior.

    Raises:
        CodecError: The file is missing, damaged, of another kind or of another shape.
    """
    found = load_checkpoint(path).shape
    shape = network.shape
    if found.as_dict().get("detail") == shape.detail:
        start_from(network, path)
        return
    smaller = replace(shape, latent=shape.latent - shape.detail, detail=0)
    narrow = IcmNetwork(smaller, (1.0,) * shape.qualities)
    start_from(narrow, path)
    with torch.no_grad():
        _set_detail(network)
        own, there = network.state_dict(), narrow.state_dict()
        for name, value in there.items():
            own[name].copy_(value if value.shape == own[name].shape else _grown(name, own[name], value))


def _grown(name: str, wide: Tensor, narrow: Tensor) -> Tensor:
    """Return the wider tensor with the narrower one as its first channels of the latent."""
    if name.startswith("hyper_synthesis.third"):
        # Indices of all channels, then means of all channels.
        axis = 1 if name.endswith("bias") else 0
        halves = zip(wide.chunk(2, axis), narrow.chunk(2, axis), strict=True)
        return torch.cat([_beside(one, other, axis) for one, other in halves], axis)
    return _beside(wide, narrow, 1)


def _beside(wide: Tensor, narrow: Tensor, axis: int) -> Tensor:
    rest = wide.narrow(axis, narrow.shape[axis], wide.shape[axis] - narrow.shape[axis])
    return torch.cat([narrow, rest], axis)


def _set_detail(network: IcmNetwork) -> None:
    """Silence the detail, and expect as much of it as its gains let through."""
    if network.synthesis.detail is not None:
        network.synthesis.detail.weight.zero_()
    network.hyper_analysis.first.weight.zero_()
    network.hyper_synthesis.third.weight.zero_()
    deviation = torch.exp(network.log_gain) * _SPREAD
    index = (torch.log(deviation / SCALES.lowest) / SCALES.step).clamp(0.0, SCALES.n_scales - 1.0)
    latent = network.shape.latent
    network.hyper_synthesis.third_bias[:, :latent] = index / SCALES.per_unit
    network.hyper_synthesis.third_bias[:, latent:] = 0.0
