from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from icm_bench.error import CodecError, TrainingError, UsageError
from icm_bench.testing import photograph
from icm_codecs.bitstream.container import unpack
from icm_codecs.checkerboard.checkpoint import save_checkpoint
from icm_codecs.checkerboard.network import CheckerboardNetwork, CheckerboardShape
from icm_codecs.checkerboard.refine import _soft_gradient_round
from icm_codecs.icm.codec import Icm
from icm_codecs.training.teacher import OnnxTeacher, TeachersLoss
from tests.helpers.onnx_detector import write_detector

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGE = photograph(160, 128, seed=5)
RECIPE = """
codec = "checkerboard"
network = { fine = 8, wide = 12, groups = [4, 8], hyper = 4, hyper_wide = 8, hidden = 16, post = 4 }
loss = { lambdas = [0.001, 0.03, 1.0], structure = 0.0 }
"""
TASK = '[task]\nshare = 1.0\nscale = 0.1\nteachers = [{ onnx = "detector.onnx" }, { onnx = "other.onnx" }]\n'


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("onnx") / "detector.onnx")


def narrow(path: Path, **facts: str) -> str:
    """Write weights of an untrained network."""
    torch.manual_seed(1)
    shape = CheckerboardShape(3, fine=8, wide=12, groups=(4, 8), hyper=4, hyper_wide=8, hidden=16, post=4)
    save_checkpoint(CheckerboardNetwork(shape, (0.001, 0.03, 1.0)), path, facts, (0.0, 2.0))
    return str(path)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights that were trained through two detectors, by their recipe."""
    path = tmp_path_factory.mktemp("weights") / "taught.safetensors"
    return narrow(path, recipe=RECIPE + TASK, detectors="detector,other")


@given(st.floats(-50.0, 50.0, width=32))
def test_forward_rounds_and_the_gradient_is_greatest_where_a_whole_number_changes(x: float) -> None:
    values = torch.tensor([x, np.floor(x) + 0.5, np.floor(x)], dtype=torch.float32, requires_grad=True)
    rounded = _soft_gradient_round(values)
    assert torch.allclose(rounded[:1], torch.round(values[:1]), atol=1e-4)
    (slope,) = torch.autograd.grad(rounded.sum(), [values])
    assert 1.001 * slope[1] >= slope[0] > 0.0
    assert slope[1] > 3.0 * slope[2]


def test_teachers_see_more_in_a_refined_image_and_any_decoder_reads_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    # By its name it is one of the detectors that the shipped weights were trained through.
    path = write_detector(tmp_path / "deimv2_femto_coco80.onnx")
    loss = TeachersLoss([OnnxTeacher(path)], sizes=(320,))

    def lost(codec: Icm) -> float:
        pixels = (codec.decode(codec.encode(IMAGE)), IMAGE)
        decoded, image = (torch.tensor(one).permute(2, 0, 1)[None] / 255.0 for one in pixels)
        return float(loss(decoded, image, torch.ones_like(image[:, :1]), 0))

    plain = Icm(6, objective="detection")
    refined = Icm(6, objective="detection", refine=8, teachers=str(path))
    data = refined.encode(IMAGE)
    assert len(data) < 1.05 * len(plain.encode(IMAGE))
    assert lost(refined) < 0.9 * lost(plain)
    assert refined.encode(IMAGE) == data
    np.testing.assert_array_equal(plain.decode(data), refined.decode(data))


def test_hyper_latent_is_that_of_the_image_as_it_was(taught: str, detector: Path) -> None:
    plain, refined = Icm(2, weights=taught), Icm(2, weights=taught, refine=2, teachers=str(detector))
    hypers = []
    for codec in (plain, refined):
        hypers.append(codec._coder.entropy_decode(unpack(codec.encode(IMAGE))).hyper)
    assert torch.equal(*hypers)


def test_image_too_small_for_the_loss_is_coded_as_it_is(taught: str, detector: Path) -> None:
    small = photograph(200, 100)
    refined = Icm(1, weights=taught, refine=2, teachers=str(detector))
    assert refined.encode(small) == Icm(1, weights=taught).encode(small)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"refine": 3}, "give teachers=FILE, one of detector.onnx, other.onnx"),
        ({"refine": 3, "teachers": "strange.onnx"}, "not trained through strange.onnx"),
        ({"refine": -1}, "choose refine=1 to 1000"),
        ({"refine": 1001}, "choose refine=1 to 1000"),
        ({"teachers": "detector.onnx"}, "choose refine=1 to 1000"),
    ],
)
def test_impossible_refinement_is_refused(taught: str, options: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        Icm(1, weights=taught, **options).load()


def test_missing_teacher_is_named_before_anything_is_coded(taught: str, tmp_path: Path) -> None:
    codec = Icm(1, weights=taught, refine=3, teachers=str(tmp_path / "detector.onnx"))
    with pytest.raises(UsageError, match=r"detector\.onnx: cannot be read"):
        codec.version()
    with pytest.raises(TrainingError, match=r"detector\.onnx"):
        codec.load()


def test_weights_that_no_recipe_comes_with_and_those_for_scenes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="no recipe"):
        Icm(1, weights=narrow(tmp_path / "bare.safetensors"), refine=3).load()
    with pytest.raises(UsageError, match="cannot be refined"):
        Icm(1, domain="scenes", objective="detection", refine=3).load()
    with pytest.raises(UsageError, match="were trained through no detector"):
        Icm(1, objective="mse", refine=3, teachers="detector.onnx").load()


def test_results_tell_refined_streams_apart(taught: str, detector: Path) -> None:
    plain, refined = Icm(2, weights=taught), Icm(2, weights=taught, refine=2, teachers=str(detector))
    assert refined.version().startswith(f"{plain.version()}, refinement 1, detector ")
    assert refined.trained_through() == ("detector", "other")
    assert Icm.label({"objective": "detection", "refine": "2"}) == "icm, refined"
    shared = Icm(2, objective="segmentation", refine=2, teachers="a.onnx+b.onnx").coded_as()
    assert shared == ("icm:domain=photos:objective=detection:refine=2:teachers=a.onnx+b.onnx", 2)
