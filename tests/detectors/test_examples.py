"""The example detectors, installed as a third party's package would be."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from icm_bench import registry
from icm_bench.datasets.coco import Coco
from icm_bench.error import DetectorError
from icm_bench.metrics.evaluation import evaluation_of
from icm_bench.pipeline.job import DetectorChoice
from icm_bench.spec import Spec
from icm_bench.testing import check_detector
from tests.helpers.accuracy import found_in
from tests.helpers.plugin import distribute, import_from
from tests.helpers.small_run import run_in

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

EXAMPLES = Path(__file__).parents[2] / "examples" / "detectors"
SHARED = Path(__file__).parents[3] / "shared" / "data"
DETECTORS = SHARED / "detectors"
needs_files = pytest.mark.skipif(
    not DETECTORS.is_dir(), reason="exported detectors are not beside the checkout"
)

REFERENCES = {"centernet_mobilenetv3": (27.7, 47.5), "nanodet_g": (27.1, 43.4)}
"""AP and AP50 on the 100 validation images, measured by other code."""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the examples by what their pyproject.toml says."""
    project = tomllib.loads((EXAMPLES / "pyproject.toml").read_text())["project"]
    site = distribute(tmp_path / "plugins", project["name"], project["entry-points"], project["version"])
    import_from(monkeypatch, site, EXAMPLES)


def test_examples_are_found_by_name() -> None:
    assert set(REFERENCES) <= set(registry.names("detector"))
    for name in REFERENCES:
        assert registry.load("detector", name).name == name
        assert registry.provider("detector", name) == "icm-bench-example-detectors"
        with pytest.raises(DetectorError, match=f"detector '{name}': needs the weights as an ONNX file"):
            DetectorChoice(Spec.parse(name)).create("cpu")


@needs_files
def test_a_network_of_another_kind_is_refused() -> None:
    for name in REFERENCES:
        choice = DetectorChoice(Spec.parse(name), DETECTORS / "yolox_nano_coco80.onnx")
        with pytest.raises(
            DetectorError, match=r"the model takes images .*, which is not (CenterNet|NanoDet-g)"
        ):
            choice.create("cpu")


@needs_files
@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCES)
def test_accuracy_on_the_validation_images_is_the_one_measured_elsewhere(name: str) -> None:
    dataset = Coco.open(data_root=SHARED / "coco")
    detector = DetectorChoice(Spec.parse(name), DETECTORS / f"{name}_coco80.onnx").create("cpu")
    evaluation, rows = evaluation_of(dataset), found_in(dataset.images, detector.predict)
    found = evaluation.score(evaluation.read(dataset.ground_truth or {}), rows, "detection").metrics()
    assert (found["map"], found["map50"]) == pytest.approx(REFERENCES[name], abs=0.3)


@needs_files
@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCES)
def test_the_contract_is_kept(name: str) -> None:
    check_detector(registry.load("detector", name), weights=DETECTORS / f"{name}_coco80.onnx")


@needs_files
def test_a_run_takes_them_like_ours(tmp_path: Path) -> None:
    summary = run_in(
        Coco.open(data_root=SHARED / "coco").limit(2),
        tmp_path,
        codecs=["jpeg"],
        detector="nanodet_g",
        weights=DETECTORS / "nanodet_g_coco80.onnx",
        qualities=["jpeg=80"],
    )
    assert summary.results[0].detector == "nanodet_g"
    assert summary.n_detected == 4
