"""What every detector must do, as a check."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from icm_bench.detector import Detector, Prediction, PredictsBatches
from icm_bench.image import Image
from icm_bench.testing.check import checking, require
from icm_bench.testing.image import photograph


def check_detector(
    detector_class: type[Detector], *, weights: Path | None = None, device: str = "cpu", **options: Any
) -> None:
    """Check that a detector keeps the contract of :class:`icm_bench.detector.Detector`.

    Args:
        detector_class: The detector.
        weights: Its weights, where they are not its default ones.
        device: Where it runs.
        options: What the constructor is given beside.

    Raises:
        AssertionError: A check failed.
    """

    def make() -> Detector:
        return detector_class(weights=weights, device=device, **options)

    with checking(detector_class, "declaration"):
        _check_detector_declaration(detector_class, make())
    with checking(detector_class, "version"):
        first, second = make().version(), make().version()
        require(first.strip() != "", "version is empty")
        require(first == second, f"two instances say {first!r} and {second!r}")
    detector = make()
    for width, height in ((320, 240), (97, 131), (640, 31), (5, 3), (1, 1)):
        with checking(detector_class, f"predictions on {width}x{height}"):
            _check_predictions(detector, photograph(width, height, seed=7))
    with checking(detector_class, "determinism"):
        image = photograph(320, 240, seed=7)
        require(make().predict(image) == detector.predict(image), "a second instance predicts otherwise")
    if isinstance(detector, PredictsBatches):
        with checking(detector_class, "batches"):
            images = [photograph(*size, seed=7) for size in ((320, 240), (97, 131), (320, 240))]
            alone = [detector.predict(image) for image in images]
            require(detector.predict_batch(images) == alone, "predict_batch sees other than predict")


def _check_detector_declaration(detector_class: type[Detector], detector: Detector) -> None:
    require(detector_class.name != "", "name is empty")
    tasks = set(detector_class.tasks)
    require(bool(tasks) and tasks <= {"detection", "segmentation"}, f"tasks are {detector_class.tasks}")
    require(len(detector.categories) > 0, "there are no categories")
    require(
        set(detector.tasks) <= tasks, f"an instance does {detector.tasks}, its class {detector_class.tasks}"
    )
    require(set(detector_class.published) <= tasks, "a value is published for a task that is not done")


def _check_predictions(detector: Detector, image: Image) -> None:
    given = image.copy()
    rows = detector.predict(given)
    require(np.array_equal(given, image), "predict changes its input")
    json.dumps(rows, allow_nan=False)
    for row in rows:
        _check_row(row, detector, image)
    scores = [row["score"] for row in rows]
    require(scores == sorted(scores, reverse=True), "scores do not fall")


def _check_row(row: Prediction, detector: Detector, image: Image) -> None:
    height, width = image.shape[:2]
    require(row["category_id"] in detector.categories, f"unknown category {row['category_id']}")
    require(0.0 <= row["score"] <= 1.0, f"score {row['score']}")
    x, y, box_width, box_height = row["bbox"]
    require(all(math.isfinite(edge) for edge in row["bbox"]), f"box {row['bbox']}")
    require(box_width >= 0 and box_height >= 0, f"box {row['bbox']} has negative sides")
    overlaps = x <= width and y <= height and x + box_width >= 0 and y + box_height >= 0
    require(overlaps, f"box {row['bbox']} lies outside the {width}x{height} image")
    if "segmentation" in detector.tasks:
        mask = row["segmentation"]
        require(list(mask["size"]) == [height, width], f"a mask of size {mask['size']}")
        require(isinstance(mask["counts"], str), "the run lengths of a mask are not str")
