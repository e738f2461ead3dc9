from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icm_bench.error import CodecError, TrainingError, UsageError
from icm_bench.spec import resolve_codec
from icm_bench.testing import check_codec, photograph
from icm_codecs.bitstream.container import Frame, unpack
from icm_codecs.bitstream.integer_layer import MEAN_BITS
from icm_codecs.checkerboard.checkpoint import count_rates, load_checkpoint, save_checkpoint, start_from
from icm_codecs.checkerboard.coder import CheckerboardCoder
from icm_codecs.checkerboard.network import CheckerboardNetwork, CheckerboardShape, Coded, checkerboard
from icm_codecs.checkerboard.network_exact import ExactEntropyModel
from icm_codecs.icm import codec as icm_codec
from icm_codecs.icm.codec import Icm
from tests.helpers.learning import check_gradients
from tests.helpers.stream import check_bad_weights, check_drift, check_threads_and_processes

pytestmark = pytest.mark.usefixtures("one_thread")

NARROW = CheckerboardShape(
    rate_points=3, fine=8, wide=12, groups=(4, 8), hyper=4, hyper_wide=8, hidden=16, kernel=5, post=4
)
LAMBDAS = (0.03, 0.1, 0.3)
POSITIONS = (0.0, 0.5, 1.3, 2.0)


def random_network(seed: int = 1) -> CheckerboardNetwork:
    """Build a network whose contexts matter: nothing is zero, and latents are of a size at which symbols differ."""
    torch.manual_seed(seed)
    network = CheckerboardNetwork(NARROW, LAMBDAS)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith(("passes", "hyper_synthesis")):
                parameter.add_(0.1 * torch.randn_like(parameter))
        for size, one in zip((4, 4, 8, 8), network.passes, strict=True):
            # Wide scales: none is so narrow that a symbol is not sent.
            one.get_parameter("output_bias").data[:, :size] += 2.5
        network.hyper_analysis.second.weight *= 20.0
        network.post_filter.head.weight.normal_(std=0.01)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> CheckerboardNetwork:
    return random_network()


