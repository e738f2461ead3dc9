"""Coding at a smaller size: the anchors' sizes, and scale and true size back from the stream."""

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

STREAM = b"\x00\x05\x00\x00\x00\x01"
SMALLER: tuple[Percent, ...] = ("75", "50", "25")


class Shelf:
    """Keeps the picture that it is given."""

    def __init__(self) -> None:
        self.picture: Image = np.zeros((0, 0, 3), np.uint8)

    def put(self, image: Image) -> bytes:
        self.picture = image
        return STREAM

    def take(self, data: bytes) -> Image:
        assert data == STREAM
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
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(scale.PERCENTS))
def test_every_size_and_scale_comes_back_from_the_stream_alone(
    width: int, height: int, percent: Percent
) -> None:
    shelf = Shelf()
    data = scale.encode(np.zeros((height, width, 3), np.uint8), percent, shelf.put)
    assert len(data) == scale.head_bytes(data) + len(STREAM)
    assert scale.head_bytes(data) == (percent != "100")
    assert scale.decode(data, shelf.take).shape == (height, width, 3)


@given(st.binary(min_size=2, max_size=2), st.binary(max_size=8), st.integers(1, 255))
def test_no_full_size_stream_passes_for_a_smaller_one(head: bytes, payload: bytes, first: int) -> None:
    full = head + b"\x00\x00\x00\x01" + payload
    assert scale.head_bytes(full) == 0
    assert scale.head_bytes(bytes([first]) + full) == 1


def test_a_flat_picture_stays_flat() -> None:
    image = np.full((45, 67, 3), (200, 3, 90), np.uint8)
    shelf = Shelf()
    for percent in SMALLER:
        assert np.array_equal(scale.decode(scale.encode(image, percent, shelf.put), shelf.take), image)


def test_full_size_adds_nothing() -> None:
    image = photograph(31, 17)
    assert Vvc(42, preset="faster").encode(image) == Vvc(42, preset="faster", scale="100").encode(image)
    assert "scale" not in Vvc(42).version()
    assert Vvc(42, scale="50").version() != Vvc(42).version()


def test_a_smaller_picture_costs_less_and_any_instance_decodes_it() -> None:
    image = photograph(161, 119)
    sizes = []
    for percent in scale.PERCENTS:
        codec = Vvc(37, preset="faster", scale=percent)
        data = codec.encode(image)
        pixels = codec.decode(data)
        assert pixels.shape == image.shape
        assert np.array_equal(Vvc(22).decode(data), pixels)
        assert 0 < codec.header_bytes(data) < len(data)
        assert Vvc(22).header_bytes(data) == codec.header_bytes(data)
        sizes.append(len(data))
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("head", [0x00, 0x3F, 0xBF, 0x87, 0xB8])
def test_a_scale_or_a_length_that_cannot_be_is_refused(head: int) -> None:
    shelf = Shelf()
    data = scale.encode(photograph(64, 48), "50", shelf.put)
    assert data[0] == 0x80
    with pytest.raises(CodecError, match=r"the bitstream is damaged: 32x24 is not \d+ % of"):
        scale.decode(bytes([head]) + data[1:], shelf.take)
