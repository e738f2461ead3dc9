"""Folders of the working tree, or of a git revision."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from icm_bench.error import UsageError
from icm_bench.file import below

_TIMEOUT_S = 120


@contextlib.contextmanager
def opened(text: str, default: Path) -> Iterator[Path]:
    """Yield a folder: the one of this name, or a copy of a revision's.

    A revision is written as ``REV`` or ``REV:FOLDER``, the folder relative to the working folder. A revision that has
    no such folder yields an empty one. The copy is removed afterwards.

    Args:
        text: A folder, or a revision.
        default: The folder of a revision that names none.

    Raises:
        UsageError: It is neither a folder nor a revision of the repository around the working folder.
        ResultError: A name in the revision leads out of its folder.
    """
    if text and Path(text).is_dir():
        yield Path(text)
        return
    revision, _, named = text.partition(":")
    commit = _commit(revision, text)
    with tempfile.TemporaryDirectory(prefix="icm-bench-") as temporary:
        folder = Path(temporary)
        _copy(commit, PurePosixPath(named or default.as_posix()), folder)
        yield folder


def _commit(revision: str, text: str) -> str:
    arguments = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    hint = "name a folder of results, or REV or REV:FOLDER of the repository around this folder"
    found = _git(arguments, f"'{text}'", hint, "is neither a folder nor a git revision")
    return found.decode("ascii").strip()


def _copy(commit: str, source: PurePosixPath, target: Path) -> None:
    where, hint = f"{commit[:12]}:{source}", "name a folder within the repository"
    listing = _git(["ls-tree", "-r", "-z", commit, "--", f"{source}/"], where, hint)
    for entry in filter(None, listing.split(b"\0")):
        described, _, name = entry.partition(b"\t")
        mode, kind, digest = described.decode("ascii").split()
        # Of a tree only plain files are taken: a link may point anywhere.
        if kind == "blob" and mode.startswith("100"):
            _write(digest, below(target, *PurePosixPath(os.fsdecode(name)).relative_to(source).parts))


def _write(digest: str, path: Path) -> None:
    content = _git(["cat-file", "blob", digest], f"git object {digest}", "fetch the whole revision")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _git(arguments: list[str], where: str, hint: str, what: str | None = None) -> bytes:
    """Return what git prints; where it fails, the error says what git says, or ``what``."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, timeout=_TIMEOUT_S, check=False)  # noqa: S607
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise UsageError(what or "git is missing or hangs", where=where, hint=hint) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise UsageError(what or (f"git failed ({said})" if said else "git failed"), where=where, hint=hint)
    return done.stdout
