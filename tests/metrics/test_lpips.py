"""LPIPS as a metric: its weights are fetched for real, from this machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from icm_bench.error import DetectorError, DownloadError
from icm_bench.image import Image
from icm_bench.metrics import lpips
from icm_bench.metrics.lpips import Lpips
from icm_bench.testing import photograph

pytest.importorskip("torchmetrics", reason="the extra lpips is not installed")

SHAPES = {
    0: (64, 3, 11, 11),
    3: (192, 64, 5, 5),
    6: (384, 192, 3, 3),
    8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}


@dataclass
class Seen:
    original: Image
    decoded: Image
    objects = ()
    predictions = ()


def serve_weights(folder: Path, state: dict[str, torch.Tensor]) -> str:
    """Save weights under a name that ends in their hash, as torchvision's do, and return the name."""
    path = folder / "weights.pth"
    torch.save(state, path)
    name = f"alexnet-owt-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
    path.rename(folder / name)
    return name


@pytest.mark.slow
def test_weights_are_fetched_once_and_equal_images_have_one_and_worse_ones_less(
    site: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = site
    torch.manual_seed(1)
    state = {f"features.{layer}.weight": 0.05 * torch.randn(shape) for layer, shape in SHAPES.items()}
    state |= {f"features.{layer}.bias": torch.zeros(shape[0]) for layer, shape in SHAPES.items()}
    state["classifier.1.weight"] = torch.zeros(2, 2)  # of no use here
    monkeypatch.setattr(lpips, "ALEXNET", f"{url}/{serve_weights(folder, state)}")
    image = photograph(80, 64)
    noise = np.random.default_rng(1).normal(0, 1, image.shape)
    noisy = [np.clip(image + scale * noise, 0, 255).astype(np.uint8) for scale in (0, 10, 40)]
    values = [Lpips().measure(Seen(image, decoded)) for decoded in noisy]
    assert values[0] == 1.0
    assert 1.0 > values[1] > values[2]  # type: ignore[operator]
    assert len(list((tmp_path / "cache").glob("*.pth"))) == 1
    assert Lpips().measure(Seen(image[:20], image[:20])) is None


def test_weights_that_cannot_be_fetched_or_are_of_another_network_are_a_clear_error(
    site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = site
    seen = Seen(photograph(64, 64), photograph(64, 64))
    monkeypatch.setattr(lpips, "ALEXNET", f"{url}/alexnet-owt-00000000.pth")
    with pytest.raises(DownloadError, match="alexnet-owt-00000000"):
        Lpips().measure(seen)
    other = {"features.0.weight": torch.zeros(64, 3, 11, 11)}
    monkeypatch.setattr(lpips, "ALEXNET", f"{url}/{serve_weights(folder, other)}")
    with pytest.raises(DetectorError, match="of another model"):
        Lpips().measure(seen)


def test_the_version_names_what_can_change_a_value() -> None:
    assert "torchmetrics" in Lpips().version()
    assert "alexnet-owt-7be5be79" in Lpips().version()
