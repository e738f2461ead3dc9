from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from icm_bench.datasets.coco import CocoFormat
from icm_bench.datasets.scenes import VALIDATION_SET
from icm_bench.datasets.scenes import Scenes as ScenesDataset
from icm_bench.error import TrainingError
from icm_bench.image import Image
from icm_bench.network.shard import shards
from icm_codecs.training.images import Crops, ImageFolders, LabelledImages, Scenes, open_source
from tests.helpers.scenes import write_scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(1)
    for number, (height, width) in enumerate([(80, 96), (100, 70), (20, 30)]):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        PillowImage.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scene as a shard."""
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 31)
    return folder


def test_crops_follow_from_seed_and_step(folder: Path) -> None:
    images = ImageFolders([folder])

    def crops(*, rank: int, start: int) -> list[torch.Tensor]:
        stream = Crops(images, batch=2, size=(64, 48), seed=1, rank=rank, start=start)
        return [images for images, _ in islice(stream, 3)]

    from_start, resumed, elsewhere = crops(rank=0, start=0), crops(rank=0, start=2), crops(rank=1, start=0)
    assert from_start[0].shape == (2, 3, 64, 48)
    assert torch.equal(from_start[2], resumed[0])
    assert not torch.equal(from_start[0], elsewhere[0])


def test_small_picture_is_padded_by_its_edge(folder: Path, tmp_path: Path) -> None:
    PillowImage.open(folder / "2.png").save(tmp_path / "small.png")
    images, _ = next(iter(Crops(ImageFolders([tmp_path]), batch=1, size=(64, 64), seed=1, rank=0, start=0)))
    small = np.asarray(PillowImage.open(tmp_path / "small.png"))
    candidates = [np.pad(small, [(0, 44), (0, 34), (0, 0)], mode="edge")]
    candidates.append(candidates[0][:, ::-1])
    assert any(np.array_equal(images[0].permute(1, 2, 0).numpy(), wanted) for wanted in candidates)


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(TrainingError, match=r"broken\.png"):
        ImageFolders([tmp_path])


def test_folder_is_opened_as_what_it_holds(folder: Path, drawn: Path) -> None:
    assert isinstance(open_source([folder]), ImageFolders)
    assert isinstance(open_source([drawn]), Scenes)
    annotations = VALIDATION_SET / "instances.json"
    assert isinstance(open_source([VALIDATION_SET], [annotations]), LabelledImages)
    with pytest.raises(TrainingError, match="1 files of annotations are not of 2 folders"):
        open_source([VALIDATION_SET, folder], [annotations])


def test_annotated_folders_follow_one_another_and_may_be_named_twice() -> None:
    one = LabelledImages(
        CocoFormat.open(images=VALIDATION_SET, annotations=VALIDATION_SET / "instances.json")
    )
    joined = open_source([VALIDATION_SET] * 2, [VALIDATION_SET / "instances.json"] * 2)
    assert len(joined) == 2 * len(one)
    assert joined.has_objects
    box = (slice(0, 192), slice(0, 256))
    for index in (0, len(one) - 1):
        for place in (index, len(one) + index):
            assert np.array_equal(joined.image(place), one.image(index))
            assert joined.objects(place, box)[1].tolist() == one.objects(index, box)[1].tolist()


def test_objects_of_a_scene_move_with_its_crop_and_mirror(drawn: Path) -> None:
    """What lies under a mask has the same pixels in the crop as in the scene."""
    scene = Scenes(shards(drawn))
    whole = scene.image(0)
    stream = Crops(scene, batch=8, size=(192, 256), seed=3, rank=0, start=0, with_objects=True)
    images, targets = next(iter(stream))
    assert len(targets) == 8
    n_objects, colours_of_objects = 0, _colours_by_object(drawn, whole)
    for image, target in zip(images, targets, strict=True):
        for box, mask in zip(target["boxes"], target["masks"], strict=True):
            left, top, right, bottom = (int(side) for side in box)
            outside = mask.clone()
            outside[top:bottom, left:right] = 0
            assert outside.sum() == 0
            assert mask[top].any()
            assert mask[bottom - 1].any()
            assert mask[:, left].any()
            assert mask[:, right - 1].any()
            colours = {tuple(colour) for colour in image[:, mask.bool()].T.tolist()}
            assert any(colours <= scene_colours for scene_colours in colours_of_objects)
            n_objects += 1
    assert n_objects > 0


def _colours_by_object(drawn: Path, whole: Image) -> list[set[tuple[int, ...]]]:
    instances = np.load(drawn / "31-0000" / "instances.npy")[0]
    return [
        {tuple(colour) for colour in whole[instances == k].tolist()} for k in np.unique(instances) if k > 0
    ]


def test_objects_of_annotations_are_those_of_the_dataset() -> None:
    dataset = ScenesDataset.open()
    source = LabelledImages(
        CocoFormat.open(images=VALIDATION_SET, annotations=VALIDATION_SET / "instances.json")
    )
    assert len(source) == len(dataset.images)
    record = dataset.images[0]
    masks, labels = source.objects(0, (slice(0, record.height), slice(0, record.width)))
    assert dataset.ground_truth is not None
    rows = [row for row in dataset.ground_truth["annotations"] if row["image_id"] == record.id]
    assert labels.tolist() == [row["category_id"] for row in rows]
    assert masks.sum(axis=(1, 2)).tolist() == pytest.approx([row["area"] for row in rows])


def test_objects_mostly_outside_a_crop_and_crowds_are_left_out(tmp_path: Path) -> None:
    PillowImage.new("RGB", (100, 80)).save(tmp_path / "1.png")
    square = [[10, 10, 50, 10, 50, 50, 10, 50]]
    rows = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 7,
            "bbox": [10, 10, 40, 40],
            "area": 1600,
            "segmentation": square,
        },
        {"id": 2, "image_id": 1, "category_id": 8, "bbox": [10, 60, 20, 10], "area": 200},
        {"id": 3, "image_id": 1, "category_id": 9, "bbox": [0, 0, 100, 80], "area": 8000, "iscrowd": 1},
    ]
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 100, "height": 80}],
        "annotations": [{"iscrowd": 0, **row} for row in rows],
        "categories": [{"id": k, "name": str(k)} for k in (7, 8, 9)],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    source = open_source([tmp_path], [tmp_path / "a.json"])
    assert source.objects(0, (slice(0, 80), slice(0, 100)))[1].tolist() == [7, 8]
    assert source.objects(0, (slice(0, 31), slice(0, 100)))[1].tolist() == [7]
    masks, labels = source.objects(0, (slice(0, 29), slice(0, 100)))
    assert labels.tolist() == []
    assert masks.shape == (0, 29, 100)
