"""Colours that occur together in nature and in rooms."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

PALETTES: Mapping[str, str] = MappingProxyType(
    {
        "forest": "2b3320 475436 6d7a4a 93976a 4a3b2a 75603f a88f67 c9c3a0 1b1d15 8a9a8c",
        "autumn": "4b2f1c 7c4a22 b06f2b c99a4b d9c08c 5b5235 8a7d55 37291d 94614a b9ad99",
        "shore": "c9b899 a8967a 83776a 5f6468 7f97a3 a9bcc2 d8d4c6 41525c 6b5a48 e2d9c4",
        "stone": "55534f 77746d 99958b b8b2a5 3a3937 8c7f70 66605a a29f9c d0cabd 6f7668",
        "market": "8c3b2e b8673f d3a15c 6b7a3f 39502f c8c0a6 5a3a34 8f8272 2e2a29 b98f86",
        "room": "c7b299 a98d6f 7d5f47 4d3a2e e0d6c6 8d8f8c 5f6a72 b9a58f 2f2b2a 93705a",
        "dusk": "2c3140 474f63 6d7185 9a8f95 c4a595 8a6a62 53444a 1d1f29 b8b4b8 735d52",
        "meadow": "5d7034 86964f aeb77a cfcf9d 7c8a93 b3c0c8 41502b 8b7b4e d9d3b2 5c4b34",
        "brick": "8a4f3d a4654e 6a4034 bb8a73 7b736c a8a199 4d4744 cfc4b6 59616a 33302f",
        "snow": "dfe2e4 c2c9cf a3adb6 7c8892 566069 3b4247 8a7d70 b5a999 eeeeea 5b5148",
    }
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
