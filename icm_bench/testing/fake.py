"""A small real codec and a small real detector, for tests of all that stands around them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from scipy import ndimage

from icm_bench.codec import Quality
from icm_bench.detector import Prediction, Task
from icm_bench.error import CodecError, UsageError
from icm_bench.image import Image


class FakeCodec:
    """A small real codec: blocks of pixels averaged, quantised and deflated.

    The bitstream is ``FAKE``, width, height, the side of a block, the CRC-32 of all that follows it, and the
    deflated levels.

    Args:
        quality: 1 to 8; the block's side is 9 - quality.
        device: Ignored.
        step: Width of a quantisation bin in levels, 1 to 64.
    """

    name: ClassVar[str] = "fake"
    qualities: ClassVar[tuple[Quality, ...]] = (1, 3, 5, 7, 8)

    _HEADER: ClassVar[struct.Struct] = struct.Struct(">4sHHBBI")
    _MAGIC: ClassVar[bytes] = b"FAKE"

    def __init__(self, quality: Quality, *, device: str = "cpu", step: int = 8) -> None:
        del device
        if quality not in range(1, 9):
            raise UsageError(f"{quality:g} is not a whole number from 1 to 8", where="fake quality")
        if step not in range(1, 65):
            raise UsageError(f"{step} is not a whole number from 1 to 64", where="fake step")
        self._side = 9 - int(quality)
        self._step = step

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of an image."""
        height, width = image.shape[:2]
        below, right = -height % self._side, -width % self._side
        grown = np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge").astype(np.float64)
        shape = (grown.shape[0] // self._side, self._side, grown.shape[1] // self._side, self._side, 3)
        levels = np.rint(grown.reshape(shape).mean(axis=(1, 3)) / self._step).astype(np.uint8)
        payload = zlib.compress(np.diff(levels, axis=1, prepend=np.uint8(0)).tobytes())
        fields = (self._MAGIC, width, height, self._side, self._step)
        check = zlib.crc32(payload, zlib.crc32(repr(fields).encode()))
        return self._HEADER.pack(*fields, check) + payload

    def decode(self, data: bytes) -> Image:
        """Return the image of a bitstream.

        Raises:
            CodecError: The bytes are truncated, damaged, empty or foreign.
        """
        if len(data) < self._HEADER.size or not data.startswith(self._MAGIC):
            raise CodecError("the bitstream is empty, truncated or of another format", where="fake")
        *fields, check = self._HEADER.unpack_from(data)
        payload = data[self._HEADER.size :]
        if check != zlib.crc32(payload, zlib.crc32(repr(tuple(fields)).encode())):
            raise CodecError("the bitstream is truncated or damaged", where="fake")
        _, width, height, side, step = fields
        shape = (-(-height // side), -(-width // side), 3)
        steps = np.frombuffer(zlib.decompress(payload), np.uint8).reshape(shape)
        levels = np.cumsum(steps, axis=1, dtype=np.uint8).astype(np.float64) * step
        blocks = np.clip(np.rint(levels), 0.0, 255.0).astype(np.uint8)
        image = blocks.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
        return np.ascontiguousarray(image)

    def version(self) -> str:
        """Name the bitstream and zlib."""
        return f"fake 2, zlib {zlib.ZLIB_RUNTIME_VERSION}"

    def header_bytes(self, data: bytes) -> int:
        """Return the length of the fixed header."""
        del data
        return self._HEADER.size


class FakeDetector:
    """A small real detector: connected regions in which one primary colour stands out.

    A region's score grows with how far the colour stands out, so it falls where coding washes colours out.

    Args:
        weights: Ignored.
        device: Ignored.
        contrast: How many levels a colour must lead the other two by.
    """

    name: ClassVar[str] = "fake"
    tasks: ClassVar[tuple[Task, ...]] = ("detection", "segmentation")
    categories: ClassVar[Mapping[int, str]] = MappingProxyType({1: "red", 2: "green", 3: "blue"})
    published: ClassVar[Mapping[Task, float]] = MappingProxyType({})

    _SMALLEST_PIXELS: ClassVar[int] = 16

    def __init__(self, *, weights: Path | None = None, device: str = "cpu", contrast: int = 48) -> None:
        del weights, device
        self._contrast = contrast

    def predict(self, image: Image) -> list[Prediction]:
        """Return the coloured regions of an image, best score first."""
        rows: list[Prediction] = []
        for channel, category_id in enumerate(self.categories):
            others = np.delete(image, channel, axis=2).max(axis=2).astype(np.int32)
            lead = image[..., channel].astype(np.int32) - others
            rows += self._regions(lead, category_id)
        return sorted(rows, key=lambda row: (-row["score"], row["category_id"], row["bbox"]))

    def _regions(self, lead: np.ndarray[Any, np.dtype[np.int32]], category_id: int) -> Iterator[Prediction]:
        from pycocotools import mask as coco_mask  # compiled, and needed by this one function alone

        labels, _ = ndimage.label(lead > self._contrast)
        for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            region = labels == index
            if np.count_nonzero(region) < self._SMALLEST_PIXELS:
                continue
            runs = coco_mask.encode(np.asfortranarray(region, np.uint8))
            sides = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            yield {
                "category_id": category_id,
                "bbox": [float(side) for side in sides],
                "score": float(lead[region].mean()) / 255.0,
                "segmentation": {"size": list(lead.shape), "counts": runs["counts"].decode("ascii")},
            }

    def predict_batch(self, images: Sequence[Image]) -> list[list[Prediction]]:
        """Return the regions of each image, which no other image changes."""
        return [self.predict(image) for image in images]

    def version(self) -> str:
        """Name the rule."""
        return f"fake 1, contrast {self._contrast}"
