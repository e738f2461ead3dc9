from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icm_bench.error import CodecError
from icm_codecs.bitstream.container import MAX_PIXELS, MAX_SIDE, Frame, check_size, unpack
from icm_codecs.tucodec.container import RateFrame
from icm_codecs.tucodec.container import unpack as unpack_rate

FRAME = Frame(model=b"\x12\x34", quality=3, width=640, height=480, payload=b"payload of an image")

fields = {
    "model": st.binary(min_size=2, max_size=2),
    "width": st.integers(1, 1023),
    "height": st.integers(1, MAX_SIDE),
    "payload": st.binary(max_size=64),
}


@given(
    st.one_of(
        st.tuples(st.builds(Frame, quality=st.integers(0, 15), **fields), st.just(unpack)),
        st.tuples(st.builds(RateFrame, position=st.integers(0, 4095), **fields), st.just(unpack_rate)),
    )
)
def test_frame_survives_packing_with_zeros_up_to_a_byte_for_16384_pixels(made: tuple[Any, Any]) -> None:
    frame, unpack = made
    n_zeros = max(0, math.ceil(frame.width * frame.height / 16_384) - len(frame.payload))
    packed = frame.pack()
    assert unpack(packed) == replace(frame, payload=frame.payload + bytes(n_zeros))
    assert unpack(packed).pack() == packed


def test_layout_is_the_documented_one() -> None:
    packed = FRAME.pack()
    assert packed[0] == 0xA3
    assert packed[1:3] == b"\x12\x34"
    assert packed[3:5] == bytes([640 & 0x7F | 0x80, 640 >> 7])
    assert packed[5:7] == bytes([480 & 0x7F | 0x80, 480 >> 7])
    assert packed[7:-3] == FRAME.payload


def test_header_of_a_photograph_takes_ten_bytes() -> None:
    assert FRAME.header_bytes == 10
    assert len(FRAME.pack()) == 10 + len(FRAME.payload)


def test_every_truncation_is_refused() -> None:
    packed = FRAME.pack()
    for length in range(len(packed)):
        with pytest.raises(CodecError):
            unpack(packed[:length])


def test_every_flipped_bit_is_refused() -> None:
    packed = FRAME.pack()
    for position in range(8 * len(packed)):
        damaged = bytearray(packed)
        damaged[position // 8] ^= 1 << (position % 8)
        with pytest.raises(CodecError):
            unpack(bytes(damaged))


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        unpack(data)


def test_appended_bytes_are_refused() -> None:
    with pytest.raises(CodecError):
        unpack(FRAME.pack() + b"\0")


@pytest.mark.parametrize(
    ("width", "height"), [(0, 1), (1, 0), (MAX_SIDE + 1, 1), (1, MAX_SIDE + 1), (65000, 65000)]
)
def test_impossible_sizes_are_refused_even_with_a_correct_check(width: int, height: int) -> None:
    with pytest.raises(CodecError, match="not coded"):
        unpack(Frame(b"ab", 0, width, height, b"").pack())


def test_largest_size_is_accepted() -> None:
    check_size(MAX_PIXELS // 2**13, 2**13)
    check_size(MAX_SIDE, 1)


def test_overlong_size_field_is_refused() -> None:
    packed = Frame(b"ab", 0, 2**21, 1, b"").pack()
    with pytest.raises(CodecError, match="size field"):
        unpack(packed)
