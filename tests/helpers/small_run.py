"""A run of two codecs by the fake detector, and the files of its curves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from icm_bench.dataset import Dataset, open_dataset
from icm_bench.pipeline.runner import Summary, run


def run_in(dataset: Dataset, folder: Path, **options: Any) -> Summary:
    """Measure codecs by the fake detector, in this process, into a folder, unless told otherwise."""
    own: dict[str, Any] = {"task": "detection", "bootstrap": 0, "workers": 1, "device": "cpu"}
    own["detector"] = None if options.get("task") == "fidelity" else "fake"
    own |= {"results": folder / "results", "runs": folder / "runs"}
    return run(dataset, **own | options)


def measure(dataset: Dataset, folder: Path, **options: object) -> Summary:
    """Measure seven operating points of two codecs."""
    codecs = {"codecs": ["fake", "jpeg:subsampling=444"], "qualities": ["jpeg:subsampling=444=5,60"]}
    return run_in(dataset, folder, **{"bootstrap": 50, **codecs, **options})


def changed(blobs: Path, folder: Path) -> Dataset:
    """Copy the drawn images, without the last of their objects."""
    shutil.copytree(blobs, folder)
    content = json.loads((folder / "blobs.json").read_text())
    content["annotations"].pop()
    (folder / "blobs.json").write_text(json.dumps(content))
    return open_dataset("coco-format", images=folder, annotations=folder / "blobs.json")


def curve_files(folder: Path) -> dict[str, bytes]:
    """Return every result file but the timings, which no two runs share, and the plots, which not every run draws."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted((folder / "results").rglob("*"))
        if path.is_file() and not path.name.endswith((".timings.json", ".png"))
    }
