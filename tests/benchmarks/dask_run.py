"""Run on a Dask cluster of three workers on this machine, end some of its processes, and compare with local processes.

    python tests/benchmarks/dask_run.py [--images 64] [--qualities vvc=42 ...]

One worker offers a GPU. Three runs: undisturbed; with two workers killed; with the client killed and started again.
Every image that is encoded is counted. Only what was in flight may be encoded twice: two shards of eight images for
each worker of the cluster, each time that one of its processes is killed.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.counted import COUNT_FILE, PROVIDERS, tally
from tests.benchmarks.stand_in import command_of, environment, parser_of, watched
from tests.helpers.dask_cluster import Cluster
from tests.helpers.small_run import curve_files

GPU = ("--resources", "GPU=1")


@contextmanager
def three_workers(folder: Path) -> Iterator[Cluster]:
    """Start a scheduler and three workers, the last with a GPU, and end them."""
    folder.mkdir()
    with Cluster(folder) as cluster:
        for arguments in ((), (), GPU):
            cluster.add_worker(*arguments)
        yield cluster


def shards(folder: Path) -> int:
    """Return how many shards are finished."""
    return len(list((folder / "runs").glob("coded/**/*.parquet")))


def wait_for(folder: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until so many shards are finished, or the run has ended."""
    while process.poll() is None and shards(folder) < count:
        time.sleep(0.05)


def main() -> None:
    """Print what each run encoded, and whether its curves are those of local processes."""
    parser = parser_of(__doc__)
    parser.add_argument("--detector", default="fasterrcnn_scenes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        count = top / "count"
        os.environ.update(environment(top, providers=PROVIDERS))
        os.environ[COUNT_FILE] = str(count)

        def command(folder: Path, *options: str) -> list[str]:
            fixed = ("--detector", given.detector, "--bootstrap", "50")
            return command_of(given, folder, *fixed, *options)

        here = watched(command(top / "here", "--workers", "2"), os.environ)
        total = shards(top / "here")
        print(f"local processes: {tally(count)}, {total} shards, {here.wall_s:.0f} s", flush=True)
        expected = curve_files(top / "here")

        def report(what: str, folder: Path) -> None:
            is_same = curve_files(folder) == expected
            print(f"{what}: {tally(count)}; the same bytes: {is_same}", flush=True)

        with three_workers(top / "a") as cluster:
            watched(command(top / "whole", "--dask", cluster.address), os.environ)
            report("Dask", top / "whole")

            client = subprocess.Popen(command(top / "again", "--dask", cluster.address))
            wait_for(top / "again", total // 2, client)
            client.kill()
            client.wait()
            print(f"client killed after {shards(top / 'again')} shards", flush=True)
            watched(command(top / "again", "--dask", cluster.address), os.environ)
            report("Dask, client killed and started again", top / "again")

        with three_workers(top / "b") as cluster:
            client = subprocess.Popen(command(top / "killed", "--dask", cluster.address))
            for victim, share in ((0, 3), (2, 2)):  # a coder, then the one with the GPU
                wait_for(top / "killed", total // share, client)
                cluster.kill(victim)
                cluster.add_worker(*(GPU if victim == 2 else ()))
                print(f"worker killed after {shards(top / 'killed')} shards", flush=True)
            if client.wait():
                raise SystemExit("the run failed")
            report("Dask, two workers killed", top / "killed")


if __name__ == "__main__":
    main()
