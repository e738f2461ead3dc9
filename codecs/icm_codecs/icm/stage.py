"""Give a trained network an ROI map, or further layers: what the first's decoded image still lacks.

The ROI network and the enhancement layer are trained, and the residual layer is measured, with the rest of the network
frozen; the weights
that are there already stay as they are. The qualities that send further layers stand on the first layer of the highest
quality that does not.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from icm_bench.error import TrainingError
from icm_bench.image import Image
from icm_codecs.bitstream.table import SCALES
from icm_codecs.hyperprior.variable_rate import HYPER_STRIDE, LATENT_STRIDE
from icm_codecs.icm.checkpoint import load_checkpoint, start_from
from icm_codecs.icm.network import IcmNetwork
from icm_codecs.icm.residual import blocks_of, of_blocks
from icm_codecs.layer import Modulation
from icm_codecs.training.detector_loss import FrozenDetector
from icm_codecs.training.images import Source

_SPREAD = 0.15
"""The standard deviation of detail before it is scaled, as random first weights give it."""

_STRIDE = LATENT_STRIDE * HYPER_STRIDE
_IMAGES = 40
"""How many images the residual layer's transform is measured on, at most."""

_DRAWS = 2
"""How often the features' gradient is drawn for each."""


def start_staged(network: IcmNetwork, path: Path) -> None:
    """Set a network's parameters to those of a checkpoint file, which may lack layers, or an ROI network.

    A new enhancement layer at first adds nothing to the images. A new ROI network keeps what it began with. A new
    residual layer is yet to be measured, by :func:`fit_residual`.

    Raises:
        CodecError: The file is missing, damaged, of another kind or of another shape.
    """
    found, wanted = load_checkpoint(path).shape, network.shape
    if wanted.residual_points and not found.residual_points:
        smaller = IcmNetwork(replace(wanted, residual_points=0), (1.0,) * wanted.qualities, network.levels)
        start_staged(smaller, path)
    elif wanted.roi and not found.roi:
        smaller = IcmNetwork(replace(wanted, roi=0), (1.0,) * wanted.qualities)
        start_staged(smaller, path)
    elif wanted.detail and not found.detail:
        sizes = {"detail_fine": found.detail_fine, "detail_wide": found.detail_wide}
        shape = replace(wanted, latent=wanted.first_layer, detail=0, detailed=0, **sizes)
        smaller = IcmNetwork(shape, (1.0,) * shape.qualities, network.levels)
        start_from(smaller, path)
        _repeat_last(smaller, wanted.detailed)
        _expect(network)
    else:
        start_from(network, path)
        return
    with torch.no_grad():
        own = network.state_dict()
        for name, value in smaller.state_dict().items():
            own[name].copy_(value if value.shape == own[name].shape else _beside(name, value, own[name]))


