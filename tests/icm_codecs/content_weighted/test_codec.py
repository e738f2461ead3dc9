from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from icm_bench.error import CodecError, UsageError
from icm_bench.testing import photograph
from icm_codecs.content_weighted.checkpoint import load_checkpoint
from icm_codecs.content_weighted.codec import ContentWeighted
from icm_codecs.content_weighted.context import (
    N_TABLES,
    ContextNetwork,
    Rules,
    bit_tables,
    n_neighbours,
    offsets,
    walk,
)
from icm_codecs.content_weighted.network import (
    ContentWeightedShape,
    Decoder,
    Encoder,
    binarise,
    importance_mask,
    level_of,
    mask_of,
    n_kept,
)
from icm_codecs.content_weighted.training import ContentWeightedLoss, ContentWeightedModel
from tests.helpers.learning import blocks, descend, pixels

pytestmark = pytest.mark.usefixtures("one_thread")

TABLES: dict[str, dict[str, Any]] = {
    "network": {"width": 8, "code": 32, "levels": 16, "context": 6},
    "loss": {"targets": [0.1, 0.2, 0.35, 0.5, 0.65, 0.8], "map_from": 0, "every": 1},
}
PAPER = ContentWeightedShape(qualities=1, width=128, code=64, levels=16)


def quarters() -> Tensor:
    """Draw an image whose colours, sides and corners all differ: 6 x 3 x 32 x 48."""
    return pixels(blocks()[::2, ::2])[None].repeat(6, 1, 1, 1)


@pytest.fixture(scope="module")
def trained() -> ContentWeightedModel:
    torch.manual_seed(1)
    model = ContentWeightedModel.from_recipe(TABLES)
    descend(model, quarters(), 50, 3e-3)
    return model


