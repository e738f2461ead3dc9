from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import detection

from icm_bench.error import TrainingError
from icm_bench.testing import photograph
from icm_codecs.checkerboard.training import CheckerboardModel as Model
from icm_codecs.icm.codec import Icm
from icm_codecs.training.images import open_source
from icm_codecs.training.recipe import find_recipe
from icm_codecs.tucodec.checkpoint import save_checkpoint
from icm_codecs.tucodec.network import TucodecNetwork, TucodecShape
from tests.helpers.learning import descend, pixels

# Lightning warns of loggers, workers and its own dependencies.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]

LAMBDAS = [0.001, 0.03, 1.0]
NETWORK = {"fine": 8, "wide": 12, "groups": [4, 8], "hyper": 4, "hyper_wide": 8, "hidden": 16, "post": 4}
TABLES: dict[str, Any] = {
    "network": NETWORK,
    "loss": {"lambdas": LAMBDAS},
    "ladder": {"positions": [0.0, 1.5]},
}
TASK = {"teachers": [{"detector": "fasterrcnn_scenes"}], "share_steps": 10, "background": 0.2}


def batch() -> Tensor:
    return torch.stack([pixels(photograph(128, 128, seed=seed)) for seed in range(3)])


@pytest.mark.slow
def test_losses_have_names_and_fall_without_a_task() -> None:
    torch.manual_seed(1)
    history = descend(Model.from_recipe(TABLES), batch(), 30, 3e-3)
    assert set(history[0]) == {"loss", "bpp", "psnr"}
    assert sum(row["loss"] for row in history[-5:]) < 0.8 * sum(row["loss"] for row in history[:5])


def test_recipe_without_teachers_gets_ready_for_a_training(tmp_path: Path) -> None:
    PillowImage.fromarray(photograph(64, 64)).save(tmp_path / "image.png")
    model = Model.from_recipe(TABLES)
    model.prepare(open_source([tmp_path]), None)
    assert not model.needs_objects


