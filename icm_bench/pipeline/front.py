"""The Pareto front of a curve, for codecs that keep nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from icm_bench import registry
from icm_bench.codec import front_of
from icm_bench.curves.curve import on_front
from icm_bench.curves.replicates import Replicates
from icm_bench.curves.result import Result, main_metric
from icm_bench.error import IcmBenchError
from icm_bench.spec import Spec

_POINTWISE = ("qualities", "codec_version", "bitstreams", "encoder_kmac", "decoder_kmac")
"""What in ``meta`` has one entry an operating point, beside the intervals."""

_T = TypeVar("_T")


def front(result: Result, replicates: Replicates | None, metric: str) -> tuple[Result, Replicates | None]:
    """Return a curve's Pareto front and its resamples: the points that no other beats in both rate and accuracy.

    The front is of the figures over the whole dataset and the same for every other metric and in every resample:
    it is a choice of operating points, made once, in order of their rates. ``meta`` says of how many it is. Points
    without the metric are left out; where no point has it, all stays as it is.
    """
    accuracies = np.array(result.results.get(metric, ()), dtype=np.float64)
    chosen = on_front(np.array(result.results["bpp"], dtype=np.float64)[: len(accuracies)], accuracies)
    if not chosen:
        return result, replicates
    meta = {
        **result.meta,
        **{key: _each(result.meta[key], chosen) for key in _POINTWISE if key in result.meta},
        "intervals": {
            key: _each(value, chosen) if isinstance(value, list) else value
            for key, value in result.meta.get("intervals", {}).items()
        },
        "front": {"metric": metric, "points": len(accuracies)},
    }
    timings = dict(result.timings)
    if "results" in timings:
        timings["results"] = {key: _each(values, chosen) for key, values in timings["results"].items()}
    kept = replace(
        result,
        results={key: _each(values, chosen) for key, values in result.results.items()},
        categories={key: _each(values, chosen) for key, values in result.categories.items()},
        meta=meta,
        timings=timings,
    )
    if replicates is None:
        return kept, None
    return kept, replace(
        replicates,
        bpp=replicates.bpp[chosen],
        metrics={key: values[chosen] for key, values in replicates.metrics.items()},
    )


def _each(values: Sequence[_T], chosen: Sequence[int]) -> list[_T]:
    return [values[index] for index in chosen]


def reduced(result: Result, replicates: Replicates | None) -> tuple[Result, Replicates | None]:
    """Return what is kept of a curve: of a codec whose class keeps a front, the front alone.

    The front is of the dataset's own accuracy where the dataset has not that metric.
    """
    try:
        metric = front_of(registry.load("codec", Spec.parse(result.codec).name))
    except IcmBenchError:  # imported curves are of codecs that nobody provides
        metric = None
    if metric is None:
        return result, replicates
    return front(result, replicates, metric if metric in result.results else main_metric([result]))
