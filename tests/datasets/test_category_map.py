"""A dataset's categories under the ids of a detector."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icm_bench.dataset import Dataset
from icm_bench.datasets.category_map import map_categories
from icm_bench.error import DatasetError, UsageError

DETECTOR = {1: "person", 3: "Red", 44: "blue_ball", 90: "green"}


def test_equal_names_are_one_category_and_what_has_none_is_left_out_and_said(
    blobs: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    found = map_categories(blobs, "name", DETECTOR)
    assert blobs.ground_truth is not None
    assert found.ground_truth is not None
    assert dict(found.categories) == {3: "Red", 90: "green"}
    kept = {
        row["id"]: {1: 3, 2: 90}[row["category_id"]]
        for row in blobs.ground_truth["annotations"]
        if row["category_id"] < 3
    }
    assert {row["id"]: row["category_id"] for row in found.ground_truth["annotations"]} == kept
    assert caplog.messages == ["blobs: objects of these categories are left out: blue"]
    assert found.fingerprint != blobs.fingerprint
    assert (found.images, found.provider) == (blobs.images, blobs.provider)


@pytest.mark.parametrize("content", [{"blue": "Blue Ball", "1": 3}, {"3": "44", "RED": "red"}])
def test_a_file_says_which_category_is_which(
    blobs: Dataset, tmp_path: Path, content: dict[str, object]
) -> None:
    file = tmp_path / "map.json"
    file.write_text(json.dumps(content), encoding="utf-8-sig")
    assert dict(map_categories(blobs, str(file), DETECTOR).categories) == {3: "Red", 44: "blue_ball"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is not a JSON object"),
        ("{", "is not JSON"),
        ('{"rad": 3}', "unknown category of the dataset 'rad'; did you mean 'red'"),
        ('{"red": 2}', "unknown category of the detector '2'"),
        ("{}", "no category of the detector is called 'red' or 'green' or 'blue'"),
    ],
)
def test_a_file_that_does_not_fit_is_an_error(
    blobs: Dataset, tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "map.json"
    file.write_text(content)
    with pytest.raises((DatasetError, UsageError), match=message):
        map_categories(blobs, str(file), DETECTOR)
    with pytest.raises(DatasetError, match="absent.json: the category map cannot be read"):
        map_categories(blobs, str(tmp_path / "absent.json"), DETECTOR)