@pytest.fixture(scope="module")
def weights(trained: ContentWeightedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    trained.save(path, {"name": "narrow"})
    return path


@pytest.fixture(scope="module")
def codec(weights: Path) -> ContentWeighted:
    return ContentWeighted(4, weights=str(weights))


# The networks


def test_encoder_has_the_papers_layers_and_a_stride_of_eight() -> None:
    encoder = Encoder(PAPER, [0.3])
    shapes = {name: tuple(value.shape) for name, value in encoder.named_parameters() if value.ndim == 4}
    assert shapes["stem.weight"] == (128, 3, 8, 8)
    assert shapes["to_eighth.weight"] == (256, 128, 4, 4)
    assert shapes["eighth.first.weight"] == (128, 256, 3, 3)
    assert shapes["eighth.second.weight"] == (256, 128, 3, 3)
    assert shapes["code_head.weight"] == (64, 256, 1, 1)
    assert shapes["map_inner.weight"] == (128, 256, 3, 3)
    assert shapes["map_head.weight"] == (1, 128, 1, 1)
    with torch.no_grad():
        code, importance = encoder(torch.rand(1, 3, 32, 48), torch.tensor([0]))
    assert code.shape == (1, 64, 4, 6)
    assert importance.shape == (1, 4, 6)
    assert 0.0 < code.min() < code.max() < 1.0
    # The map begins at the quality's target.
    assert abs(float(importance.mean()) - 0.3) < 0.1


def test_decoder_has_the_papers_layers_and_returns_the_images_size() -> None:
    decoder = Decoder(PAPER)
    shapes = {name: tuple(value.shape) for name, value in decoder.named_parameters() if value.ndim == 4}
    assert shapes["stem.weight"] == (512, 64, 3, 3)
    assert shapes["first.first.weight"] == (128, 512, 3, 3)
    assert shapes["middle.weight"] == (512, 512, 3, 3)
    assert shapes["to_quarter.weight"] == (256, 128, 3, 3)
    assert shapes["quarter.first.weight"] == (128, 256, 3, 3)
    assert shapes["fine.weight"] == (32, 16, 3, 3)
    assert shapes["head.weight"] == (3, 32, 1, 1)
    assert decoder(torch.ones(1, 64, 2, 3), torch.tensor([0])).shape == (1, 3, 16, 24)


def test_binariser_passes_gradients_inside_and_only_those_that_push_back_outside() -> None:
    code = torch.tensor([-0.5, -0.5, 0.2, 0.5, 0.7, 1.5, 1.5], requires_grad=True)
    bits = binarise(code)
    assert bits.tolist() == [0, 0, 0, 0, 1, 1, 1]
    # A descent subtracts the gradient: a positive one pushes down.
    bits.backward(torch.tensor([-2.0, 2.0, -3.0, 4.0, 5.0, -6.0, 6.0]))  # type: ignore[no-untyped-call]  # torch
    assert code.grad is not None
    assert code.grad.tolist() == [-2.0, 0.0, -3.0, 4.0, 5.0, 0.0, 6.0]


@pytest.mark.parametrize(
    ("rule", "importance", "kept"),
    [
        ("floor", 0.0, 0),
        ("floor", 0.06, 0),
        ("floor", 0.0625, 4),
        ("floor", 0.5, 32),
        ("floor", 0.999, 60),
        ("floor", 1.0, 60),
        ("floor+1", 0.0, 4),
        ("floor+1", 0.0625, 8),
        ("floor+1", 0.5, 36),
        ("floor+1", 1.0, 64),
    ],
)
def test_mask_keeps_the_channels_that_the_rule_says(rule: str, importance: float, kept: int) -> None:
    shape = ContentWeightedShape(code=64, levels=16, mask_rule=rule)  # type: ignore[arg-type]  # parametrised
    p = torch.full((1, 1, 1), importance)
    assert n_kept(level_of(p, shape), shape).item() == kept
    assert importance_mask(p, shape)[0, :, 0, 0].tolist() == [1.0] * kept + [0.0] * (64 - kept)


@pytest.mark.parametrize(("rule", "window"), [("floor", range(6, 10)), ("floor+1", range(8, 12))])
def test_gradient_of_the_importance_is_of_the_two_levels_around_the_boundary(
    rule: str, window: range
) -> None:
    shape = ContentWeightedShape(code=16, levels=8, mask_rule=rule)  # type: ignore[arg-type]  # parametrised
    p = torch.full((1, 1, 1), 0.51, requires_grad=True)
    gradient = torch.arange(16.0).reshape(1, 16, 1, 1) ** 2
    importance_mask(p, shape).backward(gradient)  # type: ignore[no-untyped-call]  # torch
    assert p.grad is not None
    assert p.grad.item() == 8 * sum(k**2 for k in window)


@pytest.mark.parametrize(
    "change", [{"width": 12}, {"levels": 12}, {"code": 40}, {"mask_rule": "ceil"}, {"qualities": 17}]
)
def test_impossible_shapes_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="it must hold that"):
        replace(ContentWeightedShape(), **change)  # type: ignore[arg-type]  # on purpose


# The context model


def test_cube_has_the_causal_neighbours_and_none_else() -> None:
    # 4 x 5 x 5: three whole planes, two rows above, two bits to the left.
    assert n_neighbours(4) == 3 * 25 + 12
    assert n_neighbours(1) == 12
    steps = offsets(2, 100, 100)
    assert len(steps) == n_neighbours(2)
    assert steps.max() == -1
    assert steps.min() == -10000 - 202
    assert {-1, -2, -100, -98, -102, -200, -198, -10000, -10000 + 202} <= set(steps.tolist())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7), st.integers(1, 4), st.integers(0, 99))
