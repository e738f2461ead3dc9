"""The conformance suite over every codec that is installed, and over codecs that break it one rule at a time."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from icm_bench import registry
from icm_bench.codec import Codec, Quality
from icm_bench.detector import Prediction
from icm_bench.error import CodecError, ProgramError, WeightsError
from icm_bench.image import Image
from icm_bench.testing import FakeCodec, FakeDetector, ThreadsWarning, check_codec, check_detector, photograph

# The fastest setting of codecs whose default one would take minutes here.
FAST: Mapping[str, Mapping[str, Any]] = {
    "avif": {"speed": 8},
    "hevc": {"preset": "fast"},
    "hevc-roi": {"preset": "fast"},
    "uvg266": {"preset": "ultrafast"},
    "uvg266-roi": {"preset": "ultrafast"},
    "vvc": {"preset": "faster"},
    "vvc-filtered": {"preset": "faster"},
    "vvc-pareto": {"preset": "faster"},
    "vvc-roi": {"preset": "faster"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("codec"))
def test_every_installed_codec_conforms(name: str) -> None:
    codec_class: type[Codec] = registry.load("codec", name)
    try:
        codec_class(codec_class.qualities[0]).version()
    except (ProgramError, WeightsError) as error:
        pytest.skip(str(error))
    assert codec_class.name == name
    check_codec(codec_class, **FAST.get(name, {}))


@pytest.mark.slow
def test_the_fakes_conform() -> None:
    check_codec(FakeCodec)
    check_codec(FakeCodec, 8, step=1)
    check_detector(FakeDetector)


class Grey(FakeCodec):
    """Returns one channel."""

    def decode(self, data: bytes) -> Image:
        return super().decode(data)[..., :1]


class Padded(FakeCodec):
    """Forgets to crop."""

    def decode(self, data: bytes) -> Image:
        image = super().decode(data)
        return np.pad(image, ((0, image.shape[0] % 2), (0, 0), (0, 0)))


class Swapped(FakeCodec):
    """Returns BGR."""

    def decode(self, data: bytes) -> Image:
        return np.ascontiguousarray(super().decode(data)[..., ::-1])


class Mirrored(FakeCodec):
    """Returns the image upside down."""

    def decode(self, data: bytes) -> Image:
        return np.ascontiguousarray(super().decode(data)[::-1])


class Remembering(FakeCodec):
    """Decodes from what the encoder left behind."""

    def __init__(self, quality: Quality, *, device: str = "cpu") -> None:
        super().__init__(quality, device=device)
        self._last: Image | None = None

    def encode(self, image: Image) -> bytes:
        self._last = image
        return super().encode(image)

    def decode(self, data: bytes) -> Image:
        right = super().decode(data)
        return right if self._last is None or self._last.shape != right.shape else self._last


class Drifting(FakeCodec):
    """Counts its pictures in the bitstream."""

    def __init__(self, quality: Quality, *, device: str = "cpu") -> None:
        super().__init__(quality, device=device)
        self._count = 0

    def encode(self, image: Image) -> bytes:
        self._count += 1
        return super().encode(image) + bytes([self._count % 256])

    def decode(self, data: bytes) -> Image:
        return super().decode(data[:-1])


class Crashing(FakeCodec):
    """Lets a library's exception through."""

    def decode(self, data: bytes) -> Image:
        if len(data) < 100 and not data.startswith(b"FAKE"):
            raise zlib.error("incorrect header check")
        return super().decode(data)


class Forgiving(FakeCodec):
    """Takes anything for an image."""

    def decode(self, data: bytes) -> Image:
        try:
            return super().decode(data)
        except CodecError:
            return np.zeros((4, 4, 3), np.uint8)


class Backwards(FakeCodec):
    """Has its ladder upside down."""

    qualities = (8, 7, 5)


class Scribbling(FakeCodec):
    """Writes into its input."""

    def encode(self, image: Image) -> bytes:
        data = super().encode(image)
        image[0, 0] ^= 1
        return data


