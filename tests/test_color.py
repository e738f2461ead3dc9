"""Colour conversion: golden values of the Recommendations, rounding without bias, and what 4:2:0 costs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from icm_bench import color
from icm_bench.color import (
    Chroma,
    Matrix,
    PlaneFormat,
    Range,
    from_bytes,
    padded,
    to_bytes,
    to_image,
    to_planes,
)
from icm_bench.error import CodecError
from icm_bench.image import Image, psnr

MATRICES: tuple[Matrix, ...] = get_args(Matrix)
RANGES: tuple[Range, ...] = get_args(Range)


def psnr_db(first: Image, second: Image) -> float:
    found = psnr(first, second)
    return np.inf if found is None else found


def there_and_back(image: Image, form: PlaneFormat) -> Image:
    return to_image(to_planes(image, form), form)


def single(red: int, green: int, blue: int) -> Image:
    return np.array([[[red, green, blue]]], np.uint8)


@pytest.fixture(scope="module")
def noise() -> Image:
    return np.random.default_rng(5).integers(0, 256, (256, 256, 3), np.uint8)


@pytest.fixture(scope="module")
def photographs(shared_data: Callable[[str], Path]) -> list[Image]:
    paths = sorted(shared_data("kodak").glob("*.png"))[:6]
    return [np.asarray(Pillow.open(path).convert("RGB")) for path in paths]


@pytest.mark.parametrize(
    ("rgb", "form", "ycbcr"),
    [
        # Colour bars of BT.709, as its limited-range test signals are published.
        ((255, 255, 255), PlaneFormat("444", 8, "bt709", "limited"), (235, 128, 128)),
        ((0, 0, 0), PlaneFormat("444", 8, "bt709", "limited"), (16, 128, 128)),
        ((255, 0, 0), PlaneFormat("444", 8, "bt709", "limited"), (63, 102, 240)),
        ((0, 255, 0), PlaneFormat("444", 8, "bt709", "limited"), (173, 42, 26)),
        ((0, 0, 255), PlaneFormat("444", 8, "bt709", "limited"), (32, 240, 118)),
        ((255, 0, 0), PlaneFormat("444", 10, "bt709", "limited"), (250, 409, 960)),
        ((0, 0, 255), PlaneFormat("444", 10, "bt709", "limited"), (127, 960, 471)),
        # BT.601.
        ((255, 0, 0), PlaneFormat("444", 8, "bt601", "limited"), (81, 90, 240)),
        ((0, 255, 0), PlaneFormat("444", 8, "bt601", "limited"), (145, 54, 34)),
        ((0, 0, 255), PlaneFormat("444", 8, "bt601", "limited"), (41, 240, 110)),
        # JFIF: BT.601, full range.
        ((255, 0, 0), PlaneFormat("444", 8, "bt601", "full"), (76, 85, 255)),
        ((0, 255, 0), PlaneFormat("444", 8, "bt601", "full"), (150, 44, 21)),
        ((0, 0, 255), PlaneFormat("444", 8, "bt601", "full"), (29, 255, 107)),
    ],
)
def test_primaries_have_the_values_of_the_recommendation(
    rgb: tuple[int, int, int], form: PlaneFormat, ycbcr: tuple[int, int, int]
) -> None:
    assert tuple(int(plane[0, 0]) for plane in to_planes(single(*rgb), form)) == ycbcr


@pytest.mark.parametrize(
    "form",
    [PlaneFormat("444", 8)]
    + [PlaneFormat("444", 10, matrix, range_) for matrix in MATRICES for range_ in RANGES],
)
def test_444_stays_above_50_db_and_is_rounded_without_bias(noise: Image, form: PlaneFormat) -> None:
    back = there_and_back(noise, form)
    assert psnr_db(noise, back) > 50.0
    assert np.abs((back.astype(np.float64) - noise).mean(axis=(0, 1))).max() < 0.1


def test_every_grey_level_survives_10_bit_in_either_chroma_format() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 4).reshape(16, 64)
    image = np.stack([ramp] * 3, axis=-1)
    for chroma in ("420", "444"):
        assert np.array_equal(there_and_back(image, PlaneFormat(chroma, 10)), image)


def test_420_keeps_photographs_within_its_own_bound(photographs: list[Image]) -> None:
    form = PlaneFormat("420", 10)
    backs = [there_and_back(image, form) for image in photographs]
    assert min(psnr_db(image, back) for image, back in zip(photographs, backs, strict=True)) > 36.0
    bias = [
        (back.astype(np.float64) - image).mean(axis=(0, 1))
        for image, back in zip(photographs, backs, strict=True)
    ]
    assert np.abs(np.mean(bias, axis=0)).max() < 0.1


def test_420_leaves_a_gradient_where_it_stands() -> None:
    # A filter that sits half a sample off shifts a ramp by a constant; a centred pair leaves it alone.
    ramp = np.tile(np.arange(0, 192, dtype=np.uint8), (16, 1))
    image = np.stack([ramp, 255 - ramp, np.full_like(ramp, 90)], axis=-1)
    inner = np.s_[:, 8:-8]
    back = there_and_back(image, PlaneFormat("420", 10))
    assert np.abs(back[inner].astype(int) - image[inner]).max() <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["420", "444"]),
    st.sampled_from([8, 10]),
    st.integers(0, 2**32 - 1),
)
def test_every_size_goes_through_bytes_and_back(
    height: int, width: int, chroma: Chroma, depth: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    form = PlaneFormat(chroma, 8 if depth == 8 else 10)
    planes = to_planes(image, form)
    halving = 2 if chroma == "420" else 1
    assert planes[0].shape == (height, width)
    assert planes[1].shape == planes[2].shape == (-(-height // halving), -(-width // halving))
    data = to_bytes(planes, form)
    assert len(data) == form.n_bytes(width, height)
    again = from_bytes(data, form, width, height)
    assert all(np.array_equal(plane, copy) for plane, copy in zip(planes, again, strict=True))
    assert to_image(again, form).shape == (height, width, 3)


def test_an_odd_image_has_the_planes_of_its_padded_self() -> None:
    image = np.random.default_rng(8).integers(0, 256, (7, 5, 3), np.uint8)
    form = PlaneFormat("420", 10)
    odd, even = to_planes(image, form), to_planes(padded(image, 6, 8), form)
    assert np.array_equal(odd[0], even[0][:7, :5])
    assert np.array_equal(odd[1], even[1])


def test_samples_out_of_range_are_clipped_not_wrapped() -> None:
    form = PlaneFormat("444", 10)
    extremes = np.array([[0, 1023]], np.uint16)
    image = to_image((extremes, np.full_like(extremes, 512), np.full_like(extremes, 512)), form)
    assert image.tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("chroma", ["420", "444"])
@pytest.mark.parametrize("shape", [(37, 29), (300, 7), (2, 640)])
def test_strips_are_the_rows_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, chroma: Chroma, shape: tuple[int, int]
) -> None:
    form = PlaneFormat(chroma, 10)
    planes = to_planes(np.random.default_rng(5).integers(0, 256, (*shape, 3), np.uint8), form)
    whole = to_image(planes, form)
    for n_pixels in (1, 200, 1_000):
        monkeypatch.setattr(color, "_STRIP", n_pixels)
        assert np.array_equal(to_image(planes, form), whole)


@pytest.mark.parametrize("shape", [(32, 65_536), (65_536, 32), (1_024, 2_048)])
def test_an_image_of_any_shape_is_converted_in_little_memory(shape: tuple[int, int]) -> None:
    form = PlaneFormat("420", 10)
    planes = tuple(np.full(each, 512, np.uint16) for each in form.shapes(*shape[::-1]))
    tracemalloc.start()
    to_image((planes[0], planes[1], planes[2]), form)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20


def test_padding_repeats_the_border() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    grown = padded(image, 3, 4)
    assert np.array_equal(grown[:2, :2], image)
    assert np.array_equal(grown[3, 2], image[1, 1])
    assert padded(image, 2, 2) is image


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(CodecError, match="11 bytes are not one 2x2 image of 12 bytes"):
        from_bytes(bytes(11), PlaneFormat("420", 10), 2, 2)
