"""Open Images is read as published, refused with a reason where it is broken, and measured end to end."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from icm_bench.curves.result import load
from icm_bench.dataset import Dataset, open_dataset
from icm_bench.datasets.openimages import OpenImages
from icm_bench.error import DatasetError, UsageError
from icm_bench.image import Image
from icm_bench.metrics.evaluation import EVALUATIONS
from icm_bench.metrics.metric import MAIN_METRICS
from icm_bench.testing import photograph
from tests.helpers.plugin import install_street
from tests.helpers.small_run import run_in

PERSON, BICYCLE, CAR, TRAFFIC_LIGHT = 1, 2, 3, 10
COLORS = {"person": (230, 30, 30), "bicycle": (30, 210, 30), "car": (40, 40, 240)}
BOXES = "detection_validation_5k_bbox.csv"
LABELS = "detection_validation_labels_5k.csv"
LISTING = "detection_validation_input_5k.lst"
Row = tuple[str, str, float, float, float, float, int]


def _picture(path: Path, width: int, height: int, seed: int) -> Image:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture: Image = (photograph(width, height, seed=seed) // 2 + 60).astype(np.uint8)
    Pillow.fromarray(picture).save(path, quality=95)
    return picture


def _write(path: Path, header: str, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *(",".join(map(str, row)) if not isinstance(row, str) else row for row in rows)]
    path.write_text("\n".join(line for line in lines if line) + "\n")


@pytest.fixture
def mpeg(tmp_path: Path) -> Path:
    """Lay out two images as MPEG's subset is: classes under COCO's names, the list without a last line's end."""
    root = tmp_path / "mpeg"
    _picture(root / "images" / "00aa.jpg", 200, 100, 1)
    _picture(root / "images" / "ff01.jpg", 120, 80, 2)
    boxes: list[Row] = [
        ("00aa", "person", 0.1, 0.5, 0.2, 0.8, 0),
        ("00aa", "traffic_light", 0.5, 1.0, 0.0, 1.0, 1),
        ("ff01", "car", 0.25, 0.75, 0.5, 1.0, 0),
    ]
    labels = [("00aa", "person", 1), ("00aa", "traffic_light", 1), ("00aa", "bicycle", 0), ("ff01", "car", 1)]
    _write(root / BOXES, "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf", boxes)
    _write(root / LABELS, "ImageID,LabelName,Confidence", labels)
    (root / LISTING).write_text("ff01.jpg\n00aa.jpg")
    return root


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    """Lay out two images as the validation split is published, annotations in a folder of their own."""
    root = tmp_path / "open"
    _picture(root / "validation" / "0001.jpg", 100, 100, 1)
    _picture(root / "validation" / "0002.jpg", 100, 100, 2)
    notes = root / "annotations"
    header = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
        "IsDepiction,IsInside"
    )
    boxes = ["0001,xclick,/m/man,1,0,0.5,0,0.5,0,0,0,0,0", "0002,xclick,/m/tree,1,0,0.5,0,0.5,0,0,0,0,0"]
    labels = ["0001,verification,/m/man,1", "0001,verification,/m/phone,0", "0002,verification,/m/person,0"]
    _write(notes / "validation-annotations-bbox.csv", header, boxes)
    _write(
        notes / "validation-annotations-human-imagelabels-boxable.csv",
        "ImageID,Source,LabelName,Confidence",
        labels,
    )
    _write(
        notes / "class-descriptions-boxable.csv",
        "",
        ["/m/person,Person", "/m/man,Man", "/m/phone,Mobile phone", "/m/tree,Tree", "/m/ox,Cattle"],
    )
    tree = {
        "LabelName": "/m/entity",
        "Subcategory": [
            {"LabelName": "/m/person", "Subcategory": [{"LabelName": "/m/man"}]},
            {"LabelName": "/m/phone"},
        ],
    }
    (notes / "bbox_labels_600_hierarchy.json").write_text(json.dumps(tree))
    return root


def _truth(dataset: Dataset) -> Any:
    assert dataset.ground_truth is not None
    return dataset.ground_truth


