"""What a result file says beside its numbers: dataset, codec, guide, and the command that measures the curve."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

from icm_bench.codec import (
    Complexity,
    CountsOperations,
    Guide,
    Labels,
    Quality,
    complexity_of,
    guide_of,
    n_parameters,
    objective_of,
    trained_through,
)
from icm_bench.dataset import Dataset
from icm_bench.machine import one_thread
from icm_bench.metrics.image_metric import load_metric
from icm_bench.pipeline import store
from icm_bench.pipeline.job import DetectorChoice
from icm_bench.pipeline.plan import OperatingPoint, Plan
from icm_bench.spec import Spec, create_codec, resolve_codec
from icm_bench.testing.image import photograph

_SIDE = 256
"""Side of the image on which operations are counted: no network pads it."""


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """Return what a curve was measured on: provider, subset, fingerprint, sizes and ground truth."""
    facts: dict[str, Any] = {
        "provider": dataset.provider or None,
        "fingerprint": dataset.fingerprint,
        "images": len(dataset.images),
        "pixels": dataset.n_pixels,
    }
    if dataset.subset_of:
        facts |= {"limit": len(dataset.images), "subset_of": dataset.subset_of}
    if dataset.ground_truth is not None:
        facts |= {"objects": len(dataset.ground_truth["annotations"]), "evaluation": dataset.evaluation}
        facts |= {"truth": dataset.truth} if dataset.truth else {}
    return facts


def _is_one(guide: Guide, judge: DetectorChoice) -> bool:
    if guide.weights is not None and judge.weights is not None:
        return guide.weights.read_bytes() == judge.weights.read_bytes()
    return guide.spec == str(judge.spec)


def codec_facts(plan: Plan, codec: Spec, point: OperatingPoint) -> dict[str, Any]:
    """Return a codec's short name, its training, and what guides its encoder, which may be its judge."""
    made = create_codec(codec, point.quality or 0, "cpu", plan.programs)
    cls, guide = type(made), guide_of(made)
    facts: dict[str, Any] = {
        "label": cls.label(dict(codec.options)) if isinstance(cls, Labels) else None,
        "objective": objective_of(made),
        "trained_through": list(trained_through(made)),
    }
    if guide is not None:
        is_judge = plan.detector is not None and _is_one(guide, plan.detector)
        facts["guide"] = {"spec": guide.spec, "is_judge": is_judge}
    return facts


def metric_facts(plan: Plan) -> dict[str, Any]:
    """Return how metrics of other packages are called and in which version they were measured."""
    own = [load_metric(name) for name in plan.metrics]
    return {each.name: {"label": each.label, "unit": each.unit, "version": each.version()} for each in own}


def complexity_facts(codec: Spec, qualities: Sequence[Quality | None]) -> dict[str, Any]:
    """Return what a codec's networks take at each operating point, counted on one small image; nothing without any."""
    counted = [_complexity(codec, quality or 0) for quality in qualities]
    costs = [cost for _, cost in counted if cost is not None]
    if len(costs) < len(counted):
        return {}
    return {
        "parameters": counted[0][0],
        "encoder_kmac": [cost.encoder_kmac for cost in costs],
        "decoder_kmac": [cost.decoder_kmac for cost in costs],
    }


@functools.lru_cache(maxsize=1024)
def _complexity(codec: Spec, quality: Quality) -> tuple[int, Complexity | None]:
    if not issubclass(resolve_codec(str(codec))[1], CountsOperations):
        return 0, None
    made = create_codec(codec, quality, "cpu")
    with one_thread():
        return n_parameters(made), complexity_of(made, photograph(_SIDE, _SIDE))


def digest_bitstreams(plan: Plan, point: OperatingPoint) -> str:
    """Digest a point's bitstreams: equal digests mean byte-identical coding."""
    headers = (store.read_header(plan.coded_path(point, shard)) for shard in range(plan.n_shards))
    digests = "".join(header["bitstreams"] for header in headers)
    return hashlib.sha256(digests.encode()).hexdigest()[:16]


def command_of(plan: Plan, codec: Spec, points: Sequence[OperatingPoint]) -> str:
    """Return the command that measures this curve, without the paths of one machine."""
    dataset = plan.dataset
    limit = f" --limit {len(dataset.images)}" if dataset.subset_of else ""
    score = plan.truth_score
    truth = "" if score is None else f" --truth pseudo --truth-score {score:g}"
    ladder = ",".join(str(point.quality) for point in points)
    detector = "" if plan.detector is None else f" --detector {plan.detector.spec}"
    metrics = f" --metrics {','.join(plan.metrics)}" if plan.metrics else ""
    return (
        f"icm-bench run --task {plan.task} --codecs {codec} --qualities {codec}={ladder} "
        f"--dataset {dataset.provider}{limit}{truth}{detector}{metrics}"
    )
