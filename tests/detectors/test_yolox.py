from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from icm_bench.datasets.coco import Coco
from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.detector import Detector
from icm_bench.detectors.yolox import YoloxNano
from icm_bench.error import DetectorError
from icm_bench.image import Image
from tests.helpers.accuracy import found_in, reference_figures

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

SHARED = Path(__file__).parents[3] / "shared" / "data"
WEIGHTS = SHARED / "detectors" / "yolox_nano_coco80.onnx"
needs_weights = pytest.mark.skipif(
    not WEIGHTS.is_file(), reason="YOLOX's weights are not beside the checkout"
)


@pytest.fixture(scope="module")
def detector() -> YoloxNano:
    return YoloxNano(weights=WEIGHTS)


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@needs_weights
@pytest.mark.slow
def test_accuracy_on_the_validation_images_is_the_one_the_weights_were_measured_at(
    detector: YoloxNano,
) -> None:
    rows = found_in(Coco.open(data_root=SHARED / "coco").images, detector.predict)
    truth = json.loads((SHARED / "coco" / "annotations" / "instances_val2017.json").read_text())
    # AP, AP50, AP75, and AP of small, medium and large objects.
    wanted = [29.8, 46.2, 31.7, 11.1, 32.6, 48.0]
    assert reference_figures(truth, rows, "detection")[:6] == pytest.approx(wanted, abs=0.06)


@needs_weights
def test_rows_are_coco_results_best_first_within_the_image(detector: YoloxNano) -> None:
    dataset = Coco.open(data_root=SHARED / "coco")
    image = dataset.images[0].read()
    rows = detector.predict(image)
    assert 0 < len(rows) <= 100
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    for row in rows:
        assert set(row) == {"category_id", "bbox", "score"}
        assert row["category_id"] in CATEGORIES
        x, y, width, height = row["bbox"]
        assert min(x, y, width, height) >= 0
        assert x + width <= image.shape[1] + 1e-3
        assert y + height <= image.shape[0] + 1e-3
        assert 0.001 < row["score"] <= 1
    json.dumps(rows)


@needs_weights
def test_predictions_repeat_and_leave_the_image_alone(detector: YoloxNano) -> None:
    image = noise(120, 99)
    copy = image.copy()
    image.setflags(write=False)
    assert detector.predict(image) == detector.predict(image) == YoloxNano(weights=WEIGHTS).predict(copy)
    assert np.array_equal(image, copy)


@needs_weights
@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (3, 5), (63, 65), (2, 3000), (1500, 1)])
def test_odd_sizes_are_taken(detector: YoloxNano, shape: tuple[int, int]) -> None:
    for image in (noise(*shape), np.zeros((*shape, 3), np.uint8)):
        for row in detector.predict(image):
            assert 0 <= row["bbox"][0] <= shape[1]
            assert 0 <= row["bbox"][1] <= shape[0]


@needs_weights
def test_colour_order_matters(detector: YoloxNano) -> None:
    image = Coco.open(data_root=SHARED / "coco").images[3].read()
    assert detector.predict(image) != detector.predict(np.ascontiguousarray(image[:, :, ::-1]))


@needs_weights
def test_enlarged_image_has_the_same_boxes_enlarged(detector: YoloxNano) -> None:
    image = Coco.open(data_root=SHARED / "coco").images[0].read()
    size = (image.shape[1] * 2, image.shape[0] * 2)
    larger = np.asarray(PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BICUBIC))
    best, best_of_larger = detector.predict(image)[0], detector.predict(larger)[0]
    assert best_of_larger["category_id"] == best["category_id"]
    assert best_of_larger["bbox"] == pytest.approx([2 * side for side in best["bbox"]], rel=0.1, abs=10)


@needs_weights
def test_version_names_runtime_and_weights(detector: YoloxNano) -> None:
    import onnxruntime

    # sha256sum yolox_nano_coco80.onnx | cut -c 1-12
    assert detector.version().startswith(f"onnxruntime {onnxruntime.__version__}, ")
    assert "weights e8af074932d4" in detector.version()
    assert isinstance(detector, Detector)


@needs_weights
def test_device_that_is_absent_or_unknown_is_an_error() -> None:
    import onnxruntime

    with pytest.raises(DetectorError, match="knows no device 'tpu'; use cpu or cuda"):
        YoloxNano(weights=WEIGHTS, device="tpu")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(DetectorError, match="no CUDAExecutionProvider; install onnxruntime-gpu"):
            YoloxNano(weights=WEIGHTS, device="cuda")


def test_weights_that_are_missing_or_foreign_are_errors(tmp_path: Path) -> None:
    with pytest.raises(
        DetectorError, match=r"detector 'yolox': needs the weights .*; give --detector-weights FILE"
    ):
        YoloxNano()
    with pytest.raises(DetectorError, match="the weights cannot be read"):
        YoloxNano(weights=tmp_path / "absent.onnx")
    for content in (b"", b"no model", bytes(1000)):
        (tmp_path / "a.onnx").write_bytes(content)
        with pytest.raises(DetectorError, match=r"a\.onnx: the (weights are not an ONNX model|model takes)"):
            YoloxNano(weights=tmp_path / "a.onnx")


@needs_weights
@pytest.mark.parametrize("share", [0.3, 0.999])
def test_truncated_weights_are_an_error(tmp_path: Path, share: float) -> None:
    data = WEIGHTS.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: int(share * len(data))])
    with pytest.raises(DetectorError, match=r"cut\.onnx: "):
        YoloxNano(weights=tmp_path / "cut.onnx")


def test_model_of_another_shape_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(identity_model())
    with pytest.raises(
        DetectorError, match="which is not YOLOX-Nano at 416x416; give the ONNX file of YOLOX-Nano"
    ):
        YoloxNano(weights=tmp_path / "other.onnx")


def identity_model() -> bytes:
    """An ONNX model of one Identity node on a float vector of 2, in protocol-buffer bytes written by hand."""

    def tagged(number: int, payload: bytes | int) -> bytes:
        if isinstance(payload, int):
            return bytes([number << 3, payload])
        return bytes([number << 3 | 2, len(payload)]) + payload

    def value(name: bytes) -> bytes:
        shape = tagged(1, tagged(1, 2))
        return tagged(1, name) + tagged(2, tagged(1, tagged(1, 1) + tagged(2, shape)))

    node = tagged(1, b"x") + tagged(2, b"y") + tagged(4, b"Identity")
    graph = tagged(1, node) + tagged(2, b"g") + tagged(11, value(b"x")) + tagged(12, value(b"y"))
    return tagged(1, 8) + tagged(7, graph) + tagged(8, tagged(1, b"") + tagged(2, 13))


def test_absent_runtime_is_an_error_that_names_the_extra() -> None:
    code = """
import sys
sys.modules["onnxruntime"] = None
from pathlib import Path
from icm_bench.detectors.yolox import YoloxNano
from icm_bench.error import DetectorError
try:
    YoloxNano(weights=Path("any.onnx"))
except DetectorError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "detector 'yolox': ONNX Runtime is not installed; run pip install icm-bench[onnx]\n"


def test_categories_are_cocos() -> None:
    assert len(CATEGORIES) == 80
    assert list(CATEGORIES) == sorted(CATEGORIES)
    if SHARED.is_dir():
        truth: dict[str, Any] = json.loads(
            (SHARED / "coco" / "annotations" / "instances_val2017.json").read_text()
        )
        assert {row["id"]: row["name"] for row in truth["categories"]} == dict(CATEGORIES)
