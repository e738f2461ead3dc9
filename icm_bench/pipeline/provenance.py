"""Where a number comes from: versions, machine and commit."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "icm-bench",
    "numpy",
    "torch",
    "torchvision",
    "compressai",
    "pillow",
    "pycocotools",
    "onnxruntime",
    "imageio-ffmpeg",
    "pyarrow",
)
"""The distributions whose version may move a number."""


@cache
def versions() -> dict[str, str]:
    """Return the installed version of each of the packages that is installed, without importing it."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def machine() -> dict[str, str | int]:
    """Return what a timing depends on: processor, cores, system and Python."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


@cache
def commit() -> str | None:
    """Return the commit of the checkout that this package runs from, or None outside one."""
    asking = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(asking, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
