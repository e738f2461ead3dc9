from __future__ import annotations

import hashlib
import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as run_lengths

from icm_bench.datasets.scenes import VALIDATION_SET, Scenes
from icm_bench.datasets.scenes.form import FORMS, draw_form
from icm_bench.datasets.scenes.scene import HEIGHT, WIDTH, Scene, draw_scene
from icm_bench.datasets.scenes.shard import N_SCENES, write_shard
from icm_bench.datasets.scenes.validation import ANNOTATIONS, SEED, annotate, write_validation_set
from icm_bench.error import UsageError
from icm_bench.image import Image, decode_image
from icm_bench.network.shard import shards

PIXELS_SHA256 = "aa4ebe2edab5cb5ac0f3319acaf3d169749a93c132192b0f9c03820f5cf59741"
ANNOTATIONS_SHA256 = "39b9d658303a7d49443f9f3319faee403520bbc68e7eca7db05b3471c27b1f8f"


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((VALIDATION_SET / ANNOTATIONS).read_text())
    return content


@pytest.fixture(scope="module")
def images() -> list[Image]:
    dataset = Scenes.open()
    return [record.read() for record in dataset.images]


@cache
def scene_of(number: int) -> Scene:
    """Draw a scene that several tests look at."""
    return draw_scene((11, number))


def test_the_same_seed_draws_the_same_scene_and_another_seed_another() -> None:
    one, other, same = scene_of(0), scene_of(1), draw_scene((11, 0))
    assert np.array_equal(one.image, same.image)
    assert np.array_equal(one.instances, same.instances)
    assert one.categories == same.categories
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize("seed", range(2))
def test_a_scene_is_a_picture_with_every_object_visible(seed: int) -> None:
    scene = scene_of(seed)
    assert scene.image.shape == (HEIGHT, WIDTH, 3)
    assert scene.image.dtype == np.uint8
    assert scene.image.flags.c_contiguous
    assert set(np.unique(scene.instances)) == set(range(len(scene.categories) + 1))
    assert all(1 <= category <= len(FORMS) for category in scene.categories)


def test_masks_follow_the_edges_that_are_seen(truth: dict[str, Any], images: list[Image]) -> None:
    """The step in brightness across a mask's outline is largest where the outline is, a pixel off it is less."""

    def step(shift: int) -> float:
        steps = []
        for row in truth["annotations"][:40]:
            grey = images[row["image_id"] - 1].astype(np.float64).mean(axis=2)
            mask = np.roll(_mask(row), shift, axis=1)
            steps.append(np.abs(np.diff(grey, axis=1))[mask[:, 1:] != mask[:, :-1]].mean())
        return float(np.mean(steps))

    aligned = step(0)
    assert aligned > 1.2 * max(step(-1), step(1))
    assert aligned > 1.8 * max(step(-2), step(2))


@pytest.mark.parametrize("name", FORMS)
def test_a_form_fills_its_box_and_has_the_asked_size(name: str) -> None:
    for seed in range(5):
        form = draw_form(np.random.default_rng(seed), name, 80.0)
        corners = np.concatenate([part.points for part in form])
        assert corners.min(axis=0) == pytest.approx([0, 0], abs=1e-9)
        assert np.sqrt(np.prod(corners.max(axis=0))) == pytest.approx(80.0)


