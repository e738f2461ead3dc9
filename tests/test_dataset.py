from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from icm_bench.curves.schema import NAME
from icm_bench.dataset import Dataset, DatasetProvider, ImageRecord, open_dataset, safe_name
from icm_bench.datasets.coco import Coco, CocoFormat
from icm_bench.datasets.folder import Folder
from icm_bench.error import DatasetError, UsageError

SIZES = {3: (12, 8), 7: (9, 9), 20: (5, 4)}


def write_image(path: Path, width: int, height: int, seed: int = 0, **options: Any) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path, **options)


def truth() -> dict[str, Any]:
    return {
        "info": {"year": 2026},
        "images": [{"id": i, "file_name": f"{i:012d}.png", "width": w, "height": h} for i, (w, h) in SIZES.items()],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 18, "bbox": [1, 1, 4.5, 3], "area": 13.5, "iscrowd": 0,
             "segmentation": [[1, 1, 5.5, 1, 5.5, 4, 1, 4]]},
            {"id": 2, "image_id": 20, "category_id": 1, "bbox": [0, 0, 5, 4], "area": 20, "iscrowd": 1,
             "segmentation": {"size": [4, 5], "counts": [0, 20]}},
            {"id": 5, "image_id": 3, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0,
             "segmentation": [[0, 0, 2, 0, 2, 2]]},
        ],
        "categories": [{"id": 1, "name": "person", "supercategory": "x"}, {"id": 18, "name": "dog"}],
    }  # fmt: skip


def write_coco(root: Path, content: object = None, split: str = "val2017") -> Path:
    for image_id, (width, height) in SIZES.items():
        write_image(root / split / f"{image_id:012d}.png", width, height, seed=image_id)
    (root / "annotations").mkdir(exist_ok=True)
    text = json.dumps(truth() if content is None else content)
    (root / "annotations" / f"instances_{split}.json").write_text(text)
    return root


def test_coco_layout_is_read_in_order_of_ids(tmp_path: Path) -> None:
    dataset = Coco.open(data_root=write_coco(tmp_path))
    assert dataset.name == f"coco-partial{len(dataset.images)}"
    assert [record.id for record in dataset.images] == [3, 7, 20]
    assert dataset.read(20).shape == (4, 5, 3)
    assert dataset.n_pixels == 12 * 8 + 81 + 20
    assert dict(dataset.categories) == {1: "person", 18: "dog"}
    assert dataset.tasks == ("detection", "segmentation")
    assert not dataset.is_full_val2017


def test_another_split_has_another_name(tmp_path: Path) -> None:
    root = write_coco(tmp_path, split="train2017")
    assert Coco.open(data_root=root, split="train2017").name == "coco-train2017"


def test_providers_fulfil_the_protocol() -> None:
    providers: list[type[DatasetProvider]] = [Coco, CocoFormat, Folder]
    assert [provider.name for provider in providers] == ["coco", "coco-format", "folder"]
    assert Coco.default_detectors == {
        "detection": "fasterrcnn_resnet50_fpn",
        "segmentation": "maskrcnn_resnet50_fpn",
    }


@pytest.mark.parametrize("name", ["my set (v2).json", "my set (v2).json.gz"])
def test_any_coco_format_set_is_named_after_its_annotations(tmp_path: Path, name: str) -> None:
    write_coco(tmp_path)
    file = tmp_path / "annotations" / name
    (tmp_path / "annotations" / "instances_val2017.json").rename(file)
    dataset = CocoFormat.open(images=tmp_path / "val2017", annotations=file)
    assert dataset.name == "my-set-v2"
    assert len(dataset.images) == 3


def test_folder_numbers_images_by_name_and_leaves_out_what_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in ("b.png", "a.PNG", "c.jpg"):
        write_image(folder / name, 6, 5)
    (folder / "notes.txt").write_text("none")
    (folder / ".hidden.png").write_text("none")
    (folder / "within.png").mkdir()
    dataset = Folder.open(images=folder)
    assert dataset.name == "photos"
    names = {record.id: record.path.name for record in dataset.images}
    assert list(names.items()) == [(1, "a.PNG"), (2, "b.png"), (3, "c.jpg")]
    assert dataset.ground_truth is None
    assert dataset.tasks == ()
    assert dict(dataset.categories) == {}


def test_folder_takes_every_ending_of_its_formats(tmp_path: Path) -> None:
    names = ["a.jfif", "b.JPE", "c.jpeg"]
    for name in names:
        write_image(tmp_path / name, 6, 5, format="JPEG")
    assert [record.path.name for record in Folder.open(images=tmp_path).images] == names


