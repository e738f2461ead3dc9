from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
import safetensors.torch
import torch
from PIL import Image as PillowImage
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models._api import WeightsEnum

from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.detector import Detector
from icm_bench.detectors.torchvision import (
    FasterRcnnMobileNetV3Large320Fpn,
    FasterRcnnResNet50Fpn,
    FasterRcnnResNet50FpnV2,
    MaskRcnnResNet50Fpn,
    MaskRcnnResNet50FpnV2,
    _build,
)
from icm_bench.error import DetectorError
from icm_bench.image import Image

Mobile = FasterRcnnMobileNetV3Large320Fpn
PUBLISHED: dict[str, WeightsEnum] = {
    "fasterrcnn_resnet50_fpn": detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "fasterrcnn_resnet50_fpn_v2": detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    "fasterrcnn_mobilenet_v3_large_320_fpn": detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
    "maskrcnn_resnet50_fpn": detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    "maskrcnn_resnet50_fpn_v2": detection.MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
}
DETECTORS: list[Any] = [
    FasterRcnnResNet50Fpn,
    FasterRcnnResNet50FpnV2,
    FasterRcnnMobileNetV3Large320Fpn,
    MaskRcnnResNet50Fpn,
    MaskRcnnResNet50FpnV2,
]


def build(name: str, **options: Any) -> nn.Module:
    builder: Callable[..., nn.Module] = getattr(detection, name)
    return builder(**options)


def random_state(name: str) -> dict[str, Tensor]:
    """Random weights, scaled so that some scores pass the threshold."""
    torch.manual_seed(7)
    model = build(name, weights=None, weights_backbone=None).eval()
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif key.endswith("running_mean"):
            value.normal_(0, 0.1)
    classify = model.get_submodule("roi_heads.box_predictor.cls_score")
    logits: list[Tensor] = []
    hook = classify.register_forward_hook(lambda module, inputs, output: logits.append(output))
    with torch.inference_mode():
        model([as_tensor(image())])
    hook.remove()
    classify.state_dict()["weight"].mul_(3 / logits[0].std())
    classify.state_dict()["bias"][0] = -20  # the background's
    return {key: value for key, value in model.state_dict().items() if "num_batches_tracked" not in key}


def as_tensor(pixels: Image) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous() / 255


