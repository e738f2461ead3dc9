"""The hyperprior codec, with narrow networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from icm_bench.error import CodecError, UsageError
from icm_bench.testing import photograph
from icm_codecs.bitstream.container import Frame, unpack
from icm_codecs.checkerboard.checkpoint import save_checkpoint
from icm_codecs.checkerboard.network import CheckerboardNetwork, CheckerboardShape
from icm_codecs.hyperprior.checkpoint import HYPERPRIOR, load_checkpoint
from icm_codecs.hyperprior.codec import Hyperprior
from icm_codecs.hyperprior.network import Analysis, Synthesis
from icm_codecs.hyperprior.training import HyperpriorModel
from icm_codecs.hyperprior.variable_rate import HyperpriorShape
from tests.helpers.learning import blocks, descend, pixels

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Path(__file__).parents[3] / "codecs" / "icm_codecs" / "recipes" / "hyperprior.toml"
LAMBDAS = [0.0005, 0.002, 0.008, 0.03]
NETWORK = {"fine": 12, "wide": 16, "latent": 20, "skip": 8, "hyper": 12, "hyper_wide": 12}
TABLES: dict[str, Any] = {"network": NETWORK, "loss": {"lambdas": LAMBDAS}}


@pytest.fixture(scope="module")
def trained() -> tuple[HyperpriorModel, list[float]]:
    """A narrow model after some steps on two images, and its losses."""
    torch.manual_seed(1)
    model = HyperpriorModel.from_recipe(TABLES)
    drawn, coloured = pixels(photograph(64, 64, seed=3)), pixels(blocks())
    images = [coloured[:, :, :64], coloured[:, :, 32:], drawn, coloured[:, :, 16:80].flip(0)]
    # Every quality sees every image in its turn.
    history = descend(model, lambda step: torch.stack(images).roll(-step, dims=0), 200, 4e-3, clip=True)
    return model, [row["loss"] for row in history]


@pytest.fixture(scope="module")
def weights(trained: tuple[HyperpriorModel, list[float]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    trained[0].save(path, {"name": "narrow"})
    return path


@pytest.fixture
def codec(weights: Path) -> Hyperprior:
    return Hyperprior(3, weights=str(weights))


def test_last_channels_are_made_of_features_at_an_eighth() -> None:
    torch.manual_seed(1)
    shape, one = (
        HyperpriorShape(1, 8, 12, latent=20, skip=8, hyper=6, hyper_wide=9),
        torch.zeros(1, dtype=torch.long),
    )
    analysis, synthesis = Analysis(shape), Synthesis(shape)
    image = torch.rand(1, 3, 64, 128)
    latent = analysis(image, one)
    assert latent.shape == (1, 20, 4, 8)
    analysis.sixteenth_modulation.scale.data.zero_()
    changed = analysis(image, one)
    assert not torch.equal(changed[:, :12], latent[:, :12])
    assert torch.equal(changed[:, 12:], latent[:, 12:])
    decoded = synthesis(latent, one)
    assert decoded.shape == image.shape
    assert not torch.allclose(synthesis(latent * (torch.arange(20) < 12)[:, None, None], one), decoded)


def test_every_parameter_but_the_quantiles_learns() -> None:
    torch.manual_seed(1)
    model = HyperpriorModel.from_recipe(TABLES)
    torch.autograd.backward(model.losses(torch.rand(4, 3, 64, 64), 0)["loss"])
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert not model.prior.quantiles.requires_grad


def test_losses_fall(trained: tuple[HyperpriorModel, list[float]]) -> None:
    losses = trained[1]
    assert np.mean(losses[26:30]) < 0.8 * losses[0]
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[26:30])


def test_real_rate_is_near_the_estimated_one(
    trained: tuple[HyperpriorModel, list[float]], weights: Path
) -> None:
    image = photograph(256, 256, seed=5)
    torch.manual_seed(2)
    with torch.no_grad():
        estimated = trained[0](pixels(image).repeat(4, 1, 1, 1)).bits / 8
    for quality in (2, 3, 4):
        codec = Hyperprior(quality, weights=str(weights))
        data = codec.encode(image)
        # Noise costs something even where nothing is sent.
        share = (len(data) - codec.header_bytes(data)) / float(estimated[quality - 1])
        assert 0.75 < share < 1.05


def test_decoder_recovers_what_the_encoder_chose(codec: Hyperprior) -> None:
    image = photograph(80, 112)
    hyper, scaled = codec._coder.analyse(image)
    found = codec.latents(codec.encode(image))
    assert torch.equal(found.hyper, hyper[0])
    error = (found.latent / 256 - scaled[0]).abs()
    assert (error > 0.51).float().mean() < 0.01


def test_stream_of_other_weights_or_another_quality_is_refused(codec: Hyperprior) -> None:
    frame = unpack(codec.encode(photograph(20, 20)))
    for model, quality in ((bytes(2), 2), (frame.model, 15)):
        with pytest.raises(CodecError, match="other weights"):
            codec.decode(Frame(model, quality, 20, 20, frame.payload).pack())


def test_quality_that_the_weights_lack_is_refused(weights: Path) -> None:
    with pytest.raises(UsageError, match="hyperprior: has no quality 5; choose 1 to 4"):
        Hyperprior(5, weights=str(weights)).load()


def test_training_starts_from_its_own_weights(weights: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = HyperpriorModel.from_recipe(TABLES)
    model.start_from(weights)
    model.save(tmp_path / "again.safetensors", {"name": "narrow"})
    one, two = (load_checkpoint(path, HYPERPRIOR) for path in (weights, tmp_path / "again.safetensors"))
    assert torch.allclose(one.gain, two.gain)
    for mine, other in zip(one.hyper_synthesis.layers, two.hyper_synthesis.layers, strict=True):
        assert torch.equal(mine.weight, other.weight)
        assert torch.equal(mine.bias, other.bias)
    for name, tensor in one.analysis.state_dict().items():
        assert torch.equal(tensor, two.analysis.state_dict()[name])
    wider = HyperpriorModel.from_recipe({**TABLES, "network": {**NETWORK, "wide": 20}})
    with pytest.raises(CodecError, match="another shape"):
        wider.start_from(weights)


def test_training_starts_from_the_transforms_for_photographs(tmp_path: Path) -> None:
    lambdas = (0.0004, 0.004, 0.04)
    torch.manual_seed(3)
    photos = CheckerboardNetwork(CheckerboardShape(3, 12, 16, groups=(4, 8), hidden=8), lambdas)
    with torch.no_grad():
        photos.synthesis.wide_modulation.scale.copy_(torch.tensor([1.0, 2.0, 4.0])[:, None].repeat(1, 16))
    recipe = f"[loss]\nlambdas = {list(lambdas)}"
    save_checkpoint(photos, tmp_path / "photos.safetensors", {"recipe": recipe}, (0.0, 1.0, 2.0))
    # Half of the way between the first two by its logarithm, and the last one.
    model = HyperpriorModel.from_recipe({**TABLES, "loss": {"lambdas": [0.0004 * 10**0.5, 0.04]}})
    model.start_from(tmp_path / "photos.safetensors")
    image, quality = torch.rand(1, 3, 64, 64), torch.tensor([1])
    with torch.no_grad():
        latent = model.analysis(image, quality)[:, :12]
        assert torch.allclose(latent, photos.analysis(image), atol=1e-2)
        wanted = photos.synthesis(latent, torch.tensor([2.0]))
        model.synthesis.skip.weight.zero_()  # type: ignore[union-attr]  # there is one
        found = model.synthesis(torch.nn.functional.pad(latent, (0, 0, 0, 0, 0, 8)), quality)
    assert torch.allclose(found, wanted, atol=1e-2)
    assert model.synthesis.sixteenth_modulation.scale[:, 0].tolist() == pytest.approx([1.5, 4.0], rel=1e-3)
    narrow = HyperpriorModel.from_recipe({**TABLES, "network": {**NETWORK, "wide": 12}})
    with pytest.raises(CodecError, match="no transforms for these networks"):
        narrow.start_from(tmp_path / "photos.safetensors")


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ({"loss": {"lambdas": []}}, "lambdas"),
        ({"loss": {"lambdas": [0.1, 0.01]}}, "rise"),
        ({"loss": {"lambdas": ["a"]}}, "wrong type"),
        ({"loss": {"lambdas": [0.1], "colour": 1}}, "colour"),
        ({"network": {"depth": 3}, "loss": {"lambdas": [0.1]}}, "depth"),
        ({"network": {"wide": 0}, "loss": {"lambdas": [0.1]}}, "channels"),
        ({"network": {"latent": 8, "skip": 8}, "loss": {"lambdas": [0.1]}}, "skip is from 0 to 7"),
        ({"loss": {"lambdas": [0.1, 0.2]}, "optimisation": {"batch": 3}}, "multiple"),
    ],
)
def test_impossible_recipes_are_refused(tables: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        HyperpriorModel.from_recipe(tables)
