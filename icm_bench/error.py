"""The errors that this package raises, as one tree.

::

    IcmBenchError
    ├── UsageError        the caller asked for something that does not exist or does not fit (exit status 2)
    ├── DatasetError      an image or an annotation file is missing, broken or of the wrong kind
    ├── CodecError        an image cannot be encoded, or bytes cannot be decoded
    │   ├── ProgramError  an external program is missing, failed, hung or wrote nothing of use
    │   └── WeightsError  a codec's published weights have not been fetched to this machine
    ├── DetectorError     a detector or its weights cannot be used, or its predictions are malformed
    ├── StoreError        the coded or predicted store cannot be read, written or reused
    │   └── DamageError   a shard on disk is damaged, or is not the one that belongs there
    ├── ResultError       a result file is missing, malformed or cannot be compared
    ├── DownloadError     a file could not be fetched, or is not the file that was expected
    └── TrainingError     a training cannot start, continue or be saved

Each is raised where it is known, with what happened, where, and a hint; the command line prints it as one line.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
from collections.abc import Iterator
from typing import Any

from icm_bench.text import printable


class IcmBenchError(Exception):
    """An error that its reader can correct.

    Args:
        what: What happened, a clause without a final stop.
        where: The file, codec, image or option that it happened to.
        hint: What to do about it, an imperative clause.
    """

    def __init__(self, what: str, *, where: object = None, hint: str | None = None) -> None:
        # An error is one line, and the messages of libraries may have several. What an error quotes may come from a
        # file, a server or another program: it must not control the terminal.
        self.what = printable(" ".join(what.split()))
        super().__init__(self.what)
        self.where = None if where is None else printable(where)
        self.hint = None if hint is None else printable(hint)

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.hint is None else f"{text}; {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process boundaries; the default reduction loses keyword-only arguments.
        return (_rebuild, (type(self), self.what, self.where, self.hint))


def _rebuild(cls: type[IcmBenchError], what: str, where: str | None, hint: str | None) -> IcmBenchError:
    return cls(what, where=where, hint=hint)


class UsageError(IcmBenchError):
    """The caller asked for something that does not exist or does not fit."""


class DatasetError(IcmBenchError):
    """An image or an annotation file is missing, broken or of the wrong kind."""


class CodecError(IcmBenchError):
    """An image cannot be encoded, or bytes cannot be decoded."""


class ProgramError(CodecError):
    """An external program is missing, failed, hung or wrote nothing of use."""


class WeightsError(CodecError):
    """A codec's published weights have not been fetched to this machine."""


class DetectorError(IcmBenchError):
    """A detector or its weights cannot be used, or its predictions are malformed."""


class StoreError(IcmBenchError):
    """The coded or predicted store cannot be read, written or reused."""


class DamageError(StoreError):
    """A shard on disk is damaged, or is not the one that belongs there."""


class ResultError(IcmBenchError):
    """A result file is missing, malformed or cannot be compared."""


class DownloadError(IcmBenchError):
    """A file could not be fetched, or is not the file that was expected."""


class TrainingError(IcmBenchError):
    """A training cannot start, continue or be saved."""


def unknown(kind: str, name: str, known: list[str]) -> UsageError:
    """Return the error for an unknown name: the nearest match and all that is known."""
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    guess = f"did you mean '{nearest[0]}'? " if nearest else ""
    listing = ", ".join(known) if known else "none"
    return UsageError(f"unknown {kind} '{name}'", hint=f"{guess}known: {listing}")


@contextlib.contextmanager
def system_errors(
    kind: type[IcmBenchError], what: str, *, where: object = None, hint: str | None = None
) -> Iterator[None]:
    """Raise an error of this tree for what the operating system raises within.

    Args:
        kind: What to raise.
        what: What could not be done, a clause; the system's reason is added.
        where: What to name; by default the file that the system names.
        hint: What to do about it; by default what the system's reason calls for.

    Raises:
        IcmBenchError: Of that type.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
        place = error.filename if where is None else where
        raise kind(f"{what} ({reason})", where=place, hint=hint or _HINTS.get(error.errno)) from error


_SPACE = "free some space and run again: what is finished is kept"
_RIGHTS = "check its permissions, or name another folder"
_HINTS: dict[int | None, str] = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EISDIR: "name a file, not a folder",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
