from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from icm_bench.datasets.scenes.scene import draw_scene
from icm_bench.detectors.scenes import MaskRcnnScenes
from icm_bench.detectors.scenes_training import export_weights, train_detector
from icm_bench.error import TrainingError
from tests.helpers.scenes import write_scenes


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one shard that holds two scenes."""
    monkeypatch.setattr("icm_bench.detectors.scenes_training.N_SCENES", 2)
    write_scenes(tmp_path / "scenes", 31, 2)
    return tmp_path / "scenes"


@pytest.mark.slow
def test_training_goes_on_where_it_stopped_and_writes_weights_that_the_detector_takes(
    tmp_path: Path, scenes: Path
) -> None:
    output = tmp_path / "output"
    first = load_file(train_detector(output, scenes=scenes, steps=2))
    weights = train_detector(output, scenes=scenes, steps=3)
    assert load_file(output / "checkpoint.safetensors")["optimizer.0.step"].item() == 3
    assert any(not torch.equal(first[name], value) for name, value in load_file(weights).items())
    assert isinstance(MaskRcnnScenes(weights=weights).predict(draw_scene((31, 0)).image), list)
    assert not list(output.glob("*.partial"))


@pytest.mark.slow
def test_a_fresh_training_ignores_the_checkpoint(tmp_path: Path, scenes: Path) -> None:
    train_detector(tmp_path, scenes=scenes, steps=1)
    train_detector(tmp_path, scenes=scenes, steps=1, resume=False)
    assert load_file(tmp_path / "checkpoint.safetensors")["optimizer.0.step"].item() == 1


def test_training_without_scenes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="no scenes to train on"):
        train_detector(tmp_path / "output", scenes=tmp_path / "empty", steps=1)


@pytest.mark.parametrize("content", ["garbage", "foreign"])
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    if content == "garbage":
        path.write_bytes(b"nothing of the kind")
    else:
        save_file({"network.weight": torch.zeros(2)}, path, {"step": "3"})
    with pytest.raises(TrainingError, match="damaged or another network's"):
        export_weights(path, tmp_path / "weights.safetensors")


@pytest.mark.slow
def test_the_log_has_a_line_of_losses_every_few_steps(
    tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icm_bench.detectors.scenes_training._LOG_STEPS", 1)
    train_detector(tmp_path, scenes=scenes, steps=2)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(np.isfinite(list(line.values())).all() for line in lines)
