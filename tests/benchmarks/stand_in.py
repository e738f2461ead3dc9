"""What the benchmarks of the pipeline share: a stand-in detector, and runs that are watched."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from icm_bench.datasets.scenes.form import FORMS
from icm_bench.detector import Prediction, Task
from icm_bench.image import Image
from tests.helpers import options
from tests.helpers.plugin import distribute

ROOT = Path(__file__).parents[2]
GPU_FILE = "ICM_BENCH_STAND_IN_GPU"
"""The variable that names the file whose lock stands for the one GPU."""


class StandIn:
    """A detector that holds the one GPU of a machine for a fixed time an image, and needs no processor meanwhile.

    Args:
        weights: Ignored.
        device: Ignored.
        ms: Milliseconds an image; 0 for no GPU at all.
    """

    name: ClassVar[str] = "stand-in"
    tasks: ClassVar[tuple[Task, ...]] = ("detection",)
    categories: ClassVar[Mapping[int, str]] = MappingProxyType(dict(enumerate(FORMS, start=1)))
    published: ClassVar[Mapping[Task, float]] = MappingProxyType({})

    def __init__(self, *, weights: Path | None = None, device: str = "cpu", ms: int = 30) -> None:
        del weights, device
        self._seconds = ms / 1000
        self._gpu = Path(os.environ[GPU_FILE]).open("a") if ms else None  # noqa: SIM115  (for the process's life)

    def predict(self, image: Image) -> list[Prediction]:
        """Return one box that follows from the pixels."""
        if self._gpu is not None:
            fcntl.flock(self._gpu, fcntl.LOCK_EX)
            time.sleep(self._seconds)
            fcntl.flock(self._gpu, fcntl.LOCK_UN)
        height, width = image.shape[:2]
        score = hashlib.sha256(image[::8, ::8].tobytes()).digest()[0] / 256
        return [{"category_id": 1, "bbox": [0.0, 0.0, width / 2, height / 2], "score": score}]

    def version(self) -> str:
        """Name the stand-in."""
        return "1"


def parser_of(description: str | None, codecs: str = "icm,vvc,jpeg") -> argparse.ArgumentParser:
    """Return a parser of how many images a run has, of which codecs, and at which rate points."""
    parser = options.parser(description)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--codecs", default=codecs)
    parser.add_argument("--qualities", action="append", default=[])
    return parser


def environment(
    folder: Path, root: Path = ROOT, providers: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Return the variables under which a checkout's package runs, installed or not, with the stand-in as a plug-in.

    Args:
        folder: Where what is to be installed is written.
        root: The checkout.
        providers: Other providers of the checkout's codecs, by name.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {group: dict(points) for group, points in project["entry-points"].items()}
    groups["icm_bench.codecs"].update(providers)
    site = distribute(folder / "site", "icm-bench", groups, "0")
    stand_in = {"icm_bench.detectors": {"stand-in": "tests.benchmarks.stand_in:StandIn"}}
    distribute(site, "stand-in", stand_in, "1")
    (folder / "gpu").touch()
    paths = [site, root, root / "codecs", root / "baselines", *filter(None, sys.path[1:])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "OMP_NUM_THREADS": "1",
        GPU_FILE: str(folder / "gpu"),
    }


@dataclass
class Watched:
    """A process that ran to its end.

    Attributes:
        wall_s: Wall time.
        core_s: Processor time of it and of all below it.
        memory: MiB that are resident of the parent and of each Python process below it, at each look.
        output: What it printed.
    """

    wall_s: float = 0.0
    core_s: float = 0.0
    memory: list[tuple[float, list[float]]] = field(default_factory=list)
    output: str = ""

    def spans(self) -> str:
        """Say the least and the most memory of the parent and of the workers, after the first tenth."""
        late = self.memory[len(self.memory) // 10 :]
        parent = [mib for mib, _ in late if mib]
        # What has less is only starting.
        workers = [mib for _, all_workers in late for mib in all_workers if mib > 40]
        return (
            f"parent {min(parent):.0f} to {max(parent):.0f} MiB, "
            f"workers {min(workers, default=0):.0f} to {max(workers, default=0):.0f} MiB"
        )


def watched(
    command: Sequence[str], variables: Mapping[str, str], also: Sequence[int] = (), look_s: float = 1.0
) -> Watched:
    """Run a command to its end and watch its processes, and others by their numbers.

    Raises:
        SystemExit: It failed; with what it printed.
    """
    found = Watched()
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=dict(variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    reader = threading.Thread(target=lambda: setattr(found, "output", process.stdout.read()))  # type: ignore[union-attr]
    reader.start()
    looked = 0.0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.perf_counter() - looked >= look_s:
            looked = time.perf_counter()
            found.memory.append(
                (_resident(process.pid), [_resident(pid) for pid in (*_workers(process.pid), *also)])
            )
        time.sleep(0.02)
    found.wall_s = time.perf_counter() - began
    found.core_s = usage.ru_utime + usage.ru_stime
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{found.output}")
    return found


def seconds(output: str, step: str) -> float:
    """Return what a run says that a step took, summed over its workers."""
    found = re.search(rf"\b{step} ([0-9.]+) s", output)
    return float(found[1]) if found else 0.0


def run_command(*arguments: str) -> list[str]:
    """Return the command line of a run; the package is that of the variables, not of the current folder."""
    return [sys.executable, "-P", "-m", "icm_bench.cli", "run", *arguments]


def command_of(given: argparse.Namespace, folder: Path, *more: str) -> list[str]:
    """Return the command line of a run that the options ask for, with its stores and results in a folder."""
    ladders = [part for item in given.qualities for part in ("--qualities", item)]
    return run_command(
        *("--codecs", given.codecs, "--limit", str(given.images), "--device", "cpu", *ladders, *more),
        *("--runs", f"{folder}/runs", "--results", f"{folder}/results"),
    )


def _workers(pid: int) -> Iterator[int]:
    """Yield the processes below one that run Python's spawned workers."""
    for child in _children(pid):
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                yield child


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def _resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
