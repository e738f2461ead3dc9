"""What every codec and every detector must do, as checks that any test suite can call, and a small real fake of each.

A plug-in's own tests need one line each::

    def test_conformance() -> None:
        check_codec(MyCodec)

Checks raise ``AssertionError``; the message names the codec, the check and what was seen. They need no test
framework.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from scipy import ndimage

from icm_bench.codec import Codec, Quality, ReportsHeaderBytes, ladder_of
from icm_bench.detector import Detector, Prediction, PredictsBatches, Task
from icm_bench.error import CodecError, UsageError
from icm_bench.image import Image

SIZES = ((1, 1), (1, 17), (17, 1), (3, 5), (63, 65), (641, 479))
"""Widths and heights that every codec must return exactly."""

_KEBAB = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")
_LADDER_SIZE = (256, 192)
_DAMAGE_SIZE = (96, 64)
_FLIPS = 24


def photograph(width: int, height: int, seed: int = 0) -> Image:
    """Draw an image with a photograph's statistics: occluding discs in sizes that follow a power law, and grain.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        seed: Fixes the image.
    """
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 110.0)
    for _ in range(150):
        radius = 4.0 * (1.0 - rng.random()) ** -0.7
        x, y = rng.uniform(-0.1, 1.1, 2) * (width, height)
        colour = np.clip(rng.normal(115.0, 55.0) + rng.normal(0.0, 25.0, 3), 0.0, 255.0)
        slopes = rng.normal(0.0, 0.3, 2)
        left, top = max(0, int(x - radius)), max(0, int(y - radius))
        window = picture[top : max(0, int(y + radius) + 2), left : max(0, int(x + radius) + 2)]
        down, right = np.ogrid[: window.shape[0], : window.shape[1]]
        inside = (right + left - x) ** 2 + (down + top - y) ** 2 < radius**2
        shade = np.clip((right + left - x) * slopes[0] + (down + top - y) * slopes[1], -60.0, 60.0)
        window[inside] = colour + shade[inside][:, None]
    picture += rng.normal(0.0, 3.0, (height, width, 1))
    image: Image = np.clip(np.rint(picture), 0.0, 255.0).astype(np.uint8)
    return image


def check_codec(codec_class: type[Codec], quality: Quality | None = None, **options: Any) -> None:
    """Check that a codec keeps the contract of :class:`icm_bench.codec.Codec`.

    Args:
        codec_class: The codec.
        quality: The operating point for all checks but the ladder's; the ladder's middle where None.
        options: What the constructor is given beside the quality.

    Raises:
        AssertionError: A check failed.
    """
    with _check(codec_class, "declaration"):
        _require(_KEBAB.fullmatch(codec_class.name) is not None, f"name {codec_class.name!r}")
        ladder = ladder_of(codec_class, options)
        _require(isinstance(ladder, tuple) and len(ladder) > 0, "qualities is not a tuple of qualities")
        _require(len(set(ladder)) == len(ladder), "qualities repeat")
    chosen = ladder[len(ladder) // 2] if quality is None else quality

    def make() -> Codec:
        return codec_class(chosen, **options)

    for name, check in _CODEC_CHECKS.items():
        with _check(codec_class, name):
            check(make)
    with _check(codec_class, "ladder order"):
        _check_ladder([codec_class(point, **options) for point in ladder])
    with _check(codec_class, "fresh process"):
        _check_fresh_process(codec_class, chosen, options)


def _check_version(make: Callable[[], Codec]) -> None:
    first, second = make().version(), make().version()
    _require(isinstance(first, str) and first.strip() != "", f"version is {first!r}")
    _require(first == second, f"two instances say {first!r} and {second!r}")
    _require("\n" not in first, "version has more than one line")


def _check_sizes(make: Callable[[], Codec]) -> None:
    codec = make()
    for width, height in SIZES:
        _round_trip(codec, photograph(width, height, seed=width), f"{width}x{height}")


def _check_contents(make: Callable[[], Codec]) -> None:
    codec = make()
    ramp = np.add.outer(np.arange(40), np.arange(56)).astype(np.uint8)
    contents = {
        "grey": np.stack([2 * ramp] * 3, axis=-1),
        "black": np.zeros((40, 56, 3), np.uint8),
        "white": np.full((40, 56, 3), 255, np.uint8),
        "one colour": np.full((40, 56, 3), (250, 3, 90), np.uint8),
        "noise": np.random.default_rng(1).integers(0, 256, (40, 56, 3), np.uint8),
    }
    for name, image in contents.items():
        _round_trip(codec, image, name)


def _check_resemblance(make: Callable[[], Codec]) -> None:
    # A swapped channel order, a transposition and a mirror image all have the right shape.
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32] += np.array([180, 30, 60], np.uint8)
    image[:, 48:] += np.array([20, 120, 40], np.uint8)
    codec = make()
    seen = codec.decode(codec.encode(image)).astype(np.float64)
    distances = {
        "the image": _distance(image, seen),
        "the image with red and blue swapped": _distance(image[..., ::-1], seen),
        "the image upside down": _distance(image[::-1], seen),
        "the image mirrored": _distance(image[:, ::-1], seen),
        "a flat image": _distance(np.broadcast_to(image.mean(axis=(0, 1)), image.shape), seen),
    }
    nearest = min(distances, key=lambda name: distances[name])
    _require(nearest == "the image", f"what is decoded looks most like {nearest}")


def _check_determinism(make: Callable[[], Codec]) -> None:
    codec, other = make(), make()
    first, second = photograph(61, 47, seed=1), photograph(40, 64, seed=2)
    data = codec.encode(first)
    codec.decode(codec.encode(second))
    _require(codec.encode(first) == data, "the same instance gives other bytes the second time")
    _require(other.encode(first) == data, "a second instance gives other bytes")
    pixels = codec.decode(data)
    _require(
        np.array_equal(make().decode(data), pixels), "an instance that did not encode decodes other pixels"
    )
    _require(
        np.array_equal(codec.decode(data), pixels), "the same bytes decode to other pixels the second time"
    )


def _check_header_bytes(make: Callable[[], Codec]) -> None:
    codec = make()
    if isinstance(codec, ReportsHeaderBytes):
        data = codec.encode(photograph(63, 65))
        n_bytes = codec.header_bytes(data)
        _require(0 <= n_bytes <= len(data), f"{n_bytes} header bytes in a bitstream of {len(data)}")


def _check_missing(make: Callable[[], Codec]) -> None:
    codec = make()
    data = codec.encode(photograph(*_DAMAGE_SIZE))
    n = len(data)
    for length in sorted({0, 1, 2, 3, n // 8, n // 4, n // 2, 3 * n // 4, n - 8, n - 2, n - 1}):
        if 0 <= length < n:
            _require_refusal(codec, data[:length], f"the first {length} of {n} bytes")


def _check_foreign(make: Callable[[], Codec]) -> None:
    codec = make()
    rng = np.random.default_rng(3)
    foreign = {
        "zeros": bytes(500),
        "ones": b"\xff" * 500,
        "text": b"This is not an image.\n" * 20,
        "random bytes": rng.bytes(2000),
        "the head of a TIFF file": b"II*\x00\x08\x00\x00\x00\x01\x00" + rng.bytes(300),
    }
    for name, data in foreign.items():
        _require_refusal(codec, data, name)


def _check_flips(make: Callable[[], Codec]) -> None:
    # Few formats protect the size that they signal, so a flip anywhere must not crash,
    # and one in the last quarter, which is payload, must not change the size either.
    codec = make()
    image = photograph(*_DAMAGE_SIZE)
    data = codec.encode(image)
    for position in np.linspace(0, 8 * len(data) - 1, _FLIPS).astype(int).tolist():
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << (position % 8)
        what = f"bit {position} of {8 * len(data)} flipped"
        try:
            decoded = codec.decode(bytes(damaged))
        except CodecError as error:
            _require_one_line(error, what)
            continue
        shape = image.shape if position > 6 * len(data) else decoded.shape
        _require_image(decoded, shape, what)


_CODEC_CHECKS: Mapping[str, Callable[[Callable[[], Codec]], None]] = MappingProxyType(
    {
        "version": _check_version,
        "sizes": _check_sizes,
        "contents": _check_contents,
        "resemblance": _check_resemblance,
        "determinism": _check_determinism,
        "header bytes": _check_header_bytes,
        "truncated data": _check_missing,
        "foreign data": _check_foreign,
        "flipped bits": _check_flips,
    }
)


def _check_fresh_process(codec_class: type[Codec], quality: Quality, options: Mapping[str, Any]) -> None:
    codec = codec_class(quality, **options)
    data = codec.encode(photograph(63, 65))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pixels = pool.submit(_decode_anew, codec_class, quality, options, data).result()
    _require(np.array_equal(pixels, codec.decode(data)), "another process decodes other pixels")


def _decode_anew(
    codec_class: type[Codec], quality: Quality, options: Mapping[str, Any], data: bytes
) -> Image:
    return codec_class(quality, **options).decode(data)


def _check_ladder(codecs: Sequence[Codec]) -> None:
    image = photograph(*_LADDER_SIZE)
    rates = [len(codec.encode(image)) for codec in codecs]
    rising = all(lower < higher for lower, higher in pairwise(rates))
    _require(rising, f"bytes along the ladder do not rise: {rates}")


def _round_trip(codec: Codec, image: Image, what: str) -> None:
    given = image.copy()
    data = codec.encode(given)
    _require(isinstance(data, bytes), f"{what}: encode returns {type(data).__name__}, not bytes")
    _require(len(data) > 0, f"{what}: the bitstream is empty")
    _require(np.array_equal(given, image), f"{what}: encode changes its input")
    _require_image(codec.decode(data), image.shape, what)


def _distance(image: Image, seen: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(np.mean((image.astype(np.float64) - seen) ** 2))


def _require_image(image: Image, shape: Sequence[int], what: str) -> None:
    _require(isinstance(image, np.ndarray), f"{what}: decode returns {type(image).__name__}, not an array")
    _require(image.dtype == np.uint8, f"{what}: decode returns {image.dtype}, not uint8")
    _require(image.ndim == 3 and image.shape[2] == 3, f"{what}: decode returns shape {image.shape}")
    _require(image.shape == tuple(shape), f"{what}: decode returns {image.shape}, not {tuple(shape)}")
    _require(image.flags.c_contiguous, f"{what}: the decoded array is not contiguous")


def _require_refusal(codec: Codec, data: bytes, what: str) -> None:
    try:
        codec.decode(data)
    except CodecError as error:
        _require_one_line(error, what)
    else:
        raise AssertionError(f"{what}: decoded without a CodecError")


def _require_one_line(error: CodecError, what: str) -> None:
    _require(
        str(error).strip() != "" and "\n" not in str(error), f"{what}: the error is not one line: {error}"
    )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


@contextmanager
def _check(subject: type[Codec] | type[Detector], name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        raise AssertionError(f"{subject.__name__}: {name}: {kind}{error}") from error


def check_detector(
    detector_class: type[Detector], *, weights: Path | None = None, device: str = "cpu", **options: Any
) -> None:
    """Check that a detector keeps the contract of :class:`icm_bench.detector.Detector`.

    Args:
        detector_class: The detector.
        weights: Its weights, where they are not its default ones.
        device: Where it runs.
        options: What the constructor is given beside.

    Raises:
        AssertionError: A check failed.
    """

    def make() -> Detector:
        return detector_class(weights=weights, device=device, **options)

    with _check(detector_class, "declaration"):
        _check_detector_declaration(detector_class, make())
    with _check(detector_class, "version"):
        first, second = make().version(), make().version()
        _require(first.strip() != "", "version is empty")
        _require(first == second, f"two instances say {first!r} and {second!r}")
    detector = make()
    for width, height in ((320, 240), (97, 131), (640, 31), (5, 3), (1, 1)):
        with _check(detector_class, f"predictions on {width}x{height}"):
            _check_predictions(detector, photograph(width, height, seed=7))
    with _check(detector_class, "determinism"):
        image = photograph(320, 240, seed=7)
        _require(make().predict(image) == detector.predict(image), "a second instance predicts otherwise")
    if isinstance(detector, PredictsBatches):
        with _check(detector_class, "batches"):
            images = [photograph(*size, seed=7) for size in ((320, 240), (97, 131), (320, 240))]
            alone = [detector.predict(image) for image in images]
            _require(detector.predict_batch(images) == alone, "predict_batch sees other than predict")


def _check_detector_declaration(detector_class: type[Detector], detector: Detector) -> None:
    _require(detector_class.name != "", "name is empty")
    tasks = set(detector_class.tasks)
    _require(bool(tasks) and tasks <= {"detection", "segmentation"}, f"tasks are {detector_class.tasks}")
    _require(len(detector.categories) > 0, "there are no categories")
    _require(
        set(detector.tasks) <= tasks, f"an instance does {detector.tasks}, its class {detector_class.tasks}"
    )
    _require(set(detector_class.published) <= tasks, "a figure is published for a task that is not done")


def _check_predictions(detector: Detector, image: Image) -> None:
    given = image.copy()
    rows = detector.predict(given)
    _require(np.array_equal(given, image), "predict changes its input")
    json.dumps(rows, allow_nan=False)
    for row in rows:
        _check_row(row, detector, image)
    scores = [row["score"] for row in rows]
    _require(scores == sorted(scores, reverse=True), "scores do not fall")


def _check_row(row: Prediction, detector: Detector, image: Image) -> None:
    height, width = image.shape[:2]
    _require(row["category_id"] in detector.categories, f"unknown category {row['category_id']}")
    _require(0.0 <= row["score"] <= 1.0, f"score {row['score']}")
    x, y, box_width, box_height = row["bbox"]
    _require(all(math.isfinite(edge) for edge in row["bbox"]), f"box {row['bbox']}")
    _require(box_width >= 0 and box_height >= 0, f"box {row['bbox']} has negative sides")
    overlaps = x <= width and y <= height and x + box_width >= 0 and y + box_height >= 0
    _require(overlaps, f"box {row['bbox']} lies outside the {width}x{height} image")
    if "segmentation" in detector.tasks:
        mask = row["segmentation"]
        _require(list(mask["size"]) == [height, width], f"a mask of size {mask['size']}")
        _require(isinstance(mask["counts"], str), "the run lengths of a mask are not str")


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
        payload = zlib.compress(np.diff(levels, axis=1, prepend=np.uint8(0)).tobytes(), 9)
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
        return f"fake 1, zlib {zlib.ZLIB_RUNTIME_VERSION}"

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
