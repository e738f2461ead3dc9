"""Compare runs on the processor alone: one worker, two, and two of another version of the package.

    python tests/benchmarks/worker_speed.py [--images 64] [--rounds 3] [--before CHECKOUT]

It is the demo's job with fewer rate points. The runs take turns, and the least of all rounds counts. Start-up is what
the same command takes when nothing is left to measure; with several workers, it is also what each of them takes to
import and load networks, which a single one shares with planning. Both ratios are printed.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.stand_in import ROOT, command_of, environment, parser_of, seconds, watched


class Times(NamedTuple):
    """Seconds of a run.

    Attributes:
        wall: From beginning to end.
        idle: Of the same command when nothing is left to measure.
        load: What each worker takes to import and load networks.
        score: What scoring takes, in the process that plans.
        core: Of all its processes on a core.
    """

    wall: float
    idle: float
    load: float
    score: float
    core: float

    @property
    def beyond(self) -> float:
        """Wall time beyond the start of the process that plans."""
        return self.wall - self.idle

    @property
    def beyond_load(self) -> float:
        """Wall time beyond the start of all processes."""
        return self.beyond - self.load


def main() -> None:
    """Print wall and processor time of each run, and their ratios."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="a checkout of the version to compare with")
    given = parser.parse_args()
    designs = {"one worker": (ROOT, 1), "two workers": (ROOT, 2)}
    if given.before:
        designs["two workers, before"] = (given.before.resolve(), 2)
    found: dict[str, list[Times]] = {design: [] for design in designs}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(given.rounds):
            for design, (root, workers) in designs.items():
                place = Path(name) / design.replace(" ", "-")
                shutil.rmtree(place, ignore_errors=True)
                command = command_of(given, place, "--workers", str(workers))
                found[design].append(times(command, environment(place, root), workers))
                print(
                    f"{design}: "
                    + ", ".join(f"{k} {v:.1f} s" for k, v in found[design][-1]._asdict().items()),
                    flush=True,
                )
    least = {design: Times(*map(min, zip(*rounds, strict=True))) for design, rounds in found.items()}
    one, two = least["one worker"], least["two workers"]
    print(f"the least of {given.rounds} rounds:")
    print(f"one worker / two workers beyond start-up: {one.beyond_load / two.beyond_load:.2f}")
    print(f"  with the workers' imports and loading: {one.beyond / two.beyond:.2f}")
    if given.before:
        print(f"two workers / two workers, before: {two.wall / least['two workers, before'].wall:.3f}")


def times(command: list[str], variables: dict[str, str], workers: int) -> Times:
    """Run a command twice: from nothing, and when nothing is left to measure."""
    made = watched(command, variables)
    idle = watched(command, variables)
    load = seconds(made.output, "load") / workers
    return Times(made.wall_s, idle.wall_s, load, seconds(made.output, "score"), made.core_s)


if __name__ == "__main__":
    main()