def image(height: int = 10, width: int = 300) -> Image:
    """A long strip, which torchvision enlarges less than other shapes: to 44 x 1333."""
    coarse = np.random.default_rng(3).integers(0, 256, (3, 30, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.asarray(PillowImage.fromarray(coarse).resize((width, height))))


@pytest.fixture(scope="module")
def mobile_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mobile.safetensors"
    safetensors.torch.save_file(random_state(Mobile.name), path)
    return path


@pytest.fixture(scope="module")
def mobile(mobile_weights: Path) -> Mobile:
    return Mobile(weights=mobile_weights)


def expected(
    name: str, state: dict[str, Tensor], pixels: Image, patch: pytest.MonkeyPatch
) -> dict[str, Tensor]:
    """What torchvision itself predicts with weights that stand in for the published ones."""
    patch.setattr(WeightsEnum, "get_state_dict", lambda self, *args, **kwargs: state)
    model = build(name, weights=PUBLISHED[name]).eval()
    with torch.inference_mode():
        (found,) = model([as_tensor(pixels)])
    return dict(found)


def without_weights(name: str, patch: pytest.MonkeyPatch) -> nn.Module:
    """torchvision's published model, but for the weights."""
    patch.setattr(WeightsEnum, "get_state_dict", lambda self, *args, **kwargs: {})
    patch.setattr(nn.Module, "load_state_dict", lambda self, state: None)
    return build(name, weights=PUBLISHED[name])


@pytest.mark.parametrize("cls", DETECTORS, ids=lambda cls: cls.name)
def test_architecture_is_torchvisions_published_one(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):  # shapes and settings alone
        ours = _build(cls.name, cls._frozen_norm_eps)
        theirs = without_weights(cls.name, monkeypatch)
    # This text holds every layer with its sizes and epsilons, and how images are resized and normalised.
    assert str(ours) == str(theirs)
    for part in ("rpn", "roi_heads"):
        assert settings_of(ours.get_submodule(part)) == settings_of(theirs.get_submodule(part))
    assert settings_of(ours.get_submodule("roi_heads"))["score_thresh"] == 0.05
    assert settings_of(ours.get_submodule("roi_heads"))["detections_per_img"] == 100


def settings_of(module: nn.Module) -> dict[str, Any]:
    public = {key: value for key, value in vars(module).items() if isinstance(value, int | float)}
    proposals = {
        key: getattr(module, key) for key in ("_pre_nms_top_n", "_post_nms_top_n") if hasattr(module, key)
    }
    return public | proposals


@pytest.mark.slow
@pytest.mark.parametrize(
    "cls", [FasterRcnnMobileNetV3Large320Fpn, MaskRcnnResNet50Fpn], ids=lambda cls: cls.name
)
def test_predictions_are_torchvisions_own_on_the_same_weights(
    cls: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = random_state(cls.name)
    torch.save(state, tmp_path / "weights.pth")
    rows = cls(weights=tmp_path / "weights.pth").predict(image())
    (tmp_path / "weights.pth").unlink()
    found = expected(cls.name, state, image(), monkeypatch)
    known = [index for index, label in enumerate(found["labels"].tolist()) if label in CATEGORIES]
    assert len(known) > 3
    assert [row["category_id"] for row in rows] == found["labels"][known].tolist()
    assert [row["score"] for row in rows] == found["scores"][known].tolist()
    for row, index in zip(rows, known, strict=True):
        x0, y0, x1, y1 = found["boxes"][index].tolist()
        assert row["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=1e-4)
        if "masks" in found:
            wanted = (found["masks"][index, 0] > 0.5).numpy()
            assert isinstance(row["segmentation"]["counts"], str)
            assert np.array_equal(pycocotools.mask.decode(row["segmentation"]), wanted)
            assert row["segmentation"]["size"] == [10, 300]
    assert ("masks" in found) == ("segmentation" in cls.tasks)


@pytest.mark.parametrize("cls", DETECTORS, ids=lambda cls: cls.name)
def test_published_accuracy_and_categories_are_torchvisions(cls: Any) -> None:
    meta = PUBLISHED[cls.name].meta
    metrics = meta["_metrics"]["COCO-val2017"]
    wanted = {"detection": metrics["box_map"]}
    if "mask_map" in metrics:
        wanted["segmentation"] = metrics["mask_map"]
    assert cls.published == wanted
    assert tuple(wanted) == cls.tasks
    named = {
        index: name for index, name in enumerate(meta["categories"]) if name not in {"N/A", "__background__"}
    }
    assert cls.categories == named
    assert re.fullmatch(r".*-[0-9a-f]{8}\.pth", PUBLISHED[cls.name].url)


def test_rows_are_coco_results_best_first_within_the_image(mobile: Mobile) -> None:
    rows = mobile.predict(image())
    assert 0 < len(rows) <= 100
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    for row in rows:
        assert set(row) == {"category_id", "bbox", "score"}
        x, y, width, height = row["bbox"]
        assert min(x, y) >= 0
        assert min(width, height) > 0
        assert x + width <= 300
        assert y + height <= 10
        assert 0.05 < row["score"] <= 1


def test_predictions_repeat_without_gradients_and_leave_the_image_alone(
    mobile: Mobile, mobile_weights: Path
) -> None:
    pixels = image()
    pixels.setflags(write=False)
    first = mobile.predict(pixels)
    assert first == mobile.predict(pixels) == Mobile(weights=mobile_weights).predict(image())
    assert not any(parameter.requires_grad for parameter in mobile._model.parameters())
    assert not mobile._model.training


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (3, 5), (63, 65)])
def test_odd_sizes_are_taken(mobile: Mobile, shape: tuple[int, int]) -> None:
    for row in mobile.predict(image(*shape)):
        assert row["bbox"][0] + row["bbox"][2] <= shape[1]


def test_size_that_the_network_cannot_take_is_an_error_that_names_it(mobile: Mobile) -> None:
    with pytest.raises(DetectorError, match="failed on an image of 5000x1"):
        mobile.predict(image(1, 5000))


def test_pth_and_safetensors_give_the_same_predictions(
    mobile: Mobile, mobile_weights: Path, tmp_path: Path
) -> None:
    torch.save(safetensors.torch.load_file(mobile_weights), tmp_path / "mobile.pth")
    other = Mobile(weights=tmp_path / "mobile.pth")
    assert other.predict(image()) == mobile.predict(image())
    assert other.version() != mobile.version()


def test_version_names_libraries_weights_and_device(mobile: Mobile, mobile_weights: Path) -> None:
    import hashlib

    import torchvision

    digest = hashlib.sha256(mobile_weights.read_bytes()).hexdigest()[:12]
    assert (
        mobile.version()
        == f"torchvision {torchvision.__version__}, torch {torch.__version__}, weights {digest}, cpu"
    )
    assert isinstance(mobile, Detector)


def test_weights_of_another_model_are_an_error_of_one_line(tmp_path: Path, mobile_weights: Path) -> None:
    with pytest.raises(
        DetectorError, match=r"mobile\.safetensors: the weights are of another model"
    ) as caught:
        FasterRcnnResNet50Fpn(weights=mobile_weights)
    assert "\n" not in str(caught.value)


def test_normalisation_by_no_variance_is_an_error(tmp_path: Path, mobile_weights: Path) -> None:
    state = safetensors.torch.load_file(mobile_weights)
    state["backbone.body.0.1.running_var"].fill_(-1)
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(DetectorError, match="normalise by a variance of 0"):
        Mobile(weights=tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "device", ["tpu", "cuda:99", "meta", "cuda" if not torch.cuda.is_available() else "mps"]
)
def test_device_that_is_absent_or_unknown_is_an_error(device: str, mobile_weights: Path) -> None:
    with pytest.raises(DetectorError, match="device '"):
        Mobile(weights=mobile_weights, device=device)
