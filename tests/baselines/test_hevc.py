"""HEVC: the stream's units and chroma formats."""

from __future__ import annotations

import re

import numpy as np
import pytest

from icm_baselines import envelope
from icm_baselines.hevc import Hevc
from icm_bench.color import Chroma
from icm_bench.error import CodecError
from icm_bench.testing import check_codec, photograph

PARAMETER_SETS, IDR_SLICES = (32, 33, 34), (19, 20)


def units(stream: bytes) -> list[tuple[int, int]]:
    """Return type and size of each NAL unit, without start codes."""
    return [(unit[0] >> 1 & 0x3F, len(unit)) for unit in re.split(b"\x00?\x00\x00\x01", stream)[1:]]


@pytest.mark.parametrize("chroma", ["420", "444"])
def test_a_picture_is_three_parameter_sets_and_a_slice(chroma: Chroma) -> None:
    codec = Hevc(37, chroma=chroma, preset="fast")
    data = codec.encode(photograph(160, 120))
    found = units(data[envelope.N_BYTES :])
    kinds = [kind for kind, _ in found]
    assert tuple(kinds[:-1]) == PARAMETER_SETS
    assert kinds[-1] in IDR_SLICES
    assert codec.header_bytes(data) == len(data) - found[-1][1]
    assert codec.header_bytes(data) < 100


def test_full_chroma_keeps_fine_colour_that_420_loses() -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = (200, 40, 40)
    stripes[:, 1::2] = (40, 40, 200)
    errors = []
    for chroma in ("420", "444"):
        codec = Hevc(4, chroma=chroma, preset="fast")
        errors.append(np.abs(codec.decode(codec.encode(stripes)).astype(int) - stripes).mean())
    assert errors[0] > 20.0 > 5.0 > errors[1]


def test_a_decoder_of_another_chroma_format_refuses() -> None:
    data = Hevc(37, chroma="444", preset="fast").encode(photograph(32, 32))
    with pytest.raises(CodecError, match="holds 444p10 pictures, not 420p10"):
        Hevc(37, chroma="420").decode(data)


@pytest.mark.slow
def test_full_chroma_conforms() -> None:
    check_codec(Hevc, chroma="444", preset="fast")


def test_a_strip_too_long_for_its_blocks_is_refused_with_the_limit_and_no_other() -> None:
    codec = Hevc(37, preset="fast")
    with pytest.raises(
        CodecError, match="HEVC: codes no image longer than 4216 pixels that is narrower than 31"
    ):
        codec.encode(np.zeros((30, 4217, 3), np.uint8))
    for shape in ((30, 4216), (31, 4217)):
        assert codec.decode(codec.encode(np.zeros((*shape, 3), np.uint8))).shape[:2] == shape