def test_folder_names_the_images_that_it_does_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / "set" / "in" / "a.png", 6, 5)
    for name in ("b.heic", "c.AVIF", "d.jxl", "notes.txt"):
        (tmp_path / "set" / name).touch()
    left_out = "left out: b.heic, c.AVIF, d.jxl and 1 more"
    with pytest.raises(DatasetError, match=f"no images; {left_out}; add files"):
        Folder.open(images=tmp_path / "set")
    write_image(tmp_path / "set" / "e.png", 6, 5)
    assert len(Folder.open(images=tmp_path / "set").images) == 1
    said = f"{tmp_path}/set: only its own images of known formats are taken; {left_out}"
    assert caplog.messages == [said]


def test_images_alone_are_answered_by_what_else_to_give(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="no use for --images; give --annotations FILE too, or --dataset folder"
    ):
        open_dataset("scenes", images=tmp_path)


def test_folder_reads_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xfcr"))
    write_image(folder / "a.png", 6, 5)
    (folder / "a.png").rename(folder / os.fsdecode(b"\xff.png"))
    dataset = Folder.open(images=folder)
    assert dataset.name == "f-r"
    assert dataset.read(1).shape == (5, 6, 3)


def test_folder_without_images_or_with_a_broken_one_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"the folder holds no images; add files with \.apng, "):
        Folder.open(images=tmp_path)
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(DatasetError, match=r"a\.jpg: the file is not an image"):
        Folder.open(images=tmp_path)
    with pytest.raises(DatasetError, match="cannot be listed"):
        Folder.open(images=tmp_path / "absent")
    with pytest.raises(DatasetError, match="cannot be listed"):
        Folder.open(images=tmp_path / "a.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root lists everything")
def test_unreadable_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(DatasetError, match="Permission denied"):
        Folder.open(images=tmp_path / "locked")


def test_options_that_are_missing_or_without_use_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="dataset 'coco': needs the folder that holds val2017/.*give --data-root"
    ):
        Coco.open()
    with pytest.raises(UsageError, match="needs the annotation file"):
        CocoFormat.open(images=tmp_path)
    with pytest.raises(UsageError, match="has no use for --annotations"):
        Folder.open(images=tmp_path, annotations=tmp_path / "a.json")


def test_missing_image_and_missing_folder_are_errors(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    (root / "val2017" / "000000000007.png").unlink()
    with pytest.raises(DatasetError, match=r"000000000007\.png: the image file does not exist"):
        Coco.open(data_root=root)
    shutil.rmtree(root / "val2017")
    with pytest.raises(DatasetError, match="val2017: the folder of images cannot be listed"):
        Coco.open(data_root=root)


@pytest.mark.parametrize(
    ("size", "orientation", "complaint"),
    [
        ((13, 8), 1, r"000000000003\.png: the image is 13x8, its record says 12x8; restore"),
        (
            (12, 8),
            6,
            "is 8x12 once its EXIF orientation is applied, its record says 12x8; annotate the upright",
        ),
        ((8, 12), 1, "the image is 8x12, its record says 12x8; swap its width and height"),
    ],
)
def test_image_of_another_size_is_an_error_that_says_what_is_wrong(
    tmp_path: Path, size: tuple[int, int], orientation: int, complaint: str
) -> None:
    root = write_coco(tmp_path)
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    write_image(root / "val2017" / "000000000003.png", *size, exif=exif)
    with pytest.raises(DatasetError, match=complaint):
        Coco.open(data_root=root)


def test_image_that_changes_after_opening_is_an_error(tmp_path: Path) -> None:
    dataset = Coco.open(data_root=write_coco(tmp_path))
    write_image(dataset.images[0].path, 4, 4)
    with pytest.raises(DatasetError, match="its record says 12x8"):
        dataset.read(3)
    with pytest.raises(DatasetError, match="there is no image 4"):
        dataset.read(4)


def test_fingerprint_is_independent_of_place_order_and_further_fields(tmp_path: Path) -> None:
    first = Coco.open(data_root=write_coco(tmp_path / "a"))
    content = truth()
    for table in ("images", "annotations", "categories"):
        content[table].reverse()
    content["annotations"][0]["note"] = "more"
    content["licenses"] = []
    second = Coco.open(data_root=write_coco(tmp_path / "b", content))
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 64


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("annotations", "bbox", [1, 1, 4.5, 3.25]),
        ("annotations", "area", 13.25),
        ("annotations", "iscrowd", 1),
        ("annotations", "category_id", 1),
        ("annotations", "image_id", 7),
        ("annotations", "segmentation", [[1, 1, 5, 1, 5, 4]]),
        ("categories", "name", "man"),
    ],
)
def test_fingerprint_depends_on_what_scoring_uses(
    tmp_path: Path, table: str, key: str, value: object
) -> None:
    before = Coco.open(data_root=write_coco(tmp_path))
    content = truth()
    content[table][0][key] = value
    assert Coco.open(data_root=write_coco(tmp_path, content)).fingerprint != before.fingerprint


