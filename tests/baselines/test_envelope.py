"""The two bytes before a video stream: what they carry, and what they notice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icm_baselines.envelope import N_BYTES, Envelope, unpack
from icm_bench.error import CodecError

streams = st.binary(min_size=1, max_size=200)


@given(streams, st.integers(0, 15), st.integers(0, 15))
def test_what_is_packed_comes_out(stream: bytes, columns: int, rows: int) -> None:
    packed = Envelope(stream, columns, rows).pack()
    assert len(packed) == N_BYTES + len(stream)
    assert unpack(packed) == Envelope(stream, columns, rows)


@given(streams, st.data())
def test_any_single_flipped_bit_of_the_stream_is_noticed(stream: bytes, data: st.DataObject) -> None:
    packed = bytearray(Envelope(stream, 3, 4).pack())
    position = data.draw(st.integers(8, 8 * len(packed) - 1))
    packed[position // 8] ^= 1 << position % 8
    with pytest.raises(CodecError, match="check byte"):
        unpack(bytes(packed))


@given(st.binary(max_size=200), st.integers(1, 255))
def test_a_missing_last_byte_is_noticed(stream: bytes, last: int) -> None:
    packed = Envelope(stream + bytes([last]), 0, 0).pack()
    with pytest.raises(CodecError):
        unpack(packed[:-1])


@pytest.mark.parametrize(
    ("data", "complaint"), [(b"", "empty"), (b"\x00", "truncated"), (b"\x00\x00", "truncated")]
)
def test_what_holds_no_stream_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(CodecError, match=complaint):
        unpack(data)


@pytest.mark.parametrize(("columns", "rows"), [(16, 0), (0, 16), (-1, 0)])
def test_a_crop_that_does_not_fit_is_refused(columns: int, rows: int) -> None:
    with pytest.raises(CodecError, match="cannot signal a crop"):
        Envelope(b"stream", columns, rows).pack()


def test_the_crop_leaves_the_upper_left() -> None:
    picture = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    cropped = Envelope(b"stream", 3, 1).crop(picture)
    assert np.array_equal(cropped, picture[:5, :5])
    assert cropped.flags.c_contiguous


def test_a_crop_of_everything_is_refused() -> None:
    with pytest.raises(CodecError, match="crops more than its picture has"):
        Envelope(b"stream", 8, 0).crop(np.zeros((6, 8, 3), np.uint8))
