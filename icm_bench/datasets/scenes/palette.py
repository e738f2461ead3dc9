"""Colours that occur together in nature and in rooms."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from icm_bench.file import packaged_table

PALETTES: Mapping[str, str] = MappingProxyType(
    {row["name"]: row["colors"] for row in packaged_table("icm_bench.datasets.scenes", "palette.csv")}
)
"""Ten sets of ten sRGB colours in hexadecimal."""


def draw_palette(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a scene's colours.

    Returns:
        10 x 3 sRGB values in [0, 1]: one palette, each colour moved a little in lightness and hue.
    """
    name = rng.choice(sorted(PALETTES))
    colours = (
        np.array(
            [[int(text[i : i + 2], 16) for i in (0, 2, 4)] for text in PALETTES[name].split()], np.float32
        )
        / 255
    )
    lightness = rng.normal(1.0, 0.12, (len(colours), 1))
    hue = rng.normal(0.0, 0.02, colours.shape)
    return np.asarray(np.clip(colours * lightness + hue, 0.03, 0.95), np.float32)


def draw_colours(rng: np.random.Generator, palette: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Draw colours around those of a palette.

    Args:
        rng: The source of chance.
        palette: Colours x 3 sRGB values in [0, 1].
        n: How many.

    Returns:
        n x 3 sRGB values in [0, 1].
    """
    chosen = palette[rng.integers(len(palette), size=n)]
    blend = palette[rng.integers(len(palette), size=n)]
    weight = rng.uniform(0.0, 0.35, (n, 1))
    colours = chosen * (1 - weight) + blend * weight
    colours = colours * rng.normal(1.0, 0.15, (n, 1)) + rng.normal(0.0, 0.012, (n, 3))
    return np.asarray(np.clip(colours, 0.02, 0.97), np.float32)


def to_linear(srgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn sRGB values in [0, 1] into linear light (IEC 61966-2-1)."""
    return np.asarray(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4), np.float32)