@pytest.mark.parametrize(
    ("codec_class", "complaint"),
    [
        (Grey, "Grey: sizes: 1x1: decode returns shape"),
        (Padded, "Padded: sizes: 1x1: decode returns"),
        (Swapped, "Swapped: resemblance: .* red and blue swapped"),
        (Mirrored, "Mirrored: resemblance: .* upside down"),
        (Remembering, "Remembering: determinism: an instance that did not encode decodes other pixels"),
        (Drifting, "Drifting: determinism: the same instance gives other bytes"),
        (Crashing, "Crashing: truncated data: error: incorrect header check"),
        (Forgiving, "Forgiving: truncated data: the first 0 of .* bytes: decoded without a CodecError"),
        (Backwards, "Backwards: ladder order: bytes along the ladder do not rise"),
        (Scribbling, "Scribbling: sizes: 1x1: encode changes its input"),
    ],
)
def test_a_broken_codec_is_told_what_it_breaks(codec_class: type[Codec], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_codec(codec_class)


def n_threads() -> int:
    return int(os.environ["OMP_NUM_THREADS"])


class Wavering(FakeCodec):
    """Decodes other pixels on several threads than on one."""

    def decode(self, data: bytes) -> Image:
        image = super().decode(data)
        image[0, 0, 0] ^= 2 * (n_threads() > 1)
        return image


class Tolerant(Wavering):
    """Says so."""

    pixel_tolerance = 2


class Threaded(FakeCodec):
    """Encodes other bytes on several threads than on one."""

    def encode(self, image: Image) -> bytes:
        return super().encode(image) + bytes([n_threads() > 1])

    def decode(self, data: bytes) -> Image:
        return super().decode(data[:-1])


@pytest.mark.slow
def test_what_differs_on_several_threads_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    said = r"Wavering: .*: another process on \d+ threads decodes other pixels than one thread: 1 of 147456 values"
    with pytest.raises(
        AssertionError, match=said + " differ, by up to 2 levels, .* declares pixel_tolerance 0"
    ):
        check_codec(Wavering)
    check_codec(Tolerant)
    with pytest.warns(
        ThreadsWarning, match=r"Threaded: .* encodes other bytes than one thread: \d+ bytes for"
    ):
        check_codec(Threaded)


class Unsorted(FakeDetector):
    """Returns its worst detection first."""

    def predict(self, image: Image) -> list[Prediction]:
        return super().predict(image)[::-1]


class Elsewhere(FakeDetector):
    """Returns boxes in pixels of another image."""

    def predict(self, image: Image) -> list[Prediction]:
        return [row | {"bbox": [1000.0, 0.0, 5.0, 5.0]} for row in super().predict(image)]


@pytest.mark.parametrize(
    ("detector_class", "complaint"),
    [(Unsorted, "scores do not fall"), (Elsewhere, "lies outside the 320x240 image")],
)
def test_a_broken_detector_is_told_what_it_breaks(detector_class: type[FakeDetector], complaint: str) -> None:
    with pytest.raises(AssertionError, match=f"{detector_class.__name__}: .*{complaint}"):
        check_detector(detector_class, contrast=20)


def test_the_fake_detector_finds_coloured_regions_and_codes_them_less_surely() -> None:
    image = np.full((80, 120, 3), 90, np.uint8)
    image[10:40, 20:60] = (230, 60, 50)
    image[50:70, 70:110] = (40, 70, 200)
    red, blue = FakeDetector().predict(image)
    assert (red["category_id"], red["bbox"]) == (1, [20.0, 10.0, 40.0, 30.0])
    assert (blue["category_id"], blue["bbox"]) == (3, [70.0, 50.0, 40.0, 20.0])
    codec = FakeCodec(1)
    coded = FakeDetector().predict(codec.decode(codec.encode(image)))
    assert coded[0]["bbox"] != red["bbox"]


def test_the_drawn_photograph_is_the_same_every_time() -> None:
    assert np.array_equal(photograph(33, 21, seed=4), photograph(33, 21, seed=4))
    assert not np.array_equal(photograph(33, 21, seed=4), photograph(33, 21, seed=5))
