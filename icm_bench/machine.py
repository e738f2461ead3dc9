"""What this process may use of the machine, and how many threads its numerical libraries start."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What tells numerical libraries how many threads to start."""


def n_cores(root: Path = Path("/")) -> int:
    """Return how many processor cores this process may use: its affinity, bounded by its cgroup's quota.

    Args:
        root: Where ``proc`` and ``sys`` are looked for.
    """
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return max(1, min([len(affinity), *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the processor quota of each control group that this process is in, in cores."""
    groups = root / "sys" / "fs" / "cgroup"
    for line in _words(root / "proc" / "self" / "cgroup", separator="\n"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = groups / "cpu" if controllers else groups
        folder = top / path.lstrip("/")
        # In a container, the path may be the host's, and the group is what is mounted.
        for group in dict.fromkeys([folder, *folder.parents, top]):
            if group == top or top in group.parents:
                quota = _words(group / "cpu.max") or [
                    *_words(group / "cpu.cfs_quota_us"),
                    *_words(group / "cpu.cfs_period_us"),
                ]
                if len(quota) == 2 and quota[0] not in ("max", "-1"):
                    yield int(quota[0]) / int(quota[1])


def _words(path: Path, separator: str | None = None) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").strip().split(separator)
    except OSError:
        return []


def one_thread() -> contextlib.AbstractContextManager[None]:
    """Have numerical libraries compute on one thread, here and in processes that are started meanwhile.

    A network's outputs may differ in their last bits with the number of threads, so bitstreams and predictions are
    made, and made again, on one.
    """
    return threads(1)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Have numerical libraries compute on so many threads, here and in processes that are started meanwhile."""
    # Libraries read these once, when they are loaded: before a child could set them for itself.
    before = {variable: os.environ.get(variable) for variable in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(count)))
    torch = sys.modules.get("torch")
    n_before = torch.get_num_threads() if torch else n_cores()
    if torch:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                del os.environ[variable]
            else:
                os.environ[variable] = value
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(n_before)
