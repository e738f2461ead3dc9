"""Compare a run whose stages overlap with one whose processes do both stages, and with the least time there can be.

    python tests/benchmarks/overlap.py [--images 64] [--ms 30] [--codecs vvc,jpeg] [--cores 2]

The detector is a stand-in: it holds one exclusive "GPU" for some milliseconds an image and computes nothing. Images,
codecs, processes and stores are real. The least time is the larger of two: all coding shared out on the cores, and
all detection one after the other.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tests.benchmarks.stand_in import Watched, command_of, environment, parser_of, seconds, watched
from tests.helpers.small_run import curve_files

DESIGNS = {
    "stages apart": ("--workers", "{cores}", "--gpus", "1"),
    "both in each process": ("--workers", "{cores}", "--gpus", "0"),
    "both in one process": ("--workers", "1", "--gpus", "0"),
}


def main() -> None:
    """Print wall and processor time of each design beside the least wall time."""
    parser = parser_of(__doc__, "vvc,jpeg")
    parser.add_argument("--ms", type=int, default=30)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--designs", type=int, default=3, help="how many of the designs, the slowest last")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variables = environment(folder)
        found: dict[str, Watched] = {}
        for design, options in list(DESIGNS.items())[: given.designs]:
            place = folder / design.replace(" ", "-")
            detector = ("--detector", f"stand-in:ms={given.ms}", "--bootstrap", "0")
            own = [text.format(cores=given.cores) for text in options]
            command = command_of(given, place, *detector, *own)
            found[design] = made = watched(command, variables)
            print(f"{design}: {made.wall_s:.1f} s, {made.core_s:.1f} core-seconds", flush=True)
            print("  " + next(line for line in made.output.splitlines() if "looked at" in line), flush=True)
            again = watched(command, variables)
            print(f"  of it, starting, planning and scoring: {again.wall_s:.1f} s", flush=True)
        first = next(iter(found.values()))
        steps = {
            step: seconds(first.output, step) for step in ("read", "encode", "decode", "check", "compare")
        }
        images = int(re.search(r"looked at (\d+)", first.output)[1])  # type: ignore[index]
        coding, detection = sum(steps.values()) / given.cores, images * given.ms / 1000
        print(f"coding / cores {coding:.1f} s, detection {detection:.1f} s")
        for design, made in found.items():
            print(f"{design}: {made.wall_s / max(coding, detection):.3f} of the larger")
        files = [curve_files(folder / design.replace(" ", "-")) for design in found]
        print("curves are the same bytes:", all(each == files[0] for each in files[1:]))


if __name__ == "__main__":
    main()
