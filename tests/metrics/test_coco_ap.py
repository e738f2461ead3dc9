"""Figures equal those of COCO's reference evaluation, on data sets and on their resamples."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as rle

from icm_bench.detector import Task
from icm_bench.error import DatasetError, DetectorError, UsageError
from icm_bench.metrics.coco_ap import METRICS, GroundTruth, score
from tests.helpers.accuracy import reference_figures
from tests.helpers.repeat import repeated

Rows = list[dict[str, Any]]
Truth = dict[str, Rows]


def _figures(truth: Truth, predictions: Rows, task: Task) -> list[float | None]:
    metrics = score(GroundTruth.from_coco(truth), predictions, task).metrics()
    return [metrics[name] for name in METRICS]


def _assert_equal(
    figures: Sequence[float | None], expected: Sequence[float | None], tolerance: float
) -> None:
    assert [figure is None for figure in figures] == [figure is None for figure in expected]
    pairs = zip(figures, expected, strict=True)
    differences = [abs(a - b) for a, b in pairs if a is not None and b is not None]
    assert max(differences, default=0.0) <= tolerance


def _assert_as_reference(truth: Truth, predictions: Rows, task: Task) -> None:
    _assert_equal(_figures(truth, predictions, task), reference_figures(truth, predictions, task), 1e-12)


def _truth(annotations: Rows, n_images: int = 1, n_categories: int = 1, size: int = 200) -> Truth:
    return {
        "images": [{"id": index + 1, "width": size, "height": size} for index in range(n_images)],
        "categories": [{"id": index + 1, "name": str(index + 1)} for index in range(n_categories)],
        "annotations": [{"id": index + 1, "iscrowd": 0, **row} for index, row in enumerate(annotations)],
    }


def _object(bbox: list[float], image_id: int = 1, category_id: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "area": bbox[2] * bbox[3]} | more


def _found(bbox: list[float], confidence: float, image_id: int = 1, category_id: int = 1) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": confidence}


@pytest.fixture(scope="module")
def conformance(shared_data: Callable[[str], Path]) -> Callable[[str], Any]:
    folder = shared_data("conformance/coco_eval")

    def read(name: str) -> Any:
        return json.loads((folder / name).read_text())

    return read


@pytest.mark.parametrize(("task", "kind"), [("detection", "bbox"), ("segmentation", "segm")])
def test_published_figures_of_the_evaluators_own_test(
    conformance: Callable[[str], Any], task: Task, kind: str
) -> None:
    truth = conformance("instances_val2014_100.json")
    predictions = conformance(f"instances_val2014_fake{kind}100_results.json")
    expected = [100 * figure for figure in conformance("expected.json")[kind].values()]
    _assert_equal(_figures(truth, predictions, task), expected, 1e-10)


@st.composite
def _rectangles(draw: st.DrawFn) -> list[float]:
    # A coarse grid makes equal overlaps, exact thresholds and borders of area ranges likely.
    x, y = (draw(st.integers(0, 12)) * 8 for _ in range(2))
    width, height = (draw(st.integers(1, 13)) * 8 for _ in range(2))
    return [float(x), float(y), float(min(width, 200 - x)), float(min(height, 200 - y))]


@st.composite
def _data_sets(draw: st.DrawFn) -> tuple[Truth, Rows]:
    n_images, n_categories = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    images, categories = st.integers(1, n_images), st.integers(1, n_categories)
    annotations = [
        _object(
            draw(_rectangles()), draw(images), draw(categories), iscrowd=int(draw(st.integers(0, 5)) == 0)
        )
        for _ in range(draw(st.integers(0, 10)))
    ]
    scores = st.sampled_from([0.1, 0.5, 0.5, 0.9, 1.0]) if draw(st.booleans()) else st.floats(0, 1, width=32)
    predictions: Rows = []
    for _ in range(draw(st.integers(0, 25))):
        near = draw(st.sampled_from([*annotations, None]))
        if near is None:
            bbox, image_id = draw(_rectangles()), draw(images)
            category_id = draw(st.integers(1, n_categories + 1))
        else:
            shift, stretch = draw(st.integers(-2, 2)) * 4, draw(st.sampled_from([0.5, 0.75, 1.0, 1.25]))
            x, y, width, height = near["bbox"]
            bbox = [max(0.0, x + shift), y, max(1.0, width * stretch), height]
            image_id, category_id = near["image_id"], near["category_id"]
        predictions.append(_found(bbox, draw(scores), image_id, category_id))
    return _truth(annotations, n_images, n_categories), predictions


def _with_masks(truth: Truth, predictions: Rows) -> tuple[Truth, Rows]:
    """Give each box the mask that fills it, less a corner so that mask and box differ in area."""
    truth, predictions = copy.deepcopy((truth, predictions))
    for row in truth["annotations"]:
        x, y, width, height = row["bbox"]
        if row["iscrowd"]:
            mask = _mask(row["bbox"])
            row["segmentation"] = {"size": [200, 200], "counts": _run_lengths(mask)}
        else:
            row["segmentation"] = [[x, y, x + width, y, x + width, y + height / 2, x, y + height]]
    for row in predictions:
        mask = _mask(row["bbox"])
        mask[: int(row["bbox"][1]) + 2, : int(row["bbox"][0]) + 2] = 0
        encoded = rle.encode(np.asfortranarray(mask))
        row["segmentation"] = {"size": [200, 200], "counts": encoded["counts"].decode()}
    return truth, predictions


def _mask(bbox: Sequence[float]) -> NDArray[np.uint8]:
    mask = np.zeros((200, 200), dtype=np.uint8)
    x, y, width, height = (int(side) for side in bbox)
    mask[y : y + height, x : x + width] = 1
    return mask


def _run_lengths(mask: NDArray[np.uint8]) -> list[int]:
    flat = np.concatenate([[0], mask.T.reshape(-1)])
    edges = np.flatnonzero(np.diff(flat)) if flat.any() else np.zeros(0, dtype=np.int64)
    return [int(run) for run in np.diff(np.concatenate([[0], edges, [mask.size]]))]


@given(_data_sets())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_boxes_and_masks_score_as_in_thereference_figures(data_set: tuple[Truth, Rows]) -> None:
    _assert_as_reference(*data_set, "detection")
    _assert_as_reference(*_with_masks(*data_set), "segmentation")


@given(_data_sets(), st.lists(st.integers(0, 4), min_size=4, max_size=4))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_resamples_score_as_data_sets_with_the_images_repeated(
    data_set: tuple[Truth, Rows], drawn: list[int]
) -> None:
    truth, predictions = data_set
    weights = drawn[: len(truth["images"])]
    assume(any(weights))
    # A second resample and an empty one beside it: neither may change the first.
    rows = np.array([weights, [weight + 2 for weight in weights], [0] * len(weights)])
    drawn_figures = score(GroundTruth.from_coco(truth), predictions, "detection").resampled(rows)
    assert all(np.isnan(drawn_figures[name][2]) for name in METRICS)
    for index in (0, 1):
        values = [float(drawn_figures[name][index]) for name in METRICS]
        figures = [None if np.isnan(value) else value for value in values]
        expected = reference_figures(*repeated(truth, predictions, rows[index].tolist()), "detection")
        _assert_equal(figures, expected, 1e-12)


def test_resampled_masks_of_real_size_score_as_with_the_images_repeated(
    conformance: Callable[[str], Any],
) -> None:
    truth = conformance("instances_val2014_100.json")
    predictions = conformance("instances_val2014_fakesegm100_results.json")
    weights = np.random.default_rng(7).multinomial(100, np.full(100, 0.01), size=2)
    figures = score(GroundTruth.from_coco(truth), predictions, "segmentation").resampled(weights)
    expected = reference_figures(*repeated(truth, predictions, weights[1].tolist()), "segmentation")
    _assert_equal([float(figures[name][1]) for name in METRICS], expected, 1e-10)


def test_copies_of_tied_detections_come_in_the_order_of_the_images() -> None:
    # Twice the image gives false, true, false, true at one score: precision 1/2, not 2/4 after 0/2.
    truth = _truth([_object([0, 0, 50, 50]), _object([100, 100, 50, 50])])
    predictions = [
        _found([0, 0, 50, 50], 0.9),
        _found([0, 150, 20, 20], 0.5),
        _found([100, 100, 50, 50], 0.5),
    ]
    figures = score(GroundTruth.from_coco(truth), predictions, "detection").resampled(np.array([[2]]))
    expected = reference_figures(*repeated(truth, predictions, [2]), "detection")
    assert figures["map50"][0] == pytest.approx(expected[1], abs=1e-12)


def test_many_resamples_at_once_equal_each_alone() -> None:
    rng = np.random.default_rng(0)
    annotations = [
        _object([0, 0, *rng.integers(10, 150, 2).tolist()], 1 + i % 20, 1 + i % 3) for i in range(60)
    ]
    predictions = [
        _found([0, 0, *rng.integers(10, 150, 2).tolist()], float(rng.random()), 1 + i % 20, 1 + i % 3)
        for i in range(300)
    ]
    scorer = score(GroundTruth.from_coco(_truth(annotations, 20, 3)), predictions, "detection")
    weights = rng.multinomial(20, np.full(20, 0.05), size=700)
    together = scorer.resampled(weights)
    for index in (0, 499, 500, 699):
        alone = scorer.resampled(weights[index : index + 1])
        for name in METRICS:
            np.testing.assert_allclose(alone[name][0], together[name][index], rtol=0, atol=1e-12)


def test_no_resample_gives_empty_columns() -> None:
    scorer = score(GroundTruth.from_coco(_truth([_object([0, 0, 9, 9])])), [], "detection")
    assert scorer.resampled(np.zeros((0, 1), dtype=np.int64))["map"].shape == (0,)


def test_images_to_score_can_be_chosen() -> None:
    truth = _truth([_object([0, 0, 50, 50], image) for image in (1, 2, 3)], n_images=3)
    predictions = [
        _found([0, 0, 50, 40], 0.9, 1),
        _found([0, 0, 50, 30], 0.8, 2),
        _found([0, 0, 9, 9], 1.0, 3),
    ]
    metrics = score(GroundTruth.from_coco(truth, image_ids=[2, 1]), predictions, "detection").metrics()
    expected = reference_figures(truth, predictions, "detection", image_ids=[1, 2])
    _assert_equal([metrics[name] for name in METRICS], expected, 1e-12)


def test_nothing_found_is_zero_and_nothing_to_find_is_none() -> None:
    metrics = score(GroundTruth.from_coco(_truth([_object([0, 0, 50, 50])])), [], "detection").metrics()
    assert (metrics["map"], metrics["ar100"], metrics["map_medium"]) == (0, 0, 0)
    assert metrics["map_small"] is None
    assert metrics["ar_large"] is None


def test_images_without_objects_and_without_detections_still_count() -> None:
    truth = _truth([_object([0, 0, 50, 50], 2)], n_images=3)
    scorer = score(GroundTruth.from_coco(truth), [_found([0, 0, 50, 50], 0.5, 2)], "detection")
    assert scorer.metrics()["map"] == pytest.approx(100)
    spoilt = [_found([0, 0, 50, 50], 0.5, 2), _found([0, 0, 50, 50], 0.9, 1)]
    assert score(GroundTruth.from_coco(truth), spoilt, "detection").metrics()["map"] == pytest.approx(50)


def test_at_most_a_hundred_detections_of_an_image_and_category_count() -> None:
    truth = _truth([_object([0, 0, 50, 50])])
    predictions = [_found([100, 100, 9, 9], 0.9)] * 100 + [_found([0, 0, 50, 50], 0.1)]
    metrics = score(GroundTruth.from_coco(truth), predictions, "detection").metrics()
    assert metrics["ar100"] == 0
    assert metrics["map"] == 0


def test_a_crowd_of_detections_in_one_place_is_matched_one_object_each() -> None:
    boxes = [[float(8 * (i % 4)), float(8 * (i // 4)), 80.0, 80.0] for i in range(16)]
    truth = _truth([_object(box, iscrowd=int(i == 5)) for i, box in enumerate(boxes)])
    rng = np.random.default_rng(3)
    predictions = [
        _found((np.array(boxes[i % 16]) + rng.integers(-6, 7, 4)).clip(0).tolist(), float(rng.random()))
        for i in range(90)
    ]
    _assert_as_reference(truth, predictions, "detection")


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_of_two_equal_overlaps_the_later_object_is_taken(order: list[int]) -> None:
    objects = [_object([0, 0, 100, 50]), _object([40, 0, 100, 50])]
    truth = _truth([objects[index] for index in order])
    predictions = [_found([20, 0, 100, 50], 0.9), _found([0, 0, 95, 50], 0.5)]
    _assert_as_reference(truth, predictions, "detection")
    assert _figures(truth, predictions, "detection")[METRICS.index("ar100")] == pytest.approx(
        70 if order == [0, 1] else 50
    )


def test_an_annotation_of_id_0_can_be_found() -> None:
    truth = _truth([_object([0, 0, 50, 50], id=0)])
    found = score(GroundTruth.from_coco(truth), [_found([0, 0, 50, 50], 0.5)], "detection")
    assert found.metrics()["map"] == pytest.approx(100)


def test_per_category_averages_to_the_whole() -> None:
    truth = _truth([_object([0, 0, 50, 50]), _object([0, 0, 50, 50], category_id=3)], n_categories=3)
    predictions = [_found([0, 0, 50, 50], 0.9), _found([0, 0, 50, 40], 0.5, category_id=3)]
    scorer = score(GroundTruth.from_coco(truth), predictions, "detection")
    each = scorer.per_category()
    assert each[1] == pytest.approx(100)
    assert each[2] is None
    assert each[3] == pytest.approx(70)
    assert scorer.metrics()["map"] == pytest.approx(85)


def test_the_size_of_a_mask_is_its_own_area_not_its_boxs() -> None:
    mask = np.zeros((200, 200), dtype=np.uint8)
    mask[np.arange(100), np.arange(100)] = 1
    encoded = rle.encode(np.asfortranarray(mask))
    segmentation = {"size": [200, 200], "counts": encoded["counts"].decode()}
    truth = _truth([_object([0, 0, 9, 9], category_id=1, segmentation=[[150, 150, 159, 150, 159, 159]])])
    prediction = _found([0, 0, 100, 100], 0.9) | {"segmentation": segmentation}
    # As a small mask it is a false positive among small objects, after which the true one comes too late.
    true = rle.frPyObjects([[150, 150, 159, 150, 159, 159]], 200, 200)[0]
    found = _found([150, 150, 9, 9], 0.1) | {"segmentation": true}
    figures = _figures(truth, [prediction, found], "segmentation")
    assert figures[METRICS.index("map_small")] == pytest.approx(50)


@pytest.mark.parametrize(
    ("row", "task", "what"),
    [
        ({"image_id": 9}, "detection", "image 9"),
        ({"score": float("nan")}, "detection", "not finite"),
        ({"score": None}, "detection", "not finite"),
        ({"score": "high"}, "detection", "proper"),
        ({"bbox": [0, 0, 1]}, "detection", "bbox"),
        ({"bbox": [0, 0, 1, float("inf")]}, "detection", "finite"),
        ({"bbox": None}, "detection", "bbox"),
        ({}, "segmentation", "without a mask"),
        ({"segmentation": {"size": [8, 8], "counts": "1o1"}}, "segmentation", "not of the image's size"),
    ],
)
def test_a_malformed_prediction_is_refused(row: dict[str, Any], task: Task, what: str) -> None:
    truth = GroundTruth.from_coco(_truth([_object([0, 0, 9, 9], segmentation=[[0, 0, 9, 0, 9, 9]])]))
    with pytest.raises(DetectorError, match=what):
        score(truth, [_found([0, 0, 9, 9], 0.5) | row], task)


def test_objects_without_masks_cannot_be_scored_as_masks() -> None:
    truth, predictions = _with_masks(_truth([_object([0, 0, 9, 9])]), [_found([0, 0, 9, 9], 0.5)])
    del truth["annotations"][0]["segmentation"]
    with pytest.raises(DatasetError, match="without a segmentation"):
        score(GroundTruth.from_coco(truth), predictions, "segmentation")


@pytest.mark.parametrize(
    "change",
    [
        {"images": None},
        {"categories": [{"name": "no id"}]},
        {"annotations": [{"id": 1}]},
        {"annotations": [_object([0, 0, 9, 9], area=float("nan"))]},
        {"annotations": [_object([0, 0, 9, 9], id=1), _object([0, 0, 9, 9], id=1)]},
    ],
)
def test_malformed_ground_truth_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DatasetError):
        GroundTruth.from_coco(_truth([]) | change)


def test_an_image_to_score_must_be_annotated() -> None:
    with pytest.raises(DatasetError, match="image 5"):
        GroundTruth.from_coco(_truth([]), image_ids=[5])


@pytest.mark.parametrize(
    "weights", [np.ones(1), np.ones((1, 2), np.int64), np.ones((1, 1)), -np.ones((1, 1), np.int64)]
)
def test_weights_that_count_nothing_are_refused(weights: Any) -> None:
    scorer = score(GroundTruth.from_coco(_truth([])), [], "detection")
    with pytest.raises(UsageError):
        scorer.resampled(weights)


def test_an_unknown_task_is_refused() -> None:
    task: Any = "keypoints"
    with pytest.raises(UsageError, match="keypoints"):
        score(GroundTruth.from_coco(_truth([])), [], task)