def test_fingerprint_depends_on_the_images_bytes(tmp_path: Path) -> None:
    before = Coco.open(data_root=write_coco(tmp_path))
    with before.images[0].path.open("ab") as file:
        file.write(b"\0")
    after = Dataset.measure(before.name, before.images, before.ground_truth)
    assert after.fingerprint != before.fingerprint


def test_limits_nest_have_names_and_fingerprints_and_choose_the_images_that_they_document(
    tmp_path: Path,
) -> None:
    for index in range(20):
        write_image(tmp_path / "many" / f"{index:02d}.png", 2, 2, seed=index)
    dataset = Folder.open(images=tmp_path / "many")
    subsets = [dataset.limit(n) for n in (1, 5, 12, 20)]
    ids = [{record.id for record in subset.images} for subset in subsets]
    assert ids[0] < ids[1] < ids[2] < ids[3]
    assert [subset.name for subset in subsets] == ["many-1", "many-5", "many-12", "many-20"]
    assert len({subset.fingerprint for subset in subsets}) == 4
    assert list(subsets[2].images) == sorted(subsets[2].images, key=lambda record: record.id)
    # for i in $(seq 20); do echo "$(printf $i | sha256sum) $i"; done | sort | head -n 4
    assert [record.id for record in dataset.limit(4).images] == [8, 9, 13, 17]


def test_limit_keeps_the_ground_truth_of_its_images_alone(tmp_path: Path) -> None:
    dataset = Coco.open(data_root=write_coco(tmp_path))
    for n in (1, 2, 3):
        subset = dataset.limit(n)
        ids = {record.id for record in subset.images}
        assert subset.ground_truth is not None
        assert {row["id"] for row in subset.ground_truth["images"]} == ids
        wanted = [row["id"] for row in truth()["annotations"] if row["image_id"] in ids]
        assert [row["id"] for row in subset.ground_truth["annotations"]] == wanted
        assert subset.categories == dataset.categories


@pytest.mark.parametrize("n", [0, -1, 4])
def test_limit_that_does_not_fit_is_a_usage_error(tmp_path: Path, n: int) -> None:
    with pytest.raises(UsageError, match="does not fit a set of 3"):
        Coco.open(data_root=write_coco(tmp_path)).limit(n)


def test_objects_without_masks_allow_detection_alone(tmp_path: Path) -> None:
    content = truth()
    del content["annotations"][2]["segmentation"]
    assert Coco.open(data_root=write_coco(tmp_path, content)).tasks == ("detection",)


def test_two_images_of_one_id_or_none_at_all_are_errors(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 2, 2)
    record = ImageRecord(1, tmp_path / "a.png", 2, 2)
    with pytest.raises(DatasetError, match="two images have the id 1"):
        Dataset.measure("x", [record, record])
    with pytest.raises(DatasetError, match="no images"):
        Dataset.measure("x", [])


def test_records_pickle_small(tmp_path: Path) -> None:
    record = Coco.open(data_root=write_coco(tmp_path)).images[0]
    assert pickle.loads(pickle.dumps(record)) == record
    assert len(pickle.dumps(record)) < 500


def test_full_val2017_is_known_by_name_and_counts() -> None:
    images = tuple(ImageRecord(i, Path(f"{i}.jpg"), 4, 4) for i in range(5000))
    rows: dict[str, list[Any]] = {"images": [], "annotations": [{}] * 36_781, "categories": []}
    assert Dataset("coco", images, rows, "f").is_full_val2017
    assert not Dataset("coco-5000", images, rows, "f").is_full_val2017
    assert not Dataset("coco", images[1:], rows, "f").is_full_val2017
    assert not Dataset("coco", images, None, "f").is_full_val2017


@given(st.text(max_size=30))
@example("_annotations.coco")
def test_safe_names_are_safe(text: str) -> None:
    name = safe_name(text)
    assert name
    assert name == Path(name).name
    assert not name.startswith((".", "-"))
    assert name.isascii()
    assert NAME.fullmatch(name)  # a result file may hold it


@pytest.mark.slow
def test_real_coco_images_and_annotations_are_accepted(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("coco")
    validation = Coco.open(data_root=folder)
    assert validation.ground_truth is not None
    assert (len(validation.images), len(validation.ground_truth["annotations"])) == (100, 770)
    assert len(validation.categories) == 80
    training = Coco.open(data_root=folder, split="train2017")
    assert training.ground_truth is not None
    assert (len(training.images), len(training.ground_truth["annotations"])) == (337, 2838)
