"""An image like a photograph, for tests."""

from __future__ import annotations

import numpy as np

from icm_bench.image import Image


def photograph(width: int, height: int, seed: int = 0) -> Image:
    """Draw an image with a photograph's statistics: occluding discs in sizes that follow a power law, and grain.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        seed: Fixes the image.
    """
    rng = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), 110.0)
    for _ in range(150):
        radius = 4.0 * (1.0 - rng.random()) ** -0.7
        x, y = rng.uniform(-0.1, 1.1, 2) * (width, height)
        colour = np.clip(rng.normal(115.0, 55.0) + rng.normal(0.0, 25.0, 3), 0.0, 255.0)
        slopes = rng.normal(0.0, 0.3, 2)
        left, top = max(0, int(x - radius)), max(0, int(y - radius))
        window = canvas[top : max(0, int(y + radius) + 2), left : max(0, int(x + radius) + 2)]
        down, right = np.ogrid[: window.shape[0], : window.shape[1]]
        inside = (right + left - x) ** 2 + (down + top - y) ** 2 < radius**2
        shade = np.clip((right + left - x) * slopes[0] + (down + top - y) * slopes[1], -60.0, 60.0)
        window[inside] = colour + shade[inside][:, None]
    canvas += rng.normal(0.0, 3.0, (height, width, 1))
    image: Image = np.clip(np.rint(canvas), 0.0, 255.0).astype(np.uint8)
    return image
