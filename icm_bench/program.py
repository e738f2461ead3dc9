"""Run external programs: each in a folder of its own, with a time limit, and with its output checked."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from icm_bench.error import ProgramError
from icm_bench.file import file_digest

_WATCHER = """
trap '' HUP INT TERM
while read -r sign group folder; do
    if [ "$sign" = + ]; then
        set -- "$@" "$group" "$folder"
        continue
    fi
    left=$#
    while [ "$left" -gt 0 ]; do
        [ "$1" = "$group" ] || set -- "$@" "$1" "$2"
        shift 2
        left=$((left - 2))
    done
done
while [ $# -gt 0 ]; do
    kill -s KILL -- "-$1"
    rm -rf -- "$2"
    shift 2
done
"""
"""A shell that is told which programs begin (+) and end (-), and kills those that still run when this process dies."""


@dataclass(frozen=True)
class Call:
    """One run of an external program in a new, empty folder that is its working directory.

    Attributes:
        arguments: The program (a path or a name on PATH) and its arguments; files are named relative to the
            folder.
        inputs: Content of the files that stand in the folder before the program starts, by name.
        output: The file in the folder that the program writes; None where its printed text is wanted.
        n_bytes: The exact size of the output; None for any size but zero.
        telling: Which line of what a failed program printed the error quotes: the first or the last of those that speak
            of an error, or of all lines where none does.
        success: Exit statuses that mean success.
        timeout_s: Seconds after which the program and all that it started are killed.
        environment: Variables set in addition to those of this process.
    """

    arguments: Sequence[str]
    inputs: Mapping[str, bytes] = field(default_factory=dict)
    output: str | None = None
    n_bytes: int | None = None
    telling: Literal["first", "last"] = "last"
    success: Sequence[int] = (0,)
    timeout_s: float = 600.0
    environment: Mapping[str, str] = field(default_factory=dict)


def locate(name: str, *, hint: str) -> str:
    """Return the absolute path of an executable that is given as a path or as a name on PATH.

    Raises:
        ProgramError: There is none; ``hint`` tells the reader how to get it.
    """
    path = shutil.which(name)
    if path is None:
        raise ProgramError("no such program", where=name, hint=hint)
    return str(Path(path).resolve())


@functools.cache
def version_of(
    name: str,
    asking: tuple[str, ...],
    pattern: str,
    files: tuple[str, ...],
    *,
    success: tuple[int, ...] = (0,),
) -> str:
    """Return a program's version as it tells it, and the start of the SHA-256 of each file that may change a result.

    Args:
        name: What the program is called.
        asking: The command line that makes it tell its version.
        pattern: Regular expression whose first group is the version.
        files: The executables and their settings.
        success: The exit statuses with which it ends.

    Raises:
        ProgramError: It does not run.
    """
    said = run(Call(asking, success=success, timeout_s=60.0)).decode(errors="replace")
    found = re.search(pattern, said)
    number = "of unknown version" if found is None else found[1]
    digests = (file_digest(Path(file))[:12] for file in files)
    return f"{name} {number} (sha256 {' '.join(digests)})"


def run(call: Call) -> bytes:
    """Run a program and return what it wrote: its output file or, where the call names none, what it printed.

    The folder is removed and every process that the program started is ended whatever happens, also where this
    process is killed. A program that somebody kills (the system does, where memory is short) is run once more.

    Raises:
        ProgramError: The program is missing, exits with a status other than 0, is ended by a signal,
            outlives its time, or writes nothing or another size than asked for; the message ends with a line
            that it printed. Or there is no room for temporary files.
    """
    program = Path(call.arguments[0]).name
    try:
        for _ in range(2):
            with tempfile.TemporaryDirectory(prefix="icm-bench-", ignore_cleanup_errors=True) as folder:
                output = _run_in(Path(folder), call)
            if output is not None:
                return output
    except OSError as error:
        raise ProgramError(
            f"its temporary folder cannot be used ({error.strerror})",
            where=program,
            hint="make room there, or set TMPDIR to another folder",
        ) from error
    raise ProgramError(
        "was killed (SIGKILL), and again when it was run once more",
        where=program,
        hint="free some memory, or run fewer at once (--workers)",
    )


def _run_in(folder: Path, call: Call) -> bytes | None:
    """Return what a program wrote; None where it was killed."""
    for name, content in call.inputs.items():
        (folder / name).write_bytes(content)
    log = _watch(folder, call)
    return log if log is None or call.output is None else _read_output(folder / call.output, call, log)


def _watch(folder: Path, call: Call) -> bytes | None:
    program = Path(call.arguments[0]).name
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                list(call.arguments),
                cwd=folder,
                env={**os.environ, **call.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ProgramError(f"cannot be started ({error.strerror})", where=call.arguments[0]) from error
        try:
            with _ends_with_us(process.pid, folder):
                ended = _ends_in_time(process.pid, call.timeout_s)
        finally:
            status = _kill_group(process)
        log.seek(0)
        text = log.read()
    if not ended:
        raise ProgramError(f"killed because it was still running after {call.timeout_s:g} s", where=program)
    if status == -signal.SIGKILL:
        return None
    if status not in call.success:
        raise ProgramError(f"{_describe(status)}{_told(text, call)}", where=program)
    return text


@contextlib.contextmanager
def _ends_with_us(group: int, folder: Path) -> Iterator[None]:
    """End a process group and remove its folder if this process is killed meanwhile."""
    with _WATCHER_LOCK:
        watcher = _start_watcher(os.getpid())
    _tell(watcher, f"+ {group} {folder}")
    try:
        yield
    finally:
        _tell(watcher, f"- {group}")


def _tell(watcher: subprocess.Popen[bytes], line: str) -> None:
    with contextlib.suppress(OSError), _WATCHER_LOCK:
        os.write(watcher.stdin.fileno(), os.fsencode(line) + b"\n")  # type: ignore[union-attr]


_WATCHER_LOCK = threading.Lock()


@functools.cache
def _start_watcher(pid: int) -> subprocess.Popen[bytes]:
    """Start the one watcher of this process; a forked child has another."""
    # A process that is killed cannot end what it started, and a parent-death signal reaches no grandchildren.
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", _WATCHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    atexit.register(_dismiss, watcher, pid)
    return watcher


def _dismiss(watcher: subprocess.Popen[bytes], pid: int) -> None:
    if pid == os.getpid():
        watcher.communicate()


def _ends_in_time(pid: int, timeout_s: float) -> bool:
    # Not subprocess's own wait: it would reap the program, and its group's number could then be another's.
    begin = time.monotonic()
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        waited_s = time.monotonic() - begin
        if waited_s >= timeout_s:
            return False
        time.sleep(min(max(waited_s / 20.0, 0.001), 0.1))
    return True


def _kill_group(process: subprocess.Popen[bytes]) -> int:
    # After success too: the program may have left processes of its group running.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _read_output(path: Path, call: Call, log: bytes) -> bytes:
    program = Path(call.arguments[0]).name
    content = path.read_bytes() if path.is_file() else b""
    if not content:
        raise ProgramError(f"wrote nothing{_told(log, call)}", where=program)
    if call.n_bytes is not None and len(content) != call.n_bytes:
        raise ProgramError(
            f"wrote {len(content)} bytes where {call.n_bytes} were due{_told(log, call)}", where=program
        )
    return content


def _describe(status: int) -> str:
    if status >= 0:
        return f"failed with exit status {status}"
    try:
        return f"crashed with {signal.Signals(-status).name}"
    except ValueError:
        return f"crashed with signal {-status}"


def _told(log: bytes, call: Call, limit: int = 300) -> str:
    lines = [line.strip() for line in log.decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        return ""
    # What a program says of an error need not stand first or last: its two streams are buffered apart.
    lines = [line for line in lines if "error" in line.lower()] or lines
    line = lines[0] if call.telling == "first" else lines[-1]
    return f": {line[-limit:]}"
