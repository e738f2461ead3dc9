from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from icm_bench.error import TrainingError
from icm_codecs.training.teacher import OnnxTeacher, RcnnTeacher, Seen, TeachersLoss
from tests.helpers.onnx_detector import write_detector

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("onnx") / "detector.onnx")


def test_taps_are_what_is_sampled_down_and_what_heads_branch_off_from(detector: Path) -> None:
    teacher = OnnxTeacher(detector)
    assert teacher.taps == ("fine", "coarse")
    seen = teacher.features(torch.rand(2, 3, 64, 96))
    assert [tuple(value.shape) for value in seen.features] == [(2, 12, 16, 24), (2, 16, 8, 12)]
    assert [tuple(value.shape) for value in seen.logits[0]] == [(2, 1, 8, 12), (2, 5, 8, 12)]
    assert OnnxTeacher(detector, taps=["c"]).features(torch.rand(1, 3, 32, 32)).features[0].shape == (
        1,
        16,
        4,
        4,
    )


def test_order_of_channels_and_range_are_those_of_the_detector(detector: Path) -> None:
    image = torch.rand(1, 3, 64, 64)
    plain = OnnxTeacher(detector).features(255.0 * image.flip(1))
    asked = OnnxTeacher(detector, bgr=True, pixel_max=255.0).features(image)
    assert torch.allclose(plain.features[1], asked.features[1])


def test_teacher_follows_the_images_to_their_device(detector: Path) -> None:
    seen = OnnxTeacher(detector).features(torch.rand(1, 3, 32, 32, device="meta"))
    assert {value.device.type for value in seen.features} == {"meta"}


def test_tap_that_the_graph_lacks_is_refused(detector: Path) -> None:
    with pytest.raises(TrainingError, match="has no such tensor"):
        OnnxTeacher(detector, taps=["absent"])


def test_loss_is_nothing_for_the_original_and_rises_with_damage_where_it_counts(detector: Path) -> None:
    torch.manual_seed(1)
    image = torch.rand(2, 3, 64, 64)
    loss, everywhere = TeachersLoss([OnnxTeacher(detector)]), torch.ones(2, 1, 64, 64)
    assert loss(image, image, everywhere, 0).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    damaged = image.clone()
    damaged[0, :, :, :24] = 0.5
    full = loss(damaged, image, everywhere, 0)
    assert float(full[0]) > 0.1
    assert float(full[1]) == pytest.approx(0.0, abs=1e-6)
    left, right = torch.full((2, 1, 64, 64), 0.1), torch.full((2, 1, 64, 64), 0.1)
    left[..., :32], right[..., 40:] = 1.0, 1.0
    assert float(loss(damaged, image, left, 0)[0]) > 3 * float(loss(damaged, image, right, 0)[0])


def test_gradient_descent_through_a_teacher_mends_what_it_sees(detector: Path) -> None:
    torch.manual_seed(2)
    image = torch.rand(1, 3, 64, 64)
    decoded = (image + 0.2 * torch.randn_like(image)).requires_grad_()
    loss, focus = TeachersLoss([OnnxTeacher(detector)], sizes=[48, 64]), torch.ones(1, 1, 64, 64)
    adam = torch.optim.Adam([decoded], lr=0.01)
    values = []
    for step in range(40):
        value = loss(decoded, image, focus, step).sum()
        adam.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        adam.step()
        values.append(float(value.detach()))
    assert sum(values[-5:]) < 0.3 * sum(values[:5])


class Counting:
    name = "counting"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def features(self, image: Tensor) -> Seen:
        self.sizes.append(image.shape[3])
        return Seen([image], [])

    def losses(self, _image: Tensor, _targets: object) -> None:
        return

    def has_moved(self) -> bool:
        return False


def test_teachers_take_turns_and_see_both_images_at_one_of_the_sizes() -> None:
    teachers, image = [Counting(), Counting()], torch.rand(1, 3, 64, 64)
    loss = TeachersLoss(teachers, sizes=[32, 48])
    for step in range(40):
        loss(image, image, torch.ones(1, 1, 64, 64), step)
    for teacher in teachers:
        assert len(teacher.sizes) == 40
        assert teacher.sizes[::2] == teacher.sizes[1::2]
        assert set(teacher.sizes) == {32, 48}


def test_rcnn_gives_its_pyramid_and_its_own_loss() -> None:
    teacher = RcnnTeacher("fasterrcnn_scenes")
    image = torch.rand(1, 3, 64, 96)
    target = {
        "boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]),
        "labels": torch.tensor([1]),
        "masks": torch.zeros(1, 64, 96, dtype=torch.uint8),
    }
    assert len(teacher.features(image).features) > 1
    loss = teacher.losses(image, [target])
    assert loss is not None
    assert float(loss) > 0.0
    assert not teacher.has_moved()


def test_no_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="no teacher"):
        TeachersLoss([])
