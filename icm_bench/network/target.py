"""Objects as torchvision's detectors are trained with them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import masks_to_boxes

Target: TypeAlias = dict[str, Tensor]
"""``boxes``, K x 4 as left, top, right, bottom; ``labels``, K; ``masks``, K x height x width of 0 and 1."""


def target_of(masks: NDArray[np.bool_], labels: NDArray[np.int64]) -> Target:
    """Return masks and categories as a target, boxes drawn around the masks.

    Args:
        masks: K x height x width, none of them empty.
        labels: K category ids.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(masks))
    boxes = masks_to_boxes(tensor).float().reshape(-1, 4)
    # That function's last rows and columns lie within the masks.
    boxes[:, 2:] += 1.0
    return {"boxes": boxes, "labels": torch.from_numpy(labels), "masks": tensor.to(torch.uint8)}
