from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

pytest.importorskip("lightning", reason="training needs the extra 'train'")

from icm_bench.cli.train import train
from icm_bench.error import TrainingError
from icm_bench.spec import create_codec, resolve_codec
from icm_bench.testing import photograph
from tests.helpers.plugin import distribute

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]

PACKAGE = """
import json
import torch


class Grey(torch.nn.Module):
    @classmethod
    def from_recipe(cls, tables):
        if set(tables["network"]) != {"start"}:
            raise ValueError("[network] has start alone")
        model = cls()
        model.level = torch.nn.Parameter(torch.tensor(float(tables["network"]["start"])))
        return model

    def losses(self, image, step):
        return {"loss": (image - self.level).square().mean()}

    def save(self, path, facts):
        path.write_text(json.dumps({"level": float(self.level), **facts}))

    def start_from(self, path):
        self.level.data.fill_(json.loads(path.read_text())["level"])


class GreyCodec:
    name = "their-grey"
    qualities = (1,)

    def __init__(self, quality, *, device="cpu", weights: str = ""):
        self.level = json.loads(open(weights).read())["level"]

    def encode(self, image):
        return bytes(image.shape[:2])

    def decode(self, data):
        import numpy as np

        return np.full((data[0], data[1], 3), round(255 * self.level), np.uint8)

    def version(self):
        return "grey 1"
"""
ENTRY_POINTS = {
    "icm_bench.trainers": {"their-grey": "their_grey:Grey", "broken": "their_grey:GreyCodec"},
    "icm_bench.codecs": {"their-grey": "their_grey:GreyCodec"},
}
RECIPE = """
name = "grey"
codec = "their-grey"
[network]
start = 0.1
[optimisation]
steps = 60
batch = 2
crop = 64
rate = 2e-2
warmup_steps = 1
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package with a codec and its trainer, and write images of one level."""
    (tmp_path / "their_grey.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(distribute(tmp_path, "their-grey", ENTRY_POINTS)))
    importlib.invalidate_caches()
    (tmp_path / "images").mkdir()
    PillowImage.fromarray(np.full((80, 80, 3), 153, np.uint8)).save(tmp_path / "images" / "0.png")
    return tmp_path


def test_a_codec_of_another_package_is_trained_by_the_command_and_codes(installed: Path) -> None:
    recipe = installed / "grey.toml"
    recipe.write_text(RECIPE)
    train(str(recipe), [installed / "images"], device="cpu", output=installed / "out", max_steps=10)
    train(str(recipe), [installed / "images"], device="cpu", output=installed / "out")
    spec, _ = resolve_codec(f"their-grey:weights={installed / 'out' / 'grey.safetensors'}")
    codec = create_codec(spec, 1, "cpu")
    image = photograph(40, 33)
    decoded = codec.decode(codec.encode(image))
    assert decoded.shape == image.shape
    assert abs(int(decoded[0, 0, 0]) - 153) < 20


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("start = 0.1", "stop = 0.1"), "start alone"),
        (('"their-grey"', '"telepathy"'), "cannot be trained.*their-grey"),
        (("their-grey", "broken"), "is not a recipe|lacks a method|no module"),
    ],
)
def test_a_recipe_that_no_trainer_takes_is_refused(
    installed: Path, change: tuple[str, str], complaint: str
) -> None:
    recipe = installed / "grey.toml"
    recipe.write_text(RECIPE.replace(*change))
    with pytest.raises(TrainingError, match=complaint):
        train(str(recipe), [installed / "images"], device="cpu", output=installed / "out")
