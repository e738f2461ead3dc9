"""Kill a run at random moments, by several signals and in several places, and compare what a last run leaves.

``python tests/campaigns/kills.py --count 100 --seed 1`` kills the command, one of its workers, one of its external
programs, or all of them at once. A run that ends before it is killed does not count. Whenever one ends well, its curves
must be those of a run that nobody disturbed, and no process may be left.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from campaign import parser, timed
from drawn_run import COMMAND, arguments, curve_files, prepare

CODECS = ("fake,jpeg,vvc:preset=faster", ["fake=1,5", "jpeg=20", "vvc:preset=faster=47"])
TOKEN = "ICM_BENCH_CAMPAIGN"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PLACES = ("command", "worker", "program", "all")
ENDS_S = 120.0


class Campaign:
    """Runs in a folder, killed and compared."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = np.random.default_rng(seed)
        self.token = f"{os.getpid()}-{seed}"
        self.environment = {**prepare(folder), TOKEN: self.token}
        self.failures: list[str] = []
        self.kills: Counter[str] = Counter()
        self.n_equal = 0
        began = time.monotonic()
        process = self.start(folder / "reference")
        if process.wait():
            raise SystemExit("the run fails undisturbed")
        self.whole_s = time.monotonic() - began
        self.reference = curve_files(folder / "reference")

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """Start the run."""
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*COMMAND, *arguments(self.folder, folder, *CODECS), "--workers", "2"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def members(self, root: int) -> dict[str, list[int]]:
        """Return the living processes of the run by what they are."""
        found: dict[str, list[int]] = {place: [] for place in PLACES}
        for path in Path("/proc").iterdir():
            if not path.name.isdigit():
                continue
            try:
                if f"{TOKEN}={self.token}".encode() not in (path / "environ").read_bytes().split(b"\0"):
                    continue
                line, state = (path / "cmdline").read_bytes(), (path / "stat").read_text().rsplit(")", 1)[1]
            except OSError:
                continue
            if state.split()[0] == "Z":
                continue
            pid = int(path.name)
            kind = "command" if pid == root else "worker" if b"spawn_main" in line else "program"
            found["all"].append(pid)
            if b"ffmpeg" in line or kind != "program":
                found[kind].append(pid)
        return found

    def kill_once(self) -> bool:
        """Start a run, or go on with one, and kill something of it; tell whether it came to that."""
        process = self.start(self.folder / "killed")
        time.sleep(self.random.uniform(0.0, self.whole_s))
        number = SIGNALS[int(self.random.integers(0, len(SIGNALS)))]
        place = PLACES[int(self.random.integers(0, len(PLACES)))]
        is_running = process.poll() is None
        victims = self.members(process.pid)[place] or [process.pid] if is_running else []
        if place not in ("all", "command"):
            victims = victims[:1]
        for pid in victims:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        self.settle(process, f"{place} by {number.name}")
        if victims:
            self.kills[f"{place} {number.name}"] += 1
        return bool(victims)

    def settle(self, process: subprocess.Popen[bytes], what: str) -> None:
        """Wait until the run and all that it started are gone; compare its curves where it ended well."""
        try:
            status = process.wait(timeout=ENDS_S)
        except subprocess.TimeoutExpired:
            self.failures.append(f"{what}: the command goes on")
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        deadline = time.monotonic() + 30
        while (left := self.members(process.pid)["all"]) and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid in left:
            self.failures.append(f"{what}: a process is left")
            os.kill(pid, signal.SIGKILL)
        if status == 0:
            self.compare(what)

    def compare(self, what: str) -> None:
        """Compare the curves of a run that has ended well with the reference's, and begin anew."""
        found = curve_files(self.folder / "killed")
        names = {name for name, _ in found.items() ^ self.reference.items()}
        if names:
            self.failures.append(f"{what}: other curves: {', '.join(sorted(names))}")
        else:
            self.n_equal += 1
        leftovers = [*(self.folder / "killed").rglob("*.tmp")]
        if leftovers and what == "at the end":
            self.failures.append(f"{len(leftovers)} temporary files are left")
        shutil.rmtree(self.folder / "killed")


def main() -> int:
    """Kill so often, finish, and print what was found."""
    options = parser(__doc__, 100).parse_args()
    # A shell has what it starts in the background ignore SIGINT, and what that starts as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), options.seed)
        n_kills = 0
        while n_kills < options.count and time.monotonic() - began < 60 * options.minutes:
            n_kills += campaign.kill_once()
        campaign.settle(campaign.start(campaign.folder / "killed"), "at the end")
    kinds = ", ".join(f"{name} {n}" for name, n in sorted(campaign.kills.items()))
    outcome = f"{campaign.n_equal} runs ended with the bytes of an undisturbed one, {len(campaign.failures)} failures"
    timed(f"{n_kills} kills ({kinds})", outcome, began)
    for failure in campaign.failures:
        print(failure)
    return int(bool(campaign.failures) or not campaign.n_equal)


if __name__ == "__main__":
    sys.exit(main())
