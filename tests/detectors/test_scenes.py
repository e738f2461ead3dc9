from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as run_lengths
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN

from icm_bench.datasets.scenes import VALIDATION_SET, Scenes
from icm_bench.datasets.scenes.validation import ANNOTATIONS
from icm_bench.detector import Detector, Prediction, Task
from icm_bench.detectors.scenes import (
    SHIPPED_WEIGHTS,
    FasterRcnnScenes,
    MaskRcnnScenes,
    build_mask_rcnn,
    fold_norms,
    load_faster_rcnn,
    load_mask_rcnn,
)
from icm_bench.error import DetectorError
from icm_bench.testing import check_detector
from tests.helpers.accuracy import found_in, reference_figures

N_IMAGES = 12
_DETECTORS: tuple[type[FasterRcnnScenes], ...] = (FasterRcnnScenes, MaskRcnnScenes)


@pytest.fixture(scope="module")
def predictions() -> list[Prediction]:
    return found_in(Scenes.open().images[:N_IMAGES], MaskRcnnScenes().predict)


@pytest.mark.parametrize("detector_class", _DETECTORS)
def test_the_detectors_keep_the_contract(detector_class: type[FasterRcnnScenes]) -> None:
    check_detector(detector_class)
    assert isinstance(detector_class(), Detector)


def test_boxes_and_masks_are_as_accurate_as_recorded(predictions: list[Prediction]) -> None:
    truth = json.loads((VALIDATION_SET / ANNOTATIONS).read_text())
    wanted: dict[Task, float] = {"detection": 63.6, "segmentation": 61.8}
    for task, ap in wanted.items():
        assert reference_figures(truth, predictions, task, range(1, N_IMAGES + 1))[0] == pytest.approx(
            ap, abs=0.3
        )


def test_masks_lie_in_their_boxes_and_have_the_images_size(predictions: list[Prediction]) -> None:
    for row in predictions:
        mask = run_lengths.decode(row["segmentation"])
        left, top, width, height = row["bbox"]
        rows, columns = np.nonzero(mask)
        assert mask.shape == (384, 512)
        if len(rows):
            assert rows.min() >= top - 2
            assert rows.max() <= top + height + 2
            assert columns.min() >= left - 2
            assert columns.max() <= left + width + 2


def test_both_detectors_find_the_same_boxes(predictions: list[Prediction]) -> None:
    record = Scenes.open().images[1]
    boxes = FasterRcnnScenes().predict(record.read())
    assert boxes == [
        {name: row[name] for name in ("category_id", "bbox", "score")}
        for row in predictions
        if row["image_id"] == record.id
    ]


def test_categories_are_the_datasets() -> None:
    assert dict(MaskRcnnScenes.categories) == dict(Scenes.open().categories)


def test_the_networks_are_torchvisions_and_frozen_without_norms() -> None:
    mask, box = load_mask_rcnn(), load_faster_rcnn()
    assert type(mask) is MaskRCNN
    assert type(box) is FasterRCNN
    for network in (mask, box):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_losses_in_training_mode_have_gradients_to_the_image_alone() -> None:
    network = load_mask_rcnn().train()
    torch.manual_seed(0)
    record = Scenes.open().images[0]
    image = torch.tensor(record.read()).permute(2, 0, 1).float().div(255).requires_grad_()
    masks = torch.zeros(1, record.height, record.width, dtype=torch.uint8)
    masks[:, 40:120, 60:160] = 1
    boxes = torch.tensor([[60.0, 40.0, 160.0, 120.0]])
    losses = network([image], [{"boxes": boxes, "labels": torch.tensor([3]), "masks": masks}])
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_stored_weights_are_small_and_predictions_are_theirs() -> None:
    stored = load_file(SHIPPED_WEIGHTS)
    assert SHIPPED_WEIGHTS.stat().st_size <= 5 * 2**20
    assert {value.dtype for value in stored.values()} == {torch.float16}
    for name, value in load_mask_rcnn().state_dict().items():
        assert torch.equal(value, stored[name].float())


def test_folding_norms_changes_no_feature() -> None:
    torch.manual_seed(0)
    backbone = build_mask_rcnn().backbone
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]  # these track statistics
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
    backbone.eval()
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        before = backbone(pixels)
        fold_norms(backbone)
        after = backbone(pixels)
    for name, features in before.items():
        torch.testing.assert_close(after[name], features, rtol=1e-4, atol=1e-4)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(DetectorError, match="another model"):
        MaskRcnnScenes(weights=foreign)


def test_a_missing_device_is_said() -> None:
    with pytest.raises(DetectorError, match="no device 'nonsense'"):
        MaskRcnnScenes(device="nonsense")


def test_the_version_changes_with_the_weights(tmp_path: Path) -> None:
    changed = load_file(SHIPPED_WEIGHTS)
    changed["roi_heads.box_predictor.cls_score.bias"] += 1
    save_file(changed, tmp_path / "changed.safetensors")
    assert MaskRcnnScenes(weights=tmp_path / "changed.safetensors").version() != MaskRcnnScenes().version()
