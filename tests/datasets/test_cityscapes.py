"""Cityscapes is read in its published layout, refused with a reason where it is broken, and measured end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from icm_bench.curves.result import load
from icm_bench.dataset import Dataset
from icm_bench.datasets.category_map import map_categories
from icm_bench.datasets.cityscapes import Cityscapes
from icm_bench.datasets.cityscapes_category import CATEGORIES
from icm_bench.datasets.coco_category import CATEGORIES as COCO
from icm_bench.error import DatasetError, UsageError
from icm_bench.testing import photograph
from tests.helpers.plugin import install
from tests.helpers.small_run import run_in

IMAGES, TRUTH = "leftImg8bit/val", "gtFine/val"
ANNOTATION = f"{TRUTH}/munster/munster_000002_000019_gtFine_instanceIds.png"
RED, GREEN = (230, 30, 30), (30, 210, 30)


def _draw(root: Path, city: str, number: int, regions: list[tuple[int, slice, slice]]) -> None:
    """Draw an image of 96x64 with its annotation; persons are red and cars are green."""
    name = f"{city}_{number:06d}_000019"
    image = (photograph(96, 64, seed=number) // 2 + 60).astype(np.uint8)
    samples = np.full((64, 96), 7, np.uint16)
    for value, down, across in regions:
        samples[down, across] = value
        if value >= 1000:
            image[down, across] = RED if value < 25000 else GREEN
    for folder, suffix, pixels in (
        (IMAGES, "leftImg8bit", image),
        (TRUTH, "gtFine_instanceIds", samples),
        (TRUTH, "gtFine_labelIds", (samples % 1000).astype(np.uint8)),
    ):
        path = root / folder / city / f"{name}_{suffix}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(pixels).save(path)


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """Lay out three images of two cities, with a group, void pixels and labels that are not scored."""
    root = tmp_path / "cityscapes"
    _draw(root, "munster", 2, [(24000, slice(8, 40), slice(4, 20)), (24001, slice(8, 40), slice(40, 60))])
    _draw(root, "lindau", 7, [(26000, slice(0, 20), slice(0, 30)), (26, slice(30, 60), slice(50, 90))])
    _draw(root, "lindau", 3, [(0, slice(50, 64), slice(0, 96)), (29001, slice(0, 9), slice(0, 9))])
    return root


def _truth(dataset: Dataset) -> Any:
    assert dataset.ground_truth is not None
    return dataset.ground_truth


def _pixels(row: Any) -> NDArray[np.bool_]:
    return np.asarray(pycocotools.mask.decode(row).astype(bool))


def test_instances_become_cocos_objects_groups_become_crowds_and_void_is_kept(street: Path) -> None:
    dataset = Cityscapes.open(data_root=street)
    assert dataset.name == "cityscapes-partial3"
    assert dataset.evaluation == "cityscapes"
    assert dataset.tasks == ("detection", "segmentation")
    assert dataset.n_objects == 3
    assert dict(dataset.categories) == dict(CATEGORIES)
    assert [record.title for record in dataset.images] == [
        "lindau_000003_000019_leftImg8bit.png",
        "lindau_000007_000019_leftImg8bit.png",
        "munster_000002_000019_leftImg8bit.png",
    ]
    rows = _truth(dataset)["annotations"]
    found = [(row["image_id"], row["category_id"], row["iscrowd"]) for row in rows]
    assert found == [(2, 26, 1), (2, 26, 0), (3, 24, 0), (3, 24, 0)]
    first, second = rows[2:]
    assert (first["bbox"], first["area"]) == ([4, 8, 16, 32], 16 * 32)
    expected = np.zeros((64, 96), bool)
    expected[8:40, 40:60] = True
    assert np.array_equal(_pixels(second["segmentation"]), expected)
    rows = _truth(dataset)["images"]
    assert rows[0]["file_name"] == "lindau/lindau_000003_000019_leftImg8bit.png"
    assert _pixels(rows[0]["void"]).sum() == 14 * 96
    assert rows[1]["void"] is None


def test_void_pixels_are_part_of_the_fingerprint_and_of_subsets(street: Path) -> None:
    before = Cityscapes.open(data_root=street)
    taken = before.limit(2)
    assert taken.evaluation == "cityscapes"
    assert all("void" in row for row in _truth(taken)["images"])
    _draw(street, "lindau", 3, [(0, slice(50, 64), slice(0, 95)), (29001, slice(0, 9), slice(0, 9))])
    assert Cityscapes.open(data_root=street).fingerprint != before.fingerprint


def test_a_detector_of_cocos_categories_is_scored_on_those_that_both_have(street: Path) -> None:
    mapped = map_categories(Cityscapes.open(data_root=street), "name", COCO)
    assert mapped.evaluation == "cityscapes"
    assert "rider" not in mapped.categories.values()
    assert [row["category_id"] for row in _truth(mapped)["annotations"]] == [3, 3, 1, 1]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((64, 96), 34, np.uint16), "the sample 34, which is neither a label nor an instance"),
        (np.full((64, 96), 65535, np.uint16), "the sample 65535"),
        (np.zeros((64, 96, 3), np.uint8), "holds RGB samples, not one whole number a pixel"),
        (np.full((32, 96), 7, np.uint16), "the image is 96x64, its record says 96x32"),
    ],
)
def test_a_file_that_is_no_annotation_of_its_image_is_refused(
    street: Path, pixels: NDArray[Any], message: str
) -> None:
    Pillow.fromarray(pixels).save(street / ANNOTATION)
    with pytest.raises(DatasetError, match=message) as caught:
        Cityscapes.open(data_root=street)
    assert "munster_000002_000019" in str(caught.value)


def test_a_damaged_annotation_and_a_missing_one_are_refused(street: Path) -> None:
    path = street / ANNOTATION
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match="truncated or damaged"):
        Cityscapes.open(data_root=street)
    path.unlink()
    with pytest.raises(DatasetError, match=r"munster_000002_000019_gtFine_instanceIds\.png: the image file"):
        Cityscapes.open(data_root=street)


def test_a_folder_without_its_layout_and_wrong_options_are_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no image in leftImg8bit/val/<city>/; unpack leftImg8bit_trainv"):
        Cityscapes.open(data_root=tmp_path)
    with pytest.raises(UsageError, match="give --data-root"):
        Cityscapes.open()
    with pytest.raises(UsageError, match="no use for --annotations"):
        Cityscapes.open(data_root=tmp_path, annotations=tmp_path)


DETECTOR = """
from icm_bench.testing import FakeDetector

