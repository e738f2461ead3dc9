"""Worker processes: spawned, on one thread each, quiet on Ctrl-C, and ended with the run."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from icm_bench.error import IcmBenchError, UsageError
from icm_bench.machine import one_thread

_NO_MAIN_GUARD = 77
"""Exit status of a worker whose script starts the run anew where it is loaded."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's ``mallopt``."""


@contextlib.contextmanager
def process_pool(
    workers: int, *, environment: Mapping[str, str] | None = None, scratch: Path | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Return processes that compute on one thread each; an error ends them at once.

    Args:
        workers: How many.
        environment: Variables that are set in them.
        scratch: A folder that they remove where the parent was killed before it could.

    Raises:
        UsageError: The calling script starts the run anew in each process.
        IcmBenchError: A process died.
    """
    # Spawned, since a forked child of a process that has used threads or a GPU may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, start, (dict(environment or {}), scratch))
    with one_thread():
        try:
            pool.submit(os.getpid)  # starts the first process now
            yield pool
        except BaseException:
            # All that there are by now: the pool starts most of them later, and one that is left could wait for ever
            # for a lock that an ended one held.
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def death_of(pool: ProcessPoolExecutor) -> IcmBenchError:
    """Return the error for a pool that has lost a process: what ended it, and what to do."""
    processes = list((pool._processes or {}).values())
    for process in processes:
        process.join(timeout=5)
    codes = [process.exitcode for process in processes]
    if _NO_MAIN_GUARD in codes:
        return UsageError(
            "every worker process loads the script, and it starts the run again there",
            hint="put the call below the line: if __name__ == '__main__': (or give workers=1)",
        )
    killed = "killed" if -signal.SIGKILL in codes else "crashed"
    return IcmBenchError(
        f"a worker process died ({killed}, or out of memory)",
        hint="run again to continue, with fewer --workers if memory is short",
    )


def end_if_loaded_by_worker() -> None:
    """End this process where it is a worker that is still loading the script of its parent.

    The parent then says what the script lacks; here, nobody would read an error.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(_NO_MAIN_GUARD)


def start(environment: Mapping[str, str], scratch: Path | None) -> None:
    """Prepare a worker process: memory that is freed is kept, and it does not outlive its parent."""
    os.environ.update(environment)
    # A terminal's Ctrl-C goes to every process; the parent's word is the one that counts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_freed_memory()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent, scratch), daemon=True).start()


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed: giving it back and faulting it in anew takes a tenth of a detector's time."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
    mallopt(_M_TRIM_THRESHOLD, 2**30)


def _end_with(parent: Any, scratch: Path | None) -> None:
    # A pool's workers outlive a parent that is killed outright; they would go on using a core each.
    parent.join()
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)
