"""Time the interval of a BD-rate for each method, against one call of bjontegaard a resample.

    OMP_NUM_THREADS=1 python tests/benchmarks/bdrate_speed.py [--resamples 1000]

Seconds are of the processor; they are taken in one run, and it is their ratios that mean something.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import bjontegaard
import numpy as np
from numpy.typing import NDArray

from icm_bench.curves.bdrate import Method
from icm_bench.curves.interval import bd_rate_interval

Floats = NDArray[np.float64]
COMPARED = ("pchip", "akima", "cubic")


@dataclass(frozen=True)
class Draws:
    """Rate and accuracy of six operating points."""

    bpp: Floats
    metrics: Mapping[str, Floats]


def random_draws(gain: float, n_resamples: int) -> Draws:
    """Draw a codec's operating points as resamples move them."""
    rng = np.random.default_rng(0)
    bpp = np.array([0.1, 0.2, 0.35, 0.6, 1.0, 1.6])[:, np.newaxis] * np.exp(rng.normal(0, 0.02, n_resamples))
    accuracy = 30 + gain + 4 * np.log(bpp) - np.log(bpp) ** 2 + rng.normal(0, 0.4, n_resamples)
    return Draws(bpp, {"map": accuracy + rng.normal(0, 0.05, bpp.shape)})


def _rising_point(draws: Draws, index: int) -> tuple[Floats, Floats]:
    """Return one resample's curve, lifted where it would not rise: bjontegaard takes no other."""
    accuracy = np.maximum.accumulate(draws.metrics["map"][:, index] + 1e-9 * np.arange(len(draws.bpp)))
    return draws.bpp[:, index], accuracy


def main() -> None:
    """Print the seconds and their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resamples", type=int, default=1000)
    n_resamples = parser.parse_args().resamples
    anchor, test = (random_draws(gain, n_resamples) for gain in (0.0, 0.5))
    for method in get_args(Method):
        start_s = time.process_time()
        found = bd_rate_interval(anchor, test, method=method)
        ours_s = time.process_time() - start_s
        line = f"{method}: {ours_s:.3f} s, interval {found.low:.2f} to {found.high:.2f} %, {found.n_without} without"
        if method in COMPARED:
            start_s = time.process_time()
            for index in range(n_resamples):
                first, second = (_rising_point(draws, index) for draws in (anchor, test))
                bjontegaard.bd_rate(*first, *second, method=method, min_overlap=0)
            line += f"; {ours_s / (time.process_time() - start_s):.2f} of bjontegaard's"
        print(line)


if __name__ == "__main__":
    main()
