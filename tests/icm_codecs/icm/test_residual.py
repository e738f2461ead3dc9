from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icm_bench.codec import ladder_of
from icm_bench.datasets.scenes import Scenes
from icm_bench.error import CodecError, UsageError
from icm_bench.image import Image
from icm_codecs.bitstream.table import Decoder, Encoder, gaussian_tables
from icm_codecs.icm.codec import Icm
from icm_codecs.icm.residual import COEFFICIENTS, ResidualPoints, ResidualTransform, blocks_of, of_blocks
from icm_codecs.icm.residual_coder import ResidualCoder
from icm_codecs.icm.roi import MOST_COARSENING

pytestmark = pytest.mark.usefixtures("one_thread")

COARSER = (0, 7, 20, MOST_COARSENING)
TASK = {"domain": "scenes", "objective": "detection"}


def coder(step: float = 2.0) -> ResidualCoder:
    return ResidualCoder(step, COARSER, ResidualTransform(), gaussian_tables())


@pytest.fixture(scope="module")
def scene() -> Image:
    return np.ascontiguousarray(Scenes.open().images[3].read()[96:288, 128:384])


def spread(seed: int, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make symbols whose spread falls from coefficient to coefficient and varies by block, and a map of levels."""
    random = np.random.default_rng(seed)
    levels = torch.from_numpy(random.integers(0, len(COARSER), (rows, columns)))
    deviation = 30.0 * np.exp(-np.arange(COEFFICIENTS) / 30.0)[:, None, None]
    busy = np.exp(random.normal(0.0, 0.8, (1, 2 * rows, 2 * columns)))
    symbols = np.round(random.laplace(0.0, deviation * busy)).astype(np.int64)
    sent = (levels < len(COARSER) - 1).numpy().repeat(2, 0).repeat(2, 1)
    return torch.from_numpy(symbols * sent), levels


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
def test_any_symbols_come_back(seed: int, rows: int, columns: int) -> None:
    symbols, levels = spread(seed, rows, columns)
    if seed % 3 == 0:
        symbols[seed % COEFFICIENTS] *= 1000
    encoder = Encoder()
    coder().put(encoder, symbols.clamp(-32767, 32767), levels)
    decoder = Decoder(encoder.bytes(), most_symbols=ResidualCoder.most_symbols(rows, columns))
    assert torch.equal(coder().take(decoder, levels), symbols.clamp(-32767, 32767))


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 3), st.integers(1, 3))
def test_any_bytes_are_symbols(data: bytes, rows: int, columns: int) -> None:
    levels = torch.arange(rows * columns).reshape(rows, columns) % len(COARSER)
    decoder = Decoder(data, most_symbols=ResidualCoder.most_symbols(rows, columns))
    found = coder().take(decoder, levels)
    assert found.shape == (COEFFICIENTS, 2 * rows, 2 * columns)
    assert found.abs().max() < 2**15
    assert not found[:, of_blocks(levels) == len(COARSER) - 1].any()


def test_scales_of_coefficients_and_blocks_are_found() -> None:
    # Coded by Gaussians of the very deviations that they were drawn with, the symbols would take so many bits.
    random = np.random.default_rng(1)
    levels = torch.zeros(8, 8, dtype=torch.int64)
    deviation = (
        20.0
        * np.exp(-np.arange(COEFFICIENTS) / 40.0)[:, None, None]
        * np.exp(random.normal(0.0, 1.0, (1, 16, 16)))
    )
    symbols = torch.from_numpy(np.round(random.normal(0.0, deviation)).astype(np.int64))
    # The entropy of a rounded Gaussian, where it is wide; where it is narrow, of little account.
    entropy = np.log2(np.maximum(deviation, 0.25) * np.sqrt(2 * np.pi * np.e)).clip(0.0).sum()
    encoder = Encoder()
    coder().put(encoder, symbols, levels)
    assert 8 * len(encoder.bytes()) < 1.04 * entropy


def test_coarser_steps_leave_larger_errors_and_some_blocks_nothing() -> None:
    levels = torch.tensor([[0, 1], [2, 3]])
    missing = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 0.1
    one = coder()
    found = one.missing(one.quantise(missing, levels), levels)
    errors = (found - missing).square().mean(dim=1)[0]
    corners = [float(errors[y : y + 16, x : x + 16].mean()) for y in (0, 16) for x in (0, 16)]
    assert corners == sorted(corners)
    # A step's square over twelve, or a little more for small values that are rounded towards zero.
    assert corners[0] == pytest.approx((2.0 / 255.0) ** 2 / 12.0, rel=0.15)
    assert not found[:, :, 16:, 16:].any()


def test_transform_is_inverted_by_its_analysis() -> None:
    transform = ResidualTransform()
    assert not transform.is_fitted
    with torch.no_grad():
        transform.basis.normal_(generator=torch.Generator().manual_seed(1))
    assert transform.is_fitted
    image = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(2))
    assert transform(transform.analyse(image)) == pytest.approx(image, abs=1e-3)


def test_fitted_coefficients_are_uncorrelated_and_disturb_the_features_alike() -> None:
    generator = torch.Generator().manual_seed(3)
    mixed, felt = (torch.randn(COEFFICIENTS, COEFFICIENTS, generator=generator) for _ in range(2))
    felt = torch.eye(COEFFICIENTS) + 0.02 * felt
    missing = torch.randn(4000, COEFFICIENTS, generator=generator) @ mixed
    gradients = torch.randn(4000, COEFFICIENTS, generator=generator) @ felt
    transform = ResidualTransform()
    transform.fit(missing, gradients)
    # One block to an image: the coefficients of what is missing.
    coefficients = transform.analyse(missing.reshape(-1, 3, 8, 8)).flatten(1).double()
    covariance = coefficients.T @ coefficients / len(coefficients)
    deviations = covariance.diagonal().sqrt()
    correlation = covariance / deviations / deviations[:, None]
    assert float((correlation - torch.eye(COEFFICIENTS)).abs().max()) < 0.02
    assert deviations.tolist() == sorted(deviations.tolist(), reverse=True)
    # A unit of any coefficient moves the features by as much, and two of them by no more together than apart.
    basis = transform.basis.flatten(1).double()
    moved = basis @ gradients.T.double()
    disturbance = moved @ moved.T / moved.square().sum(dim=1).mean()
    assert float((disturbance - torch.eye(COEFFICIENTS)).abs().max()) < 0.01


def test_blocks_and_their_levels_go_row_by_row() -> None:
    images = torch.arange(2 * 3 * 16 * 32, dtype=torch.float32).reshape(2, 3, 16, 32)
    blocks = blocks_of(images)
    assert blocks.shape == (2 * 2 * 4, COEFFICIENTS)
    # The second image, the second row of blocks, the third block.
    assert torch.equal(blocks[8 + 4 + 2].reshape(3, 8, 8), images[1, :, 8:16, 16:24])
    assert of_blocks(torch.tensor([[1, 2]])).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


@pytest.mark.parametrize(
    "residual_points",
    [
        {"steps": [2.0, 6.0], "coarser": [[0], [0]]},
        {"steps": [2.0], "coarser": []},
        {"steps": [0.0], "coarser": [[0]]},
        {"steps": [2.0], "coarser": [[7, 0]]},
        {"steps": [2.0], "coarser": [[0, MOST_COARSENING + 1]]},
    ],
)
def test_impossible_rungs_are_refused(residual_points: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="falling steps"):
        ResidualPoints.from_dict(residual_points)


def test_rungs_survive_their_own_words() -> None:
    residual_points = ResidualPoints((6.0, 2.0), ((0, 7), (0, 3)))
    assert ResidualPoints.from_dict(residual_points.as_dict()) == residual_points


def test_ladder_goes_on_to_the_picture_itself(scene: Image) -> None:
    assert set(ladder_of(Icm, TASK)) < set(range(1, 11))
    assert {1, 10} < set(ladder_of(Icm, TASK))
    assert ladder_of(Icm, {}) == Icm.qualities
    sizes, errors = [], []
    for quality in range(6, 11):
        codec = Icm(quality, **TASK)  # type: ignore[arg-type]  # mypy takes them for plain strings
        data = codec.encode(scene)
        assert (codec.latents(data).residual is not None) == (quality > 8)
        decoded = Icm(1, **TASK).decode(data)  # type: ignore[arg-type]
        sizes.append(len(data))
        errors.append(float(np.mean((decoded.astype(float) - scene) ** 2)))
    assert sizes == sorted(set(sizes))
    assert errors == sorted(errors, reverse=True)
    # 34 dB over the whole, with coarser steps where no object is.
    assert errors[-1] < 26.0


def test_what_is_decoded_is_what_was_coded(scene: Image) -> None:
    for uses_roi in (True, False):
        codec = Icm(9, roi=uses_roi, **TASK)  # type: ignore[arg-type]
        data = codec.encode(scene)
        analysed, found = codec._coder.analyse(scene), codec.latents(data)
        assert analysed.residual is not None
        assert found.residual is not None
        assert torch.equal(found.residual, analysed.residual)
        assert found.residual.any()


def test_ladder_of_other_weights_is_theirs(scene: Image) -> None:
    with pytest.raises(UsageError, match="has no quality 11"):
        Icm(11, **TASK)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="has no quality 9"):
        Icm(9, domain="scenes", objective="mse")
    with pytest.raises(CodecError, match="not a checkpoint"):
        Icm.ladder({"weights": "nowhere.safetensors"})