def test_annotations_are_exactly_what_shows_of_the_objects() -> None:
    scenes = [scene_of(number) for number in range(2)]
    content = annotate(scenes)
    assert [row["id"] for row in content["images"]] == [1, 2]
    assert [row["id"] for row in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    assert len(content["annotations"]) == sum(len(scene.categories) for scene in scenes)
    covered = [np.zeros((HEIGHT, WIDTH), int) for _ in scenes]
    for row in content["annotations"]:
        mask = _mask(row)
        left, top, width, height = (int(value) for value in row["bbox"])
        outside = mask.copy()
        outside[top : top + height, left : left + width] = False
        box = mask[top : top + height, left : left + width]
        assert not outside.any()
        assert box[0].any()
        assert box[-1].any()
        assert box[:, 0].any()
        assert box[:, -1].any()
        assert row["area"] == mask.sum() > 0
        covered[row["image_id"] - 1] += mask
    for scene, count in zip(scenes, covered, strict=True):
        assert np.array_equal(count, (scene.instances > 0).astype(int))


@pytest.mark.slow
def test_a_written_set_is_lossless_and_repeats(tmp_path: Path) -> None:
    first = write_validation_set(tmp_path / "one", n_scenes=2, seed=4)
    second = write_validation_set(tmp_path / "two", n_scenes=2, seed=4)
    assert first.read_bytes() == second.read_bytes()
    for name in ("000001.webp", "000002.webp"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    data = (tmp_path / "one" / "000002.webp").read_bytes()
    assert np.array_equal(decode_image(data, where="000002.webp"), draw_scene((4, 1)).image)


def test_the_dataset_opens_with_boxes_and_masks_and_takes_no_place() -> None:
    dataset = Scenes.open()
    assert dataset.name == "scenes"
    assert dataset.tasks == ("detection", "segmentation")
    assert list(dataset.categories.values()) == list(FORMS)
    assert dataset.n_pixels == len(dataset.images) * HEIGHT * WIDTH
    with pytest.raises(UsageError, match="has no use for --data-root"):
        Scenes.open(data_root=Path())


def test_the_committed_set_is_large_and_balanced_enough(truth: dict[str, Any]) -> None:
    assert len(truth["images"]) >= 64
    assert len(truth["annotations"]) >= 300
    n_by_category = np.bincount([row["category_id"] for row in truth["annotations"]], minlength=11)[1:]
    assert len(n_by_category) == 10
    assert n_by_category.min() >= 30
    boxes = np.array([row["bbox"] for row in truth["annotations"]])
    assert boxes[:, 2:].max(axis=1).min() >= 16
    assert boxes[:, 2:].max() > 150


def test_the_committed_set_is_the_recorded_one(truth: dict[str, Any], images: list[Image]) -> None:
    digest = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()
    assert digest == PIXELS_SHA256
    assert hashlib.sha256((VALIDATION_SET / ANNOTATIONS).read_bytes()).hexdigest() == ANNOTATIONS_SHA256


def test_the_committed_set_is_what_the_generator_draws(truth: dict[str, Any], images: list[Image]) -> None:
    """To within what other versions of numpy, scipy and Pillow round differently."""
    for index in (0, len(images) - 1):
        scene = draw_scene((SEED, index))
        rows = [row for row in truth["annotations"] if row["image_id"] == index + 1]
        assert [row["category_id"] for row in rows] == list(scene.categories)
        shown = np.zeros((HEIGHT, WIDTH), bool)
        for row in rows:
            shown |= _mask(row)
        assert (shown == (scene.instances > 0)).mean() > 0.999
        assert np.abs(scene.image.astype(int) - images[index]).mean() < 1


def test_the_committed_files_are_small(truth: dict[str, Any]) -> None:
    sizes = [path.stat().st_size for path in VALIDATION_SET.iterdir()]
    assert max(sizes) <= 8 * 2**20
    assert sum(sizes) <= 14e6


def test_the_pictures_have_natural_images_statistics(images: list[Image]) -> None:
    """300 photographs of BSDS500 have slopes of -2.3 on average, from -2.7 to -1.7 (10th and 90th percentile)."""
    slopes = [_spectral_slope(image) for image in images]
    assert -2.8 < float(np.mean(slopes)) < -2.3
    assert max(slopes) < -1.7
    assert 90 < float(np.mean([image.mean() for image in images])) < 125
    assert 30 < float(np.mean([image.mean(axis=2).std() for image in images])) < 60


def test_forms_are_not_told_by_their_colour(truth: dict[str, Any], images: list[Image]) -> None:
    """The mean colours of the ten categories differ by less than objects of one category do among each other."""
    colours: dict[int, list[NDArray[np.float64]]] = {}
    for row in truth["annotations"]:
        pixels = images[row["image_id"] - 1][_mask(row)]
        colours.setdefault(row["category_id"], []).append(pixels.mean(axis=0))
    between = np.std([np.mean(values, axis=0) for values in colours.values()], axis=0)
    within = np.mean([np.std(values, axis=0) for values in colours.values()], axis=0)
    assert (between < 0.35 * within).all()


def test_a_shard_holds_the_scenes_of_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert N_SCENES == 100
    monkeypatch.setattr("icm_bench.datasets.scenes.shard.N_SCENES", 2)
    path = write_shard(tmp_path, 9, 3)
    (shard,) = shards(tmp_path)
    scene = draw_scene((9, 7))
    assert path.name == "9-0003"
    assert np.array_equal(shard.images[1], scene.image)
    assert np.array_equal(shard.instances[1], scene.instances)
    assert tuple(int(category) for category in shard.categories[1] if category) == scene.categories
    assert [entry.name for entry in tmp_path.iterdir()] == ["9-0003"]


def _mask(row: dict[str, Any]) -> NDArray[np.bool_]:
    return np.asarray(run_lengths.decode(row["segmentation"]), bool)


def _spectral_slope(image: Image) -> float:
    grey = image.astype(np.float64).mean(axis=2)
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1])[None, :])
    edges = np.geomspace(0.01, 0.4, 16)
    means = [power[(frequency >= a) & (frequency < b)].mean() for a, b in pairwise(edges)]
    return float(np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(means), 1)[0])
