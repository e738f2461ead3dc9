"""Structural similarity as a loss, beside the squared error."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

_SQUARED_ERROR = 1280.0 / 255.0**2
"""How large a squared error, of pixels in 0..1, weighs as much as the whole of a similarity: about the ratio of the
prices at which CompressAI's models for MS-SSIM and for the squared error spend as many bits."""

_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Wang et al.'s weights (2003), the finest first."""

_WINDOW = 7
"""Side of the Gaussian window: as small as crops for training want it at the coarsest scale."""

LEAST_SIDE = _WINDOW << len(_SCALES) - 1
"""The least side of an image, in pixels: the window fits at the coarsest scale."""


def with_structure(error: Tensor, decoded: Tensor, image: Tensor, share: float) -> Tensor:
    """Return squared errors, N, of which structural dissimilarity has replaced a share, 0 to 1.

    Args:
        error: The squared errors, of pixels in 0..1.
        decoded: N x 3 x H x W, about 0..1, sides 112 at least unless the share is 0.
        image: The same, in 0..1.
        share: How much.
    """
    if share == 0.0:
        return error
    return torch.lerp(error, _SQUARED_ERROR * dissimilarity(decoded, image), share)


def mean_psnr(mse: Tensor) -> Tensor:
    """Return the mean PSNR in dB, without a gradient, of images by their squared errors, N, of pixels in 0..1."""
    return (-10.0 * torch.log10(mse.detach().clamp(min=1e-10))).mean()


def dissimilarity(decoded: Tensor, image: Tensor) -> Tensor:
    """Return 1 - SSIM, weighed over the scales of MS-SSIM: N, from 0 for equal images.

    It is a sum over scales where MS-SSIM is a product: near 1 they are the same, and a sum's gradient is finite.

    Args:
        decoded: N x 3 x H x W, about 0..1, sides 112 at least.
        image: The same, in 0..1.
    """
    from pytorch_msssim import ssim

    # Variances are differences of large numbers: in half precision nothing would be left of them.
    with torch.autocast(image.device.type, enabled=False):
        decoded, image = decoded.float(), image.float()
        total = decoded.new_zeros(len(decoded))
        for number, weight in enumerate(_SCALES):
            if number:
                decoded, image = functional.avg_pool2d(decoded, 2), functional.avg_pool2d(image, 2)
            similar = ssim(decoded, image, data_range=1.0, size_average=False, win_size=_WINDOW)
            total = total + weight * (1.0 - cast(Tensor, similar))
    return total
