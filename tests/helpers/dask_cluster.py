"""A Dask cluster on this machine, as it would be on many: a scheduler and workers, each a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path


class Cluster:
    """A scheduler and workers, which end with the block that they are used in.

    Args:
        folder: Where the scheduler's address and the log are written.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "scheduler.json"
        self._log = (folder / "log").open("w")
        self._scheduler = self._start("dask_scheduler", "--host", "127.0.0.1", "--port", "0")
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        deadline = time.monotonic() + 120
        while not self._file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self._scheduler):
            process.kill()
            process.wait()
        self._log.close()

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        common = ["--scheduler-file", str(self._file), "--no-dashboard", *arguments]
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{name}", *common], stdout=self._log, stderr=self._log
        )

    @property
    def address(self) -> str:
        """Where the scheduler listens."""
        return str(json.loads(self._file.read_text())["address"])

    def add_worker(self, *arguments: str) -> None:
        """Start a worker of one thread."""
        self.workers.append(self._start("dask_worker", "--nthreads", "1", "--no-nanny", *arguments))

    def kill(self, index: int) -> int:
        """Kill a worker outright, and return its exit status."""
        self.workers[index].send_signal(signal.SIGKILL)
        return self.workers[index].wait()
