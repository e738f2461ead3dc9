"""Masks of Open Images are read as published and as MPEG's subset has them, and refused with a reason where broken."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from icm_bench.curves.result import load
from icm_bench.dataset import Dataset
from icm_bench.datasets.annotation import covers
from icm_bench.datasets.openimages import OpenImages
from icm_bench.detectors.mask import run_lengths
from icm_bench.error import DatasetError
from icm_bench.testing import photograph
from tests.helpers.plugin import install_street
from tests.helpers.small_run import run_in

MASKS = "segmentation_validation_masks_5k.csv"
PUBLISHED = "validation-annotations-object-segmentation.csv"
WIDTH, HEIGHT = 100, 80


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(path)


def _ellipse(width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.bool_]:
    y, x = np.mgrid[:height, :width]
    return np.asarray(((x / width - 0.3) / 0.2) ** 2 + ((y / height - 0.5) / 0.3) ** 2 < 1)


def _packed(mask: NDArray[np.bool_]) -> str:
    return base64.b64encode(zlib.compress(run_lengths(mask)["counts"].encode())).decode()


@pytest.fixture
def mpeg(tmp_path: Path) -> Path:
    """Lay out two images as MPEG's subset for segmentation is: the list names PNG files, boxes have more digits."""
    root = tmp_path / "mpeg"
    for name in ("00aa", "ff01"):
        _image(root / f"{name}.jpg")
    (root / "segmentation_validation_input_5k.lst").write_text("00aa.png\nff01.png")
    (root / "segmentation_validation_labels_5k.csv").write_text(
        "ImageID,LabelName,Confidence\n00aa,person,1\n00aa,person,1\n00aa,cell_phone,0\nff01,cell_phone,1\n"
    )
    (root / "segmentation_validation_bbox_5k.csv").write_text(
        "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n"
        "00aa,person,0.10000013,0.49999987,0.2,0.8,0\n"
        "00aa,person,0.5,1.0,0.0,1.0,1\n"
        "ff01,cell_phone,0.1,0.5,0.2,0.8,0\n"
    )
    (root / MASKS).write_text(
        "ImageID,LabelName,ImageWidth,ImageHeight,XMin,YMin,XMax,YMax,IsGroupOf,Mask,MaskPath\n"
        f"00aa,person,{WIDTH},{HEIGHT},0.100000,0.200000,0.500000,0.800000,0,{_packed(_ellipse())},a.png\n"
        f"ff01,cell_phone,50,40,0.100000,0.200000,0.500000,0.800000,0,{_packed(_ellipse(50, 40))},b.png\n"
        f"ee02,person,50,40,0.1,0.2,0.5,0.8,0,{_packed(_ellipse(50, 40))},c.png\n"
    )
    return root


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    """Lay out two images as the validation split is published, one mask of half the image's size."""
    root = tmp_path / "open"
    for name in ("0001", "0002"):
        _image(root / "validation" / f"{name}.jpg")
    notes = root / "annotations"
    notes.mkdir()
    (notes / "validation-annotations-bbox.csv").write_text(
        "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n"
        "0001,/m/man,0.1,0.5,0.2,0.8,0\n0002,/m/man,0.6,0.9,0.2,0.8,0\n"
    )
    (notes / "validation-annotations-human-imagelabels-boxable.csv").write_text(
        "ImageID,LabelName,Confidence\n0001,/m/man,1\n0002,/m/man,1\n"
    )
    (notes / "class-descriptions-boxable.csv").write_text("/m/person,Person\n/m/man,Man\n")
    tree = {
        "LabelName": "/m/x",
        "Subcategory": [{"LabelName": "/m/person", "Subcategory": [{"LabelName": "/m/man"}]}],
    }
    (notes / "bbox_labels_600_hierarchy.json").write_text(json.dumps(tree))
    (notes / PUBLISHED).write_text(
        "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks\n"
        "0001_mman_a.png,0001,/m/man,a,0.100000,0.500000,0.200000,0.800000,0.00000,\n"
        "0002_mman_b.png,0002,/m/man,b,0.100000,0.500000,0.200000,0.800000,0.00000,\n"
    )
    (root / "masks" / "0").mkdir(parents=True)
    Pillow.fromarray(_ellipse(50, 40)).save(root / "masks" / "0001_mman_a.png")
    Pillow.fromarray(_ellipse().astype(np.uint8) * 255).save(root / "masks" / "0" / "0002_mman_b.png")
    return root


def _annotations(dataset: Dataset) -> list[dict[str, Any]]:
    assert dataset.ground_truth is not None
    return list(dataset.ground_truth["annotations"])


def _pixels(row: dict[str, Any]) -> NDArray[np.bool_]:
    return np.asarray(pycocotools.mask.decode(row["segmentation"]).astype(bool))


def test_mpegs_masks_go_to_their_boxes_and_boxes_without_one_stay(mpeg: Path) -> None:
    dataset = OpenImages.open(data_root=mpeg)
    assert dataset.name == "openimages-mpeg-segmentation-partial2"
    assert dataset.tasks == ("detection", "segmentation")
    assert [record.path.name for record in dataset.images] == ["00aa.jpg", "ff01.jpg"]
    person, group, phone = _annotations(dataset)
    assert person["bbox"] == pytest.approx([10, 16, 40, 48], abs=1e-3)
    assert np.array_equal(_pixels(person), _ellipse())
    assert (group["iscrowd"], "segmentation" in group) == (1, False)
    # A mask of half the size is scaled to the image's.
    assert _pixels(phone).shape == (HEIGHT, WIDTH)
    assert np.mean(_pixels(phone) != _ellipse()) < 0.03