def fit_residual(network: IcmNetwork, source: Source, detector: FrozenDetector) -> None:
    """Measure the transform of a network's residual layer on images spread over the training's, if it is not yet.

    Args:
        network: Trained, with an ROI network.
        source: The training images.
        detector: Whose features say what errors weigh.

    Raises:
        TrainingError: All images are too small.
    """
    transform = network.synthesis.residual
    if transform is None or transform.is_fitted:
        return
    network.eval()
    finest = torch.tensor(network.residual_points.coarser[0]) == 0
    missing, gradients = [], []
    for index in range(0, len(source), -(-len(source) // _IMAGES)):
        source_image = source.image(index)
        if min(source_image.shape[:2]) < _STRIDE:
            continue
        image = _whole(source_image)
        levels = network.levels_of(image)
        seen = slice(None) if levels is None else of_blocks(finest[levels]).flatten()
        missing.append(blocks_of(network.missing(image, levels))[seen])
        gradients += [blocks_of(detector.gradient(image))[seen] for _ in range(_DRAWS)]
    network.train()
    if not missing:
        raise TrainingError(
            "no image has 64x64 pixels", where="residual layer", hint="name a folder with larger ones"
        )
    transform.fit(torch.cat(missing), torch.cat(gradients))


def _whole(image: Image) -> Tensor:
    """Return an image as a batch of one in 0..1, its sides cut to multiples of 64."""
    height, width = (side - side % _STRIDE for side in image.shape[:2])
    return torch.tensor(image[:height, :width]).permute(2, 0, 1)[None].float() / 255.0


def learn_roi(network: IcmNetwork) -> None:
    """Let gradients change the ROI network alone."""
    network.requires_grad_(False)
    if network.analysis.roi is not None:
        network.analysis.roi.requires_grad_(True)


def learn_all_but_roi(network: IcmNetwork) -> None:
    """Let gradients change what is learned without labels."""
    if network.analysis.roi is not None:
        network.analysis.roi.requires_grad_(False)


def learn_enhancement_layer(network: IcmNetwork) -> None:
    """Let gradients change what belongs to the enhancement layer alone."""
    network.requires_grad_(False)
    for module in (network.analysis.detail, network.synthesis.detail):
        if module is not None:
            module.requires_grad_(True)
    latent, first = network.shape.latent, network.shape.first_layer
    is_second = torch.arange(latent) >= first
    third = network.hyper_synthesis
    for parameter, learns in (
        (network.log_gain, is_second),
        (network.log_inverse_gain, is_second),
        (third.third_bias, is_second.repeat(2)),
        (third.third.weight, is_second.repeat(2)[:, None, None, None]),
    ):
        parameter.requires_grad_(True)
        parameter.register_hook(_Masked(learns))  # type: ignore[no-untyped-call]  # torch


class _Masked:
    """Keeps the gradient of some entries."""

    def __init__(self, learns: Tensor) -> None:
        self._learns = learns

    def __call__(self, gradient: Tensor) -> Tensor:
        return gradient * self._learns.to(gradient)


def _repeat_last(network: IcmNetwork, count: int) -> None:
    """Let the highest qualities be the one below them."""
    qualities = network.shape.qualities
    per_quality: list[Tensor] = [network.log_gain, network.log_inverse_gain]
    for module in network.modules():
        if isinstance(module, Modulation):
            per_quality += [module.scale, module.shift]
    hyper = network.hyper_synthesis
    per_quality += [hyper.gain, hyper.first_bias, hyper.second_bias, hyper.third_bias]
    per_quality += [value.view(qualities, -1) for value in network.prior.parameters()]
    with torch.no_grad():
        for values in per_quality:
            values[qualities - count :] = values[qualities - count - 1]


def _beside(name: str, first: Tensor, both: Tensor) -> Tensor:
    """Return a tensor of both layers with the first one's channels from a narrower tensor."""
    axis = 0 if name == "hyper_synthesis.third.weight" else 1
    if not name.startswith("hyper_synthesis.third"):
        return _joined(first, both, axis)
    # Indices of all channels, then means of all channels.
    halves = zip(first.chunk(2, axis), both.chunk(2, axis), strict=True)
    return torch.cat([_joined(narrow, wide, axis) for narrow, wide in halves], axis)


def _joined(first: Tensor, both: Tensor, axis: int) -> Tensor:
    count = first.shape[axis]
    return torch.cat([first, both.narrow(axis, count, both.shape[axis] - count)], axis)


@torch.no_grad()
def _expect(network: IcmNetwork) -> None:
    """Silence the enhancement layer, and expect of its latent what its gains let through."""
    if network.synthesis.detail is not None:
        head = network.synthesis.detail.head
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)  # type: ignore[arg-type]  # it has one
    network.hyper_synthesis.third.weight.zero_()
    network.hyper_synthesis.third_bias.zero_()
    deviation = torch.log(torch.tensor(_SPREAD)) + network.log_gain
    index = (deviation - math.log(SCALES.lowest)) / SCALES.step
    bounded = index.clamp(0.0, SCALES.n_scales - 1.0)
    network.hyper_synthesis.third_bias[:, : network.shape.latent] = bounded / SCALES.per_unit
