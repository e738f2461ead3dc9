"""A small run of real codecs that campaigns interrupt and damage: drawn images, and the fakes of the package."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from icm_bench.testing import FakeDetector, photograph

N_IMAGES = 20
COMMAND = [sys.executable, "-m", "icm_bench.cli", "run"]
FAKES = (
    "[icm_bench.codecs]\nfake = icm_bench.testing:FakeCodec\n"
    "[icm_bench.detectors]\nfake = icm_bench.testing:FakeDetector\n"
)


def prepare(folder: Path) -> dict[str, str]:
    """Draw images with coloured rectangles, annotated; return the environment in which the fakes are plug-ins."""
    info = folder / "site" / "fakes-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fakes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(FAKES)
    images, annotations = [], []
    random = np.random.default_rng(7)
    (folder / "images").mkdir()
    for identifier in range(1, N_IMAGES + 1):
        width, height = (int(side) for side in random.integers(60, 90, 2))
        image = photograph(width, height, seed=identifier) // 2 + 60
        x, y, side = (int(each) for each in random.integers(8, 30, 3))
        color = int(random.integers(0, 3))
        image[y : y + side, x : x + side, color] = 250
        Pillow.fromarray(image).save(folder / "images" / f"{identifier:02d}.png")
        images.append(
            {"id": identifier, "file_name": f"{identifier:02d}.png", "width": width, "height": height}
        )
        annotations.append(
            {
                "id": identifier,
                "image_id": identifier,
                "category_id": color + 1,
                "bbox": [x, y, side, side],
                "area": side * side,
                "iscrowd": 0,
            }
        )
    categories = [{"id": key, "name": name} for key, name in FakeDetector.categories.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "drawn.json").write_text(json.dumps(content))
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def arguments(data: Path, folder: Path, codecs: str, qualities: list[str]) -> list[str]:
    """Return the arguments of the run, with its results and stores in a folder."""
    ladders = [part for ladder in qualities for part in ("--qualities", ladder)]
    return [
        *("--images", str(data / "images"), "--annotations", str(data / "drawn.json"), "--detector", "fake"),
        *("--codecs", codecs, *ladders, "--device", "cpu"),
        *("--results", str(folder / "results"), "--runs", str(folder / "runs")),
    ]


def curve_files(folder: Path) -> dict[str, bytes]:
    """Return every result file by its name; not timings, which no two runs share, nor what a killed writer left."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted((folder / "results").rglob("*"))
        if path.is_file() and not path.name.endswith((".timings.json", ".png", ".tmp"))
    }