class Street(FakeDetector):
    name = "street"
    categories = CATEGORIES

    def predict(self, image):
        return [{**row, "category_id": {1: 24, 2: 26}[row["category_id"]]}
                for row in FakeDetector().predict(image) if row["category_id"] < 3]
"""


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_a_run_has_cityscapes_values_of_masks_beside_cocos_and_their_intervals(
    street: Path, plugins: Path, tmp_path: Path, task: Any
) -> None:
    source = f"from icm_bench.datasets.cityscapes_category import CATEGORIES\n{DETECTOR}"
    (plugins / "street_of_colours.py").write_text(source)
    install(plugins, "detectors", street="street_of_colours:Street")
    options = {"codecs": ["jpeg"], "detector": "street", "qualities": ["jpeg=5,90"], "bootstrap": 20}
    run_in(Cityscapes.open(data_root=street), tmp_path, task=task, **options)
    found = load(tmp_path / "results" / "cityscapes-partial3" / task / "street" / "jpeg.json")
    assert found.meta["dataset"]["evaluation"] == "cityscapes"
    assert found.results["map"][1] is not None
    assert ("map-cityscapes" in found.results) == (task == "segmentation")
    if task == "segmentation":
        assert found.results["map-cityscapes"][1] == pytest.approx(100)
        assert found.results["map50-cityscapes"][1] == pytest.approx(100)
        assert found.replicates is not None
        assert found.replicates.metrics["map-cityscapes"].shape == (2, 20)
        assert found.meta["intervals"]["map-cityscapes"][1] == [100, 100]
