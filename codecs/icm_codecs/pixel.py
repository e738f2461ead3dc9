"""Between images and what networks compute on: tensors, padded to whole blocks, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from icm_bench.image import Image


def to_tensor(image: Image, device: str) -> Tensor:
    """Return an image as a batch of one: 1 x 3 x H x W float32 in 0..1, on a device."""
    return torch.tensor(image, device=device).permute(2, 0, 1)[None].float() / 255.0


def to_image(pixels: Tensor, height: int, width: int) -> Image:
    """Return the first image of a batch N x 3 x H x W, about 0..1, rounded, clipped and cropped to a size."""
    levels = torch.round(pixels[0, :, :height, :width] * 255.0).clamp(0.0, 255.0)
    return np.ascontiguousarray(levels.permute(1, 2, 0).to(torch.uint8).cpu().numpy())


def padded(x: Tensor, stride: int) -> Tensor:
    """Replicate the last row and column of N x C x H x W until the sides are multiples of a stride."""
    below, right = -x.shape[2] % stride, -x.shape[3] % stride
    return functional.pad(x, (0, right, 0, below), mode="replicate")


def n_blocks(side: int, stride: int) -> int:
    """Return how many blocks cover a side, the last of them perhaps in part."""
    return -(-side // stride)
