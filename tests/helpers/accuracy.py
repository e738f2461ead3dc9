"""What detectors find in a dataset's images, and how COCO's own evaluation scores it."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from icm_bench.dataset import ImageRecord
from icm_bench.detector import Prediction, Task
from icm_bench.image import Image


def found_in(images: Iterable[ImageRecord], predict: Callable[[Image], list[Prediction]]) -> list[Prediction]:
    """Return what a detector finds in images, each row with its image's id."""
    return [row | {"image_id": record.id} for record in images for row in predict(record.read())]


def reference_figures(
    truth: Mapping[str, Any],
    predictions: Sequence[Mapping[str, Any]],
    task: Task,
    image_ids: Sequence[int] | None = None,
) -> list[float | None]:
    """Return pycocotools' twelve figures in percent, of all images or of some."""
    rows = copy.deepcopy(list(predictions))
    if task == "segmentation":
        rows = [{key: value for key, value in row.items() if key != "bbox"} for row in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = _coco(truth)
        found = annotated.loadRes(rows) if rows else _coco({**truth, "annotations": []})
        evaluation: Any = COCOeval(annotated, found, "bbox" if task == "detection" else "segm")
        if image_ids is not None:
            evaluation.params.imgIds = list(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [None if figure == -1 else 100 * figure for figure in evaluation.stats.tolist()]


def _coco(truth: Mapping[str, Any]) -> Any:
    coco = COCO()
    coco.dataset = copy.deepcopy(dict(truth))
    coco.createIndex()
    return coco
