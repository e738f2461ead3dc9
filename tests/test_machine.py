"""How much of a machine a process may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from icm_bench.machine import n_cores, one_thread

QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(128)))


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/job/step\n", {"job/cpu.max": "400000 100000", "job/step/cpu.max": "max 100000"}, 4),
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/of/the/host\n", {"cpu.max": "300000 100000"}, 3),
        ("4:memory:/a\n3:cpu,cpuacct:/a\n", {f"cpu/a/{QUOTA}": "50000", f"cpu/a/{PERIOD}": "100000"}, 1),
        ("3:cpu:/a\n", {f"cpu/a/{QUOTA}": "-1", f"cpu/a/{PERIOD}": "100000"}, 128),
        ("", {}, 128),
    ],
)
def test_a_control_groups_quota_bounds_the_cores(
    tmp_path: Path, groups: str, files: dict[str, str], expected: int
) -> None:
    write(tmp_path / "proc" / "self" / "cgroup", groups)
    for name, text in files.items():
        write(tmp_path / "sys" / "fs" / "cgroup" / name, text + "\n")
    assert n_cores(tmp_path) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_the_affinity_bounds_the_cores() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert n_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_libraries_compute_on_one_thread_and_on_as_many_as_before_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with one_thread():
        assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (1, "1")
    assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (2, "2")
    torch.set_num_threads(before)
