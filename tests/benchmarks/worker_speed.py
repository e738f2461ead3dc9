"""Compare runs on the processor alone: one worker, two, and two of another version of the package.

    python tests/benchmarks/worker_speed.py [--images 64] [--before CHECKOUT]

It is the demo's job with fewer rate points. Beyond start-up means without what the same command takes when nothing is
left to measure.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.benchmarks.stand_in import ROOT, Watched, environment, parser_of, run_command, seconds, watched


def main() -> None:
    """Print wall and processor time of each run, and their ratios."""
    parser = parser_of(__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of the version to compare with")
    given = parser.parse_args()
    designs = [("two workers", ROOT, 2), ("one worker", ROOT, 1)]
    if given.before:
        designs.insert(0, ("two workers, before", given.before.resolve(), 2))
    beyond: dict[str, float] = {}
    measuring: dict[str, float] = {}
    found: dict[str, Watched] = {}
    with tempfile.TemporaryDirectory() as name:
        for design, root, workers in designs:
            place = Path(name) / design.replace(" ", "-")
            variables = environment(place, root)
            arguments = ["--codecs", given.codecs, "--limit", str(given.images), "--device", "cpu"]
            arguments += [part for item in given.qualities for part in ("--qualities", item)]
            arguments += [
                "--workers",
                str(workers),
                "--runs",
                f"{place}/runs",
                "--results",
                f"{place}/results",
            ]
            found[design] = made = watched(run_command(*arguments), variables)
            again = watched(run_command(*arguments), variables)
            beyond[design] = made.wall_s - again.wall_s
            measuring[design] = beyond[design] - seconds(made.output, "score")
            print(
                f"{design}: {made.wall_s:.1f} s ({made.core_s:.1f} core-seconds), beyond start-up"
                f" {beyond[design]:.1f} s, without scoring {measuring[design]:.1f} s",
                flush=True,
            )
    print(f"one worker / two workers beyond start-up: {beyond['one worker'] / beyond['two workers']:.2f}")
    print(f"  without scoring: {measuring['one worker'] / measuring['two workers']:.2f}")
    if given.before:
        ratio = found["two workers"].wall_s / found["two workers, before"].wall_s
        print(f"two workers / two workers, before: {ratio:.3f}")


if __name__ == "__main__":
    main()
