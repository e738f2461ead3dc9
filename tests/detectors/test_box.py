"""Selecting boxes."""

from __future__ import annotations

import numpy as np
import pytest

from icm_bench.detectors.box import Detections, corners, grid


def detections(*rows: tuple[float, float, float, float, int, float]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.intp),
        table[:, 5].astype(np.float32),
        np.arange(len(table)),
    )


def test_overlap_takes_the_lower_score_of_a_class_alone() -> None:
    found = detections(
        (0, 0, 10, 10, 3, 0.6), (0, 0, 10, 8, 3, 0.9), (0, 0, 10, 10, 4, 0.5), (20, 0, 30, 9, 3, 0.1)
    )
    # 80 of 100 pixels are shared.
    assert found.best(10, iou=0.79).sources.tolist() == [1, 2, 3]
    assert found.best(10, iou=0.81).sources.tolist() == [1, 0, 2, 3]
    assert found.best(10).sources.tolist() == [1, 0, 2, 3]
    assert found.best(2, iou=0.79).sources.tolist() == [1, 2]


def test_nothing_is_left_of_nothing() -> None:
    for iou in (0.5, 1.0):
        assert detections().best(10, iou=iou).rows({}) == []


def test_equal_scores_keep_their_order() -> None:
    found = detections((0, 0, 1, 1, 0, 0.5), (5, 5, 6, 6, 1, 0.5), (8, 8, 9, 9, 0, 0.5))
    assert found.best(10, iou=0.5).sources.tolist() == [0, 1, 2]


def test_every_class_above_the_lowest_score_is_a_detection() -> None:
    boxes = np.array([[0, 0, 4, 4], [1, 1, 2, 2]], np.float32)
    scores = np.array([[0.1, 0.5, 0.2], [0.0, 0.1, 0.9]], np.float32)
    found = Detections.above(boxes, scores, 0.15)
    assert found.classes.tolist() == [1, 2, 2]
    assert found.sources.tolist() == [0, 0, 1]
    assert found.boxes[2].tolist() == [1, 1, 2, 2]


def test_rows_are_clipped_boxes_with_category_ids() -> None:
    rows = detections((-3, 2, 50, 7, 1, 0.25)).clipped(40, 30).rows({1: 17})
    assert rows == [{"category_id": 17, "bbox": [0.0, 2.0, 40.0, 5.0], "score": 0.25}]
    with pytest.raises(KeyError):
        detections((0, 0, 1, 1, 2, 0.5)).rows({1: 17})


def test_grids_go_row_by_row_from_fine_to_coarse() -> None:
    places, strides = grid((16, 24), (8, 16))
    assert places.tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1], [0, 0]]
    assert strides.ravel().tolist() == [8] * 6 + [16]


def test_corners_are_half_a_side_from_the_centre() -> None:
    boxes = corners(np.array([[5, 6]], np.float32), np.array([[4, 2]], np.float32))
    assert boxes.tolist() == [[3, 5, 7, 7]]
