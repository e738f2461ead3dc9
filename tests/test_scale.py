"""Coding at a smaller size: the anchors' sizes, and the true size back from the stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icm_baselines import scale
from icm_baselines.scale import Percent
from icm_baselines.vvc import Vvc
from icm_bench.error import CodecError
from icm_bench.image import Image
from icm_bench.testing import photograph


class Shelf:
    """Keeps the picture that it is given."""

    def __init__(self) -> None:
        self.picture: Image = np.zeros((0, 0, 3), np.uint8)

    def put(self, image: Image) -> bytes:
        self.picture = image
        return b"here"

    def take(self, data: bytes) -> Image:
        assert data == b"here"
        return self.picture


@pytest.mark.parametrize(
    ("percent", "coded"),
    # ceil(iw * 3 / 8) * 2, ceil(iw / 4) * 2, ceil(iw / 8) * 2 of a 641x427 image
    [("75", (482, 322)), ("50", (322, 214)), ("25", (162, 108))],
)
def test_coded_sizes_are_those_of_the_anchors(percent: Percent, coded: tuple[int, int]) -> None:
    shelf = Shelf()
    scale.encode(photograph(641, 427), percent, shelf.put)
    assert shelf.picture.shape == (coded[1], coded[0], 3)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(["75", "50", "25"]))
def test_every_size_comes_back(width: int, height: int, percent: Percent) -> None:
    shelf = Shelf()
    data = scale.encode(np.zeros((height, width, 3), np.uint8), percent, shelf.put)
    assert len(data) == len(b"here") + scale.head_bytes(percent)
    assert scale.decode(data, percent, shelf.take).shape == (height, width, 3)


def test_a_flat_picture_stays_flat() -> None:
    image = np.full((45, 67, 3), (200, 3, 90), np.uint8)
    shelf = Shelf()
    for percent in ("75", "50", "25"):
        assert np.array_equal(
            scale.decode(scale.encode(image, percent, shelf.put), percent, shelf.take), image
        )


def test_full_size_adds_nothing() -> None:
    image = photograph(31, 17)
    assert Vvc(42, preset="faster").encode(image) == Vvc(42, preset="faster", scale="100").encode(image)
    assert scale.head_bytes("100") == 0


def test_a_smaller_picture_costs_less_and_comes_back_whole() -> None:
    image = photograph(161, 119)
    sizes = []
    for percent in ("100", "75", "50", "25"):
        codec = Vvc(37, preset="faster", scale=percent)
        data = codec.encode(image)
        assert codec.decode(data).shape == image.shape
        assert 0 < codec.header_bytes(data) < len(data)
        sizes.append(len(data))
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("data", [b"", b"\xf0here", b"\x0fhere"])
def test_a_length_that_cannot_be_is_refused(data: bytes) -> None:
    shelf = Shelf()
    scale.encode(photograph(64, 48), "50", shelf.put)
    with pytest.raises(CodecError):
        scale.decode(data, "50", shelf.take)
