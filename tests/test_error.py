"""Errors: one line that no quoted text can break, across processes, and out of the operating system's."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icm_bench.error import DatasetError, DownloadError, system_errors
from icm_bench.text import first_line, printable


@given(st.text(st.characters()))
def test_printable_text_is_one_line_that_any_utf8_terminal_shows(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    shown.encode()
    if text.isascii() and text.isprintable():
        assert shown == text


def test_letters_of_any_script_are_printed_as_they_are() -> None:
    assert printable(Path("données/写真/ÅÄÖ.png")) == "données/写真/ÅÄÖ.png"


def test_an_error_quotes_what_it_was_given_without_its_controls() -> None:
    error = DatasetError("a\nb \x1b[31mc", where="d\r\x00e", hint="f\x07g")
    assert str(error) == r"d\r\x00e: a b \x1b[31mc; f\x07g"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_an_error_of_the_operating_system_names_the_file_the_reason_and_what_to_do(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    with pytest.raises(DownloadError) as caught, system_errors(DownloadError, "cannot be read"):
        absent.read_bytes()
    assert str(caught.value) == f"{absent}: cannot be read (No such file or directory); check the path"
    with (
        pytest.raises(DatasetError, match="the set: cannot be read .*; name a file, not a folder"),
        system_errors(DatasetError, "cannot be read", where="the set"),
    ):
        tmp_path.read_bytes()


def test_a_library_error_without_text_is_named_by_its_type() -> None:
    assert first_line(EOFError()) == "EOFError"
    assert first_line(ValueError("one\ntwo")) == "one"
