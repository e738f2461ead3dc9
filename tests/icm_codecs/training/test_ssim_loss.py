"""Structural dissimilarity as a loss."""

from __future__ import annotations

import pytest
import torch
from pytorch_msssim import ms_ssim

from icm_bench.testing import photograph
from icm_codecs.training.ssim_loss import dissimilarity, with_structure

pytestmark = pytest.mark.usefixtures("one_thread")


def image_of(seed: int = 0) -> torch.Tensor:
    return torch.tensor(photograph(128, 128, seed=seed)).permute(2, 0, 1)[None].float() / 255.0


def test_equal_images_differ_by_nothing_and_each_sample_stands_alone() -> None:
    image = torch.cat([image_of(0), image_of(1)])
    found = dissimilarity(torch.cat([image_of(0), image_of(2)]), image)
    assert found.shape == (2,)
    assert float(found[0]) == pytest.approx(0.0, abs=1e-6)
    assert float(found[1]) > 0.3


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_near_one_it_is_what_ms_ssim_lacks(noise: float) -> None:
    torch.manual_seed(1)
    image = image_of()
    noisy = image + noise * torch.randn_like(image)
    published = 1.0 - float(ms_ssim(noisy, image, data_range=1.0, win_size=7))
    assert float(dissimilarity(noisy, image)) == pytest.approx(published, rel=0.15)


def test_mixed_precision_changes_nothing() -> None:
    torch.manual_seed(1)
    image = image_of()
    noisy = image + 0.02 * torch.randn_like(image)
    exact = float(dissimilarity(noisy, image))
    with torch.autocast("cpu", torch.bfloat16):
        assert float(dissimilarity(noisy, image)) == exact


def test_gradients_are_finite_where_pictures_have_nothing_in_common() -> None:
    image = image_of()
    for decoded in (torch.full_like(image, 0.5), 1.0 - image, torch.zeros_like(image)):
        decoded.requires_grad_()
        dissimilarity(decoded, image).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
        assert decoded.grad is not None
        assert decoded.grad.isfinite().all()


def test_weight_is_of_a_squared_errors_size() -> None:
    torch.manual_seed(1)
    image = image_of()
    noisy = image + 0.04 * torch.randn_like(image)
    error = (noisy - image).square().mean(dim=(1, 2, 3))
    assert torch.equal(with_structure(error, noisy, image, 0.0), error)
    whole = with_structure(error, noisy, image, 1.0)
    assert 0.1 < float(whole / error) < 10.0
    half = with_structure(error, noisy, image, 0.5)
    torch.testing.assert_close(half, (error + whole) / 2)
