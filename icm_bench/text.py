"""Text from elsewhere, made fit to be printed: names of files, answers of servers, messages of libraries."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode's categories of what moves the cursor, reorders a line, or is no character."""


def printable(text: object) -> str:
    r"""Return a path or text on one line, fit for any terminal.

    Control characters, marks that change the direction of writing, and bytes that UTF-8 cannot hold are written as
    ``\x1b``, ``\u202e`` and ``\udcff``, so that no name can move the cursor, hide a part of itself or change colours.
    """
    shown = os.fspath(text) if isinstance(text, Path) else str(text)
    return shown if shown.isascii() and shown.isprintable() else "".join(map(_shown, shown))


def first_line(error: Exception) -> str:
    """Return the first line of a library's error, or its type where it says nothing, in at most 160 characters."""
    lines = str(error).strip().splitlines()
    return printable(lines[0][:160]) if lines else type(error).__name__


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNPRINTABLE:
        return character
    return character.encode("unicode_escape").decode("ascii")
