"""A run of two codecs by the fake detector, and the files of its curves."""

from __future__ import annotations

from pathlib import Path

from icm_bench.dataset import Dataset
from icm_bench.pipeline.runner import Summary, run


def measure(dataset: Dataset, folder: Path, **options: object) -> Summary:
    """Measure seven operating points of two codecs."""
    return run(
        dataset,
        task="detection",
        detector="fake",
        codecs=["fake", "jpeg:subsampling=444"],
        qualities=["jpeg:subsampling=444=5,60"],
        bootstrap=50,
        results=folder / "results",
        runs=folder / "runs",
        **options,  # type: ignore[arg-type]
    )


def curve_files(folder: Path) -> dict[str, bytes]:
    """Return every result file but the timings, which no two runs share."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted((folder / "results").rglob("*"))
        if path.is_file() and not path.name.endswith(".timings.json")
    }
