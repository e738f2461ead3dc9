from __future__ import annotations

import copy
import gzip
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icm_bench.datasets import annotation
from icm_bench.datasets.annotation import read_ground_truth
from icm_bench.error import DatasetError

VALID: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 6, "height": 4}],
    "annotations": [
        {"id": 9, "image_id": 1, "category_id": 2, "bbox": [0.0, 1, 2, 3], "area": 6,
         "segmentation": [[0, 1, 2, 1, 2, 4]]},
        {"id": 4, "image_id": 1, "category_id": 2, "bbox": [0, 0, 6, 4], "area": 24, "iscrowd": 1,
         "segmentation": {"size": [4, 6], "counts": [3, 21]}},
    ],
    "categories": [{"id": 2, "name": "cat"}],
}  # fmt: skip


def read(tmp_path: Path, content: object) -> dict[str, list[dict[str, Any]]]:
    path = tmp_path / "truth.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_ground_truth(path)


def changed(path: tuple[Any, ...], value: object) -> dict[str, Any]:
    """The valid file with one value replaced, or removed where the value is Ellipsis."""
    content = copy.deepcopy(VALID)
    place: Any = content
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


def test_valid_file_is_read_sorted_with_crowd_filled_in(tmp_path: Path) -> None:
    truth = read(tmp_path, VALID)
    assert [row["id"] for row in truth["annotations"]] == [4, 9]
    assert truth["annotations"][1]["iscrowd"] == 0
    assert truth["annotations"][1]["bbox"] == [0.0, 1, 2, 3]
    assert truth["images"] == VALID["images"]


