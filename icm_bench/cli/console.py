"""What commands print: text from anywhere, as it is, and a progress bar."""

from __future__ import annotations

import io
import logging
import sys
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from icm_bench.text import printable


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
    """A progress bar with an honest time left; silent where the output is not a terminal."""

    def __init__(self) -> None:
        console = Console()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("planning", total=None)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show that so many of a total are done."""
        self._progress.update(self._task, completed=done, total=total, description=printable(what))

    def bytes(self, what: str, done: int, total: int | None) -> None:
        """Show that so many bytes of a file have arrived."""
        self(done, total or done, f"{what}, bytes")