def test_published_masks_are_png_files_and_one_that_no_box_fits_is_an_object(validation: Path) -> None:
    dataset = OpenImages.open(data_root=validation)
    assert dataset.name == "openimages-validation-partial2"
    assert dataset.tasks == ("detection", "segmentation")
    first, box, second = _annotations(dataset)
    assert np.mean(_pixels(first) != _ellipse()) < 0.03
    assert (box["bbox"], "segmentation" in box) == (pytest.approx([60, 16, 30, 48]), False)
    assert (second["category_id"], second["bbox"]) == (1, pytest.approx([10, 16, 40, 48]))
    assert np.array_equal(_pixels(second), _ellipse())
    (validation / "annotations" / PUBLISHED).unlink()
    alone = OpenImages.open(data_root=validation)
    assert alone.tasks == ("detection",)
    assert alone.fingerprint != dataset.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("ImageWidth", "Width"), "no column 'ImageWidth'"),
        (lambda text: text.replace(f"{WIDTH},{HEIGHT}", f"{WIDTH},{HEIGHT + 1}"), "line 2 has a mask that is not run"),
        (lambda text: text.replace(f"{WIDTH},{HEIGHT}", "x,80"), "line 2 has a mask that cannot be unpacked"),
        (lambda text: text.replace(_packed(_ellipse()), "eJ?="), "line 2 has a mask that cannot be unpacked"),
        (lambda text: text.replace(_packed(_ellipse()), "AAAA"), "line 2 has a mask that cannot be unpacked"),
        (lambda text: text.replace("0.800000,0,", "1.800000,0,"), r"line 2 has the coordinate '1\.800000'"),
        (lambda text: text.replace("person", "people").replace("0.1", "0.2"), "line 2 has the unknown class 'people'"),
    ],
)  # fmt: skip
def test_a_broken_line_of_masks_is_named(mpeg: Path, change: Callable[[str], str], message: str) -> None:
    (mpeg / MASKS).write_text(change((mpeg / MASKS).read_text()))
    with pytest.raises(DatasetError, match=message):
        OpenImages.open(data_root=mpeg)


def test_missing_and_foreign_mask_files_are_named(validation: Path, mpeg: Path) -> None:
    path = validation / "annotations" / PUBLISHED
    text = path.read_text()
    for name, complaint in (
        ("../0001.png", r"line 2 has MaskPath '\.\./0001\.png'"),
        ("none.png", r"masks/none\.png: the image file does not exist"),
    ):
        path.write_text(text.replace("0001_mman_a.png", name))
        with pytest.raises(DatasetError, match=complaint):
            OpenImages.open(data_root=validation)
    (mpeg / MASKS).unlink()
    with pytest.raises(DatasetError, match=f"no {MASKS}"):
        OpenImages.open(data_root=mpeg)


def test_both_halves_of_mpegs_subset_in_one_folder_are_refused(mpeg: Path) -> None:
    (mpeg / "detection_validation_5k_bbox.csv").write_text("ImageID\n")
    with pytest.raises(DatasetError, match="holds two sets of boxes; keep detection_.* or segmentation_"):
        OpenImages.open(data_root=mpeg)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12), st.integers(1, 400))
def test_no_text_passes_for_run_lengths_of_another_size(text: str, n_pixels: int) -> None:
    if covers(text, n_pixels):
        decoded = pycocotools.mask.decode({"size": [n_pixels, 1], "counts": text.encode()})
        assert decoded.shape == (n_pixels, 1)
        assert not covers(text, n_pixels + 1)


def test_a_run_scores_masks_by_the_challenges_rules(mpeg: Path, plugins: Path, tmp_path: Path) -> None:
    install_street(plugins)
    image = (photograph(WIDTH, HEIGHT, seed=1) // 2 + 60).astype(np.uint8)
    image[_ellipse()] = (230, 30, 30)
    Pillow.fromarray(image).save(mpeg / "00aa.jpg", quality=95)
    labels = mpeg / "segmentation_validation_labels_5k.csv"
    for path in (labels, mpeg / "segmentation_validation_bbox_5k.csv", mpeg / MASKS):
        path.write_text(path.read_text().replace("cell_phone", "car"))
    options = {"codecs": ["jpeg"], "detector": "street", "qualities": ["jpeg=2,90"], "bootstrap": 10}
    run_in(OpenImages.open(data_root=mpeg), tmp_path, task="segmentation", **options)
    place = tmp_path / "results" / "openimages-mpeg-segmentation-partial2" / "segmentation" / "street"
    found = load(place / "jpeg.json")
    # The person is found by its mask, the car, which nobody has drawn, is missed.
    assert found.results["map50-oic"][1] == pytest.approx(50)
    assert found.meta["uncompressed"]["map50-oic"] == pytest.approx(50)
    assert found.replicates is not None
    assert found.replicates.metrics["map50-oic"].shape == (2, 10)
