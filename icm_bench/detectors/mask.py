"""Instance masks as predictions hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pycocotools.mask
from numpy.typing import NDArray


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask, height x width, as COCO's compressed run lengths, their counts as ``str``."""
    encoded: dict[str, Any] = pycocotools.mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
