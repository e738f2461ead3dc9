"""What networks are given."""

from __future__ import annotations

import numpy as np
import pytest

from icm_bench.detectors.network_input import Fit, InputForm
from icm_bench.image import Image


def flat(height: int, width: int) -> Image:
    return np.full((height, width, 3), (10, 20, 30), dtype=np.uint8)


@pytest.mark.parametrize(
    ("fit", "rows", "columns"),
    [
        ("stretch", (0, 32), (0, 64)),
        ("letterbox", (0, 32), (0, 16)),
        ("letterbox-centre", (0, 32), (24, 40)),
    ],
)
def test_the_image_lies_where_the_fit_puts_it(
    fit: Fit, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    pixels, placement = InputForm((32, 64), fit, pixel_max=255).prepare(flat(80, 40))
    assert pixels.shape == (1, 3, 32, 64)
    assert pixels.dtype == np.float32
    inside = np.zeros((32, 64), bool)
    inside[slice(*rows), slice(*columns)] = True
    assert np.array_equal(pixels[0, 0], np.where(inside, 10, 114))
    assert np.array_equal(pixels[0, 2], np.where(inside, 30, 114))
    whole = np.array([[columns[0], rows[0], columns[1], rows[1]]], np.float32)
    assert placement.to_image(whole).tolist() == [[0, 0, 40, 80]]


def test_no_fit_leaves_the_image_as_it_is() -> None:
    pixels, placement = InputForm(None, "none", pixel_max=255).prepare(flat(5, 7))
    assert pixels.shape == (1, 3, 5, 7)
    assert placement.to_image(np.array([[1, 2, 3, 4]], np.float32)).tolist() == [[1, 2, 3, 4]]


def test_range_mean_and_deviation_follow_the_order_of_the_channels() -> None:
    form = InputForm((8, 8), channels="bgr", pixel_max=1, mean=(0.1, 0.2, 0.0), std=(0.5, 1.0, 2.0))
    pixels, _ = form.prepare(flat(8, 8))
    wanted = [(30 / 255 - 0.1) / 0.5, 20 / 255 - 0.2, 10 / 255 / 2]
    assert pixels[0, :, 3, 3].tolist() == pytest.approx(wanted, rel=1e-5)


def test_channels_can_be_last() -> None:
    pixels, _ = InputForm((8, 16), channels_last=True, pixel_max=255).prepare(flat(8, 16))
    assert pixels.shape == (1, 8, 16, 3)
    assert pixels[0, 2, 3].tolist() == [10, 20, 30]


def test_a_single_pixel_and_long_strips_fit() -> None:
    for shape in ((1, 1), (1, 3000), (3000, 1)):
        for fit in ("stretch", "letterbox", "letterbox-centre"):
            pixels, placement = InputForm((32, 64), fit).prepare(flat(*shape))
            assert pixels.shape == (1, 3, 32, 64)
            assert (placement.height, placement.width) == shape


def test_a_form_says_all_that_it_does() -> None:
    assert str(InputForm((384, 640), "letterbox", channels="bgr", pixel_max=255)) == (
        "640x384 letterbox 114, bgr 0-255"
    )
    assert str(InputForm(None, "none", mean=(0.5, 0.5, 0.25), std=(1.0, 1.0, 0.5))) == (
        "the image's own size, rgb 0-1, mean 0.5/0.5/0.25, std 1/1/0.5"
    )
