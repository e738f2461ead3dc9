"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from icm_bench.error import IcmBenchError, ResultError, StoreError

_STALE_S = 3600


@contextlib.contextmanager
def replacing(path: Path, error_type: type[IcmBenchError] = StoreError) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success flush it to the disk and give it the final name.

    The folder is made where it is missing.

    Raises:
        IcmBenchError: Of that type: the folder cannot be written, or the disk is full. Nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        number = _number(error)
        reason = os.strerror(number) if number else str(error)
        raise error_type(f"cannot be written ({reason})", where=path, hint=_hint(number)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """Return a file's SHA-256, in hexadecimal digits; what the operating system refuses raises as it comes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def packaged_table(package: str, name: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file that a package ships, each by the names in the header."""
    return list(csv.DictReader((files(package) / name).read_text(encoding="utf-8").splitlines()))


def write_json(path: Path, content: Any, error_type: type[IcmBenchError], indent: int | None = None) -> None:
    """Write JSON.

    Raises:
        IcmBenchError: Of that type: a number is not finite, or the file cannot be written.
    """
    try:
        text = json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False) + "\n"
    except ValueError as error:
        raise error_type("holds a figure that is not finite", where=path) from error
    write_text(path, text, error_type)


def write_text(
    path: Path, text: str, error_type: type[IcmBenchError] = StoreError, errors: str = "strict"
) -> None:
    """Write text as UTF-8, whole or not at all; errors as :func:`replacing`."""
    with replacing(path, error_type) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def below(root: Path, *names: str) -> Path:
    """Return a path below a folder, by names from elsewhere.

    Raises:
        ResultError: A name is empty or leads out of its folder: an absolute path, ``..``, or a name with a slash.
    """
    for name in names:
        if name in ("", ".", "..") or re.search(r"[/\\\0]", name):
            raise ResultError(
                f"'{name}' cannot be the name of a folder or a file", where=root, hint="rename it"
            )
    return root.joinpath(*names)


def sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder, once it is too old to be another writer's."""
    for temporary in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - temporary.stat().st_mtime > _STALE_S:
                temporary.unlink()


def _number(error: OSError) -> int | None:
    # Arrow's errors carry the system's number in their text alone.
    found = re.search(r"\[errno (\d+)\]", str(error), flags=re.IGNORECASE)
    return error.errno or (int(found[1]) if found else None)


def _hint(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free some space and run again: what is finished is kept"
    return "name a folder that you may write to"