def test_entropy_model_alone_starts_from_tucodec_and_leaves_its_transforms(tmp_path: Path) -> None:
    torch.manual_seed(2)
    shape = TucodecShape(3, fine=8, wide=12, latent=12, hyper=4, hyper_wide=8, post=4)
    path = tmp_path / "tucodec.safetensors"
    save_checkpoint(TucodecNetwork(shape, tuple(LAMBDAS)), path, {})
    model = Model.from_recipe({**TABLES, "loss": {"lambdas": LAMBDAS, "stage": "entropy"}})
    assert model.needs_a_start
    model.start_from(path)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    history = descend(model, batch(), 30, 3e-3)
    assert sum(row["bpp"] for row in history[-5:]) < 0.9 * sum(row["bpp"] for row in history[:5])
    after = model.network.state_dict()
    moved = {name.partition(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {"hyper_analysis", "hyper_synthesis", "passes"}


def test_task_takes_its_share_step_by_step_and_teachers_stay_frozen() -> None:
    torch.manual_seed(3)
    model = Model.from_recipe({**TABLES, "task": TASK})
    image = batch()
    values = []
    for step in (0, 5, 10, 100):
        torch.manual_seed(4)
        values.append(model.losses(image, step))
    assert float(values[0]["task"]) > 0.0
    losses = [float(found["loss"].detach()) for found in values]
    assert losses[1] - losses[0] == pytest.approx(losses[2] - losses[1], rel=1e-3)
    assert losses[3] == losses[2]
    model.finish()


@pytest.mark.parametrize(("stage", "rates"), [("all", [2e-4, 6e-4]), ("entropy", [6e-4])])
def test_entropy_model_learns_at_its_own_rate(stage: str, rates: list[float]) -> None:
    loss = {"lambdas": LAMBDAS, "stage": stage, "entropy_rate": 3.0}
    model = Model.from_recipe({**TABLES, "loss": loss})
    groups = model.parameter_groups(2e-4)
    assert [group["lr"] for group in groups] == pytest.approx(rates)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(one) for one in model.parameters() if one.requires_grad)


def test_far_from_objects_errors_weigh_less() -> None:
    torch.manual_seed(3)
    model = Model.from_recipe({**TABLES, "task": TASK})
    masks = torch.zeros(1, 128, 128, dtype=torch.uint8)
    masks[:, :16, :16] = 1
    target = {"boxes": torch.tensor([[0.0, 0.0, 16.0, 16.0]]), "labels": torch.tensor([1]), "masks": masks}
    assert model.needs_objects
    found = []
    for targets in ([], [target] * 3):
        torch.manual_seed(4)
        found.append(float(model.guided_losses(batch(), targets, 10)["task"]))
    assert found[1] < 0.6 * found[0]


@pytest.mark.parametrize(
    ("tables", "what"),
    [
        ({"loss": {}}, "lambdas"),
        ({"loss": {"lambdas": [0.1, 0.01]}}, "rise"),
        ({"loss": {"lambdas": [0.1, 0.2], "stage": "half"}}, "stage"),
        ({"loss": {"lambdas": [0.1, 0.2], "structure": 1.5}}, "structure"),
        ({"loss": {"lambdas": [0.1, 0.2], "entropy_rate": 0.0}}, "entropy_rate"),
        ({"loss": {"lambdas": [0.1, 0.2]}, "task": {}}, "teachers"),
        ({"loss": {"lambdas": [0.1, 0.2]}, "task": {"teachers": [{}]}}, "either"),
        ({"loss": {"lambdas": [0.1, 0.2]}, "task": {"teachers": [{"onnx": "a"}], "share": 2.0}}, "share"),
        ({"loss": {"lambdas": [0.1, 0.2]}, "network": {"kernel": 2}}, "odd"),
        ({"loss": {"lambdas": [0.1, 0.2]}, "network": {"depth": 2}}, "depth"),
        ({"loss": {"lambdas": [0.1, 0.2]}, "ladder": {"steps": 2}}, "steps"),
    ],
)
def test_impossible_recipe_is_refused_with_the_entrys_name(tables: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Model.from_recipe(tables)


def test_teacher_that_is_not_there_is_an_error() -> None:
    model = Model.from_recipe({**TABLES, "task": {"teachers": [{"onnx": "absent.onnx"}]}})
    with pytest.raises(TrainingError, match="absent.onnx"):
        model.losses(batch(), 0)


@pytest.mark.parametrize(
    "name", ["icm-photos-first", "icm-photos-second", "icm-photos-third", "icm-photos", "icm-photos-rcnn"]
)
def test_shipped_recipe_builds_a_model_of_fewer_than_8_mib(name: str) -> None:
    model = Model.from_recipe(tomllib.loads(find_recipe(name).read_text()))
    assert sum(parameter.numel() for parameter in model.parameters()) * 2 < 8 * 2**20


@pytest.mark.slow
def test_papers_setting_runs_end_to_end_through_a_faster_rcnn_with_a_resnet_50(tmp_path: Path) -> None:
    from icm_codecs.training.train import train

    torch.manual_seed(5)
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(2):
        PillowImage.fromarray(photograph(160, 128, seed=seed)).save(images / f"{seed}.png")
    rcnn = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    save_file(rcnn.state_dict(), tmp_path / "r50.safetensors")
    recipe = tmp_path / "tiny.toml"
    network = "\n".join(f"{key} = {value}" for key, value in NETWORK.items())
    recipe.write_text(
        f'name = "tiny"\ncodec = "checkerboard"\n[network]\n{network}\n[loss]\nlambdas = {LAMBDAS}\n'
        "[task]\nshare_steps = 1\nbackground = 1.0\n"
        '[[task.teachers]]\ndetector = "fasterrcnn_resnet50_fpn"\n'
        "[ladder]\npositions = [0.0, 2.0]\n[optimisation]\nsteps = 2\nbatch = 2\ncrop = 128\n"
    )
    weights = train(
        recipe,
        data=[images],
        output=tmp_path / "out",
        detector_weights=tmp_path / "r50.safetensors",
        device="cpu",
    )
    codec = Icm(2, weights=str(weights))
    image = photograph(70, 50, seed=7)
    assert np.asarray(codec.decode(codec.encode(image))).shape == image.shape
    assert codec.trained_through() == ("fasterrcnn_resnet50_fpn",)
