"""The ROI network of photographs: it learns where objects are, and belongs to one analysis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from icm_bench.error import CodecError, TrainingError, UsageError
from icm_bench.testing import photograph
from icm_codecs.checkerboard.checkpoint import save_checkpoint
from icm_codecs.checkerboard.network import CheckerboardNetwork, CheckerboardShape
from icm_codecs.checkerboard.roi import load_head
from icm_codecs.checkerboard.roi_training import RoiModel
from icm_codecs.icm.codec import Icm
from icm_codecs.training.train import train

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]

LAMBDAS = (0.001, 0.03, 1.0)
NETWORK = {"fine": 8, "wide": 12, "groups": [4, 8], "hyper": 4, "hyper_wide": 8, "hidden": 16, "post": 4}
RECIPE = """
name = "tiny-roi"
codec = "checkerboard-roi"
[network]
rate_points = 3
fine = 8
wide = 12
groups = [4, 8]
hyper = 4
hyper_wide = 8
hidden = 16
post = 4
roi = 8
[optimisation]
steps = 60
batch = 4
crop = 64
rate = 1e-2
warmup_steps = 5
"""


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of untrained networks."""
    torch.manual_seed(3)
    shape = CheckerboardShape.from_dict({**NETWORK, "rate_points": 3})
    path = tmp_path_factory.mktemp("codec") / "tiny.safetensors"
    save_checkpoint(CheckerboardNetwork(shape, LAMBDAS), path, {"name": "tiny"}, [0.0, 2.0])
    return path


def labelled(folder: Path) -> Path:
    """Draw grey noise with a bright square in it, and return the annotations of the squares."""
    rng = np.random.default_rng(5)
    images, rows = [], []
    for k in range(8):
        pixels = rng.integers(60, 90, (128, 128, 3), np.uint8)
        top, left = (int(value) for value in rng.integers(0, 64, 2))
        pixels[top : top + 48, left : left + 48] = (240, 200, 40)
        PillowImage.fromarray(pixels).save(folder / f"{k}.png")
        images.append({"id": k + 1, "file_name": f"{k}.png", "height": 128, "width": 128})
        box = [left, top, 48, 48]
        rows.append(
            {"id": k + 1, "image_id": k + 1, "category_id": 1, "bbox": box, "area": 2304, "iscrowd": 0}
        )
    path = folder / "objects.json"
    path.write_text(
        json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "square"}]})
    )
    return path


@pytest.mark.slow
def test_it_learns_where_objects_are_and_the_codec_finds_it_beside_its_weights(
    codec: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    recipe = tmp_path / "tiny-roi.toml"
    recipe.write_text(RECIPE)
    with pytest.raises(UsageError, match="no ROI network"):
        Icm(1, weights=str(codec)).region(photograph(48, 40))
    written = train(
        recipe,
        data=[images],
        annotations=[labelled(images)],
        output=tmp_path / "out",
        device="cpu",
        start=codec,
    )
    written.replace(codec.with_name("tiny-roi.safetensors"))
    finder = Icm(1, weights=str(codec))
    scene = np.random.default_rng(9).integers(60, 90, (90, 126, 3), np.uint8)
    scene[20:68, 30:78] = (240, 200, 40)
    near = finder.region(scene)
    assert near.shape == (90, 126)
    assert near[28:60, 38:70].mean() > 2 * near[:, 100:].mean()
    assert "tiny-roi" in finder.region_version()


def test_a_network_of_other_weights_is_refused(codec: Path, tmp_path: Path) -> None:
    model = RoiModel.from_recipe({"network": {**NETWORK, "rate_points": 3, "roi": 8}})
    path = tmp_path / "other-roi.safetensors"
    model.save(path, {"name": "other"})
    load_head(path, model.analysis)
    other = RoiModel.from_recipe({"network": {**NETWORK, "rate_points": 3, "roi": 8}})
    other.start_from(codec)
    with pytest.raises(CodecError, match="belongs to other weights"):
        load_head(path, other.analysis)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CodecError, match="is not an ROI network"):
        load_head(path, model.analysis)


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ({"loss": {}}, "no \\[loss\\]"),
        ({"network": {"rate_points": 3, "roi": 0}}, "roi counts channels"),
        ({"network": {"rate_points": 3}, "task": {}}, "unknown tables task"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(tables: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RoiModel.from_recipe(tables)


def test_images_without_objects_teach_it_nothing(codec: Path, tmp_path: Path) -> None:
    PillowImage.fromarray(photograph(64, 64)).save(tmp_path / "image.png")
    recipe = tmp_path / "tiny-roi.toml"
    recipe.write_text(RECIPE)
    with pytest.raises(TrainingError, match="need the objects"):
        train(recipe, data=[tmp_path], output=tmp_path / "out", device="cpu", start=codec)