def test_mpegs_files_become_pixels_groups_and_verified_categories(mpeg: Path) -> None:
    dataset = OpenImages.open(data_root=mpeg)
    assert dataset.name == "openimages-mpeg-partial2"
    assert dataset.evaluation == "open-images-challenge"
    assert dataset.tasks == ("detection",)
    assert dataset.categories == {1: "person", 2: "bicycle", 3: "car", 10: "traffic light"}
    assert [record.path.name for record in dataset.images] == ["00aa.jpg", "ff01.jpg"]
    person, light, car = _truth(dataset)["annotations"]
    assert person["bbox"] == pytest.approx([20, 20, 80, 60])
    assert (person["category_id"], person["iscrowd"], person["area"]) == (PERSON, 0, pytest.approx(4800))
    assert (light["category_id"], light["iscrowd"], light["image_id"]) == (TRAFFIC_LIGHT, 1, 1)
    assert car["bbox"] == pytest.approx([30, 40, 60, 40])
    first, second = _truth(dataset)["images"]
    assert (first["pos_category_ids"], first["neg_category_ids"]) == ([PERSON, TRAFFIC_LIGHT], [BICYCLE])
    assert (second["pos_category_ids"], second["neg_category_ids"]) == ([CAR], [])


def test_a_class_is_also_what_it_is_a_kind_of_and_no_kind_of_what_is_absent(validation: Path) -> None:
    dataset = OpenImages.open(data_root=validation)
    assert dataset.name == "openimages-validation-partial2"
    (man,) = _truth(dataset)["annotations"]
    assert (man["category_id"], man["bbox"]) == (PERSON, [0, 0, 50, 50])
    first, second = _truth(dataset)["images"]
    assert (first["pos_category_ids"], first["neg_category_ids"]) == ([PERSON], [77])
    assert (second["pos_category_ids"], second["neg_category_ids"]) == ([], [PERSON])
    assert dataset.categories == {1: "person", 77: "cell phone"}


def test_a_list_takes_a_part_of_the_split(validation: Path) -> None:
    (validation / "images.lst").write_text("0001\n")
    dataset = OpenImages.open(data_root=validation)
    assert [record.path.name for record in dataset.images] == ["0001.jpg"]


def test_labels_are_part_of_the_fingerprint_and_a_subset_keeps_the_evaluation(mpeg: Path) -> None:
    before = open_dataset("openimages", data_root=mpeg)
    assert before.limit(1).evaluation == "open-images-challenge"
    text = (mpeg / LABELS).read_text()
    (mpeg / LABELS).write_text(text.replace("00aa,bicycle,0\n", ""))
    assert OpenImages.open(data_root=mpeg).fingerprint != before.fingerprint
    (mpeg / LABELS).write_text(text)
    assert OpenImages.open(data_root=mpeg).fingerprint == before.fingerprint


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (BOXES, lambda text: text.replace("IsGroupOf", "Group"), "no column 'IsGroupOf'"),
        (BOXES, lambda text: text.replace("0.1,0.5", "1.1,0.5"), "line 2 has the coordinate '1.1'"),
        (BOXES, lambda text: text.replace("0.1,0.5", "nan,0.5"), "line 2 has the coordinate 'nan'"),
        (BOXES, lambda text: text.replace("0.1,0.5", "0.6,0.5"), "line 2 has a box of negative size"),
        (BOXES, lambda text: text.replace("1.0,1\n", "1.0,-1\n"), "line 3 has IsGroupOf '-1'"),
        (BOXES, lambda text: text.replace("car", "cart"), "line 4 has the unknown class 'cart'"),
        (BOXES, lambda text: text.replace(",1.0,0\n", "\n"), "line 4 has 5 fields where the header has 7"),
        (BOXES, lambda text: "\0" + text, "not a CSV file|no column"),
        (BOXES, lambda text: "", "no column 'ImageID'"),
        (LABELS, lambda text: text.replace("person,1", "person,0.7"), "Confidence '0.7'"),
        (LABELS, lambda text: text.replace("bicycle", "tricycle"), "unknown class 'tricycle'"),
        (LISTING, lambda text: text + "\n../ff01.jpg", "line 3 is not the name of an image"),
        (LISTING, lambda text: text + "\nff01.png", "line 3 names image ff01 again"),
        (LISTING, lambda text: "", "names no images"),
        (LISTING, lambda text: "ff02.jpg", "the image file does not exist"),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    mpeg: Path, name: str, change: Callable[[str], str], message: str
) -> None:
    (mpeg / name).write_text(change((mpeg / name).read_text()))
    with pytest.raises(DatasetError, match=message) as error:
        OpenImages.open(data_root=mpeg)
    assert error.value.where is not None


