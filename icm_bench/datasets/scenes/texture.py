"""Textures that cover the leaves of a scene."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE = 512
"""The side of a texture in samples; textures repeat."""


@lru_cache(maxsize=1)
def textures() -> NDArray[np.float32]:
    """Return the bank of textures.

    Returns:
        n x 512 x 512, periodic, of mean 0 and standard deviation 1, clipped to [-3, 3]; the same in every process.
    """
    rng = np.random.default_rng(20240229)
    bank = [
        _fractal(rng, slope=1.0),
        _fractal(rng, slope=1.4),
        _fractal(rng, slope=1.9),
        _grain(rng, along=40.0, across=1.2),
        _grain(rng, along=14.0, across=2.5),
        _cells(rng, n=500),
        _cells(rng, n=2500),
        _weave(rng, period=16),
        _weave(rng, period=32),
        _stripes(rng, period=32),
        _courses(rng),
    ]
    return np.asarray([np.clip((t - t.mean()) / t.std(), -3, 3) for t in bank], np.float32)


def _fractal(rng: np.random.Generator, slope: float) -> NDArray[np.float64]:
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) / frequency**slope
    spectrum[0, 0] = 0
    noise: NDArray[np.float64] = np.fft.irfft2(spectrum, s=(SIDE, SIDE))
    return noise


def _grain(rng: np.random.Generator, along: float, across: float) -> NDArray[np.float64]:
    noise = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), (across, along), mode="wrap")
    drift = _fractal(rng, slope=1.6)
    return np.asarray(noise / noise.std() + 0.7 * drift / drift.std())


def _cells(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    points = rng.integers(SIDE, size=(n, 2))
    ground = np.ones((3 * SIDE, 3 * SIDE), bool)
    for y in range(3):
        for x in range(3):
            ground[points[:, 0] + y * SIDE, points[:, 1] + x * SIDE] = False
    distance = np.asarray(ndimage.distance_transform_edt(ground))[SIDE : 2 * SIDE, SIDE : 2 * SIDE]
    drift = _fractal(rng, slope=1.2)
    return np.asarray(-distance / distance.std() + 0.6 * drift / drift.std())


def _weave(rng: np.random.Generator, period: int) -> NDArray[np.float64]:
    y, x = np.mgrid[:SIDE, :SIDE] * (2 * np.pi / period)
    threads = np.where(np.sin(x / 2) * np.sin(y / 2) > 0, np.abs(np.sin(x / 2)), np.abs(np.sin(y / 2)))
    drift = _fractal(rng, slope=1.1)
    return np.asarray(threads / threads.std() + 0.9 * drift / drift.std())


def _stripes(rng: np.random.Generator, period: int) -> NDArray[np.float64]:
    warp = _fractal(rng, slope=2.0)
    phase = np.mgrid[:SIDE, :SIDE][0] * (2 * np.pi / period) + 0.8 * warp / warp.std()
    drift = _fractal(rng, slope=1.2)
    return np.asarray(np.tanh(2 * np.sin(phase)) + 0.6 * drift / drift.std())


def _courses(rng: np.random.Generator) -> NDArray[np.float64]:
    y, x = np.mgrid[:SIDE, :SIDE]
    row = y // 32
    column = (x + 32 * (row % 2)) // 64 % 8
    tone = rng.normal(size=(SIDE // 32, 8))[row, column]
    joint = (y % 32 < 3) | ((x + 32 * (row % 2)) % 64 < 3)
    drift = _fractal(rng, slope=1.1)
    return np.asarray(np.where(joint, -2.5, 0.6 * tone) + 0.5 * drift / drift.std())
