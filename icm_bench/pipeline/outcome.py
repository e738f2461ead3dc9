"""What became of each image at an operating point, and what metrics of other packages say of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icm_bench.codec import Codec, load
from icm_bench.dataset import ImageRecord
from icm_bench.detector import Prediction
from icm_bench.error import IcmBenchError, ResultError
from icm_bench.image import Image
from icm_bench.metrics.image_metric import ImageMetric, load_metric
from icm_bench.pipeline import store
from icm_bench.pipeline.plan import OperatingPoint, Plan
from icm_bench.spec import create_codec


class StoredOutcome:
    """One image at one operating point; see :class:`icm_bench.metrics.image_metric.Outcome`."""

    def __init__(
        self,
        record: ImageRecord,
        decode: Callable[[], Image] | None,
        objects: Sequence[Mapping[str, Any]],
        predictions: Sequence[Prediction],
    ) -> None:
        self.record = record
        self.objects = objects
        self.predictions = predictions
        self._decode = decode

    @cached_property
    def original(self) -> Image:
        """The image before coding."""
        return self.record.read()

    @cached_property
    def decoded(self) -> Image:
        """The image as it was decoded; of the uncompressed images, the original."""
        return self.original if self._decode is None else self._decode()


def outcomes(plan: Plan, point: OperatingPoint) -> Iterator[StoredOutcome]:
    """Yield what became of each image, in the order of their ids; nothing is decoded before it is asked for."""

    @cache
    def codec() -> Codec:
        if point.coder is None or point.coder_quality is None:
            raise ResultError("the uncompressed images have no codec")
        device = plan.device.name if point.resource == "gpu" else "cpu"
        made = create_codec(point.coder, point.coder_quality, device, plan.programs)
        load(made)
        return made

    def decoding(data: bytes) -> Callable[[], Image]:
        return lambda: codec().decode(data)

    objects: dict[int, list[Mapping[str, Any]]] = {}
    for row in (plan.dataset.ground_truth or {}).get("annotations", ()):
        objects.setdefault(row["image_id"], []).append(row)
    for shard, records in enumerate(plan.shards()):
        decoders: list[Callable[[], Image] | None] = [None] * len(records)
        if point.codec is not None:
            coded = store.read(plan.coded_path(point, shard), ["bitstream"])
            decoders = [decoding(data) for data in coded["bitstream"].to_pylist()]
        found: list[list[Prediction]] = [[]] * len(records)
        if plan.detector is not None:
            predicted = store.read(plan.predicted_path(point, shard), ["predictions"])
            found = predicted["predictions"].to_pylist()
        for record, decode, rows in zip(records, decoders, found, strict=True):
            yield StoredOutcome(record, decode, objects.get(record.id, ()), rows)


def own_values(plan: Plan, point: OperatingPoint) -> dict[str, NDArray[np.float64]]:
    """Return what each of the plan's metrics says of every image; NaN where it is not defined.

    Raises:
        ResultError: A metric fails, or returns no finite number; the error names it and the image.
    """
    metrics = [load_metric(name) for name in plan.metrics]
    if not metrics:
        return {}
    rows = [[_value(metric, outcome) for metric in metrics] for outcome in outcomes(plan, point)]
    values = np.array(rows, dtype=np.float64)
    return {metric.name: values[:, index] for index, metric in enumerate(metrics)}


def _value(metric: ImageMetric, outcome: StoredOutcome) -> float:
    where = f"metric '{metric.name}', {outcome.record.title}"
    try:
        value = metric.measure(outcome)
        number = math.nan if value is None else float(value)
    except IcmBenchError:
        raise
    except Exception as error:  # whatever another package raises
        raise ResultError(f"failed ({type(error).__name__}: {error})", where=where) from error
    if value is not None and not math.isfinite(number):
        raise ResultError(
            f"returned {value!r}", where=where, hint="return a finite number, or None where it is not defined"
        )
    return number