def test_missing_and_ambiguous_files_are_said(mpeg: Path, validation: Path) -> None:
    (mpeg / LABELS).rename(mpeg / "labels.csv")
    with pytest.raises(DatasetError, match=f"no {LABELS}"):
        OpenImages.open(data_root=mpeg)
    (validation / "annotations" / "bbox_labels_600_hierarchy.json").write_text("[]")
    with pytest.raises(DatasetError, match="not a hierarchy of classes"):
        OpenImages.open(data_root=validation)
    (validation / BOXES).write_bytes((mpeg / BOXES).read_bytes())
    with pytest.raises(DatasetError, match="two sets of boxes"):
        OpenImages.open(data_root=validation)
    with pytest.raises(DatasetError, match="there is no"):
        OpenImages.open(data_root=mpeg / "images")
    with pytest.raises(UsageError, match="give --data-root"):
        OpenImages.open()
    with pytest.raises(UsageError, match="no use for --images"):
        OpenImages.open(data_root=mpeg, images=mpeg)


def test_boxes_are_refused_for_segmentation_before_anything_is_coded(mpeg: Path, tmp_path: Path) -> None:
    dataset = open_dataset("openimages", data_root=mpeg)
    with pytest.raises(UsageError, match="it can score detection"):
        run_in(dataset, tmp_path, codecs=["jpeg"], task="segmentation", detector="maskrcnn_resnet50_fpn")
    assert not (tmp_path / "runs").exists()


def test_every_evaluation_has_a_main_accuracy_that_comparisons_know() -> None:
    assert {item.figures[0] for item in EVALUATIONS.values()} < set(MAIN_METRICS)


def _coloured(root: Path, n_images: int) -> None:
    rng = np.random.default_rng(11)
    boxes: list[Row] = []
    labels = []
    names = []
    for number in range(n_images):
        image = f"{number:04x}"
        picture = _picture(root / f"{image}.jpg", 120, 96, number).astype(np.float64)
        category = ["person", "car"][number % 2]
        for _ in range(3):
            x, y = int(rng.integers(0, 90)), int(rng.integers(0, 66))
            w, h = (int(side) for side in rng.integers(14, 30, 2))
            patch = picture[y : y + h, x : x + w]
            strength = rng.uniform(0.4, 1.0)
            patch[:] = (1 - strength) * patch + strength * np.array(COLORS[category])
            boxes.append((image, category, x / 120, min((x + w) / 120, 1), y / 96, min((y + h) / 96, 1), 0))
        Pillow.fromarray(picture.astype(np.uint8)).save(root / f"{image}.jpg", quality=95)
        labels += [(image, category, 1), (image, "bicycle", 0)]
        names.append(f"{image}.jpg")
    _write(root / BOXES, "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf", boxes)
    _write(root / LABELS, "ImageID,LabelName,Confidence", labels)
    (root / LISTING).write_text("\n".join(names))


@pytest.mark.slow
def test_a_run_ends_with_the_challenges_accuracy_and_its_intervals(
    tmp_path: Path, plugins: Path, command: list[str]
) -> None:
    install_street(plugins)
    _coloured(tmp_path / "set", 6)

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    data = ("--dataset", "openimages", "--data-root", "set", "--detector", "street")
    ladder = ("--qualities", "fake=1,3,5,7", "--qualities", "fake:step=24=1,3,5,7")
    output = call(
        "run", "--task", "detection", "--codecs", "fake,fake:step=24", *data, *ladder, "--bootstrap", "50",
        "--workers", "1",
    )  # fmt: skip
    assert "mAP@0.5 (OIC) 95 %" in output
    assert "BD-mAP@0.5 (OIC)" in output
    assert (tmp_path / output.rpartition("plot: ")[2].strip()).name == "map50-oic-log.png"
    found = load(tmp_path / "results" / "openimages-mpeg-partial6" / "detection" / "street" / "fake.json")
    assert "map" not in found.results
    assert "map50" not in found.results
    accuracy = [value for value in found.results["map50-oic"] if value is not None]
    assert len(accuracy) == 4
    assert accuracy[-1] > accuracy[0]
    assert found.meta["dataset"]["evaluation"] == "open-images-challenge"
    original = found.meta["uncompressed"]
    low, high = original["intervals"]["map50-oic"]
    assert 0 < low <= original["map50-oic"] + 5
    assert high <= 100
    assert found.replicates is not None
    assert found.replicates.metrics["map50-oic"].shape == (4, 50)
    table = call("bdrate", "results", "--anchor", "fake", "--format", "json")
    assert {row["metric"] for row in json.loads(table)} == {"map50-oic"}
    report = tmp_path / call("report", "results").partition("report: ")[2].strip()
    assert "mAP@0.5 (OIC)" in report.read_text()
    assert call("compare", "results", "results").strip()
