"""Bootstrap resamples of a dataset's images, the same for every codec."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from icm_bench.error import UsageError

_VALUES_AT_ONCE: Final = 8_000_000


def resample_weights(n_images: int, fingerprint: str, n_resamples: int = 1000) -> NDArray[np.int32]:
    """Draw how often each image appears in each bootstrap resample.

    Every resample holds as many images as the dataset, drawn with replacement. The draws depend on the
    arguments alone, on no library's version, and a smaller number of resamples is the beginning of a larger
    one.

    Args:
        n_images: Images of the dataset, 1 or more.
        fingerprint: The dataset's fingerprint.
        n_resamples: Resamples to draw.

    Returns:
        Resamples x images.

    Raises:
        UsageError: There is no image, or a negative number of resamples.
    """
    if n_images < 1 or n_resamples < 0:
        raise UsageError(f"{n_resamples} resamples of {n_images} images")
    key = hashlib.sha256(fingerprint.encode()).digest()[:16]
    bits = np.random.Philox(key=int.from_bytes(key, "little"))
    weights = np.empty((n_resamples, n_images), dtype=np.int32)
    for row in weights:
        uniform = (bits.random_raw(n_images) >> np.uint64(11)) * 2.0**-53
        row[:] = np.bincount((uniform * n_images).astype(np.int64), minlength=n_images)
    return weights


def pooled_bpp(
    n_bits: NDArray[np.number[Any]], n_pixels: NDArray[np.number[Any]], weights: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return the rate of each resample: its total bits over its total pixels, in bits per pixel.

    Args:
        n_bits: Of each image, the bitstream's bits.
        n_pixels: Of each image, its pixels.
        weights: Resamples x images.
    """
    return np.asarray((weights @ n_bits) / (weights @ n_pixels), dtype=np.float64)


def resample_slices(n_resamples: int, n_rows: int) -> Iterator[slice]:
    """Cut the resamples into parts for which an array of rows x resamples fits into some 64 MB.

    Args:
        n_resamples: Resamples in all.
        n_rows: Rows of the array, 1 or more.
    """
    step = max(1, _VALUES_AT_ONCE // n_rows)
    for start in range(0, n_resamples, step):
        yield slice(start, start + step)
