from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import detection

from icm_bench.datasets.scenes.scene import draw_scene
from icm_bench.error import TrainingError
from icm_bench.network.target import Target, target_of
from icm_codecs.training.detector_loss import FrozenDetector, Task, focus_on

TASK = Task("maskrcnn_scenes", (1.0,))


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.from_numpy(draw_scene((31, 0)).image[:192, :256].transpose(2, 0, 1).copy()).float() / 255


@pytest.fixture(scope="module")
def target() -> Target:
    scene = draw_scene((31, 0))
    part = scene.instances[:192, :256]
    kept = [k for k in np.unique(part) if k > 0]
    masks = np.stack([part == k for k in kept])
    return target_of(masks, np.array([scene.categories[k - 1] for k in kept], np.int64))


def damaged(image: Tensor, strength: float) -> Tensor:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    return (image + strength * noise).clamp(0, 1)


def loss_of(detector: FrozenDetector, decoded: Tensor, image: Tensor, target: Target) -> float:
    torch.manual_seed(1)
    return float(detector.loss(decoded[None], image[None], [target], lambdas=torch.ones(1)))


def test_damage_raises_the_detectors_loss_and_the_feature_loss(image: Tensor, target: Target) -> None:
    for task in (TASK, replace(TASK, losses=0.0, features=1.0)):
        detector = FrozenDetector(task)
        clean, noisy = (loss_of(detector, damaged(image, strength), image, target) for strength in (0.0, 0.2))
        assert noisy > clean + 0.2


def test_features_alone_need_no_objects_and_lose_nothing_of_the_original(image: Tensor) -> None:
    detector = FrozenDetector(replace(TASK, losses=0.0, features=1.0))
    assert float(detector.loss(image[None], image[None], [], lambdas=torch.ones(1))) == 0.0


@pytest.fixture(scope="module")
def with_norms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a detector whose batch norms would follow the images in training mode."""
    torch.manual_seed(1)
    network = detection.fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=91)
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    path = tmp_path_factory.mktemp("weights") / "v2.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.mark.slow
def test_gradients_reach_the_image_and_nothing_of_a_frozen_detector_moves(
    with_norms: Path, image: Tensor, target: Target
) -> None:
    detector = FrozenDetector(Task("fasterrcnn_resnet50_fpn_v2", (1.0,), features=1.0), weights=with_norms)
    before = {name: value.clone() for name, value in detector.network.state_dict().items()}
    decoded = damaged(image, 0.1)[None].requires_grad_()
    detector.loss(decoded, image[None], [target], lambdas=torch.ones(1)).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert decoded.grad is not None
    assert decoded.grad.abs().sum() > 0
    after = detector.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in detector.network.parameters())
    assert not detector.has_moved()
    next(iter(detector.network.buffers())).add_(1.0)
    assert detector.has_moved()


@pytest.mark.slow
def test_detector_sees_enlarged_crops(with_norms: Path, image: Tensor) -> None:
    task = Task("fasterrcnn_resnet50_fpn_v2", (1.0,), losses=0.0, features=1.0, enlarge=1.5)
    detector = FrozenDetector(task, weights=with_norms)
    seen: list[torch.Size] = []
    detector.network.backbone.body.conv1.register_forward_hook(
        lambda _, inputs, __: seen.append(inputs[0].shape)
    )
    detector.loss(image[None], image[None], [], lambdas=torch.ones(1))
    assert {tuple(shape[2:]) for shape in seen} == {(288, 384)}


def test_an_images_gradient_goes_with_its_lambda(image: Tensor) -> None:
    detector = FrozenDetector(replace(TASK, losses=0.0, features=1.0))

    def gradients(lambdas: list[float]) -> Tensor:
        decoded = damaged(image, 0.1).repeat(2, 1, 1, 1).requires_grad_()
        detector.loss(decoded, image.repeat(2, 1, 1, 1), [], lambdas=torch.tensor(lambdas)).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        assert decoded.grad is not None
        return decoded.grad

    one, other = gradients([1.0, 1.0]), gradients([3.0, 0.0])
    assert torch.allclose(other[0], 3 * one[0])
    assert not other[1].any()


def test_detector_that_no_gradient_can_pass_is_refused() -> None:
    with pytest.raises(TrainingError, match="gradients cannot pass"):
        FrozenDetector(Task("yolox", (1.0,)))


def test_focus_is_on_objects_and_around_them() -> None:
    masks = np.zeros((1, 64, 64), bool)
    masks[0, 20:30, 20:40] = True
    targets = [target_of(masks, np.array([1])), target_of(masks[:0], np.array([], np.int64))]
    focus = focus_on(targets, 0.25, like=torch.zeros(2, 1, 64, 64))
    assert torch.all(focus[1] == 0.25)
    assert torch.all(focus[0, 0, 12:38, 12:48] == 1.0)
    assert focus[0].eq(1.0).sum() == 26 * 36
    assert torch.all(focus_on([], 1.0, like=torch.zeros(2, 1, 8, 8)) == 1.0)


def test_features_far_from_objects_weigh_less(image: Tensor, target: Target) -> None:
    detector = FrozenDetector(replace(TASK, losses=0.0, features=1.0))
    decoded = damaged(image, 0.1)[None]
    loss, focused = (
        float(detector.loss(decoded, image[None], [target], lambdas=torch.ones(1), focus=focus))
        for focus in (None, focus_on([target], 0.1, like=decoded[:, :1]))
    )
    assert 0.1 * loss < focused < loss
