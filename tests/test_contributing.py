"""The package that CONTRIBUTING shows works as written: a codec, a detector, a dataset, a metric and a training."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

import icm_bench
from icm_bench.curves.comparison import fixed_accuracies
from icm_bench.metrics.metric import metric_of
from icm_bench.report.table import of_fixed_accuracies
from icm_bench.testing import check_codec, check_detector
from tests.helpers.plugin import distribute, import_from

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the page's modules and entry points as a third party's distribution would be."""
    for source in re.findall(r'^```python\n(""".*?)^```', PAGE, flags=re.DOTALL | re.MULTILINE):
        (tmp_path / source[3:].partition(":")[0]).write_text(source)
    groups: dict[str, dict[str, str]] = {}
    for text in re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE):
        if text.startswith("# "):
            (tmp_path / text[2:].partition("\n")[0]).write_text(text)
            continue
        groups |= tomllib.loads(text)["project"]["entry-points"]
    (tmp_path / "squares").mkdir()
    import_from(monkeypatch, distribute(tmp_path, "mine", groups))
    return tmp_path


def module(name: str) -> Any:
    return importlib.import_module(name)


def test_the_codec_and_the_detector_pass_the_conformance_suites(package: Path) -> None:
    check_codec(module("my_codec").Palette)
    check_detector(module("my_detector").Bright)


def test_a_run_measures_the_codec_on_the_dataset_by_the_detector(package: Path) -> None:
    dataset = icm_bench.open_dataset("squares", data_root=package / "squares")
    summary = icm_bench.run(
        dataset,
        task="detection",
        codecs=["palette"],
        metrics=["contrast"],
        results=package / "results",
        runs=package / "runs",
        workers=1,
        bootstrap=10,
    )
    (result,) = summary.results
    assert (result.codec, result.detector, result.dataset) == ("palette", "bright", "squares")
    assert result.meta["uncompressed"]["map"] == pytest.approx(100)
    assert result.meta["metrics"]["contrast"] == {"label": "Contrast", "unit": "%", "version": "contrast 1"}
    contrast = [value for value in result.results["contrast"] if value is not None]
    assert len(contrast) == len(result.qualities)
    assert all(0 < value <= 100 for value in contrast)
    for value, (low, high) in zip(contrast, result.meta["intervals"]["contrast"], strict=True):
        assert low <= value <= high
    assert metric_of("contrast").axis == "Contrast / %"
    table = of_fixed_accuracies(fixed_accuracies(summary.results, [50.0], metric="contrast"))
    assert table.title.startswith("Bits per pixel at a fixed Contrast: ")


@pytest.mark.slow
def test_the_training_learns_and_writes_what_its_codec_loads(package: Path) -> None:
    module("my_dataset").Squares.open(data_root=package / "squares")
    (line,) = re.findall(r"`icm-bench (train my_recipe[^`]*)`", PAGE)
    command = [sys.executable, "-m", "icm_bench.cli", *line.split()]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    mean = load_file(package / "training" / "mean-color.safetensors")["mean"]
    assert (mean > 0.1).all()