@pytest.fixture(scope="module")
def weights(network: CheckerboardNetwork, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    save_checkpoint(network, path, {"name": "narrow", "detectors": "two,one"}, POSITIONS)
    return str(path)


def coded(network: CheckerboardNetwork, weights: str, quality: int) -> tuple[torch.Tensor, ...]:
    """Return an image's hyper-latent and scaled latent, and what the network makes of them, in 12 x 16 places."""
    coder = Icm(quality, weights=weights)._coder
    hyper, scaled = coder.analyse(photograph(256, 192, seed=3))
    where = torch.tensor([POSITIONS[quality - 1]])
    with torch.no_grad():
        return hyper, scaled, where, *network.code(scaled[None], where)


@pytest.mark.slow
def test_contract(weights: str) -> None:
    check_codec(Icm, weights=weights)


def test_file_says_how_many_rates_it_serves_and_its_detectors(weights: str) -> None:
    assert count_rates(Path(weights)) == 4
    assert Icm.ladder({"weights": weights}) == (1, 2, 3, 4)
    assert Icm(1, weights=weights).trained_through() == ("one", "two")
    with pytest.raises(UsageError, match="choose 1 to 4"):
        Icm(5, weights=weights).load()


def test_anchors_are_every_second_place_beginning_in_the_corner() -> None:
    assert checkerboard(2, 3).tolist() == [[True, False, True], [False, True, False]]


# The networks.


def test_every_parameter_gets_a_gradient() -> None:
    network = random_network()
    image, position = torch.rand(3, 3, 64, 64), torch.tensor([0.2, 1.1, 1.9])
    estimate = network(image, position)
    (estimate.bits.sum() + estimate.image.square().sum()).backward()
    check_gradients(network)


def test_anchors_never_see_the_others_and_groups_never_see_later_ones(network: CheckerboardNetwork) -> None:
    torch.manual_seed(2)
    scaled, position = 4.0 * torch.randn(1, 12, 8, 8), torch.tensor([1.0])
    others = ~checkerboard(8, 8)
    with torch.no_grad():
        hyper = network.hyper_analysis(scaled, position)
        network_hyper = network.hyper_analysis.forward
        # The hyper-latent sees everything: it is held.
        network.hyper_analysis.forward = lambda *_: hyper  # type: ignore[method-assign]
        try:
            before = network.code(scaled, position)
            moved = scaled.clone()
            moved[:, 4:, others] += 3.0
            after = network.code(moved, position)
            moved[:, :4, others] += 3.0
            both = network.code(moved, position)
        finally:
            network.hyper_analysis.forward = network_hyper  # type: ignore[method-assign]
    assert torch.equal(after.mean, before.mean)
    assert torch.equal(both.mean[:, :4], before.mean[:, :4])
    assert not torch.equal(both.mean[:, 4:], before.mean[:, 4:])


def test_others_see_anchors_in_reach_of_the_kernel_alone(network: CheckerboardNetwork) -> None:
    features, position = torch.randn(1, 8, 12, 12), torch.tensor([0.0])
    anchors = torch.zeros(1, 4, 12, 12)
    moved = anchors.clone()
    moved[..., 6, 6] = 5.0
    with torch.no_grad():
        means = [network.passes[1](features, x, anchors[:, :0], position)[1] for x in (anchors, moved)]
    rows, columns = torch.nonzero((means[0] != means[1]).any(dim=1)[0], as_tuple=True)
    assert {int(rows.min()), int(columns.min())} == {4}
    assert {int(rows.max()), int(columns.max())} == {8}


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ({"groups": []}, "positive"),
        ({"groups": [4, 0]}, "positive"),
        ({"kernel": 4}, "odd"),
        ({"rate_points": 1}, "rate points"),
        ({"hidden": 0}, "positive"),
    ],
)
def test_impossible_shape_is_refused(entries: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        CheckerboardShape.from_dict({"rate_points": 3, **entries})


# What encoder and decoder must agree on.


@pytest.mark.parametrize("quality", [1, 2, 3, 4])
def test_integers_say_what_the_trained_network_says(
    quality: int, network: CheckerboardNetwork, weights: str
) -> None:
    hyper, _, _, _, index, mean, decoded = coded(network, weights, quality)
    exact = ExactEntropyModel.of(network, POSITIONS)
    errors = []

    def code(
        channels: slice, places: torch.Tensor, scale: torch.Tensor, centre: torch.Tensor
    ) -> torch.Tensor:
        errors.append((scale - index[0, channels][:, places].clamp(0, 63)).abs().max().item())
        errors.append((centre / 2**MEAN_BITS - mean[0, channels][:, places]).abs().max().item())
        wanted = decoded[0, channels][:, places]
        # The network's own symbols, so that its context stays the same.
        return torch.round(wanted - centre / 2**MEAN_BITS).long()

    latent = exact.walk(hyper, quality - 1, (12, 16), code)
    assert max(errors[::2]) < 0.8
    assert max(errors[1::2]) < 0.06
    assert float((latent / 2**MEAN_BITS - decoded[0]).abs().max()) < 0.06
    assert len({round(value, 6) for value in mean.flatten().tolist()}) > 100


@pytest.mark.parametrize("quality", [1, 2])
def test_real_rate_is_near_what_the_trained_network_says_of_whole_numbers(
    quality: int, network: CheckerboardNetwork, weights: str
) -> None:
    hyper, scaled, where, *found = coded(network, weights, quality)
    with torch.no_grad():
        bits = float(network.bits(scaled[None], Coded(*found), where, torch.round))
    data = Icm(quality, weights=weights)._coder.entropy_code(hyper, scaled)
    assert bits > 1000
    assert 8 * len(data) == pytest.approx(bits, rel=0.03)


def test_decoder_recovers_what_the_encoder_chose(weights: str) -> None:
    codec = Icm(3, weights=weights)
    image = photograph(80, 112, seed=4)
    hyper, scaled = codec._coder.analyse(image)
    found = codec.latents(codec.encode(image))
    assert torch.equal(found.hyper, hyper)
    error = (found.latent / 2**MEAN_BITS - scaled).abs()
    assert float((error > 0.51).float().mean()) < 1e-2


@pytest.mark.slow
def test_one_thread_two_and_a_fresh_process_decode_the_same(weights: str, tmp_path: Path) -> None:
    check_threads_and_processes(Icm(3, weights=weights), photograph(161, 130), tmp_path, 1, weights)


def test_latents_survive_a_drift_of_every_float_network(weights: str) -> None:
    steady, drifted = Icm(4, weights=weights), Icm(4, weights=weights)
    check_drift(steady, drifted, photograph(96, 120))


def test_weights_beyond_exact_arithmetic_are_refused(network: CheckerboardNetwork) -> None:
    exact = ExactEntropyModel.of(network, POSITIONS)
    first = dataclasses.replace(exact.first, bias=exact.first.bias + 2**53)
    with pytest.raises(CodecError, match="exact arithmetic"):
        dataclasses.replace(exact, first=first)


def test_a_price_of_bits_makes_streams_shorter(weights: str) -> None:
    model, image = load_checkpoint(Path(weights)), photograph(160, 128, seed=5)
    sizes = []
    for price in (0.0, 0.3, 1.0):
        coder = CheckerboardCoder(dataclasses.replace(model, rdoq_lambda=price), 2, "cpu", name="icm")
        sizes.append(len(coder.entropy_code(*coder.analyse(image))))
    assert sizes[0] > sizes[1] > sizes[2]


# Bitstreams of others.


def test_forged_size_is_refused_before_anything_is_allocated(weights: str) -> None:
    codec = Icm(3, weights=weights)
    frame = unpack(codec.encode(photograph(64, 48)))
    forged = dataclasses.replace(frame, width=8192, height=8192)
    with pytest.raises(CodecError, match="too few for 8192x8192 pixels"):
        codec.decode(forged.pack())


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 3))
def test_forged_payload_neither_crashes_nor_hangs(weights: str, payload: bytes, quality: int) -> None:
    codec = Icm(1, weights=weights)
    frame = Frame(codec._model_id, quality, 50, 40, payload)
    assert codec.decode(frame.pack()).shape == (40, 50, 3)


