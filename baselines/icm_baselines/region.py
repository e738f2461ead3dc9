"""Where an image's objects are, for encoders that spend their bits there: found by a detector, or by ``icm``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import pycocotools.mask
from numpy.typing import NDArray
from scipy import ndimage

from icm_bench.codec import Codec, Guide, ladder_of, region_by, trained_through
from icm_bench.detector import Detector, Prediction
from icm_bench.error import UsageError
from icm_bench.image import Image, check_image, pixel_digest
from icm_bench.spec import Spec, create_codec, create_detector, resolve_codec, resolve_detector

Mask: TypeAlias = NDArray[np.bool_]

ICM = "icm"
"""In place of a detector's name: the ROI network in weights of the codec ``icm``."""

_ICM_OPTIONS = (("domain", "scenes"), ("objective", "detection"))
_DRAWN = frozenset({"", "scenes", "scenes-poses"})
_KEPT = 32


@dataclass(frozen=True)
class Region:
    """How the region of interest of an image is found.

    Attributes:
        roi: A detector's name, or ``icm``: the ROI network of its weights, of which the shipped one knows drawn scenes.
        weights: The detector's or icm's weights; empty for the published or shipped ones.
        score: The score, in [0, 1], from which on a detection counts; for ``icm``, the probability of an object.
        margin: By how many pixels the region is wider than the masks, or the boxes of a detector without masks.
        soft: Over how many more pixels the region fades out; 0 for a hard edge.
        codec: Whose options these are, for messages.

    Raises:
        UsageError: A value lies outside of its range.
    """

    roi: str = ICM
    weights: str = ""
    score: float = 0.5
    margin: int = 8
    soft: int = 0
    codec: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name, value, most in (
            ("score", self.score, 1),
            ("margin", self.margin, 4096),
            ("soft", self.soft, 4096),
        ):
            if not 0 <= value <= most:
                raise UsageError(f"{value:g} is not from 0 to {most}", where=f"{self.codec}:{name}={value:g}")

    def share(self, image: Image) -> NDArray[np.float64]:
        """Return how much of each pixel belongs to the region, height x width, 0 to 1; all 0 where nothing is seen.

        Raises:
            CodecError: It is no image.
            DetectorError: The detector cannot run.
        """
        check_image(image, where=self.codec or "region of interest")
        inside = _found(self, _Seen(pixel_digest(image), image))
        if not inside.any():
            return np.zeros(inside.shape)
        distance = ndimage.distance_transform_edt(~inside) - self.margin
        return np.asarray(
            np.clip(1.0 - distance / self.soft, 0.0, 1.0) if self.soft else distance <= 0.0, np.float64
        )

    def boxes(self, image: Image) -> list[tuple[int, int, int, int]]:
        """Return the boxes around the parts of the region, margin included: left, top, width, height in pixels."""
        labels, _ = ndimage.label(self.share(image) > 0.0)
        return [
            (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            for rows, columns in ndimage.find_objects(labels)
        ]

    def version(self) -> str:
        """Name what looks, with the hash of its weights, and how masks become a region.

        Raises:
            UsageError: There is no such detector.
            DetectorError: Its weights cannot be read.
        """
        return f"region 1 by {_finder(self.roi, self.weights).version()}"

    def trained_through(self) -> tuple[str, ...]:
        """Return the detectors whose findings taught icm's ROI network; a detector that looks itself is the guide."""
        return trained_through(_icm_codec(self.weights)) if self.roi == ICM else ()

    def guide(self) -> Guide:
        """Return what looks at images while they are coded."""
        if self.roi == ICM:
            return Guide(str(_icm_spec(self.weights)))
        path = Path(self.weights) if self.weights else None
        return Guide(str(resolve_detector(self.roi, weights=path)[0]), path)


def checked_options(codec: str, options: Mapping[str, str], provider: str) -> dict[str, str]:
    """Return options as they are, where they name what can look at a dataset's images.

    Raises:
        UsageError: Nothing is named, and the shipped ROI network knows no such images.
    """
    if options.get("roi", ICM) == ICM and "weights" not in options and provider not in _DRAWN:
        raise UsageError(
            "the ROI network that is shipped was trained on drawn scenes alone",
            where=f"codec '{codec}'",
            hint=f"name a detector: {codec}:roi=onnx:weights=FILE, or weights of icm that have an ROI network",
        )
    return dict(options)


class _Finder(Protocol):
    def find(self, image: Image, score: float) -> Mask: ...

    def version(self) -> str: ...


@dataclass(frozen=True)
class _Seen:
    """An image, known by its pixels' digest."""

    digest: str
    image: Image = field(compare=False)


@lru_cache(maxsize=_KEPT)
def _region_of(roi: str, weights: str, score: float, seen: _Seen) -> Mask:
    return _finder(roi, weights).find(seen.image, score)


def _found(region: Region, seen: _Seen) -> Mask:
    # A whole ladder looks at an image once.
    return _region_of(region.roi, region.weights, region.score, seen)


@cache
def _finder(roi: str, weights: str) -> _Finder:
    if roi == ICM:
        return _IcmFinder(weights)
    path = Path(weights) if weights else None
    spec, _ = resolve_detector(roi, weights=path)
    return _DetectorFinder(create_detector(spec, path, "cpu"))


def _icm_spec(weights: str) -> Spec:
    return Spec(ICM, (("weights", weights),) if weights else _ICM_OPTIONS)


def _icm_codec(weights: str) -> Codec:
    spec, cls = resolve_codec(str(_icm_spec(weights)))
    return create_codec(spec, ladder_of(cls, dict(spec.options))[0], "cpu")


class _IcmFinder:
    def __init__(self, weights: str) -> None:
        self._codec = _icm_codec(weights)

    def find(self, image: Image, score: float) -> Mask:
        return np.asarray(region_by(self._codec, image) >= score)

    def version(self) -> str:
        return f"icm's ROI network, {self._codec.version()}"


class _DetectorFinder:
    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def find(self, image: Image, score: float) -> Mask:
        rows = [row for row in self._detector.predict(image) if row["score"] >= score]
        return covered(rows, image.shape[0], image.shape[1])

    def version(self) -> str:
        return self._detector.version()


def covered(rows: Sequence[Prediction], height: int, width: int) -> Mask:
    """Return which pixels detections cover: by their masks, or by their boxes where they have none."""
    inside = np.zeros((height, width), dtype=bool)
    for row in rows:
        if "segmentation" in row:
            inside |= pycocotools.mask.decode(row["segmentation"]).astype(bool)
            continue
        x, y, w, h = row["bbox"]
        inside[max(0, int(y)) : max(0, int(np.ceil(y + h))), max(0, int(x)) : max(0, int(np.ceil(x + w)))] = (
            True
        )
    return inside
