from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from icm_bench.error import CodecError
from icm_codecs.bitstream.integer_layer import ACTIVATION_BITS, HYPER_BOUND, MEAN_BITS, ExactLayer
from icm_codecs.bitstream.table import SCALES
from icm_codecs.hyperprior.network import HyperSynthesis
from icm_codecs.hyperprior.network_exact import ExactHyperSynthesis
from icm_codecs.hyperprior.variable_rate import HyperpriorShape

SHAPE = HyperpriorShape(qualities=2, fine=8, wide=8, latent=12, hyper=8, hyper_wide=12)


@pytest.fixture(scope="module")
def network() -> HyperSynthesis:
    torch.manual_seed(3)
    network = HyperSynthesis(SHAPE)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.1)
        network.gain.copy_(1.0 + torch.rand(network.gain.shape))
        network.third_bias[:, : SHAPE.latent] += 2.5
    return network


@pytest.fixture(scope="module")
def exact(network: HyperSynthesis) -> ExactHyperSynthesis:
    return ExactHyperSynthesis.of(network)


def hyper_latent(n: int = 1, *, reach: int = 6) -> Tensor:
    random = torch.Generator().manual_seed(5)
    return torch.randint(-reach, reach + 1, (n, SHAPE.hyper, 3, 5), generator=random)


def in_python_integers(exact: ExactHyperSynthesis, hyper: Tensor, quality: int) -> tuple[Tensor, Tensor]:
    """Evaluate the definition with 64-bit integers only, in the most literal way."""
    bound = 2**20 - 1
    x = (hyper * exact.gain[quality][:, None, None]).clamp(-bound, bound)
    for number, layer in enumerate(exact.layers):
        margin = layer.weight.shape[2] // 2
        padded = functional.pad(x, (margin,) * 4)
        total = torch.zeros(1, layer.weight.shape[0], *x.shape[2:], dtype=torch.int64)
        for row in range(2 * margin + 1):
            for column in range(2 * margin + 1):
                window = padded[:, :, row : row + x.shape[2], column : column + x.shape[3]]
                weight = layer.weight[:, :, row, column].long()
                total += (weight[None, :, :, None, None] * window[:, None]).sum(dim=2)
        total += layer.bias[quality][:, None, None]
        if number < 2:
            x = ((total + (1 << (layer.shift - 1))) >> layer.shift).clamp(0, bound)
            x = functional.pixel_shuffle(x, 2)
    places = exact.layers[2].shift + ACTIVATION_BITS
    index, mean = total.chunk(2, dim=1)
    index = ((index * SCALES.per_unit + (1 << (places - 1))) >> places).clamp(0, SCALES.n_scales - 1)
    places -= MEAN_BITS
    return index, ((mean + (1 << (places - 1))) >> places).clamp(-bound, bound)


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("quality", "reach"), [(0, 6), (1, 6), (0, HYPER_BOUND)])
def test_float64_evaluation_equals_integer_arithmetic(
    exact: ExactHyperSynthesis, quality: int, reach: int
) -> None:
    hyper = hyper_latent(reach=reach)
    assert_same(exact.apply(hyper, quality), in_python_integers(exact, hyper, quality))


def test_symbols_beyond_the_bound_are_clamped(exact: ExactHyperSynthesis) -> None:
    beyond = torch.full((1, SHAPE.hyper, 1, 1), 2**40)
    at_bound = torch.full((1, SHAPE.hyper, 1, 1), HYPER_BOUND)
    assert_same(exact.apply(beyond, 0), exact.apply(at_bound, 0))


def test_result_is_close_to_the_float_network(network: HyperSynthesis, exact: ExactHyperSynthesis) -> None:
    hyper = hyper_latent()
    index, mean = exact.apply(hyper, 1)
    with torch.no_grad():
        float_index, float_mean = network(hyper.float(), torch.tensor([1]))
    assert (index - float_index.clamp(0, SCALES.n_scales - 1)).abs().max() <= 0.6
    assert (mean * 2.0**-MEAN_BITS - float_mean).abs().max() < 0.02


def test_image_in_a_batch_gives_what_it_gives_alone(exact: ExactHyperSynthesis) -> None:
    batch = hyper_latent(3)
    together = exact.apply(batch, 0)
    for sample in range(3):
        alone = exact.apply(batch[sample : sample + 1], 0)
        assert torch.equal(alone[0][0], together[0][sample])
        assert torch.equal(alone[1][0], together[1][sample])


def test_order_of_summation_changes_nothing(exact: ExactHyperSynthesis) -> None:
    order = torch.randperm(SHAPE.hyper, generator=torch.Generator().manual_seed(7))
    first, second, third = exact.layers
    shuffled = ExactHyperSynthesis(
        exact.gain[:, order], (ExactLayer(first.weight[:, order], first.bias, first.shift), second, third)
    )
    hyper = hyper_latent()
    assert_same(shuffled.apply(hyper[:, order], 0), exact.apply(hyper, 0))


@pytest.mark.usefixtures("one_thread")
def test_one_thread_and_two_give_the_same(exact: ExactHyperSynthesis) -> None:
    hyper = hyper_latent(8)
    one = exact.apply(hyper, 0)
    torch.set_num_threads(2)
    assert_same(exact.apply(hyper, 0), one)


def test_float32_network_is_not_as_steady() -> None:
    # The reason for all this: in single precision the order of summation does show.
    random = np.random.default_rng(1)
    terms = random.standard_normal(4096).astype(np.float32)
    sums = {float(np.cumsum(random.permutation(terms), dtype=np.float32)[-1]) for _ in range(20)}
    assert len(sums) > 1


def test_weights_that_leave_the_exact_range_are_refused() -> None:
    weight = torch.full((4, 2**19, 1, 1), 2**15 - 1, dtype=torch.int16)
    layer = ExactLayer(weight, torch.zeros(1, 4, dtype=torch.int64), 0)
    with pytest.raises(CodecError, match="exact arithmetic"):
        ExactHyperSynthesis(torch.ones(1, 1, dtype=torch.int64), (layer, layer, layer))


def test_conversion_keeps_weights_within_sixteen_bits() -> None:
    for scale in (0.0, 1e-6, 0.01, 1.0, 300.0):
        layer = ExactLayer.of(torch.linspace(-scale, scale, 9).reshape(3, 3, 1, 1), torch.zeros(1, 3))
        assert layer.weight.abs().max() <= 2**15 - 1
        assert layer.shift >= 0
    with pytest.raises(CodecError, match="too large"):
        ExactLayer.of(torch.full((1, 1, 1, 1), 1e6), torch.zeros(1, 1))


def test_training_can_start_from_the_integers(network: HyperSynthesis, exact: ExactHyperSynthesis) -> None:
    copy = HyperSynthesis(SHAPE)
    exact.copy_to(copy)
    assert_same(ExactHyperSynthesis.of(copy).apply(hyper_latent(), 0), exact.apply(hyper_latent(), 0))
