"""Metrics of other packages see what a run stored, and what they do wrong is one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icm_bench import registry
from icm_bench.curves.result import Result
from icm_bench.dataset import Dataset
from icm_bench.error import ResultError, UsageError
from icm_bench.pipeline.runner import run
from tests.helpers.small_run import run_in

pytestmark = pytest.mark.usefixtures("plugins")


class Own:
    name = "own"
    label = "Own"
    unit = ""
    digits = 2

    def version(self) -> str:
        return "own 1"


def measured(monkeypatch: pytest.MonkeyPatch, dataset: Dataset, folder: Path, measure: Any) -> Result:
    """Measure the fake codec at two qualities, and a metric of one function."""
    monkeypatch.setattr(registry, "_given", {})
    registry.give("metric", "own", type("Function", (Own,), {"measure": measure}))
    (result,) = run_in(
        dataset, folder, codecs=["fake"], qualities=["fake=1,8"], metrics=["own"], bootstrap=20
    ).results
    return result


def test_a_metric_sees_pixels_objects_and_predictions_and_its_mean_is_the_curves(
    monkeypatch: pytest.MonkeyPatch, blobs: Dataset, tmp_path: Path
) -> None:
    few = blobs.limit(3)
    seen: list[Any] = []

    def measure(_: Any, outcome: Any) -> float:
        seen.append((outcome.original, outcome.decoded, outcome.objects, outcome.predictions))
        return -float(np.mean((outcome.original.astype(float) - outcome.decoded) ** 2))

    result = measured(monkeypatch, few, tmp_path, measure)
    coarse, fine = (float(value or 0.0) for value in result.results["own"])
    assert coarse < fine < 0
    assert result.meta["uncompressed"]["own"] == 0
    assert sum(len(objects) for _, _, objects, _ in seen) == 3 * len((few.ground_truth or {})["annotations"])
    assert any(predictions for *_, predictions in seen)


def test_a_value_that_one_image_lacks_is_averaged_over_no_others(
    monkeypatch: pytest.MonkeyPatch, blobs: Dataset, tmp_path: Path
) -> None:
    first = min(record.id for record in blobs.limit(2).images)

    def measure(_: Any, outcome: Any) -> float | None:
        return None if outcome.record.id == first else 1.0

    assert "own" not in measured(monkeypatch, blobs.limit(2), tmp_path, measure).results


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda _, outcome: float("nan"), "returned nan"),
        (lambda _, outcome: outcome.there_is_no_such_part, "AttributeError"),
        (lambda _, outcome: "much", "ValueError"),
    ],
)
def test_a_wrong_metric_is_named_with_the_image(
    monkeypatch: pytest.MonkeyPatch, blobs: Dataset, tmp_path: Path, wrong: Any, says: str
) -> None:
    with pytest.raises(ResultError, match=rf"metric 'own', .*{says}"):
        measured(monkeypatch, blobs.limit(2), tmp_path, wrong)


@pytest.mark.parametrize("name", ["nowhere", "map"])
def test_a_metric_that_nobody_provides_or_every_curve_has_is_refused(
    blobs: Dataset, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match=name):
        run(blobs, task="fidelity", codecs=["fake"], metrics=[name], runs=tmp_path, results=tmp_path)
