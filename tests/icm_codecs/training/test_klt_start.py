"""The transforms that trainings start with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from icm_bench.dataset import open_dataset
from icm_codecs.content_weighted.network import ContentWeightedShape
from icm_codecs.content_weighted.training import ContentWeightedLoss, ContentWeightedModel
from icm_codecs.training.klt_start import PIXEL_VARIANCE, begin_with, markov_transforms
from icm_codecs.tucodec.network import TucodecNetwork, TucodecShape

pytestmark = pytest.mark.usefixtures("one_thread")


def scene() -> torch.Tensor:
    image = open_dataset("scenes", limit=1).images[0].read()[:256, :256]
    return torch.tensor(image).permute(2, 0, 1)[None].float() / 255.0


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10.0 * math.log10(float((a - b).square().mean()))


@pytest.mark.parametrize(("channels", "first"), [((12, 40, 96), 2), ((48, 100), 4), ((3, 8), 1)])
def test_transforms_are_orthonormal(channels: tuple[int, ...], first: int) -> None:
    transforms, variances = markov_transforms(channels, first=first)
    for number, (transform, most) in enumerate(zip(transforms, channels, strict=True)):
        assert transform.shape[0] == most
        assert transform.shape[2:] == ((first, first) if number == 0 else (2, 2))
        flat = transform.flatten(1)
        assert torch.allclose(flat @ flat.T, torch.eye(most, dtype=torch.float64), atol=1e-9)
    assert variances.shape == (channels[-1],)
    assert (variances.diff() < 1e-12).all()


def test_nothing_is_lost_where_all_is_kept() -> None:
    transforms, variances = markov_transforms((1000, 1000), first=2)
    assert [len(transform) for transform in transforms] == [12, 48]
    assert float(variances.sum()) == pytest.approx(48 * PIXEL_VARIANCE)
    image = x = scene().double()
    for transform in transforms:
        x = functional.conv2d(x, transform, stride=2)
    for transform in reversed(transforms):
        x = functional.conv_transpose2d(x, transform, stride=2)
    assert torch.allclose(x, image)


def test_first_direction_is_the_mean_and_variances_are_those_of_the_process() -> None:
    (transform,), variances = markov_transforms((12,), first=2)
    assert (transform[0] * transform[0].sum().sign() > 0.25).all()
    # Of the model's own process, drawn: pixels of a square that correlate by 0.95 along either side.
    random = np.random.default_rng(1)
    along = np.linalg.cholesky(np.array([[1.0, 0.95], [0.95, 1.0]]))
    colours = np.linalg.cholesky(np.array([[1.0, 0.95, 0.88], [0.95, 1.0, 0.95], [0.88, 0.95, 1.0]]))
    white = random.normal(size=(40_000, 3, 2, 2))
    pixels = np.sqrt(PIXEL_VARIANCE) * np.einsum("cd,ab,ef,ndbf->ncae", colours, along, along, white)
    found = np.einsum("kcae,ncae->nk", transform.numpy(), pixels).var(axis=0)
    assert found == pytest.approx(variances.numpy(), rel=0.05)


def test_convolution_begins_with_the_transform_of_its_first_channels() -> None:
    torch.manual_seed(1)
    transform = torch.rand(2, 3, 2, 2)
    layer = torch.nn.Conv2d(5, 4, 5, stride=2, padding=2, bias=False)
    before = layer.weight.detach().clone()
    begin_with(layer.weight, transform, at=2)
    x = torch.rand(1, 5, 8, 8)
    assert torch.allclose(layer(x)[:, :2], functional.conv2d(x[:, :3], transform, stride=2), atol=1e-6)
    assert torch.equal(layer.weight[2:], before[2:])


def test_untrained_codec_of_target_rates_is_a_working_codec() -> None:
    torch.manual_seed(1)
    network = TucodecNetwork(TucodecShape(3), (0.0003, 0.003, 0.03))
    image = scene()
    with torch.no_grad():
        points = []
        for position in (0.0, 1.0, 2.0):
            estimate = network(image, torch.tensor([position]))
            points.append((float(estimate.bits) / image[0, 0].numel(), psnr(estimate.image, image)))
    assert points == sorted(points)
    assert [fidelity for _, fidelity in points] == sorted(fidelity for _, fidelity in points)
    assert points[0][0] < 0.5
    assert points[2][1] > 28.0


def test_untrained_content_weighted_codec_is_a_working_codec() -> None:
    torch.manual_seed(1)
    targets = (0.2, 0.45, 0.96)
    model = ContentWeightedModel(ContentWeightedShape(qualities=3), ContentWeightedLoss(targets))
    image, quality = scene().repeat(3, 1, 1, 1), torch.arange(3)
    with torch.no_grad():
        encoding = model.encoder(image, quality)
        bits = (encoding.code > 0.5).float()
        decoded = model.decoder(bits, quality)
    fidelity = [psnr(a, b) for a, b in zip(decoded, image, strict=True)]
    assert fidelity == sorted(fidelity)
    assert fidelity[2] > 24.0
    # Wider steps set fewer bits, and the first channels' most.
    shares = bits.mean(dim=(1, 2, 3)).tolist()
    assert shares == sorted(shares)
    assert bits[0, :40].mean() > 5.0 * bits[0, 80:].mean()
