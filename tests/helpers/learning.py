"""How the tests of learned codecs train narrow models for a few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from icm_bench.image import Image


def blocks() -> Image:
    """Draw four blocks of 32 x 48 pixels: an image whose colours, sides and corners all differ."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32] += np.array([180, 30, 60], np.uint8)
    image[:, 48:] += np.array([20, 120, 40], np.uint8)
    return image


def pixels(image: Image) -> Tensor:
    """Return an image as 3 x H x W samples in 0..1."""
    return torch.tensor(image).permute(2, 0, 1).float() / 255.0


def descend(
    model: Any, batch: Callable[[int], Tensor] | Tensor, steps: int, rate: float, *, clip: bool = False
) -> list[dict[str, float]]:
    """Train a model on a batch, or on what a function makes for each step, and return its losses."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adam, history = torch.optim.Adam(parameters, lr=rate), []
    for step in range(steps):
        losses = model.losses(batch if isinstance(batch, Tensor) else batch(step), step)
        adam.zero_grad()
        losses["loss"].backward()
        if clip:
            nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        history.append({name: float(value.detach()) for name, value in losses.items()})
    return history


def check_gradients(model: nn.Module) -> None:
    """Check that every parameter has a gradient, which is finite and not zero everywhere."""
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert float(parameter.grad.abs().sum()) > 0.0, name
