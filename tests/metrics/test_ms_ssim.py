"""MS-SSIM against the library that published figures come from, and against its definition written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim as reference
from scipy.ndimage import correlate1d

from icm_bench.metrics.ms_ssim import EXPONENTS, MIN_SIDE, ms_ssim
from icm_bench.testing import photograph

Plane = NDArray[np.float64]


def pair(width: int, height: int, *, noise: float = 6.0, seed: int = 1) -> tuple[Plane, Plane]:
    plane = photograph(width, height, seed)[:, :, 1].astype(np.float64)
    noisy = plane + np.random.default_rng(seed).normal(0.0, noise, plane.shape)
    return plane, np.rint(np.clip(noisy, 0, 255))


def measured(a: Plane, b: Plane) -> float:
    return ms_ssim((a + b).astype(np.float32), (a - b).astype(np.float32))


def blurred(plane: Plane) -> Plane:
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    for axis in (0, 1):
        plane = correlate1d(plane, window, axis=axis)
    return plane[5:-5, 5:-5]


def by_definition(a: Plane, b: Plane) -> float:
    """Follow section 3.2 of the paper: contrast and structure of every scale, luminance of the coarsest."""
    product = 1.0
    for scale, exponent in enumerate(EXPONENTS):
        mean_a, mean_b = blurred(a), blurred(b)
        var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
        covariance = blurred(a * b) - mean_a * mean_b
        similarity = (2 * covariance + 7.65**2) / (var_a + var_b + 7.65**2)
        if scale == len(EXPONENTS) - 1:
            similarity *= (2 * mean_a * mean_b + 2.55**2) / (mean_a**2 + mean_b**2 + 2.55**2)
        product *= similarity.mean() ** exponent
        a, b = (
            (p[0::2, 0::2] + p[1::2, 0::2] + p[0::2, 1::2] + p[1::2, 1::2]) / 4 if scale < 4 else p
            for p in (a, b)
        )
    return float(product)


@pytest.mark.parametrize("noise", [0.6, 6.0, 40.0])
def test_it_is_what_the_paper_defines(noise: float) -> None:
    a, b = pair(320, 192, noise=noise)
    assert measured(a, b) == pytest.approx(by_definition(a, b), abs=2e-6)


@pytest.mark.parametrize(
    ("width", "height"), [(320, 192), (MIN_SIDE, MIN_SIDE), (163, 161), (257, 203), (200, 333)]
)
def test_it_is_what_the_library_gives_at_odd_sizes_too(width: int, height: int) -> None:
    a, b = pair(width, height)
    theirs = reference(*(torch.from_numpy(plane)[None, None] for plane in (a, b)), data_range=255)
    assert measured(a, b) == pytest.approx(float(theirs), abs=2e-6)


def test_equal_planes_are_wholly_similar() -> None:
    a, _ = pair(200, 180)
    assert measured(a, a) == 1.0


def test_opposite_planes_are_not_similar_at_all() -> None:
    a, _ = pair(200, 180)
    assert measured(a, 255 - a) == 0.0


def test_flat_planes_differ_by_their_brightness_alone() -> None:
    a, b = np.full((176, 176), 100.0), np.full((176, 176), 110.0)
    luminance = (2 * 100 * 110 + 2.55**2) / (100**2 + 110**2 + 2.55**2)
    assert measured(a, b) == pytest.approx(luminance ** EXPONENTS[-1], abs=1e-5)


def test_more_noise_is_less_similar() -> None:
    figures = [measured(*pair(200, 180, noise=noise)) for noise in (1.0, 3.0, 9.0, 27.0, 81.0)]
    assert figures == sorted(figures, reverse=True)
    assert 0.0 < figures[-1] < figures[0] < 1.0
