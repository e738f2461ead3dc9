"""What commands print: text from anywhere, as it is, and a progress bar."""

from __future__ import annotations

import io
import logging
import sys
import time
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from icm_bench.text import printable

_LINE_S = 60.0
"""How often a line tells how far a command is where there is no terminal."""


def say(text: object, *, error: bool = False) -> None:
    """Print a line to standard output or standard error; nothing in it is taken for markup or steers the terminal."""
    Console(stderr=error).print(printable(text), highlight=False, markup=False, soft_wrap=True)


class LineHandler(logging.Handler):
    """Prints what the package logs, a line each, to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        say(f"icm-bench: {record.getMessage()}", error=True)


def write_any_text() -> None:
    """Let standard output and error write what their encoding cannot hold as escapes, not end in an error."""
    streams: tuple[IO[str], ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Bar:
    """A progress bar with the time left; where the output is not a terminal, a line a minute."""

    def __init__(self) -> None:
        console = Console()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("planning", total=None, left="")
        self._said = time.monotonic()

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int, what: str, left_s: float | None = None) -> None:
        """Show that so many of a total are done, and how many seconds are left."""
        left = "" if left_s is None else f"about {duration(left_s)} left"
        self._progress.update(self._task, completed=done, total=total, description=printable(what), left=left)
        if self._progress.disable and time.monotonic() - self._said >= _LINE_S:
            self._said = time.monotonic()
            say(f"{done} of {total} done ({what}); {left}".rstrip("; "), error=True)

    def bytes(self, what: str, done: int, total: int | None) -> None:
        """Show that so many bytes of a file have arrived."""
        self(done, total or done, f"{what}, bytes")


def duration(seconds: float) -> str:
    """Return a time span in the two units that matter: ``3 h 20 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