def test_stream_of_a_quality_that_the_weights_lack_is_refused(weights: str) -> None:
    codec = Icm(1, weights=weights)
    frame = unpack(codec.encode(photograph(20, 20)))
    with pytest.raises(CodecError, match="other weights"):
        codec.decode(dataclasses.replace(frame, quality=4).pack())


# Weights files.


def test_training_goes_on_from_a_file_with_what_was_written(
    network: CheckerboardNetwork, weights: str
) -> None:
    other = random_network(seed=9)
    start_from(other, Path(weights))
    image, position = torch.rand(1, 3, 64, 64), torch.tensor([0.7])
    with torch.no_grad():
        torch.manual_seed(1)
        wanted = network(image, position)
        torch.manual_seed(1)
        found = other(image, position)
    assert float(found.bits) == pytest.approx(float(wanted.bits), rel=0.01)
    for (name, one), two in zip(network.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.allclose(one, two, atol=2e-3 * (1 + float(one.abs().max()))), name


@pytest.mark.parametrize("positions", [(), (1.0, 0.5), (0.0, 0.0), (-0.1, 1.0), (0.0, 2.1)])
def test_what_is_no_ladder_is_refused_and_leaves_no_file(
    positions: tuple[float, ...], network: CheckerboardNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "no.safetensors"
    with pytest.raises(TrainingError, match="is no ladder"):
        save_checkpoint(network, path, {}, positions)
    assert not list(tmp_path.iterdir())


def test_damaged_weights_are_refused(weights: str, tmp_path: Path) -> None:
    check_bad_weights(lambda path: Icm(1, weights=path), weights, tmp_path)


def test_weights_of_another_shape_are_refused_as_a_start(weights: str) -> None:
    wider = CheckerboardNetwork(dataclasses.replace(NARROW, hidden=24), LAMBDAS)
    with pytest.raises(CodecError, match="another shape"):
        start_from(wider, Path(weights))


def test_photographs_are_coded_for_the_task_where_such_weights_are_shipped(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(icm_codec, "__file__", str(tmp_path / "icm" / "codec.py"))
    assert (
        str(resolve_codec("icm", task="detection", provider="coco")[0]) == "icm:domain=photos:objective=mse"
    )
    shipped = tmp_path / "weights" / "icm-photos.safetensors"
    shipped.parent.mkdir()
    shipped.write_bytes(Path(weights).read_bytes())
    found = resolve_codec("icm", task="detection", provider="coco")[0]
    assert str(found) == "icm:domain=photos:objective=detection"
    assert "weights icm-photos" in Icm(4, domain="photos", objective="detection").version()
