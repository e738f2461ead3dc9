"""Run a job in eight parts in random order, kill two, run two twice at once, and compare with one run.

    python tests/benchmarks/part_run.py [--images 64] [--parts 8] [--qualities vvc=42 ...]

Every image that is encoded is counted. It also says how long the longest part is, by the costs that were measured.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from icm_bench.dataset import open_dataset
from icm_bench.pipeline import outlook, store
from icm_bench.pipeline.plan import make_plan
from tests.benchmarks.counted import COUNT_FILE, PROVIDERS, tally
from tests.benchmarks.stand_in import command_of, environment, parser_of, watched
from tests.helpers.small_run import curve_files


def main() -> None:
    """Print what was encoded, whether the curves are the same, and the balance of the parts."""
    parser = parser_of(__doc__)
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--detector", default="fasterrcnn_scenes")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        count = top / "count"
        variables = environment(top, providers=PROVIDERS) | {COUNT_FILE: str(count)}

        def command(folder: Path, *options: str) -> list[str]:
            fixed = ("--detector", given.detector, "--bootstrap", "50", "--workers", "1")
            return command_of(given, folder, *fixed, *options)

        watched(command(top / "whole"), variables)
        print(f"one run: {tally(count)}", flush=True)
        order = list(range(1, given.parts + 1))
        random.Random(given.seed).shuffle(order)
        killed, twice = set(order[:2]), set(order[2:4])
        for number in order:
            part = command(top / "parts", "--part", f"{number}/{given.parts}")
            if number in killed:
                process = subprocess.Popen(part, env=variables, stdout=subprocess.DEVNULL)
                before = len(list(top.glob("parts/runs/coded/**/*.parquet")))
                while process.poll() is None:
                    time.sleep(0.02)
                    if len(list(top.glob("parts/runs/coded/**/*.parquet"))) > before:
                        process.kill()
                print(f"part {number}: killed", flush=True)
            both = (
                [subprocess.Popen(part, env=variables, stdout=subprocess.DEVNULL)] if number in twice else []
            )
            watched(part, variables)
            if any(process.wait() for process in both):
                raise SystemExit(f"part {number} failed")
            again = "twice at once" if both else "done"
            print(f"part {number}: {again}; {tally(count)}", flush=True)
        watched(command(top / "parts"), variables)
        is_same = curve_files(top / "parts") == curve_files(top / "whole")
        print(f"all together: {tally(count)}; the same bytes: {is_same}")
        sys.path.insert(0, str(top / "site"))  # where the stand-in is installed
        _print_balance(given, top / "parts" / "runs")


def _print_balance(given: argparse.Namespace, runs: Path) -> None:
    plan = make_plan(
        open_dataset("scenes", limit=given.images),
        task="detection",
        detector=given.detector,
        codecs=given.codecs.split(","),
        qualities=given.qualities,
        runs=runs,
        device="cpu",
    )
    declared, measured = [0.0] * given.parts, [0.0] * given.parts
    shards = plan.shards()
    for (point, shard), part in outlook.parts(plan, given.parts).items():
        megapixels = sum(image.width * image.height for image in shards[shard]) / 1e6
        declared[part - 1] += megapixels * point.s_per_megapixel
        if point.codec is not None:
            rows = store.read(plan.coded_path(point, shard), ["encode_s", "decode_s"]).to_pandas()
            measured[part - 1] += float(rows.to_numpy().sum())
    for what, costs in (("expected", declared), ("measured", measured)):
        print(f"longest part / mean of {what} cost: {max(costs) * len(costs) / sum(costs):.2f}")


if __name__ == "__main__":
    main()
