"""In which order a run's jobs are done, and which codecs wait for which of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from icm_bench.pipeline.job import Job
from icm_bench.pipeline.plan import OperatingPoint, Plan
from icm_bench.spec import Spec

Item: TypeAlias = tuple[OperatingPoint, int, Job]
"""A job, and which shard of which point it is."""


def in_order(todo: Sequence[Item]) -> list[Item]:
    """Return jobs in the order in which they are run.

    The uncompressed images come first: whether the detector is what it should be shows before hours have passed. Then
    comes one shard of each point: a codec that fails does so at once, and what each point costs is known. Then comes
    codec by codec, the cheapest first, so that its curve is there while others still run.
    """
    cost: dict[Spec | None, float] = {None: 0.0}
    first: dict[OperatingPoint, int] = {}
    for point, shard, _ in todo:
        if point.codec is not None and point not in first:
            cost[point.codec] = cost.get(point.codec, 0.0) + point.s_per_megapixel
        first.setdefault(point, shard)
    # Shard by shard within a codec, since neighbours share their images; dear points first, lest one be last alone.
    return sorted(
        todo,
        key=lambda item: (
            item[0].codec is not None,
            item[1] != first[item[0]],
            cost[item[0].codec],
            item[1],
            -item[0].s_per_megapixel,
        ),
    )


class Waiting:
    """The codecs whose ladders are not measured yet, and the jobs for which they wait.

    Args:
        plan: The plan.
        todo: Its jobs, in the order in which they are numbered.
    """

    def __init__(self, plan: Plan, todo: Sequence[Item]) -> None:
        # Points that are coded alike are one job.
        indexes: dict[Path, set[int]] = {}
        for index, (point, _, _) in enumerate(todo):
            indexes.setdefault(next(plan.paths(point, 0)), set()).add(index)
        self._jobs: dict[Spec | None, set[int]] = {
            codec: {
                index
                for point in (*plan.ladder(None), *plan.ladder(codec))
                for index in indexes.get(next(plan.paths(point, 0)), ())
            }
            for codec in (None, *plan.codecs)
        }

    def done(self, index: int | None = None) -> list[Spec | None]:
        """Note that a job is done; return the codecs that wait no more, each once, None for the uncompressed images."""
        for jobs in self._jobs.values():
            jobs.discard(-1 if index is None else index)
        ended = [codec for codec, jobs in self._jobs.items() if not jobs]
        for codec in ended:
            del self._jobs[codec]
        return ended
