"""The filter behind VVC: whose bitstream it is, what it knows, and how it learns."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor

from icm_baselines.vvc import Vvc
from icm_bench.codec import Codec, header_bytes, objective_of, quality_of, trained_through
from icm_bench.error import CodecError, TrainingError, UsageError
from icm_bench.image import Image
from icm_bench.testing import FakeCodec, photograph
from icm_codecs.filtered import checkpoint
from icm_codecs.filtered.checkpoint import load_checkpoint, save_checkpoint
from icm_codecs.filtered.codec import VvcFiltered
from icm_codecs.filtered.network import HIGHEST_QP, LOWEST_QP, FilterBlock, FilterNetwork, FilterShape
from icm_codecs.filtered.training import FilterModel
from icm_codecs.training.recipe import find_recipe
from icm_codecs.training.train import train
from tests.helpers.learning import pixels

# Lightning warns of loggers, workers and its own dependencies.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]

NETWORK = {"half": 8, "quarter": 12, "eighth": 16, "blocks": [1, 1, 1, 1, 1], "embedding": 8}
TABLES: dict[str, Any] = {"network": NETWORK, "loss": {"codec": "vvc:preset=faster", "lowest": 42}}
TASK = {"teachers": [{"detector": "fasterrcnn_scenes"}], "share": 0.9, "share_steps": 0, "scale": 5.0}


def narrow(*, trained: bool) -> FilterNetwork:
    """Build a narrow network; a trained one is one that changes images, and by the QP."""
    torch.manual_seed(1)
    network = FilterNetwork(FilterShape(8, 12, 16, (1, 1, 1, 1, 1), 8))
    if trained:
        torch.nn.init.normal_(network.head.weight, std=0.01)
        for module in (network.half_in, network.eighth_all, network.half_out):
            torch.nn.init.normal_(cast(FilterBlock, module[0]).modulation.weight, std=0.3)
    return network


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    save_checkpoint(narrow(trained=True), path, {"name": "narrow"})
    return str(path)


def batch(n: int = 2) -> Tensor:
    return torch.stack([pixels(photograph(64, 64, seed=seed)) for seed in range(n)])


def squared_error(codec: Codec, image: Image) -> float:
    return float(np.mean((codec.decode(codec.encode(image)).astype(float) - image) ** 2))


def test_bitstream_is_the_standard_codecs_own(weights: str) -> None:
    image = photograph(96, 64)
    codec, standard = VvcFiltered(37, preset="faster", weights=weights), Vvc(37, preset="faster")
    data = codec.encode(image)
    assert data == standard.encode(image)
    assert codec.header_bytes(data) == header_bytes(standard, data)
    assert codec.version().endswith(standard.version())
    assert not np.array_equal(codec.decode(data), standard.decode(data))


def test_untrained_filter_leaves_what_was_decoded(tmp_path: Path) -> None:
    path = tmp_path / "untrained.safetensors"
    save_checkpoint(narrow(trained=False), path, {})
    standard = Vvc(42, preset="faster")
    data = standard.encode(photograph(65, 31))
    assert np.array_equal(VvcFiltered(22, weights=str(path)).decode(data), standard.decode(data))


@pytest.mark.parametrize("shape", [(520, 344), (340, 700), (264, 262)])
def test_tiles_of_a_large_image_are_the_whole(
    monkeypatch: pytest.MonkeyPatch, weights: str, shape: tuple[int, int]
) -> None:
    image = photograph(shape[1], shape[0])
    filter_ = load_checkpoint(Path(weights))
    whole = filter_.apply(image, 42.0)
    monkeypatch.setattr(checkpoint, "_AT_ONCE", 0)
    monkeypatch.setattr(checkpoint, "_TILE", 256)
    tiled = filter_.apply(image, 42.0)
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert np.mean(tiled != whole) < 0.001
    # Beyond the margin nothing is seen, so no narrower one would do for long.
    monkeypatch.setattr(checkpoint, "_MARGIN", 0)
    assert np.mean(filter_.apply(image, 42.0) != whole) > 0.001


@pytest.mark.slow
def test_few_bytes_that_claim_many_pixels_are_refused_before_they_are_filtered(weights: str) -> None:
    codec = VvcFiltered(52, preset="faster", weights=weights)
    large = VvcFiltered(52, preset="faster", weights=weights).encode(np.zeros((2_560, 3_072, 3), np.uint8))
    with pytest.raises(CodecError, match=rf"vvc-filtered: {len(large)} bytes claim 3072x2560 pixels"):
        codec.decode(large)


def test_filter_goes_by_the_bitstreams_qp_and_not_by_the_decoders(weights: str) -> None:
    data = Vvc(27, preset="faster").encode(photograph(64, 48))
    fine, coarse = (VvcFiltered(qp, weights=weights).decode(data) for qp in (22, 52))
    assert np.array_equal(fine, coarse)
    found = load_checkpoint(Path(weights))
    assert not np.array_equal(found.apply(fine, 27), found.apply(fine, 47))


@pytest.mark.parametrize(("beyond", "last"), [(0, LOWEST_QP), (63, HIGHEST_QP)])
def test_beyond_the_trained_qps_the_filter_does_what_it_does_at_the_last(
    weights: str, beyond: int, last: int
) -> None:
    image = photograph(40, 24)
    found = load_checkpoint(Path(weights))
    assert np.array_equal(found.apply(image, beyond), found.apply(image, last))


def test_codec_whose_bitstreams_do_not_tell_their_quality_is_named() -> None:
    with pytest.raises(UsageError, match="codec 'fake': does not tell a bitstream's quality"):
        quality_of(FakeCodec(3), b"FAKE")


def test_preset_that_the_standard_codec_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="vvc:preset=fastest"):
        VvcFiltered(37, preset="fastest")


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({"preset": "medium"}, "VVC medium, filtered"),
        ({"preset": "fast", "weights": "/a/own.safetensors"}, "VVC fast, filtered by own"),
    ],
)
def test_legends_name_the_preset_and_foreign_weights(options: dict[str, str], label: str) -> None:
    assert VvcFiltered.label(options) == label


def test_losses_have_names_and_start_at_the_standard_codecs_own() -> None:
    torch.manual_seed(2)
    found = FilterModel.from_recipe(TABLES).losses(batch(), 0)
    assert set(found) == {"loss", "psnr", "psnr_unfiltered"}
    assert float(found["psnr"]) == float(found["psnr_unfiltered"])
    assert float(found["loss"]) == pytest.approx(1.0, abs=0.05)


def test_crops_are_coded_over_the_whole_range_of_qps() -> None:
    model = FilterModel.from_recipe(TABLES)
    torch.manual_seed(3)
    drawn = torch.stack([model._spread(4).sort().values for _ in range(200)])
    assert (int(drawn.min()), int(drawn.max())) == (42, HIGHEST_QP)
    assert bool((drawn[:, 1:] >= drawn[:, :-1]).all())
    assert bool((drawn[:, 3] - drawn[:, 0] >= 6).all())


def test_teachers_have_their_share_and_stay_frozen() -> None:
    torch.manual_seed(4)
    model = FilterModel.from_recipe({**TABLES, "task": {**TASK, "background": 0.2}})
    assert model.needs_objects
    found = model.losses(batch(), 0)
    assert float(found["task"]) > 0.0
    found["loss"].backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert model.network.head.weight.grad is not None
    assert bool(model.network.head.weight.grad.abs().sum() > 0.0)
    model.finish()


def test_weights_record_the_detectors_of_every_training(tmp_path: Path) -> None:
    path = tmp_path / "through.safetensors"
    teachers = [{"onnx": "folder/b.onnx"}, {"onnx": "c.onnx", "spec": "yolox"}]
    model = FilterModel.from_recipe({**TABLES, "task": {"teachers": teachers}})
    model.save(path, {"recipe": "[task]\nshare = 0.9", "detectors": "a"})
    codec = VvcFiltered(37, weights=str(path))
    assert objective_of(codec) == "detection"
    assert trained_through(codec) == ("a", "b", "yolox")


@pytest.mark.parametrize(
    ("tables", "what"),
    [
        ({"loss": {"lowest": 50, "highest": 40}}, "lowest"),
        ({"loss": {"preset": "fast"}}, "preset"),
        ({"network": {"blocks": [1, 2]}}, "not 5"),
        ({"network": {"half": 0}}, "below 1"),
        ({"task": {}}, "teachers"),
        ({"task": {"teachers": [{"onnx": "a"}], "share": 2.0}}, "share"),
        ({"schedule": []}, "schedule"),
    ],
)
def test_impossible_recipe_is_refused_with_the_entrys_name(tables: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        FilterModel.from_recipe(tables)


def test_shipped_recipe_builds_a_filter_of_at_most_a_million_parameters() -> None:
    model = FilterModel.from_recipe(tomllib.loads(find_recipe("vvc-filtered").read_text()))
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1_000_000


def test_teacher_that_is_not_there_is_an_error() -> None:
    model = FilterModel.from_recipe({**TABLES, "task": {"teachers": [{"onnx": "absent.onnx"}]}})
    with pytest.raises(TrainingError, match="absent.onnx"):
        model.losses(batch(), 0)


@pytest.mark.slow
def test_training_by_a_recipe_writes_weights_that_lower_the_error(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    shown: list[Image] = [photograph(64, 64, seed=seed) for seed in range(2)]
    for number, image in enumerate(shown):
        PillowImage.fromarray(image).save(images / f"{number}.png")
    recipe = tmp_path / "narrow.toml"
    network = "\n".join(f"{key} = {value}" for key, value in NETWORK.items())
    recipe.write_text(
        f'name = "narrow"\ncodec = "vvc-filtered"\n[network]\n{network}\n'
        '[loss]\ncodec = "vvc:preset=faster"\nlowest = 47\nhighest = 47\n'
        "[optimisation]\nsteps = 30\nbatch = 2\ncrop = 64\nrate = 1e-2\nwarmup_steps = 5\n"
    )
    path = train(recipe, data=[images], output=tmp_path / "out", device="cpu")
    codec, standard = VvcFiltered(47, preset="faster", weights=str(path)), Vvc(47, preset="faster")
    filtered, plain = (sum(squared_error(one, image) for image in shown) for one in (codec, standard))
    assert filtered < 0.95 * plain
    model = FilterModel.from_recipe(TABLES)
    model.start_from(path)
    again = load_checkpoint(path).network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.network.state_dict().items())
