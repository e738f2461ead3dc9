"""A small run of real codecs that campaigns interrupt and damage: drawn images, and the fakes of the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.helpers.blob import draw_blobs
from tests.helpers.plugin import FAKES, distribute
from tests.helpers.small_run import curve_files as written

COMMAND = [sys.executable, "-m", "icm_bench.cli", "run"]


def prepare(folder: Path) -> dict[str, str]:
    """Draw images with coloured rectangles, annotated; return the environment in which the fakes are plug-ins."""
    (folder / "images").mkdir()
    draw_blobs(folder / "images", sides=(60, 90))
    site = distribute(folder / "site", "fakes", FAKES)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def annotated(folder: Path) -> dict[str, Path]:
    """Return where the images and their annotations lie."""
    return {"images": folder / "images", "annotations": folder / "images" / "blobs.json"}


def arguments(data: Path, folder: Path, codecs: str, qualities: list[str]) -> list[str]:
    """Return the arguments of the run, with its results and stores in a folder."""
    ladders = [part for ladder in qualities for part in ("--qualities", ladder)]
    return [
        *(part for name, path in annotated(data).items() for part in (f"--{name}", str(path))),
        *("--detector", "fake", "--codecs", codecs, *ladders, "--device", "cpu"),
        *("--results", str(folder / "results"), "--runs", str(folder / "runs")),
    ]


def curve_files(folder: Path) -> dict[str, bytes]:
    """Return every result file by its name; not timings, which no two runs share, nor what a killed writer left."""
    return {name: data for name, data in written(folder).items() if not name.endswith(".tmp")}
