"""Run many small jobs by local processes, by Dask and as parts: images a second, memory over time, cost of a shard.

    python tests/benchmarks/scale.py [--images 5000] [--dask 1000] [--parts 5]

The images are synthetic, 640 x 480; the codec is JPEG at one rate point, and the detector a stand-in that takes no
time. So what remains beside reading, coding and comparing is what a shard costs whoever hands it out. The last table
says what that cost means for VTM on COCO val2017.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.benchmarks.report_speed import lay_out_images
from tests.benchmarks.stand_in import Watched, environment, run_command, seconds, watched
from tests.helpers import options
from tests.helpers.dask_cluster import Cluster

STEPS = ("read", "encode", "decode", "check", "compare", "detect", "load")
VTM_CORE_HOURS, VTM_SHARDS, VTM_SLOWEST_S = 221.0, 6 * 625, 8 * 100.0
"""VTM on val2017: core-hours of six QPs at one scale by docs/anchors.md, shards, and about the dearest shard."""


def shard_ms(made: Watched, idle: Watched, n_shards: int, workers: int) -> float:
    """Return the milliseconds of a worker for each shard that are in no step, beyond start-up."""
    busy_s = sum(seconds(made.output, step) for step in STEPS)
    return 1000 * ((made.wall_s - idle.wall_s) * workers - busy_s) / n_shards


def main() -> None:
    """Print all of it."""
    parser = options.parser(__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--dask", type=int, default=1000, help="images of the run by Dask; 0 for none")
    parser.add_argument("--parts", type=int, default=5, help="of how many parts one is run")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        os.environ.update(environment(top))
        lay_out_images(top / "images", given.images, np.random.default_rng(1))

        def command(place: str, *options: str) -> list[str]:
            arguments = ["--images", f"{top}/images", "--annotations", f"{top}/images/instances.json"]
            arguments += ["--codecs", "jpeg", "--qualities", "jpeg=40", "--detector", "stand-in:ms=0"]
            arguments += ["--bootstrap", "0", "--device", "cpu"]
            return run_command(
                *arguments, "--runs", f"{top}/{place}/runs", "--results", f"{top}/{place}/results", *options
            )

        def report(what: str, n_images: int, place: str, *options: str, also: tuple[int, ...] = ()) -> float:
            made = watched(command(place, *options), os.environ, also)
            idle = watched(command(place, *options), os.environ, also)
            wall_s, n_shards = made.wall_s - idle.wall_s, 2 * -(-n_images // 8)
            cost_ms = shard_ms(made, idle, n_shards, given.workers)
            print(
                f"{what}: {n_images} images, each coded once and looked at twice, in {wall_s:.1f} s beyond"
                f" {idle.wall_s:.1f} s of start-up: {n_images / wall_s:.1f} images/s, {cost_ms:.1f} ms a shard\n"
                f"  {made.spans()}"
                + (
                    f", client {1000 * (made.core_s - idle.core_s) / n_shards:.1f} ms a shard" if also else ""
                ),
                flush=True,
            )
            return cost_ms

        costs = {"local": report("local", given.images, "local", "--workers", str(given.workers))}
        if given.dask:
            costs["Dask"] = _by_dask(given, top, report)
        part = ("--workers", str(given.workers), "--part", f"1/{given.parts}")
        costs["parts"] = report("one part", given.images // given.parts, "parts", *part)
    _print_extrapolation(costs)


def _by_dask(given: argparse.Namespace, top: Path, report: Callable[..., float]) -> float:
    with Cluster(top) as cluster:
        for _ in range(given.workers):
            cluster.add_worker()
        pids = tuple(worker.pid for worker in cluster.workers)
        options = ("--limit", str(given.dask), "--dask", cluster.address)
        return report("Dask", given.dask, "dask", *options, also=pids)


def _print_extrapolation(costs: dict[str, float]) -> None:
    """Print how long VTM would take: what a shard costs is shared by the cores, and the last shard is waited for."""
    print(
        f"VTM on val2017: {VTM_CORE_HOURS:.0f} core-hours of coding, {VTM_SHARDS} shards; hours by number of cores"
    )
    print(f"| cores | coding / cores | {' | '.join(costs)} | with the slowest shard last |")
    print("| ---: " * (3 + len(costs)) + "|")
    for cores in (16, 64, 256, 1024):
        hours = VTM_CORE_HOURS / cores
        each = [hours + cost / 3.6e6 * VTM_SHARDS / cores for cost in costs.values()]
        values = (hours, *each, max(each) + VTM_SLOWEST_S / 3600)
        print(f"| {cores} | {' | '.join(f'{value:.2f}' for value in values)} |")


if __name__ == "__main__":
    main()
