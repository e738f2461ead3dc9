"""Computing a detector's layers in half the precision, while boxes and losses keep the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def lower_precision(module: nn.Module) -> None:
    """Make a module compute in bfloat16 where that is safe; its outputs are single precision again."""
    forward: Callable[..., Any] = module.forward

    def lowered(*inputs: Any) -> Any:
        device = next(module.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            return _to_float32(forward(*inputs))

    module.forward = lowered


def _to_float32(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: item.float() for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple([item.float() for item in items] for items in value)
    return value.float()
