"""What several test modules share: the fakes as installed plug-ins, and a small annotated set of images."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from icm_bench import cli
from icm_bench.dataset import Dataset, open_dataset
from tests.helpers.blob import draw_blobs
from tests.helpers.plugin import FAKES, distribute, import_from
from tests.helpers.site import serving

OUTSIDE = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what waits for a training as slow, and begin with the modules that have most slow tests.

    Begun last, one process would work on them while the others wait.
    """
    for item in items:
        if "trained" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    every = Counter(item.path for item in items)
    items.sort(key=lambda item: (-slow[item.path], -every[item.path]))


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Let what tests start be interrupted: a shell has it ignore SIGINT where the tests run in the background."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute on one thread: on small networks and busy machines two would mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """Keep to one core: commands then measure in their own process, and start none that must import all anew."""
    cores = sorted(os.sched_getaffinity(0))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    os.sched_setaffinity(0, {cores[number % len(cores)]})
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Find data from outside the repository by name, or skip the test and say which data are absent."""

    def find(name: str) -> Path:
        path = OUTSIDE / name
        if not path.exists():
            pytest.skip(f"no {name} in ../shared/data, beside the checkout")
        return path

    return find


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have temporary files made in a folder of the test's, and see that it is left empty."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The address of a server on this machine and the folder that it serves, with an empty cache."""
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    folder.mkdir()
    with serving(folder) as (url, _):
        yield url, folder


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the fakes that ship with the package, as a third party's distribution would."""
    folder = distribute(tmp_path / "plugins", "fakes", FAKES)
    import_from(monkeypatch, folder)
    return folder


@pytest.fixture(scope="session")
def blob_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Draw 20 photograph-like images with coloured rectangles, annotated in COCO format."""
    return draw_blobs(tmp_path_factory.mktemp("blobs"))


@pytest.fixture
def blobs(blob_files: tuple[Path, Path]) -> Dataset:
    """The drawn images as a dataset."""
    folder, file = blob_files
    return open_dataset("coco-format", images=folder, annotations=file)


@pytest.fixture(scope="session")
def command() -> list[str]:
    """The command line, as a fresh process."""
    return [sys.executable, "-m", "icm_bench.cli"]


@pytest.fixture
def command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process; return exit status, output and error output."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["icm-bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call
