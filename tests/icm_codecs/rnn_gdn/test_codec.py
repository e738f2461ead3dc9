from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icm_bench.error import CodecError, UsageError
from icm_bench.testing import check_codec, photograph
from icm_codecs.rnn_gdn import coder as coding
from icm_codecs.rnn_gdn.codec import RnnGdn
from icm_codecs.rnn_gdn.container import ProgressiveFrame, unpack
from icm_codecs.rnn_gdn.context import LOGIT_UNIT, ContextModel, squash_table, stretch_table
from icm_codecs.rnn_gdn.network import (
    BITS,
    ConvLstm,
    Decoder,
    Encoder,
    RnnNetwork,
    RnnShape,
    drawn_bits,
    sign_bits,
)
from icm_codecs.rnn_gdn.training import RnnModel
from tests.helpers.learning import descend
from tests.helpers.stream import check_damage

pytestmark = pytest.mark.usefixtures("one_thread")

NARROW = {"width": 6, "iterations": 16}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of narrow networks, made by hand, that code the mean of each block and colour in eleven levels."""
    model = RnnModel.from_recipe({"network": NARROW})
    network = model.network
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "gdn" not in name:
                parameter.zero_()
        for cell in (*network.encoder.cells, *network.decoder.cells):
            assert isinstance(cell, ConvLstm)
            # It takes in and gives out everything, and remembers nothing.
            for gate, bias in zip(cell.input_gates.bias.chunk(4), (10.0, -10.0, 10.0), strict=False):  # type: ignore[union-attr]  # it has a bias
                gate.fill_(bias)
        # A kernel's last two rows and columns at stride 2 are four pixels that no other position sees.
        for colour in range(3):
            network.encoder.first.weight[colour, colour, 1:, 1:] = 0.25
            for cell in network.encoder.cells:
                candidate(cell)[colour, colour, 1:, 1:] = 0.25
            for step in range(10):
                network.encoder.binariser.weight[10 * colour + step, colour] = 50.0
                network.encoder.binariser.bias[10 * colour + step] = 50.0 * 0.07 * (4.5 - step)  # type: ignore[index]
            network.decoder.first.weight[colour, 10 * colour : 10 * colour + 10] = 0.03
            for cell in network.decoder.cells[:3]:
                candidate(cell)[4 * colour : 4 * colour + 4, colour, 1, 1] = 1.0
            network.decoder.last.weight[colour, colour] = 4.0
        last = candidate(network.decoder.cells[3])
        for channel in range(12):
            last[channel, channel // 4, 1, 1] = 1.0
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    model.save(path, {"name": "narrow"})
    return path


def candidate(cell: Any) -> torch.Tensor:
    weights: tuple[torch.Tensor, ...] = cell.input_gates.weight.chunk(4)
    return weights[3]


def untrained(path: Path, **network: Any) -> Path:
    torch.manual_seed(1)
    RnnModel.from_recipe({"network": {**NARROW, **network}}).save(path, {})
    return path


def colour_blocks(n: int) -> torch.Tensor:
    """Return n images of 64 x 64 pixels in 16 colours, in 0..1."""
    colours = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    return colours.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)


# The networks


def test_paper_width_has_the_paper_channels() -> None:
    encoder, decoder = Encoder(RnnShape()), Decoder(RnnShape())
    gates = [(cell.input_gates, cell.hidden_gates) for cell in (*encoder.cells, *decoder.cells)]
    found = [
        (enter.in_channels, enter.out_channels // 4, enter.kernel_size, enter.stride, hidden.kernel_size)
        for enter, hidden in gates
    ]
    assert found == [
        (64, 256, (3, 3), (2, 2), (1, 1)),
        (256, 512, (3, 3), (2, 2), (1, 1)),
        (512, 512, (3, 3), (2, 2), (1, 1)),
        (512, 512, (3, 3), (1, 1), (1, 1)),
        (128, 512, (3, 3), (1, 1), (1, 1)),
        (128, 256, (3, 3), (1, 1), (3, 3)),
        (64, 128, (3, 3), (1, 1), (3, 3)),
    ]
    first = encoder.first
    assert (first.out_channels, first.kernel_size, first.stride) == (64, (3, 3), (2, 2))
    assert (encoder.binariser.in_channels, encoder.binariser.out_channels) == (512, 32)
    assert (decoder.first.in_channels, decoder.first.out_channels) == (32, 512)
    assert (decoder.last.in_channels, decoder.last.out_channels) == (32, 3)


def test_number_of_parameters_is_that_worked_out_by_hand() -> None:
    def cell(inputs: int, outputs: int, hidden: int) -> int:
        return 4 * outputs * (9 * inputs + 1) + 4 * outputs * outputs * hidden**2

    convolutions = (27 * 64 + 64) + (512 * 32 + 32) + (32 * 512 + 512) + (32 * 3 + 3)
    cells = cell(64, 256, 1) + cell(256, 512, 1) + cell(512, 512, 1)
    cells += cell(512, 512, 1) + cell(128, 512, 1) + cell(128, 256, 3) + cell(64, 128, 3)
    normalisations = 64 * 65 + 512 * 513
    for gdn, expected in ((True, convolutions + cells + normalisations), (False, convolutions + cells)):
        assert sum(value.numel() for value in RnnNetwork(RnnShape(gdn=gdn)).parameters()) == expected


def test_a_block_of_16_pixels_becomes_32_bits_and_comes_back() -> None:
    shape = RnnShape(width=4)
    values, state = Encoder(shape)(torch.zeros(2, 3, 48, 80), ())
    assert values.shape == (2, 32, 3, 5)
    assert [tuple(cell.hidden.shape[1:]) for cell in state] == [(16, 12, 20), (32, 6, 10), (32, 3, 5)]
    pixels, state = Decoder(shape)(torch.ones(2, 32, 3, 5), ())
    assert pixels.shape == (2, 3, 48, 80)
    sides = [tuple(cell.hidden.shape[1:]) for cell in state]
    assert sides == [(32, 3, 5), (32, 6, 10), (16, 12, 20), (8, 24, 40)]
    assert float(pixels.detach().abs().max()) <= 0.5


def test_cell_is_a_long_short_term_memory() -> None:
    cell = ConvLstm(1, 1)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        bias = cell.input_gates.bias
        assert bias is not None
        bias.copy_(torch.tensor([0.5, -0.3, 0.8, 1.2]))
        cell.hidden_gates.weight[3, 0] = 2.0
    x = torch.zeros(1, 1, 1, 1)
    first = cell(x, None)
    second = cell(x, first)

    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    c1 = sigmoid(0.5) * math.tanh(1.2)
    h1 = sigmoid(0.8) * math.tanh(c1)
    c2 = sigmoid(-0.3) * c1 + sigmoid(0.5) * math.tanh(1.2 + 2 * h1)
    assert float(first.hidden.detach()) == pytest.approx(h1, abs=1e-6)
    assert float(second.cell.detach()) == pytest.approx(c2, abs=1e-6)
    assert float(second.hidden.detach()) == pytest.approx(sigmoid(0.8) * math.tanh(c2), abs=1e-6)


def test_bits_are_drawn_with_the_values_mean_and_pass_gradients() -> None:
    torch.manual_seed(2)
    values = torch.tensor([-1.0, -0.4, 0.0, 0.7, 1.0], requires_grad=True)
    many = values.expand(20_000, 5)
    bits = drawn_bits(many)
    assert torch.allclose(bits.detach().abs(), torch.ones(()), atol=1e-6)
    assert torch.allclose(bits.mean(dim=0).detach(), values.detach(), atol=0.03)
    assert (bits[:, 0] < 0).all()
    assert (bits[:, 4] > 0).all()
    bits.sum().backward()  # type: ignore[no-untyped-call]  # untyped in torch
    assert values.grad is not None
    assert torch.allclose(values.grad, torch.full((5,), 20_000.0))


def test_signs_are_those_that_are_coded_and_pass_gradients() -> None:
    values = torch.tensor([-0.9, -0.1, 0.0, 0.2], requires_grad=True)
    bits = sign_bits(values)
    assert torch.allclose(bits.detach(), torch.tensor([-1.0, -1.0, -1.0, 1.0]))
    bits.sum().backward()  # type: ignore[no-untyped-call]  # untyped in torch
    assert values.grad is not None
    assert torch.equal(values.grad, torch.ones(4))


def test_bits_are_drawn_for_as_long_as_the_recipe_says() -> None:
    model = RnnModel.from_recipe({"network": {**NARROW, "iterations": 2}, "loss": {"drawn": 5}})
    batch = colour_blocks(1)
    early, late = ([float(model.losses(batch, step)["loss"].detach()) for _ in range(2)] for step in (4, 5))
    assert early[0] != early[1]
    assert late[0] == late[1]


def test_additive_reconstruction_sums_outputs_and_one_shot_takes_the_last() -> None:
    before, output = torch.full((1,), 0.3), torch.full((1,), 0.2)
    additive = RnnNetwork(RnnShape(width=2))
    one_shot = RnnNetwork(RnnShape(width=2, reconstruction="one-shot"))
    assert float(additive.add(before, output)) == pytest.approx(0.5)
    assert float(one_shot.add(before, output)) == pytest.approx(0.2)
    assert float(additive.add(None, output)) == float(one_shot.add(None, output)) == pytest.approx(0.2)


# Training


def test_loss_is_the_mean_of_the_absolute_errors_of_all_iterations() -> None:
    model = RnnModel(RnnShape(width=2, iterations=3))
    batch = colour_blocks(1)
    torch.manual_seed(5)
    curves = model.losses(batch, 0)
    torch.manual_seed(5)
    images = model.network(batch - 0.5, 3)
    by_hand = sum(float((batch - 0.5 - image).detach().abs().mean()) for image in images) / 3
    assert float(curves["loss"].detach()) == pytest.approx(by_hand, rel=1e-5)
    assert set(curves) == {"loss", "psnr/0.125bpp", "psnr/0.25bpp", "psnr/0.375bpp"}


@pytest.mark.parametrize("network", [{}, {"gdn": False}, {"reconstruction": "one-shot"}])
def test_loss_falls_and_every_parameter_learns(network: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = RnnModel.from_recipe({"network": {"width": 4, "iterations": 2, **network}})
    losses = [row["loss"] for row in descend(model, colour_blocks(1), 30, 5e-3)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    silent = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []


def test_stages_say_how_many_iterations_a_step_runs() -> None:
    model = RnnModel.from_recipe({"network": NARROW, "loss": {"stages": [[0, 2], [10, 5], [20, 16]]}})
    assert [model.iterations(step) for step in (0, 9, 10, 19, 20, 999)] == [2, 2, 5, 5, 16, 16]
    assert RnnModel.from_recipe({"network": NARROW}).iterations(0) == 16


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"network": {"depth": 3}}, "unknown entries depth"),
        ({"loss": {"gamma": 3}}, "unknown entries gamma"),
        ({"network": {"width": 5}}, "width is even"),
        ({"network": {"iterations": 17}}, "iterations is 1 to 16"),
        ({"network": {"gdn": "yes"}}, "gdn is true or false"),
        ({"network": {"reconstruction": "other"}}, "additive or one-shot"),
        ({"loss": {"stages": [[5, 2]]}}, "begin at step 0"),
        ({"loss": {"stages": [[0, 2], [0, 3]]}}, "rise"),
        ({"loss": {"stages": [[0, 17]]}}, "1 to 16 iterations"),
        ({"loss": {"stages": [[0]]}}, "a step and a number"),
        ({"loss": {"drawn": -1}}, "drawn is a number of steps"),
    ],
)
def test_impossible_recipe_is_refused(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RnnModel.from_recipe(tables)


def test_saved_weights_start_a_training(narrow: Path, tmp_path: Path) -> None:
    model = RnnModel.from_recipe({"network": NARROW})
    model.start_from(narrow)
    model.save(tmp_path / "again.safetensors", {"name": "narrow"})
    assert (tmp_path / "again.safetensors").read_bytes() == narrow.read_bytes()
    with pytest.raises(CodecError, match="another shape"):
        RnnModel.from_recipe({"network": {"width": 8}}).start_from(narrow)


# The codec


@pytest.mark.slow
def test_it_conforms_with_entropy_coded_bits_too(narrow: Path) -> None:
    check_codec(RnnGdn, weights=str(narrow), coding="adaptive")


def test_values_that_were_learned_are_counted(narrow: Path) -> None:
    learned = sum(value.numel() for value in RnnNetwork(RnnShape(width=6)).parameters())
    assert RnnGdn(3, weights=str(narrow)).n_parameters() == learned


@pytest.mark.parametrize("quality", [1, 5, 16])
def test_iteration_costs_an_eighth_of_a_bit_per_pixel(narrow: Path, quality: int) -> None:
    codec = RnnGdn(quality, weights=str(narrow))
    data = codec.encode(photograph(96, 64))
    assert len(data) - codec.header_bytes(data) == quality * 96 * 64 // 64
    assert codec.header_bytes(data) == 5 + 2 * quality


@pytest.mark.parametrize("coding", ["raw", "adaptive"])
def test_stream_begins_with_what_fewer_iterations_give(narrow: Path, coding: Any) -> None:
    image = photograph(70, 50)
    whole = RnnGdn(16, weights=str(narrow), coding=coding)
    data = whole.encode(image)
    for iterations in (1, 2, 7, 16):
        fewer = RnnGdn(iterations, weights=str(narrow), coding=coding)
        first = replace(unpack(data), segments=unpack(data).segments[:iterations]).pack()
        assert first == fewer.encode(image)
        assert np.array_equal(whole.decode(first), fewer.decode(first))


def test_stream_cut_between_iterations_is_no_whole_stream(narrow: Path) -> None:
    codec = RnnGdn(4, weights=str(narrow))
    data = codec.encode(photograph(40, 33))
    for iterations in (1, 2, 3):
        end = len(RnnGdn(iterations, weights=str(narrow)).encode(photograph(40, 33)))
        with pytest.raises(CodecError, match="truncated"):
            codec.decode(data[:end])


def test_adaptive_and_raw_streams_say_the_same_bits(narrow: Path) -> None:
    image = photograph(112, 80)
    raw, adaptive = (RnnGdn(6, weights=str(narrow), coding=coding) for coding in ("raw", "adaptive"))
    raw_data, adaptive_data = raw.encode(image), adaptive.encode(image)
    for one, other in zip(
        *(coding.read_segments(unpack(data)) for data in (raw_data, adaptive_data)), strict=True
    ):
        assert np.array_equal(one, other)
    assert np.array_equal(adaptive.decode(raw_data), raw.decode(adaptive_data))
    assert len(adaptive_data) < len(raw_data)


def test_bits_survive_a_drift_of_every_float_network(narrow: Path) -> None:
    data = RnnGdn(8, weights=str(narrow), coding="adaptive").encode(photograph(64, 64))
    steady, drifted = RnnGdn(1, weights=str(narrow)), RnnGdn(1, weights=str(narrow))
    torch.manual_seed(2)
    for parameter in drifted._coder._model.network.parameters():
        parameter.mul_(1 + 1e-4 * torch.randn_like(parameter))
    difference = np.abs(drifted.decode(data).astype(int) - steady.decode(data))
    assert difference.max() <= 4


@pytest.mark.parametrize("options", [{"gdn": False}, {"reconstruction": "one-shot"}])
def test_variant_has_weights_of_its_own(options: dict[str, Any], narrow: Path, tmp_path: Path) -> None:
    path = untrained(tmp_path / "variant.safetensors", **options)
    codec = RnnGdn(2, weights=str(path), **options)
    image = photograph(33, 20)
    assert codec.decode(codec.encode(image)).shape == image.shape
    with pytest.raises(UsageError, match="another variant"):
        RnnGdn(2, weights=str(path)).load()
    with pytest.raises(UsageError, match=r"set gdn=on and reconstruction=additive"):
        RnnGdn(2, weights=str(narrow), **options).encode(image)


def test_variants_name_different_shipped_weights() -> None:
    names = {RnnGdn(1)._path.name, RnnGdn(1, gdn=False)._path.name}
    assert names == {"rnn-gdn.safetensors", "rnn-gdn-off.safetensors"}


def test_networks_of_fewer_iterations_refuse_higher_qualities(tmp_path: Path) -> None:
    path = untrained(tmp_path / "short.safetensors", iterations=2)
    image = photograph(20, 20)
    assert RnnGdn(2, weights=str(path)).encode(image)
    with pytest.raises(UsageError, match="choose 1 to 2"):
        RnnGdn(3, weights=str(path)).encode(image)


# The bitstream and its damage


@pytest.mark.parametrize("kind", ["raw", "adaptive"])
def test_short_stream_cannot_claim_a_large_image(narrow: Path, kind: Any) -> None:
    codec = RnnGdn(1, weights=str(narrow))
    claim = ProgressiveFrame(kind, codec._model_id, 8000, 8000, (bytes(100),)).pack()
    with pytest.raises(CodecError, match="truncated or damaged"):
        codec.decode(claim)


@pytest.mark.parametrize("kind", ["raw", "adaptive"])
def test_mutated_stream_is_refused(narrow: Path, kind: Any) -> None:
    # Few checks of 16 bits let a change pass.
    codec = RnnGdn(3, weights=str(narrow), coding=kind)
    check_damage(codec, photograph(40, 33), 150, all_refused=False)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(max_size=20), min_size=1, max_size=16))
def test_forged_segments_neither_crash_nor_hang(narrow: Path, segments: list[bytes]) -> None:
    codec = RnnGdn(1, weights=str(narrow))
    data = ProgressiveFrame("adaptive", codec._model_id, 35, 17, tuple(segments)).pack()
    try:
        assert codec.decode(data).shape == (17, 35, 3)
    except CodecError as error:
        assert "damaged" in str(error)


# The context model


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(0, 100), st.integers(0, 2**31))
def test_any_bits_come_back(rows: int, columns: int, iterations: int, ones: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    planes = [(random.random((BITS, rows, columns)) * 100 < ones).astype(np.uint8) for _ in range(iterations)]
    encoder, decoder = ContextModel(rows, columns), ContextModel(rows, columns)
    for plane in planes:
        assert np.array_equal(decoder.decode(encoder.encode(plane)), plane)


def test_model_learns_alike_from_bits_that_were_sent_as_they_are() -> None:
    random = np.random.default_rng(5)
    planes = [(random.random((BITS, 4, 4)) < 0.2).astype(np.uint8) for _ in range(3)]
    encoder, decoder = ContextModel(4, 4), ContextModel(4, 4)
    encoder.learn(planes[0])
    decoder.learn(planes[0])
    for plane in planes[1:]:
        assert np.array_equal(decoder.decode(encoder.encode(plane)), plane)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_biased_bits_cost_little_more_than_their_entropy(share: float) -> None:
    random = np.random.default_rng(6)
    model = ContextModel(24, 24)
    planes = [(random.random((BITS, 24, 24)) < share).astype(np.uint8) for _ in range(5)]
    sizes = [len(model.encode(plane)) for plane in planes]
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    assert 8 * sizes[-1] < 1.06 * entropy * planes[0].size


def test_random_bits_cost_no_more_than_raw() -> None:
    random = np.random.default_rng(7)
    planes = [random.integers(0, 2, (BITS, 6, 6)).astype(np.uint8) for _ in range(3)]
    segments = coding.write_segments(planes, "adaptive")
    assert all(len(segment) <= 6 * 6 * 4 for segment in segments)
    frame = ProgressiveFrame("adaptive", bytes(2), 96, 96, segments)
    for plane, read in zip(planes, coding.read_segments(frame), strict=True):
        assert np.array_equal(plane, read)


def test_surest_model_stays_above_the_least_length_of_a_segment() -> None:
    planes = [np.zeros((BITS, 20, 20), np.uint8)] * 6
    frame = ProgressiveFrame("adaptive", bytes(2), 320, 320, coding.write_segments(planes, "adaptive"))
    assert len(unpack(frame.pack()).segments) == 6


def test_logit_tables_are_the_same_on_every_machine() -> None:
    # Rounding must not hang on the last bits of anybody's logarithm.
    exact = [LOGIT_UNIT * math.log(k / (4096 - k)) for k in range(1, 4096)]
    assert min(abs(value - math.floor(value) - 0.5) for value in exact) > 1e-8
    reach = len(squash_table()) // 2
    exact = [65536 / (1 + math.exp(-logit / LOGIT_UNIT)) for logit in range(-reach, reach + 1)]
    assert min(abs(value - math.floor(value) - 0.5) for value in exact) > 1e-8
    assert (np.diff(stretch_table()[1:]) >= 0).all()
    assert (np.diff(squash_table()) > 0).all()