def test_every_front_depends_on_earlier_fronts_only(
    planes: int, rows: int, columns: int, depth: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((planes, rows, columns)) < 0.7
    way = walk(mask, np.zeros((rows, columns), dtype=np.int64), depth)
    assert len(way.position) == mask.sum() == len(set(way.position.tolist()))
    steps = offsets(depth, rows + 4, columns + 4)
    coded_bits = set(way.position.tolist())
    known: set[int] = set()
    for start, end in zip(way.fronts[:-1], way.fronts[1:], strict=True):
        assert start < end
        front = way.position[start:end]
        needed = set((front[:, None] + steps).ravel().tolist()) & coded_bits
        assert needed <= known
        known |= set(front.tolist())


def test_integer_context_model_agrees_with_the_trained_one(
    trained: ContentWeightedModel, weights: Path
) -> None:
    model, checkpoint = trained, load_checkpoint(weights)
    shape = model.shape
    random = np.random.default_rng(1)
    level = random.integers(0, 16, (5, 6))
    mask = mask_of(torch.from_numpy(level)[None], shape)
    code = torch.from_numpy(random.choice([-1.0, 1.0], (1, 32, 5, 6))).float() * mask
    with torch.no_grad():
        cost, _ = model.code_context(code, torch.from_numpy(level)[None], torch.tensor([2]))
    way = walk(mask[0].numpy(), level, 4)
    volume = np.zeros((35, 9, 10), dtype=np.int8)
    volume[3:, 2:-2, 2:-2] = code[0].numpy()
    index = checkpoint.code_context.at(2).index_all(volume.ravel(), way, offsets(4, 9, 10))
    frequencies = checkpoint.tables.frequencies.reshape(-1, 3)[index]
    sent = np.where(volume.ravel()[way.position] > 0, frequencies[:, 1], frequencies[:, 0])
    real = -np.log2(sent / 2**16)
    assert abs(real.sum() / float(cost.sum()) - 1.0) < 0.01
    assert index.std() > 0


def test_bits_tables_rise_from_nearly_never_to_nearly_always() -> None:
    tables = bit_tables()
    assert tables.is_valid()
    ones = tables.frequencies.reshape(N_TABLES, 3)[:, 1]
    assert (np.diff(ones) >= 0).all()
    assert len(set(ones.tolist())) > 0.9 * N_TABLES
    assert ones[N_TABLES // 2] == pytest.approx(2**15, abs=2)
    assert ones[0] < 2**16 * 1e-4 < 2**16 * (1 - 1e-4) < ones[-1]


def test_context_model_learns_what_neighbours_tell() -> None:
    torch.manual_seed(1)
    network = ContextNetwork(Rules(planes=3, depth=2, sides=1, qualities=1, width=8))
    rows = torch.randint(0, 2, (1, 3, 24, 1)).repeat(1, 1, 1, 24) * 2 - 1
    side, quality = torch.zeros(1, 24, 24, dtype=torch.int64), torch.tensor([0])
    adam = torch.optim.Adam(network.parameters(), lr=0.02)
    first = last = 0.0
    for _ in range(60):
        cost, _ = network(rows, side, quality)
        adam.zero_grad()
        cost.mean().backward()
        adam.step()
        last = float(cost.mean().detach())
        first = first or last
    assert first == pytest.approx(1.0, abs=0.01)
    assert last < 0.2


# The training


def test_losses_fall_on_one_image() -> None:
    torch.manual_seed(1)
    history = descend(ContentWeightedModel.from_recipe(TABLES), quarters(), 30, 3e-3)
    assert {"loss", "bpp", "psnr", "kept", "bpp/1", "psnr/6"} <= set(history[0])
    first, last = (sum(one["loss"] for one in part) for part in (history[:3], history[-3:]))
    assert last < 0.7 * first
    assert history[-1]["psnr"] > history[0]["psnr"] + 2.0


def test_without_the_map_every_position_keeps_its_qualitys_share() -> None:
    model = ContentWeightedModel.from_recipe({**TABLES, "loss": {**TABLES["loss"], "map_from": 5}})
    losses = model.losses(torch.rand(6, 3, 16, 16), 0)
    shares = [float(losses[f"kept/{quality}"]) for quality in range(1, 7)]
    assert shares == [int(target * 16) / 16 for target in TABLES["loss"]["targets"]]


def test_rate_is_priced_only_where_it_exceeds_the_target() -> None:
    tables = {**TABLES, "loss": {"targets": [0.3], "map_from": 0, "memory": 0.0, "gamma": 7.0, "every": 1}}
    model = ContentWeightedModel.from_recipe(tables)
    gradients = []
    for bias in (-3.0, 3.0):
        model.zero_grad()
        with torch.no_grad():
            model.encoder.map_bias.fill_(bias)
            # Without a decoder's influence, the price alone moves the map.
            model.decoder.stem.weight.zero_()
        model.losses(torch.rand(2, 3, 16, 16), 0)["loss"].backward()  # type: ignore[no-untyped-call]  # torch
        assert model.encoder.map_bias.grad is not None
        gradients.append(float(model.encoder.map_bias.grad))
    assert gradients[0] == 0.0
    # d/db of 7 sigmoid(b) / 0.3 at b = 3, nearly.
    assert gradients[1] == pytest.approx(7.0 * 0.0452 / 0.3, rel=0.1)


def test_every_parameter_learns_in_both_stages() -> None:
    model = ContentWeightedModel.from_recipe({**TABLES, "loss": {**TABLES["loss"], "map_from": 6}})
    descend(model, quarters(), 2, 3e-3)
    for step in (0, 6):
        model.zero_grad()
        model.losses(torch.rand(6, 3, 32, 32), step)["loss"].backward()  # type: ignore[no-untyped-call]  # torch
        idle = [name for name, value in model.named_parameters() if value.grad is None]
        assert idle == []


@pytest.mark.parametrize(
    ("table", "entry"),
    [
        ("network", {"widht": 8}),
        ("loss", {"lambdas": [1.0]}),
        ("loss", {"targets": [0.5, 0.2]}),
        ("network", {"code": 40}),
    ],
)
def test_recipes_mistakes_are_named(table: str, entry: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"unknown entries|it must hold"):
        ContentWeightedModel.from_recipe({**TABLES, table: entry})


def test_shares_are_one_on_average() -> None:
    assert sum(ContentWeightedLoss().shares()) == pytest.approx(6.0)


def test_training_starts_from_saved_weights(weights: Path, tmp_path: Path) -> None:
    model = ContentWeightedModel.from_recipe(TABLES)
    model.start_from(weights)
    model.save(tmp_path / "again.safetensors", {"name": "narrow"})
    assert (tmp_path / "again.safetensors").read_bytes() == weights.read_bytes()
    other = ContentWeightedModel.from_recipe({**TABLES, "network": {"width": 16, "code": 32, "levels": 16}})
    with pytest.raises(CodecError, match="another shape"):
        other.start_from(weights)


# The codec


def test_decoder_recovers_the_encoders_code(codec: ContentWeighted) -> None:
    image = photograph(97, 61)
    sent = codec._coder.analyse(image)
    received = codec.latents(codec.encode(image))
    assert np.array_equal(sent.level, received.level)
    assert np.array_equal(sent.bits, received.bits)
    assert received.bits.any()


@pytest.mark.parametrize("rule", ["floor", "floor+1"])
@pytest.mark.parametrize("bias", [-9.0, 9.0])
def test_maps_that_keep_least_and_most_come_back(rule: str, bias: float, tmp_path: Path) -> None:
    model = ContentWeightedModel.from_recipe({**TABLES, "network": {**TABLES["network"], "mask_rule": rule}})
    with torch.no_grad():
        model.encoder.map_bias.fill_(bias)
    model.save(tmp_path / "extreme.safetensors", {})
    codec = ContentWeighted(1, weights=str(tmp_path / "extreme.safetensors"))
    image = photograph(40, 33)
    sent, received = codec._coder.analyse(image), codec.latents(codec.encode(image))
    least, most = (0, 30) if rule == "floor" else (2, 32)
    assert np.array_equal(sent.bits, received.bits)
    kept = n_kept(torch.from_numpy(received.level), model.shape).numpy()
    assert (kept == (least if bias < 0 else most)).all()
    assert not received.bits[kept.max() :].any()


def test_estimated_rate_is_near_the_real_one(trained: ContentWeightedModel, weights: Path) -> None:
    image = photograph(128, 128)
    with torch.no_grad():
        estimates = [float(trained.losses(pixels(image)[None], step)["bpp"]) for step in range(6)]
    for quality, estimate in enumerate(estimates, start=1):
        codec = ContentWeighted(quality, weights=str(weights))
        data = codec.encode(image)
        real = 8 * (len(data) - codec.header_bytes(data)) / (128 * 128)
        assert real == pytest.approx(estimate, rel=0.04, abs=0.008)


def test_unknown_quality_is_refused(weights: Path) -> None:
    with pytest.raises(UsageError, match="no quality 7"):
        ContentWeighted(7, weights=str(weights)).encode(photograph(8, 8))
