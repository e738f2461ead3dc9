from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as run_lengths

from icm_bench.datasets.scenes import Scenes, ScenesPoses
from icm_bench.detectors.scenes import FasterRcnnScenes
from icm_bench.metrics.bootstrap import resample_weights
from icm_bench.metrics.coco_ap import score
from icm_bench.metrics.coco_truth import GroundTruth
from icm_bench.pose import POSES, Pose, show, show_annotation

GRID = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


@pytest.mark.parametrize(
    ("pose", "first"), [("upright", 0), ("mirrored", 9), ("upside-down", 12), ("turned", 21)]
)
def test_a_pose_moves_the_corner_that_it_should(pose: Pose, first: int) -> None:
    shown = show(GRID, pose)
    assert shown[0, 0].tolist() == [first, first + 1, first + 2]
    assert shown.flags.c_contiguous
    np.testing.assert_array_equal(show(shown, pose), GRID)


@pytest.mark.parametrize("pose", POSES)
def test_an_object_moves_with_its_pixels(pose: Pose) -> None:
    whole = np.zeros((20, 30), np.uint8)
    whole[3:7, 5:16] = 1
    whole[6, 5:9] = 0
    encoded = run_lengths.encode(np.asfortranarray(whole))
    annotation = {
        "id": 4,
        "category_id": 2,
        "bbox": run_lengths.toBbox(encoded).tolist(),
        "segmentation": {"size": [20, 30], "counts": encoded["counts"].decode()},
    }
    shown = show_annotation(annotation, pose)
    mask = run_lengths.decode(shown["segmentation"])
    np.testing.assert_array_equal(mask, show(np.repeat(whole[:, :, None], 3, axis=2), pose)[:, :, 0])
    # pycocotools' own box of the moved mask
    assert shown["bbox"] == run_lengths.toBbox(shown["segmentation"]).tolist()
    assert (shown["id"], shown["category_id"]) == (4, 2)


def test_four_poses_of_a_picture_are_images_of_their_own_and_drawn_together() -> None:
    dataset = Scenes.open().limit(5).in_all_poses("posed")
    assert len(dataset.images) == 20
    assert len({record.id for record in dataset.images}) == 20
    assert dataset.sources.tolist() == [*range(5)] * 4
    assert dataset.fingerprint != Scenes.open().limit(5).fingerprint
    truth = dataset.ground_truth
    assert truth is not None
    assert len({row["id"] for row in truth["annotations"]}) == len(truth["annotations"])
    weights = resample_weights(5, "any", 3)[:, dataset.sources]
    np.testing.assert_array_equal(weights[:, :5], weights[:, 15:])


def test_titles_tell_poses_apart() -> None:
    images = Scenes.open().limit(1).in_all_poses("posed").images
    name = images[0].path.name
    titles = [name, f"{name}, mirrored", f"{name}, upside-down", f"{name}, turned"]
    assert [record.title for record in images] == titles


@pytest.mark.slow
def test_objects_are_found_where_the_ground_truth_of_each_pose_has_them() -> None:
    dataset = ScenesPoses.open().limit(16)
    assert dataset.name == "scenes-poses-16"
    assert {record.pose for record in dataset.images} == set(POSES)
    detector = FasterRcnnScenes()
    truth = GroundTruth.from_coco(dataset.ground_truth or {})
    rows = {
        record.id: [{"image_id": record.id, **found} for found in detector.predict(record.read())]
        for record in dataset.images
    }
    for pose in POSES:
        shown = [record.id for record in dataset.images if record.pose == pose]
        of_pose = [row for image_id in shown for row in rows[image_id]]
        weights = np.array([[int(image_id in shown) for image_id in truth.image_ids.tolist()]])
        ap = score(truth, of_pose, "detection").resampled(weights)["map"][0]
        assert ap > 25, (pose, ap)
