"""Values of masks equal the Open Images Challenge's, where some objects have a mask and others a box alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icm_bench.detectors.mask import run_lengths
from icm_bench.error import DetectorError
from icm_bench.metrics.openimages_ap import METRICS, VerifiedTruth, score
from tests.helpers.repeat import repeated

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "openimages-masks.json").read_text())
AP = METRICS[0]
WIDTH, HEIGHT = 100, 60
Area = tuple[int, int, int, int]
"""Left, top, right and bottom."""


def _mask(*areas: Area) -> dict[str, Any]:
    pixels = np.zeros((HEIGHT, WIDTH), np.bool_)
    for left, top, right, bottom in areas:
        pixels[top:bottom, left:right] = True
    return run_lengths(pixels)


def _object(area: Area, *, has_mask: bool = True, is_group: bool = False) -> dict[str, Any]:
    left, top, right, bottom = area
    box = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
    return {**box, "iscrowd": int(is_group), **({"segmentation": _mask(area)} if has_mask else {})}


def _ap(objects: Sequence[dict[str, Any]], found: Sequence[tuple[float, dict[str, Any]]]) -> float | None:
    """Score masks of one category in one image; a detection is a score and a mask."""
    truth = {
        "images": [
            {"id": 1, "width": WIDTH, "height": HEIGHT, "pos_category_ids": [1], "neg_category_ids": []}
        ],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, **row}
            for number, row in enumerate(objects, start=1)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    rows = [
        {"image_id": 1, "category_id": 1, "score": confidence, "bbox": [0, 0, 1, 1], "segmentation": mask}
        for confidence, mask in found
    ]
    return score(VerifiedTruth.from_rows(truth), rows, "segmentation").metrics()[AP]


LEFT, RIGHT = (0, 0, 20, 20), (50, 0, 70, 20)


def test_masks_and_not_their_boxes_are_compared() -> None:
    # A frame around nothing has the object's box, and half of its pixels less one row.
    frame = _mask((0, 0, 20, 5), (0, 16, 20, 20))
    assert _ap([_object(LEFT)], [(0.9, frame)]) == 0
    assert _ap([_object(LEFT)], [(0.9, _mask((0, 0, 20, 10)))]) == pytest.approx(
        100
    )  # an IoU of 0.5 is enough
    assert _ap([_object(LEFT)], [(0.9, _mask((0, 0, 20, 9)))]) == 0


def test_a_second_mask_of_an_object_is_false() -> None:
    twice = [(0.9, _mask(LEFT)), (0.8, _mask(LEFT)), (0.7, _mask(RIGHT))]
    assert _ap([_object(LEFT), _object(RIGHT)], twice) == pytest.approx(100 * (0.5 + 0.5 * 2 / 3))


def test_an_object_without_a_mask_is_neither_missed_nor_found() -> None:
    objects = [_object(LEFT), _object(RIGHT, has_mask=False)]
    assert _ap(objects, [(0.5, _mask(LEFT))]) == pytest.approx(100)
    assert _ap(objects, [(0.9, _mask(RIGHT)), (0.5, _mask(LEFT))]) == pytest.approx(100)
    # The box around these pixels overlaps the object's by half: its mask is nobody's business.
    corners = _mask((50, 0, 52, 2), (68, 18, 70, 20))
    assert _ap(objects, [(0.9, corners), (0.5, _mask(LEFT))]) == pytest.approx(100)


def test_a_second_mask_on_an_object_without_one_is_false() -> None:
    objects = [_object(LEFT), _object(RIGHT, has_mask=False)]
    found = [(0.9, _mask(RIGHT)), (0.8, _mask(RIGHT)), (0.5, _mask(LEFT))]
    assert _ap(objects, found) == pytest.approx(50)


@pytest.mark.parametrize("has_mask", [True, False])
def test_masks_within_a_group_are_ignored_and_the_group_is_not_missed(has_mask: bool) -> None:
    objects = [_object(LEFT), _object((40, 0, 100, 60), has_mask=has_mask, is_group=True)]
    assert _ap(objects, [(0.5, _mask(LEFT))]) == pytest.approx(100)
    inside = [(0.9, _mask((50, 10, 60, 20))), (0.8, _mask((35, 30, 45, 40))), (0.5, _mask(LEFT))]
    assert _ap(objects, inside) == pytest.approx(100)
    outside = [(0.9, _mask((34, 30, 45, 40))), (0.5, _mask(LEFT))]  # 5 of its 11 columns are within
    assert _ap(objects, outside) == pytest.approx(50)


def test_without_an_object_that_has_a_mask_there_is_no_value() -> None:
    assert _ap([_object(LEFT, has_mask=False)], [(0.9, _mask(LEFT))]) is None
    assert _ap([_object(LEFT, is_group=True)], [(0.9, _mask(LEFT))]) is None


def test_an_empty_mask_is_left_out_and_a_missing_one_is_refused() -> None:
    assert _ap([_object(LEFT)], [(0.9, _mask()), (0.5, _mask(LEFT))]) == pytest.approx(100)
    assert _ap([_object(LEFT)], []) == 0
    with pytest.raises(DetectorError, match="without a mask"):
        _ap([_object(LEFT)], [(0.9, {})])


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"{case['ap']:.2f}")
def test_values_equal_those_of_the_challenges_evaluator(case: dict[str, Any]) -> None:
    found = score(VerifiedTruth.from_rows(case["truth"]), case["found"], "segmentation").metrics()
    assert found[AP] == pytest.approx(case["ap"], abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=3, max_size=3), st.sampled_from(GOLDEN["cases"]))
def test_a_resample_is_scored_as_a_set_whose_images_are_really_repeated(
    times: list[int], case: dict[str, Any]
) -> None:
    scorer = score(VerifiedTruth.from_rows(case["truth"]), case["found"], "segmentation")
    drawn = scorer.resampled(np.array([times]))[AP][0]
    if not any(times):
        assert np.isnan(drawn)
        return
    again, rows = repeated(case["truth"], case["found"], times)
    whole = score(VerifiedTruth.from_rows(again), rows, "segmentation").metrics()[AP]
    assert np.isnan(drawn) if whole is None else drawn == pytest.approx(whole, abs=1e-9)
