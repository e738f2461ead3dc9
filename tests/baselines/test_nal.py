"""NAL units and OBUs: golden streams made by hand from the standards' syntax."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from icm_baselines import nal, obu
from icm_bench.error import CodecError


def test_units_are_found_behind_start_codes_of_either_length() -> None:
    stream = b"\x00\x00\x00\x01AB" + b"\x00\x00\x01CDE" + b"\x00\x00\x00\x00\x01F"
    assert list(nal.units(stream)) == [b"AB", b"CDE", b"F"]
    assert nal.overhead_bytes(stream, lambda unit: unit.startswith(b"C")) == len(stream) - 3


def test_a_stream_without_start_codes_has_no_units() -> None:
    assert list(nal.units(b"no stream")) == []
    assert list(nal.units(b"")) == []


@given(
    st.lists(st.binary(min_size=1, max_size=40).map(lambda unit: unit.replace(b"\x00", b"\x07")), min_size=1)
)
def test_units_come_out_as_they_were_joined(contents: list[bytes]) -> None:
    stream = b"".join(b"\x00\x00\x01" + content for content in contents)
    assert list(nal.units(stream)) == contents


@pytest.mark.parametrize(
    ("payload", "numbers"),
    # Table 9-2: 1, 010, 011, 00100, 00101, 00110
    [(0b1_010_011_0.to_bytes(1, "big"), [0, 1, 2]), (0b00100_00101_00110_0.to_bytes(2, "big"), [3, 4, 5])],
)
def test_exp_golomb_codes_have_the_values_of_the_standard(payload: bytes, numbers: list[int]) -> None:
    bits = nal.Bits(payload)
    assert [bits.read_golomb() for _ in numbers] == numbers


def test_emulation_prevention_is_undone() -> None:
    bits = nal.Bits(b"\x00\x00\x03\x01\xff")
    assert (bits.read(24), bits.read(8)) == (1, 0xFF)


def test_reading_past_the_end_is_an_error_of_the_stream() -> None:
    with pytest.raises(CodecError, match="ends early"):
        nal.Bits(b"\x00\x00").read_golomb()


def test_a_number_longer_than_any_is_an_error_of_the_stream() -> None:
    with pytest.raises(CodecError, match="too long"):
        nal.Bits(bytes(5) + b"\xff" * 6).read_golomb()


def test_a_long_run_of_zeros_is_read_once() -> None:
    began = time.process_time()
    assert list(nal.units(bytes(2_000_000))) == []
    assert time.process_time() - began < 1


def test_obu_payloads_are_counted_by_the_letter_of_av1() -> None:
    temporal_delimiter = b"\x12\x00"
    sequence_header = b"\x0a\x03abc"
    frame = b"\x32" + b"\x81\x01" + bytes(129)  # leb128 of 129
    tile_group = b"\x22\x02xy"
    assert obu.payload_bytes(temporal_delimiter + sequence_header + frame + tile_group) == 129 + 2


def test_an_obu_with_extension_and_one_without_size_are_understood() -> None:
    assert obu.payload_bytes(b"\x36\x00\x02ab" + b"\x30rest") == 2 + 4


@given(st.binary(max_size=100))
@example(b"$")  # ends within the header: the extension that it announces is missing
def test_obu_parsing_ends_on_any_bytes(stream: bytes) -> None:
    assert 0 <= obu.payload_bytes(stream) <= len(stream)
