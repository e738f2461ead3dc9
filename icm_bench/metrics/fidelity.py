"""How close decoded pixels are to the originals: PSNR and MS-SSIM, of RGB and of luma.

==================  ==============================================================================================
``psnr-rgb``        PSNR of each image over R, G and B jointly, dB; mean over the images
``psnr-rgb-pooled`` PSNR of the squared error pooled over all pixels of the dataset, dB
``psnr-luma``       the same two of luma
``psnr-luma-pooled``
``ms-ssim-rgb``     MS-SSIM of each image, the mean of R's, G's and B's; mean over the images, 0 to 1
``ms-ssim-luma``    the same of luma
``ms-ssim-rgb-db``  -10 log10(1 - MS-SSIM) of the mean over the images, dB
``ms-ssim-luma-db``
==================  ==============================================================================================

Luma is 0.299 R + 0.587 G + 0.114 B, the matrix of Recommendation ITU-R BT.601 at full range, as in JPEG's files and in
the grey images for which MS-SSIM was published; it is not rounded. The peak is 255 throughout.

A metric that is not defined is left out with the reason, never NaN and never averaged over what is left: a PSNR where
the error is zero, and MS-SSIM wherever one image of the dataset has a side below 161 pixels, at which its fifth scale
has no place for the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from icm_bench.error import UsageError
from icm_bench.image import Image
from icm_bench.metrics.ms_ssim import MIN_SIDE, ms_ssim

Floats: TypeAlias = NDArray[np.float64]

VERSION: Final = 1
"""Version of the metrics. 1: first."""

DERIVED: Final = ("ms-ssim-rgb-db", "ms-ssim-luma-db")
"""Metrics that follow from another's mean, see :func:`with_decibels`."""

LUMA_WEIGHTS: Final = (0.299, 0.587, 0.114)
"""Of R, G and B in luma, Recommendation ITU-R BT.601."""

CONVENTIONS: Final[Mapping[str, Any]] = {
    "version": VERSION,
    "luma": "BT.601, full range, not rounded",
    "ms-ssim": "Wang et al. 2003, five scales; RGB: mean of the three channels",
    "db": "of the mean over the images",
}
"""What the metrics mean, for result files."""

_PEAK_SQUARED: Final = 255.0**2


@dataclass(frozen=True)
class Distortion:
    """What coding did to one image.

    Attributes:
        mse_rgb: Mean squared error over pixels and channels, in squared levels.
        mse_luma: Mean squared error of luma, in squared levels.
        ms_ssim_rgb: Mean of the channels' MS-SSIM, 0 to 1; None where a side is below 161 pixels.
        ms_ssim_luma: MS-SSIM of luma, 0 to 1; None where a side is below 161 pixels.
    """

    mse_rgb: float
    mse_luma: float
    ms_ssim_rgb: float | None
    ms_ssim_luma: float | None


def distortion(original: Image, decoded: Image) -> Distortion:
    """Measure a decoded image against its original.

    Squared errors are summed in whole numbers, hence exact.

    Raises:
        UsageError: The images differ in shape.
    """
    if original.shape != decoded.shape:
        raise UsageError(f"images of shape {original.shape} and {decoded.shape} cannot be compared")
    channels = [np.ascontiguousarray(image.transpose(2, 0, 1)) for image in (original, decoded)]
    difference = np.subtract(*channels, dtype=np.int16).astype(np.float32)
    mse_rgb, mse_luma = _squared_errors(difference)
    if min(original.shape[:2]) < MIN_SIDE:
        return Distortion(mse_rgb, mse_luma, None, None)
    total = np.add(*channels, dtype=np.int16).astype(np.float32)
    of_channels = [ms_ssim(*planes) for planes in zip(total, difference, strict=True)]
    return Distortion(
        mse_rgb, mse_luma, sum(of_channels) / len(of_channels), ms_ssim(_luma(total), _luma(difference))
    )


