"""Time the interval of a BD-rate for each method, against one call of bjontegaard a replicate.

    OMP_NUM_THREADS=1 python tests/benchmarks/bdrate_speed.py [--resamples 1000]

Seconds are of the processor; they are taken in one run, and it is their ratios that mean something.
"""

from __future__ import annotations

import time
from typing import get_args

import bjontegaard
import numpy as np
from numpy.typing import NDArray

from icm_bench.curves.bdrate import prepared_bd_rate
from icm_bench.curves.estimate import Method, Settings
from icm_bench.curves.prepared import Prepared
from icm_bench.curves.replicates import Replicates
from tests.helpers import options

Floats = NDArray[np.float64]
COMPARED = ("pchip", "akima", "cubic")
ANCHOR = [0.1, 0.2, 0.35, 0.6, 1.0, 1.6]
ACCURACY = [20.0, 23.0, 26.0, 28.0, 30.0, 31.0]


def random_replicates(gain: float, n_resamples: int) -> Replicates:
    """Make up a codec's operating points as replicates move them."""
    rng = np.random.default_rng(0)
    bpp = np.array(ANCHOR)[:, np.newaxis] * np.exp(rng.normal(0, 0.02, n_resamples))
    accuracy = 30 + gain + 4 * np.log(bpp) - np.log(bpp) ** 2 + rng.normal(0, 0.4, n_resamples)
    return Replicates(bpp, {"map": accuracy + rng.normal(0, 0.05, bpp.shape)})


def _rising_point(replicates: Replicates, index: int) -> tuple[Floats, Floats]:
    """Return one replicate's curve, lifted where it would not rise: bjontegaard takes no other."""
    accuracy = np.maximum.accumulate(
        replicates.metrics["map"][:, index] + 1e-9 * np.arange(len(replicates.bpp))
    )
    return replicates.bpp[:, index], accuracy


def main() -> None:
    """Print the seconds and their ratios."""
    parser = options.parser(__doc__)
    parser.add_argument("--resamples", type=int, default=1000)
    n_resamples = parser.parse_args().resamples
    anchor, test = (random_replicates(gain, n_resamples) for gain in (0.0, 0.5))
    for method in get_args(Method):
        start_s = time.process_time()
        curves = (Prepared((ANCHOR, ACCURACY), Settings(method=method), each) for each in (anchor, test))
        found = prepared_bd_rate(*curves)
        ours_s = time.process_time() - start_s
        line = f"{method}: {ours_s:.3f} s, interval {found.low:.2f} to {found.high:.2f} %, {found.n_without} without"
        if method in COMPARED:
            start_s = time.process_time()
            for index in range(n_resamples):
                first, second = (_rising_point(each, index) for each in (anchor, test))
                bjontegaard.bd_rate(*first, *second, method=method, min_overlap=0)
            line += f"; {ours_s / (time.process_time() - start_s):.2f} of bjontegaard's"
        print(line)


if __name__ == "__main__":
    main()
