"""Multi-scale structural similarity (MS-SSIM) of planes.

Wang, Simoncelli and Bovik, *Multiscale structural similarity for image quality assessment*, Asilomar 2003: a Gaussian
window of 11 x 11 with a standard deviation of 1.5 at valid positions, K1 = 0.01, K2 = 0.03, peak 255, five scales with
the paper's exponents. Between scales, 2 x 2 samples are averaged; a side that is odd is first given a line of zeros,
and a negative contrast and structure counts as zero: both as in pytorch-msssim, with which published figures of learned
codecs are computed and whose figures these equal to six digits, at a sixth of its time on one core.
"""

from __future__ import annotations

from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Planes: TypeAlias = NDArray[np.float32]
"""Maps x height x width."""

MIN_SIDE: Final = 161
"""The shortest side, in samples, that leaves the window a place at the fifth scale."""

EXPONENTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of each scale, the finest first."""

_WINDOW: Final = 11
_SIGMA: Final = 1.5
_PEAK: Final = 255.0
_C1: Final = (0.01 * _PEAK) ** 2
_C2: Final = (0.03 * _PEAK) ** 2

# What one product of matrices covers: small enough to waste little on the zeros of a band, large enough to be fast.
_BLOCK: Final = 16
# Lines at once: all maps of a strip stay in a core's own cache.
_STRIP: Final = 4 * _BLOCK


def ms_ssim(total: NDArray[np.float32], difference: NDArray[np.float32]) -> float:
    """Return the MS-SSIM of two planes, 0 to 1, from their sum and their difference.

    The sum s and the difference d of two planes carry the same as the planes, in one map less to filter:
    2 (var x + var y) = var s + var d, and 4 cov(x, y) = var s - var d.

    Args:
        total: Height x width, the planes' sum, 0 to 510; each side at least ``MIN_SIDE``.
        difference: Height x width, the one plane less the other, -255 to 255.
    """
    if not difference.any():
        return 1.0
    # About their middle, planes lose least to single precision where they are flat.
    maps: Planes = np.stack([total - np.float32(_PEAK), difference])
    product = 1.0
    for exponent in EXPONENTS[:-1]:
        product *= _mean(maps, with_luminance=False) ** exponent
        maps = _halved(maps)
    return float(product * _mean(maps, with_luminance=True) ** EXPONENTS[-1])


def _mean(maps: Planes, *, with_luminance: bool) -> float:
    """Return the mean over a scale of contrast and structure, or of all three terms; 0 where it is negative."""
    height, width = (side - _WINDOW + 1 for side in maps.shape[1:])
    band = _band()
    total = 0.0
    for start in range(0, height, _STRIP):
        strip = maps[:, start : min(start + _STRIP, height) + _WINDOW - 1]
        total += float(
            _similarity(strip, band, with_luminance=with_luminance).sum(axis=1).sum(dtype=np.float64)
        )
    return max(total / (height * width), 0.0)


def _similarity(maps: Planes, band: NDArray[np.float32], *, with_luminance: bool) -> NDArray[np.float32]:
    filtered = _filtered(np.concatenate([maps, maps * maps]), band)
    means, variances = filtered[:2], filtered[2:]
    variances -= means * means
    variances += np.float32(_C2)
    similarity: NDArray[np.float32] = variances[0] - variances[1]
    similarity += np.float32(2 * _C2)
    similarity /= variances[0] + variances[1]
    if with_luminance:
        of_total, of_difference = np.square(means[0] + np.float32(_PEAK)), np.square(means[1])
        similarity *= of_total - of_difference + np.float32(2 * _C1)
        similarity /= of_total + of_difference + np.float32(2 * _C1)
    return similarity


def _filtered(maps: Planes, band: NDArray[np.float32]) -> Planes:
    """Filter by the window along both axes, as products with a band matrix, block by block."""
    n_maps, height, width = maps.shape
    margin = _WINDOW - 1
    lines = maps.reshape(n_maps * height, width)
    along = np.empty((n_maps * height, width - margin), np.float32)
    for start in range(0, width - margin, _BLOCK):
        n = min(_BLOCK, width - margin - start)
        np.matmul(
            lines[:, start : start + n + margin], band[: n + margin, :n], out=along[:, start : start + n]
        )
    rows = along.reshape(n_maps, height, width - margin)
    filtered = np.empty((n_maps, height - margin, width - margin), np.float32)
    across = np.ascontiguousarray(band.T)
    for start in range(0, height - margin, _BLOCK):
        n = min(_BLOCK, height - margin - start)
        np.matmul(
            across[:n, : n + margin], rows[:, start : start + n + margin], out=filtered[:, start : start + n]
        )
    return filtered


@cache
def _band() -> NDArray[np.float32]:
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    band = np.zeros((_BLOCK + _WINDOW - 1, _BLOCK), np.float32)
    for column in range(_BLOCK):
        band[column : column + _WINDOW, column] = window / window.sum()
    return band


def _halved(maps: Planes) -> Planes:
    n_maps, height, width = maps.shape
    if height % 2 or width % 2:
        padded = np.empty((n_maps, height + height % 2, width + width % 2), np.float32)
        padded[:] = np.array([-_PEAK, 0.0])[:, np.newaxis, np.newaxis]  # what two zeros give
        padded[:, height % 2 :, width % 2 :] = maps
        maps = padded
    rows = maps[:, 0::2] + maps[:, 1::2]
    quarters: Planes = rows[:, :, 0::2] + rows[:, :, 1::2]
    quarters *= np.float32(0.25)
    return quarters