IMAGE, OBJECT, CROWD, CATEGORY = ("images", 0), ("annotations", 0), ("annotations", 1), ("categories", 0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("images",), ..., "the annotation file has no 'images'"),
        (("annotations",), {}, "'annotations' is not a list"),
        (("categories",), None, "'categories' is not a list"),
        (IMAGE, 7, "image number 1: it is not a JSON object"),
        ((*IMAGE, "id"), ..., "image number 1: it has no 'id'"),
        ((*IMAGE, "id"), "1", "its id '1' is not a whole number"),
        ((*IMAGE, "id"), True, "its id True is not a whole number"),
        ((*IMAGE, "id"), -1, "its id -1 is not a whole number"),
        ((*IMAGE, "id"), 2**63, "its id a huge number is not a whole number"),
        ((*IMAGE, "width"), 0, "image 1: its width 0 is not a whole number of 1 or more"),
        ((*IMAGE, "width"), 6.0, "its width 6.0 is not"),
        ((*IMAGE, "height"), -4, "its height -4 is not"),
        ((*IMAGE, "height"), 10**9, "more than 80 million pixels"),
        ((*IMAGE, "file_name"), ..., "it has no 'file_name'"),
        ((*IMAGE, "file_name"), "", "its file_name is not a file name"),
        ((*IMAGE, "file_name"), 3, "its file_name is not a file name"),
        ((*IMAGE, "file_name"), "a\0b", "its file_name is not a file name"),
        ((*IMAGE, "file_name"), "/etc/passwd", "leaves the folder of images"),
        ((*IMAGE, "file_name"), "x/../../a.jpg", "leaves the folder of images"),
        ((*CATEGORY, "id"), None, "category number 1: its id None"),
        ((*CATEGORY, "name"), 5, "category 2: its name is not a text"),
        ((*OBJECT, "id"), 4, "annotation 4: its id occurs twice"),
        ((*OBJECT, "image_id"), 99, "annotation 9: it names image 99, which is not in 'images'"),
        ((*OBJECT, "category_id"), 99, "it names category 99, which is not in 'categories'"),
        ((*OBJECT, "bbox"), ..., "it has no 'bbox'"),
        ((*OBJECT, "bbox"), [1, 2, 3], r"its bbox \[1, 2, 3\] is not \[x, y, width, height\]"),
        ((*OBJECT, "bbox"), [1, 2, "3", 4], "its bbox holds '3', which is not a finite number"),
        ((*OBJECT, "bbox"), [1, 2, math.nan, 4], "its bbox holds nan"),
        ((*OBJECT, "bbox"), [1, 2, math.inf, 4], "its bbox holds inf"),
        ((*OBJECT, "bbox"), [1, 2, None, 4], "its bbox holds None"),
        ((*OBJECT, "bbox"), [1, 2, -3, 4], "has a negative size"),
        ((*OBJECT, "bbox"), [1, 2, 1e300, 4], "its bbox lies outside its image"),
        ((*OBJECT, "area"), ..., "it has no 'area'"),
        ((*OBJECT, "area"), "6", "its area holds '6'"),
        ((*OBJECT, "area"), -1, "its area -1 is negative"),
        ((*OBJECT, "iscrowd"), 2, "its iscrowd is 2, not 0 or 1"),
        ((*OBJECT, "iscrowd"), "0", "its iscrowd is '0'"),
        ((*OBJECT, "iscrowd"), None, "its iscrowd is None"),
        ((*OBJECT, "segmentation"), "mask", "neither polygons nor run lengths"),
        ((*OBJECT, "segmentation"), [[0, 0, 1, 1]], "not three or more pairs"),
        ((*OBJECT, "segmentation"), [[0, 0, 1, 1, 2, 2, 3]], "not three or more pairs"),
        ((*OBJECT, "segmentation"), [7], "not three or more pairs"),
        ((*OBJECT, "segmentation"), [[0, 0, 1, 1, 2, math.nan]], "its segmentation holds nan"),
        ((*OBJECT, "segmentation"), [[0, 0, 1, 1, 2, 1e12]], "its segmentation lies outside its image"),
        ((*CROWD, "segmentation"), {"counts": [24]}, "it has no 'size'"),
        ((*CROWD, "segmentation"), {"size": [4, 6]}, "it has no 'counts'"),
        ((*CROWD, "segmentation", "size"), [6, 4], r"has the size \[6, 4\], its image \[4, 6\]"),
        ((*CROWD, "segmentation", "counts"), [3, 20], "do not add up to the image's pixels"),
        ((*CROWD, "segmentation", "counts"), [30, -6], "counts are not run lengths"),
        ((*CROWD, "segmentation", "counts"), [3.0, 21.0], "counts are not run lengths"),
        ((*CROWD, "segmentation", "counts"), 24, "neither numbers nor a text"),
        ((*CROWD, "segmentation", "counts"), "é", "not compressed run lengths"),
        ((*CROWD, "segmentation", "counts"), "o", "end within a run length"),
        ((*CROWD, "segmentation", "counts"), "o" * 40 + "0", "not compressed run lengths"),
        ((*CROWD, "segmentation", "counts"), "4", "do not add up"),
    ],
)  # fmt: skip
def test_malformed_value_is_named(tmp_path: Path, path: tuple[Any, ...], value: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        read(tmp_path, changed(path, value))
    assert "truth.json: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "{", "[1, 2", "{'images': 1}", "[" * 100_000, "1" * 5000, '"\\ud800'])
def test_file_that_is_not_json_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(DatasetError, match="is not JSON"):
        read(tmp_path, text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_any_unicode_with_or_without_its_mark_gzipped_or_not_is_read(
    tmp_path: Path, encoding: str, is_packed: bool
) -> None:
    data = json.dumps(VALID).encode(encoding)
    path = tmp_path / "truth.json"
    path.write_bytes(gzip.compress(data) if is_packed else data)
    assert read_ground_truth(path) == read(tmp_path, VALID)


def test_a_damaged_or_bursting_gzip_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = gzip.compress(json.dumps(VALID).encode())
    path = tmp_path / "truth.json.gz"
    for broken in (data[:20], data[:-9], data[:30] + b"\xff\xff\xff" + data[33:]):
        path.write_bytes(broken)
        with pytest.raises(DatasetError, match="the annotation file (is not JSON|cannot be read)"):
            read_ground_truth(path)
    monkeypatch.setattr(annotation, "_LARGEST_UNPACKED", 2**20)
    path.write_bytes(gzip.compress(bytes(2**21)))
    with pytest.raises(DatasetError, match="it unpacks to more than"):
        read_ground_truth(path)


def test_a_pipe_is_no_annotation_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "truth.json")
    with pytest.raises(DatasetError, match="a folder, a pipe or a device"):
        read_ground_truth(tmp_path / "truth.json")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"text"'])
def test_json_that_is_not_an_object_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(DatasetError, match="is not a JSON object"):
        read(tmp_path, text)


def test_absent_unreadable_and_binary_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the annotation file does not exist; check the folder, or fetch"):
        read_ground_truth(tmp_path / "absent.json")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_ground_truth(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DatasetError, match="is not JSON"):
        read_ground_truth(tmp_path / "binary.json")


def test_lone_surrogates_in_names_can_still_be_shown(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read(tmp_path, changed((*IMAGE, "file_name"), "../\ud800.jpg"))
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize("empty", [None, []])
def test_empty_segmentation_counts_as_none(tmp_path: Path, empty: object) -> None:
    truth = read(tmp_path, changed((*OBJECT, "segmentation"), empty))
    assert "segmentation" not in truth["annotations"][1]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.5, 0.98]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_compressed_run_lengths_by_the_official_encoder_are_accepted(
    tmp_path: Path, height: int, width: int, seed: int, density: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < density
    counts = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    content = copy.deepcopy(VALID)
    content["images"][0] |= {"width": width, "height": height}
    content["annotations"] = [
        {"id": 1, "image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1], "area": 1,
         "segmentation": {"size": [height, width], "counts": counts}},
    ]  # fmt: skip
    assert read(tmp_path, content)["annotations"][0]["segmentation"]["counts"] == counts


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES: list[tuple[Any, ...]] = [
    *((table, 0, key) for table in ("images", "annotations", "categories") for key in VALID[table][0]),
    ("annotations", 1, "segmentation", "counts"),
    ("annotations", 1, "segmentation", "size"),
    ("annotations", 0, "segmentation", 0),
    ("annotations", 0, "segmentation", 0, 1),
    ("annotations", 0, "bbox", 2),
    ("annotations",),
    ("images", 0),
]


@given(st.lists(st.tuples(st.sampled_from(PLACES), JSON), min_size=1, max_size=3))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_file_is_read_or_refused_and_what_is_read_can_be_rasterised(
    tmp_path: Path, mutations: list[tuple[tuple[Any, ...], Any]]
) -> None:
    content: Any = copy.deepcopy(VALID)
    for path, value in mutations:
        place: Any = content
        try:
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    try:
        truth = read(tmp_path, content)
    except DatasetError as error:
        assert "\n" not in str(error)
        return
    sizes = {row["id"]: (row["height"], row["width"]) for row in truth["images"]}
    for row in truth["annotations"]:
        assert all(math.isfinite(number) for number in row["bbox"])
        if "segmentation" in row and np.prod(sizes[row["image_id"]]) < 10_000:
            pycocotools.mask.decode(_as_run_lengths(row["segmentation"], *sizes[row["image_id"]]))


def _as_run_lengths(segmentation: Any, height: int, width: int) -> Any:
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        return segmentation
    return pycocotools.mask.frPyObjects(segmentation, height, width)


def test_cocos_own_val2014_annotations_are_accepted(shared_data: Callable[[str], Path]) -> None:
    truth = read_ground_truth(shared_data("conformance/coco_eval") / "instances_val2014_100.json")
    assert len(truth["images"]) == 100
