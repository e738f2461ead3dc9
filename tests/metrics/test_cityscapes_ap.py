"""Values of masks equal those of Cityscapes' published evaluation, on data sets and on their resamples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from icm_bench.datasets.cityscapes import Cityscapes
from icm_bench.detectors.mask import run_lengths
from icm_bench.metrics.cityscapes_ap import METRICS, StreetTruth, score

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "cityscapes.json").read_text())
PERSON, CAR, VOID, CARAVANS, ROAD = 24, 26, 0, 29, 7
AP, AP50 = METRICS
Samples = NDArray[np.uint16]
Found = tuple[int, float, NDArray[np.bool_]]


def street(root: Path, samples: Sequence[Samples]) -> Mapping[str, Any]:
    """Lay images out as Cityscapes is published and return the ground truth that is read."""
    for number, each in enumerate(samples):
        for kind, suffix, pixels in (
            ("leftImg8bit", "leftImg8bit", np.zeros((*each.shape, 3), np.uint8)),
            ("gtFine", "gtFine_instanceIds", each),
        ):
            path = root / kind / "val" / "aachen" / f"aachen_{number:06d}_000019_{suffix}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(pixels).save(path)
    truth = Cityscapes.open(data_root=root).ground_truth
    assert truth is not None
    return truth


def rows(found: Sequence[Sequence[Found]]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image,
            "category_id": label,
            "score": confidence,
            "bbox": [0, 0, 1, 1],
            "segmentation": run_lengths(mask),
        }
        for image, some in enumerate(found, start=1)
        for label, confidence, mask in some
    ]


def values(root: Path, samples: Samples, found: Sequence[Found]) -> dict[str, float | None]:
    truth = StreetTruth.from_rows(street(root, [samples]))
    return score(truth, rows([found]), "segmentation").metrics()


def road(*regions: tuple[int, slice, slice]) -> Samples:
    samples = np.full((60, 100), ROAD, np.uint16)
    for value, down, across in regions:
        samples[down, across] = value
    return samples


def mask(down: slice, across: slice) -> NDArray[np.bool_]:
    pixels = np.zeros((60, 100), np.bool_)
    pixels[down, across] = True
    return pixels


TOP, MIDDLE, BOTTOM = slice(0, 20), slice(20, 40), slice(40, 60)
LEFT, RIGHT = slice(0, 20), slice(60, 80)


def test_an_overlap_must_be_above_the_threshold_where_coco_takes_an_equal_one(tmp_path: Path) -> None:
    # 12 of 20 rows are an IoU of 0.6: above 0.50 and 0.55, and 0.60 is reached for COCO alone.
    found = values(tmp_path, road((26001, TOP, LEFT)), [(CAR, 0.9, mask(slice(0, 12), LEFT))])
    assert found[AP] == pytest.approx(20)
    assert found[AP50] == pytest.approx(100)
    assert found["map"] == pytest.approx(30)


@pytest.mark.parametrize(
    ("second", "area"),
    [
        # Points of recall and precision: (0, 1), (1/2, 1), (1/2, 1/2), (1, 2/3).
        (0.8, 0.5 + 0.5 * (1 / 2 + 2 / 3) / 2),
        # In a tie the false one and the true one are one point: (0, 1), (1/2, 1), (1, 2/3).
        (0.7, 0.5 + 0.5 * (1 + 2 / 3) / 2),
    ],
)
def test_a_second_mask_of_an_object_is_false_and_the_area_has_straight_lines(
    tmp_path: Path, second: float, area: float
) -> None:
    samples = road((26001, TOP, LEFT), (26002, BOTTOM, RIGHT))
    twice = [(CAR, 0.9, mask(TOP, LEFT)), (CAR, second, mask(TOP, LEFT)), (CAR, 0.7, mask(BOTTOM, RIGHT))]
    assert values(tmp_path, samples, twice)[AP] == pytest.approx(100 * area)


@pytest.mark.parametrize("value", [VOID, CARAVANS, 26])
def test_a_mask_counts_as_false_from_the_threshold_on_that_its_ignored_share_does_not_exceed(
    tmp_path: Path, value: int
) -> None:
    # 15 of its 20 rows are void or a group: ignored up to 0.70, false from 0.75 on, where the area is 1/4.
    samples = road((26001, TOP, LEFT), (value, slice(40, 55), RIGHT))
    found = [(CAR, 0.9, mask(BOTTOM, RIGHT)), (CAR, 0.5, mask(TOP, LEFT))]
    assert values(tmp_path, samples, found)[AP] == pytest.approx(100 * (5 * 1 + 5 * 0.25) / 10)


def test_an_instance_of_a_label_that_does_not_count_is_no_void(tmp_path: Path) -> None:
    samples = road((26001, TOP, LEFT), (29001, BOTTOM, RIGHT))
    found = [(CAR, 0.9, mask(BOTTOM, RIGHT)), (CAR, 0.5, mask(TOP, LEFT))]
    assert values(tmp_path, samples, found)[AP] == pytest.approx(25)


def test_a_group_is_neither_found_nor_missed(tmp_path: Path) -> None:
    samples = road((26001, TOP, LEFT), (26, BOTTOM, RIGHT))
    assert values(tmp_path, samples, [(CAR, 0.5, mask(TOP, LEFT))])[AP] == pytest.approx(100)
    more = [(CAR, 0.9, mask(BOTTOM, RIGHT)), (CAR, 0.5, mask(TOP, LEFT))]
    assert values(tmp_path, samples, more)[AP] == pytest.approx(100)


@pytest.mark.parametrize(("width", "expected"), [(9, 100.0), (10, 50.0)])
def test_an_object_below_100_pixels_is_neither_found_nor_missed(
    tmp_path: Path, width: int, expected: float
) -> None:
    samples = road((26001, TOP, LEFT), (26002, slice(40, 50), slice(0, width)))
    assert values(tmp_path, samples, [(CAR, 0.5, mask(TOP, LEFT))])[AP] == pytest.approx(expected)
    found = [(CAR, 0.9, mask(slice(40, 50), slice(0, width))), (CAR, 0.5, mask(TOP, LEFT))]
    assert values(tmp_path, samples, found)[AP] == pytest.approx(100)


def test_what_is_all_ignored_finds_nothing_and_empty_masks_are_left_out(tmp_path: Path) -> None:
    # The published evaluation fails here for want of a value.
    samples = road((26001, TOP, LEFT), (VOID, BOTTOM, RIGHT))
    found = [(CAR, 0.9, mask(BOTTOM, RIGHT)), (CAR, 0.9, mask(slice(0), slice(0)))]
    assert values(tmp_path, samples, found)[AP] == 0
    assert values(tmp_path, samples, [])[AP] == 0


def test_the_mean_is_over_the_categories_with_an_object(tmp_path: Path) -> None:
    samples = road((26001, TOP, LEFT), (24001, BOTTOM, RIGHT), (33, MIDDLE, LEFT))
    found = [(CAR, 0.9, mask(TOP, LEFT)), (33, 0.9, mask(TOP, RIGHT)), (25, 0.9, mask(TOP, RIGHT))]
    assert values(tmp_path, samples, found)[AP] == pytest.approx(50)
    nothing = values(tmp_path, road((33, MIDDLE, LEFT)), found)
    assert nothing[AP] is None
    assert nothing[AP50] is None


def test_boxes_are_scored_by_cocos_rules_alone(tmp_path: Path) -> None:
    truth = StreetTruth.from_rows(street(tmp_path, [road((26001, TOP, LEFT))]))
    box = {"image_id": 1, "category_id": CAR, "score": 0.9, "bbox": [0, 0, 20, 20]}
    found = score(truth, [box], "detection").metrics()
    assert found["map"] == pytest.approx(100)
    assert AP not in found


def _unpacked(runs: Sequence[Sequence[int]]) -> Samples:
    return np.repeat([value for value, _ in runs], [n for _, n in runs]).astype(np.uint16).reshape(40, 48)


def _mask(runs: Sequence[int]) -> NDArray[np.bool_]:
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(40, 48)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"{case['ap']:.2f}")
def test_values_equal_those_of_the_published_evaluation(tmp_path: Path, case: dict[str, Any]) -> None:
    truth = StreetTruth.from_rows(street(tmp_path, [_unpacked(item["samples"]) for item in case["images"]]))
    found = [
        [(row["label"], row["score"], _mask(row["mask"])) for row in item["found"]] for item in case["images"]
    ]
    ours = score(truth, rows(found), "segmentation").metrics()
    assert ours[AP] == pytest.approx(case["ap"], abs=1e-9)
    assert ours[AP50] == pytest.approx(case["ap50"], abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=2), st.sampled_from(GOLDEN["cases"]))
def test_a_resample_is_scored_as_a_set_whose_images_are_really_repeated(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], case: dict[str, Any]
) -> None:
    samples = [_unpacked(item["samples"]) for item in case["images"]]
    found = [
        [(row["label"], row["score"], _mask(row["mask"])) for row in item["found"]] for item in case["images"]
    ]
    truth = StreetTruth.from_rows(street(tmp_path_factory.mktemp("once"), samples))
    drawn = score(truth, rows(found), "segmentation").resampled(np.array([times, [1, 1]]))
    assert set(METRICS) < set(drawn)
    repeated = [index for index, n in enumerate(times) for _ in range(n)]
    if not repeated:
        assert np.isnan(drawn[AP][0])
        return
    again = StreetTruth.from_rows(
        street(tmp_path_factory.mktemp("repeated"), [samples[index] for index in repeated])
    )
    whole = score(again, rows([found[index] for index in repeated]), "segmentation").metrics()
    for name in METRICS:
        expected = whole[name]
        assert np.isnan(drawn[name][0]) if expected is None else drawn[name][0] == pytest.approx(expected)
    assert drawn[AP][1] == pytest.approx(case["ap"], abs=1e-9)
