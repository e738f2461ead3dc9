"""External programs: run in a folder of their own, watched, and believed only once their output is seen."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from icm_bench.error import ProgramError


@dataclass(frozen=True)
class Call:
    """One run of an external program in a new, empty folder that is its working directory.

    Attributes:
        arguments: The program (a path or a name on PATH) and its arguments; files are named relative to the
            folder.
        inputs: Content of the files that stand in the folder before the program starts, by name.
        output: The file in the folder that the program is to write; None where its printed text is what is
            wanted.
        n_bytes: The exact size that the output must have; None where any size but zero will do.
        telling: Which line of what a failed program printed tells the cause, and ends the error's message.
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


def locate(name: str, *, mend: str) -> str:
    """Return the absolute path of an executable that is given as a path or as a name on PATH.

    Raises:
        ProgramError: There is none; ``mend`` tells the reader how to get it.
    """
    path = shutil.which(name)
    if path is None:
        raise ProgramError("no such program", where=name, mend=mend)
    return str(Path(path).resolve())


def run(call: Call) -> bytes:
    """Run a program and return what it wrote: its output file or, where the call names none, what it printed.

    The folder is removed and every process that the program started is ended whatever happens.

    Raises:
        ProgramError: The program is missing, exits with a status other than 0, is ended by a signal,
            outlives its time, or writes nothing or another size than asked for. The message ends with the
            program's last line.
    """
    with tempfile.TemporaryDirectory(prefix="icm-bench-", ignore_cleanup_errors=True) as folder:
        for name, content in call.inputs.items():
            (Path(folder) / name).write_bytes(content)
        log = _run_in(Path(folder), call)
        if call.output is None:
            return log
        return _read_output(Path(folder) / call.output, call, log)


def _run_in(folder: Path, call: Call) -> bytes:
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
            status = process.wait(call.timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ProgramError(
                f"killed because it was still running after {call.timeout_s:g} s", where=program
            ) from error
        finally:
            _end(process)
        log.seek(0)
        text = log.read()
    if status not in call.success:
        raise ProgramError(f"{_describe(status)}{_told(text, call)}", where=program)
    return text


def _end(process: subprocess.Popen[bytes]) -> None:
    # The group outlives its leader where the program left children behind, so it is ended in every case.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


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
    line = lines[0] if call.telling == "first" else lines[-1]
    return f": {line[-limit:]}"
