"""Intervals of estimates, from bootstrap replicates that every codec shares."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from icm_bench.curves.estimate import Estimate
from icm_bench.curves.interpolant import Floats
from icm_bench.error import UsageError

MOST_WITHOUT: Final = 0.05
"""Above this share of replicates without a value there is no interval: those that are left are not a fair sample."""


def interval(values: Floats, level: float = 0.95) -> tuple[float | None, float | None]:
    """Return the percentile bootstrap interval of an estimate (Efron, 1979).

    Args:
        values: One value a replicate; those that are NaN are left out.
        level: The share of the values between the limits, above 0 and below 1.

    Returns:
        The lower and the upper limit; None twice where no value is left.

    Raises:
        UsageError: The level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise UsageError(f"an interval of level {level}", hint="choose one between 0 and 1, such as 0.95")
    defined = values[~np.isnan(values)]
    if not defined.size:
        return None, None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return low, high


def with_interval(estimate: Estimate, values: Floats, level: float = 0.95) -> Estimate:
    """Return an estimate with its interval, or with the reason why it has none.

    Args:
        estimate: One without a value stays without an interval.
        values: Its value on each replicate; those that are not finite have none.
        level: The share of the values between the limits, above 0 and below 1.

    Raises:
        UsageError: The level is not between 0 and 1.
    """
    finite = np.isfinite(values)
    n_without = int((~finite).sum())
    counted = replace(estimate, n_resamples=values.size, n_without=n_without)
    if estimate.reason is not None:
        return counted
    if not values.size:
        return replace(counted, reason="no interval: there are no bootstrap replicates")
    if n_without > MOST_WITHOUT * values.size:
        return replace(counted, reason=f"no interval: {n_without} of {values.size} replicates have no value")
    low, high = interval(values[finite], level)
    found = replace(counted, low=low, high=high)
    if estimate.value is None or low is None or high is None or low <= estimate.value <= high:
        return found
    return replace(found, reason=f"the interval does not hold {estimate.value:.4g}: check the replicates")
