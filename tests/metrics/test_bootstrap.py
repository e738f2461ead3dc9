"""Resamples are the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from icm_bench.error import UsageError
from icm_bench.metrics.bootstrap import pooled_bpp, resample_weights


def test_every_resample_holds_as_many_images_as_the_dataset() -> None:
    weights = resample_weights(37, "coco", 200)
    assert weights.shape == (200, 37)
    assert weights.dtype == np.int32
    assert (weights.sum(axis=1) == 37).all()
    assert weights.min() == 0


def test_the_draws_never_change() -> None:
    # Another digest means that every committed interval is of other resamples.
    digest = hashlib.sha256(resample_weights(100, "coco-val2017", 50).astype("<i4").tobytes()).hexdigest()
    assert digest[:16] == "15df582d02519451"


def test_the_fingerprint_alone_fixes_the_draws() -> None:
    first = resample_weights(20, "a", 30)
    np.testing.assert_array_equal(first, resample_weights(20, "a", 30))
    np.testing.assert_array_equal(first[:10], resample_weights(20, "a", 10))
    assert not np.array_equal(first, resample_weights(20, "b", 30))


def test_every_image_is_as_likely_as_any_other() -> None:
    counts = resample_weights(10, "uniform", 20_000).sum(axis=0)
    # Each count is binomial with mean 20,000 and standard deviation 134.
    assert (np.abs(counts - 20_000) < 5 * 134).all()


@pytest.mark.parametrize(("n_images", "n_resamples"), [(0, 10), (-1, 10), (5, -1)])
def test_no_images_cannot_be_resampled(n_images: int, n_resamples: int) -> None:
    with pytest.raises(UsageError):
        resample_weights(n_images, "a", n_resamples)


def test_a_resamples_rate_is_its_bits_over_its_pixels() -> None:
    bpp = pooled_bpp(np.array([800, 100]), np.array([1000, 50]), np.array([[1, 1], [2, 0], [0, 2]], np.int32))
    assert bpp.tolist() == pytest.approx([900 / 1050, 0.8, 2.0])
