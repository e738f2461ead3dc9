"""What is published: the wheel and the source distribution, built, and the wheel used without a checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_core"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not in a checkout"),
]


def call(*command: str | Path, folder: Path, **environment: str) -> str:
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(source: Path, target: Path, *options: str) -> Path:
    """Build without fetching anything; return the wheel."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    path = os.environ.get("PYTHONPATH", "")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        target,
        *options,
    ]
    call(*command, folder=source, PYTHONPATH=path)
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the repository tracks."""
    folder = tmp_path_factory.mktemp("source")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in tracked.decode().rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it is published: built from the source distribution."""
    return built(source, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the dependencies that run here, and the wheel in place of the checkout."""
    folder = tmp_path_factory.mktemp("clean") / "environment"
    call(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder.parent)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    for item in Path(sysconfig.get_path("purelib")).iterdir():
        is_ours = item.name.startswith(("icm_bench", "icm-bench", "_icm_bench", "__editable__"))
        if not is_ours and item.suffix != ".pth":
            (packages / item.name).symlink_to(item)
    pip = (folder / "bin" / "python", "-m", "pip")
    call(*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-compile", wheel, folder=folder)
    assert "icm-bench" not in call(folder / "bin" / "python", "-c", CHECK, folder=folder)
    return folder


CHECK = """
from importlib.metadata import requires
from importlib.metadata import version
from packaging.requirements import Requirement

for requirement in map(Requirement, requires("icm-bench")):
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        assert requirement.specifier.contains(version(requirement.name), prereleases=True), requirement
"""
"""Every dependency that the wheel names is there."""


def test_the_source_distribution_builds_the_wheel_of_the_checkout(
    source: Path, wheel: Path, tmp_path: Path
) -> None:
    direct = built(source, tmp_path / "direct", "--wheel")
    published, checked_out = (
        {item.filename: item.CRC for item in zipfile.ZipFile(path).infolist()} for path in (wheel, direct)
    )
    assert published == checked_out
    assert {name.partition("/")[0] for name in published if ".dist-info" not in name} == {
        "icm_bench",
        "icm_codecs",
        "icm_baselines",
    }


def test_the_wheel_runs_without_a_checkout(environment: Path, tmp_path: Path) -> None:
    python = environment / "bin" / "python"
    where = call(python, "-c", "import icm_bench, icm_codecs; print(icm_bench.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(environment)
    command = environment / "bin" / "icm-bench"
    version = call(python, "-c", "import icm_bench; print(icm_bench.__version__)", folder=tmp_path)
    assert call(command, "--version", folder=tmp_path) == f"icm-bench {version}"
    options = ("--limit", "4", "--codecs", "jpeg", "--qualities", "jpeg=10,50")
    printed = call(command, "run", *options, folder=tmp_path)
    assert "dataset scenes-4: 4 images" in printed
    assert (tmp_path / "results/scenes-4/detection/fasterrcnn_scenes/jpeg.json").is_file()


def test_the_wheel_runs_the_first_cell_of_the_tour(environment: Path, tmp_path: Path) -> None:
    cells = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    first = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    shown = f"{first.removesuffix('summary')}print(summary)"
    printed = call(environment / "bin" / "python", "-c", shown, folder=tmp_path)
    assert printed.startswith("Summary(jpeg, jpeg2000: encoded 24 ")
