"""Runs on a Dask cluster: a scheduler and worker processes on this machine, as they would be on many."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from icm_bench import limit
from icm_bench.dataset import Dataset
from icm_bench.error import UsageError
from tests.helpers.dask_cluster import Cluster
from tests.helpers.small_run import curve_files, measure

pytest.importorskip("distributed", reason="the extra cluster is not installed")
pytestmark = [pytest.mark.usefixtures("plugins"), pytest.mark.slow]


@pytest.fixture
def cluster(tmp_path: Path, plugins: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as cluster:
        yield cluster


def test_a_cluster_gives_the_bytes_of_one_process_also_where_workers_die(
    blobs: Dataset, cluster: Cluster, tmp_path: Path
) -> None:
    measure(blobs, tmp_path / "here", workers=1)
    for arguments in ((), (), ("--resources", "GPU=1")):
        cluster.add_worker(*arguments)
    killed: list[int] = []

    def kill(done: int, *_: object) -> None:
        if done in (3, 6):
            killed.append(cluster.kill(len(killed)))
            cluster.add_worker()

    summary = measure(blobs, tmp_path / "there", dask=cluster.address, progress=kill)
    assert killed == [-signal.SIGKILL] * 2
    assert (summary.n_encoded, summary.n_detected) == (140, 160)
    assert curve_files(tmp_path / "there") == curve_files(tmp_path / "here")


def test_the_most_pixels_of_an_image_are_the_runs_on_every_worker(
    blobs: Dataset, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(limit.VARIABLE, "10")
    cluster.add_worker()
    monkeypatch.setenv(limit.VARIABLE, "1000000")
    assert measure(blobs.limit(3), tmp_path, dask=cluster.address).n_encoded == 21


def test_workers_of_several_threads_are_refused(blobs: Dataset, cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_worker("--nthreads", "2")
    with pytest.raises(UsageError, match="has several threads.*--nthreads 1"):
        measure(blobs.limit(3), tmp_path, dask=cluster.address)