def _squared_errors(difference: NDArray[np.float32]) -> tuple[float, float]:
    # Whole numbers below 2^53 are exact in float64, in whatever order they are added.
    flat = difference.reshape(3, -1).astype(np.float64)
    products = np.array([[one @ other for other in flat] for one in flat]) / flat.shape[1]
    weights = np.array(LUMA_WEIGHTS)
    return float(np.trace(products)) / 3, float(weights @ products @ weights)


def _luma(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    red, green, blue = (np.float32(weight) for weight in LUMA_WEIGHTS)
    luma: NDArray[np.float32] = red * channels[0]
    luma += green * channels[1]
    luma += blue * channels[2]
    return luma


@dataclass(frozen=True)
class Fidelity:
    """Pixels and distortion of a dataset's images at one operating point, an entry an image.

    The fields are those of :class:`Distortion`; an MS-SSIM is NaN where it is not defined.
    """

    n_pixels: Floats
    mse_rgb: Floats
    mse_luma: Floats
    ms_ssim_rgb: Floats
    ms_ssim_luma: Floats

    def metrics(self) -> dict[str, float | None]:
        """Return every metric by name; None where it is not defined."""
        once = np.ones((1, len(self.n_pixels)), dtype=np.int32)
        found = {name: float(values[0]) for name, values in self.resampled(once).items()}
        return {name: value if np.isfinite(value) else None for name, value in found.items()}

    def resampled(self, weights: NDArray[np.int32]) -> dict[str, Floats]:
        """Return every metric of data sets in which each image appears a given number of times.

        Args:
            weights: Resamples x images.

        Returns:
            For each metric one value a resample; NaN where it is not defined.
        """
        figures = {}
        for planes, mse, similarity in (
            ("rgb", self.mse_rgb, self.ms_ssim_rgb),
            ("luma", self.mse_luma, self.ms_ssim_luma),
        ):
            pooled = (weights @ (mse * self.n_pixels)) / (weights @ self.n_pixels)
            figures[f"psnr-{planes}"] = mean_over_images(weights, _psnr(mse))
            figures[f"psnr-{planes}-pooled"] = _psnr(pooled)
            figures[f"ms-ssim-{planes}"] = mean_over_images(weights, similarity)
        return with_decibels(figures)

    def reasons(self) -> dict[str, str]:
        """Say of each metric that is not defined why."""
        return {name: self._reason(name) for name, value in self.metrics().items() if value is None}

    def _reason(self, name: str) -> str:
        n_images = len(self.n_pixels)
        n_small = int(np.isnan(self.ms_ssim_rgb).sum())
        if name.startswith("ms-ssim") and n_small:
            return f"{n_small} of {n_images} images have a side below {MIN_SIDE} pixels"
        n_exact = int(((self.mse_rgb if "rgb" in name else self.mse_luma) == 0).sum())
        return f"{n_exact} of {n_images} images are decoded without loss"


def with_decibels(figures: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return figures by name with every MS-SSIM in dB beside it; NaN where it is 1."""
    completed = dict(figures)
    for name in DERIVED:
        similarity = figures.get(name.removesuffix("-db"))
        if similarity is not None:
            completed[name] = _decibels(1 - similarity)
    return completed


def mean_over_images(weights: NDArray[np.int32], values: Floats) -> Floats:
    """Return the mean of each resample; NaN where it holds an image whose value is not defined."""
    undefined = ~np.isfinite(values)
    means = (weights @ np.where(undefined, 0.0, values)) / weights.sum(axis=1)
    means[(weights @ undefined) > 0] = np.nan
    return np.asarray(means, dtype=np.float64)


def _psnr(mse: Floats) -> Floats:
    return _decibels(mse / _PEAK_SQUARED)


def _decibels(error: Floats) -> Floats:
    """Return -10 log10 of an error relative to its largest; NaN where there is none."""
    return np.asarray(-10 * np.log10(np.where(error > 0, error, np.nan)), dtype=np.float64)
