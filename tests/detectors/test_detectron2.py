"""detectron2's zoo: all that needs no detectron2, and, where it is installed, its own predictions."""

from __future__ import annotations

import collections
import hashlib
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor, nn

from icm_bench.datasets.cityscapes import Cityscapes
from icm_bench.datasets.cityscapes_category import CATEGORIES as CITYSCAPES
from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.detector import Detector
from icm_bench.detectors.array_pickle import read_pickled_state
from icm_bench.detectors.detectron2 import ZOO, Detectron2, _completed, fetch_weights, read_weights
from icm_bench.error import DetectorError, DownloadError, UsageError
from icm_bench.image import Image, read_image
from icm_bench.network.checkpoint import Checkpoint
from icm_bench.network.pickle_guard import RefusedPickleError
from icm_bench.pipeline.job import DetectorChoice
from icm_bench.spec import Spec
from icm_bench.testing import check_detector, photograph

STATE: dict[str, NDArray[Any]] = {
    "head.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "head.bias": np.array([0.5, -0.5], dtype=np.float32),
}


def choose(text: str, weights: Path | None = None) -> Any:
    """Make the detector as a run does."""
    return DetectorChoice(Spec.parse(text), weights).create("cpu")


# Names


def test_every_detector_of_coco_is_named_with_what_is_published_of_it() -> None:
    families = collections.Counter(name.partition("_R_")[0].partition("_X_")[0] for name in ZOO)
    assert families == {"faster_rcnn": 10, "mask_rcnn": 11, "retinanet": 3}
    assert ZOO["faster_rcnn_R_50_FPN_3x"].published == {"detection": 40.2}
    assert ZOO["mask_rcnn_R_50_FPN_3x"].published == {"detection": 41.0, "segmentation": 37.2}
    assert ZOO["mask_rcnn_X_101_32x8d_FPN_3x"].published == {"detection": 44.3, "segmentation": 39.5}
    for name, model in ZOO.items():
        assert model.config.endswith(f"/{name}.yaml")
        assert model.folder == "Cityscapes" or set(model.published) == set(model.tasks)


def test_the_model_of_cityscapes_names_the_datasets_categories_and_has_no_figure_on_coco() -> None:
    model = ZOO["mask_rcnn_R_50_FPN"]
    assert model.config == "Cityscapes/mask_rcnn_R_50_FPN.yaml"
    assert dict(model.categories) == dict(CITYSCAPES)
    assert model.tasks == ("detection", "segmentation")
    assert not model.published
    assert set(Cityscapes.default_detectors.values()) == {f"detectron2:{model.name}"}


def test_a_variant_that_is_misspelt_or_missing_is_an_error_that_names_one() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'faster_rcnn_R_50_FPN_3x'\?"):
        choose("detectron2:faster_rcnn_R50_FPN_3x")
    with pytest.raises(UsageError, match="choose one, for instance detectron2:faster_rcnn_R_50_FPN_3x"):
        choose("detectron2")


# detectron2 absent, broken, or not asked for


def test_absent_detectron2_is_one_line_that_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("detectron2.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(DetectorError) as caught:
        choose("detectron2:faster_rcnn_R_50_FPN_3x")
    assert "detector 'detectron2': detectron2 is not installed; install it as https://" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_detectron2_is_imported_when_it_is_used_and_its_failure_is_told(tmp_path: Path) -> None:
    package = tmp_path / "detectron2"
    package.mkdir()
    (package / "__init__.py").write_text("print('imported')\nraise ImportError('no libcudart\\nanywhere')")
    script = """
from icm_bench import registry
from icm_bench.error import IcmBenchError
detector = registry.load("detector", "detectron2")
print(detector.name, detector.tasks)
try:
    detector(variant="retinanet_R_50_FPN_3x")
except IcmBenchError as error:
    print(error)
"""
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    lines = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout.splitlines()
    assert lines[:2] == ["detectron2 ('detection', 'segmentation')", "imported"]
    assert lines[2].startswith("detector 'detectron2': detectron2 cannot be imported (no libcudart")
    assert len(lines) == 3


# Weights in pickles


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
def test_arrays_of_any_protocol_are_read_as_the_unpickler_would(protocol: int, kind: type) -> None:
    state = kind(STATE)
    state["big-endian"] = np.array([1.5, -2.0], dtype=">f8")
    state["columns first"] = np.asfortranarray(np.arange(12.0, dtype=np.float32).reshape(3, 4))
    state["strided"] = np.arange(64)[::7]
    state["scalar"] = np.array(3, dtype=np.int64)
    state["empty"] = np.zeros((0, 3), dtype=np.float16)
    if kind is collections.OrderedDict:
        state._metadata = collections.OrderedDict({"": {"version": 1}})  # as torch's state dictionaries
    others = {"iteration": 90000, "note": ("a", [1.5, None, True], b"bytes", 2**80)}
    read = read_pickled_state(pickle.dumps({"model": state, **others}, protocol=protocol))
    assert list(read) == list(state)
    for name, values in state.items():
        assert read[name].dtype == values.dtype
        assert np.array_equal(read[name], values)
    assert read_pickled_state(pickle.dumps(dict(STATE), protocol=protocol)).keys() == STATE.keys()


@given(
    st.dictionaries(
        st.text(),
        arrays.arrays(
            st.sampled_from(["<f4", ">f4", "f8", "f2", "i8", "i4", "u1", "?"]),
            arrays.array_shapes(min_dims=0),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, pickle.HIGHEST_PROTOCOL),
)
@settings(deadline=None, max_examples=60)
def test_any_arrays_are_read_as_the_unpickler_would(state: dict[str, NDArray[Any]], protocol: int) -> None:
    data = pickle.dumps({"model": state}, protocol=protocol)
    read, wanted = read_pickled_state(data), pickle.loads(data)["model"]
    assert read.keys() == wanted.keys()
    for name, values in wanted.items():
        assert np.array_equal(read[name], values, equal_nan=values.dtype.kind == "f")
        # NumPy turns some into the machine's own order of bytes; the numbers are what counts.
        assert read[name].dtype.newbyteorder("=") == values.dtype.newbyteorder("=")


def test_pickles_of_python_2_and_of_numpy_2_are_read() -> None:
    # Python 2 wrote bytes and texts by one opcode, U, and an ordered dictionary as a list of pairs.
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08" + np.array([1.0, -2.5], dtype="<f4").tobytes() + b"tb"
    )
    python2 = b"\x80\x02}U\x05modelccollections\nOrderedDict\n]](U\x01w" + array + b"ea\x85Rs."
    assert pickle.loads(python2, encoding="latin1")["model"]["w"].tolist() == [1.0, -2.5]
    assert read_pickled_state(python2)["w"].tolist() == [1.0, -2.5]
    numpy1 = pickle.dumps({"model": STATE}, protocol=2)
    numpy2 = numpy1.replace(b"numpy.core.multiarray", b"numpy._core.multiarray")
    assert numpy1 != numpy2
    assert np.array_equal(read_pickled_state(numpy2)["head.bias"], STATE["head.bias"])


class Calling:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


OBJECTS: NDArray[Any] = np.array([Calling(os.mkdir, "evil-was-here")], dtype=object)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "content",
    [
        Calling(os.mkdir, "evil-was-here"),
        {"model": STATE, "__author__": Calling(os.mkdir, "evil-was-here")},
        {"model": {"w": Calling(os.mkdir, "evil-was-here")}},
        {"model": {"w": OBJECTS}},
        {"model": {"w": Calling(eval, "__import__('os').mkdir('evil-was-here')")}},
        {"model": {"w": Calling(getattr, STATE["head.bias"], "dtype")}},
        {"model": {"w": Calling(bytes, 10**12)}},
    ],
    ids=["alone", "beside the model", "in the model", "in an array", "eval", "getattr", "memory"],
)
def test_what_a_malicious_pickle_calls_is_not_called(
    content: Any, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(DetectorError, match=r"evil\.pkl: the weights are damaged, or hold more") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["evil.pkl"]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"cantigravity\nfly_geohashing\n(tR.", "it calls antigravity.fly_geohashing"),
        (b"cantigravity\nfly_geohashing\n.", "holds no model"),
        (b"(iantigravity\nfly\n.", "opcode INST"),
        (b"\x80\x02cantigravity\nFly\n)\x81.", "opcode NEWOBJ"),
        (b"Pname\n.", "opcode PERSID"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"cnumpy\nndarray\n}U\x01aK\x01sb.", "it changes numpy.ndarray"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\ntR.", "it calls numpy.core.multiarray._recon"),
        (b"}U\x05model]s.", "holds no model"),
        (b"}U\x01aK\x01s.", "a is no array"),
        (b"}K\x01K\x01s.", "has 1 for a name"),
        (b"]I1\n.", "holds no model"),
        (b"N0]I1\n.", "opcode POP"),
        (b"g7\n.", "damaged pickle"),
        (b"(", "damaged pickle"),
        (b"t.", "damaged pickle"),
        (b"\xff\xff\xff\xff", "damaged pickle"),
        (b"", "damaged pickle"),
        (b"(S'\\u'\nI1\nd.", "damaged pickle: invalid escape"),
        (b"version https://git-lfs.github.com/spec/v1\n", "damaged pickle|more than store"),
    ],
)
def test_what_is_no_store_of_arrays_is_refused_by_name(data: bytes, complaint: str) -> None:
    with pytest.raises(RefusedPickleError, match=complaint):
        read_pickled_state(data)
    assert "antigravity" not in sys.modules


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_damage_is_refused_or_changes_numbers_alone(data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps({"model": STATE}, protocol=data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))]) if data.draw(st.booleans()) else whole
    try:
        read = read_pickled_state(bytes(damaged))
    except RefusedPickleError:
        return
    assert all(isinstance(values, np.ndarray) and values.dtype != object for values in read.values())


@given(st.binary(max_size=200))
@example(b"\x80\x02" + b"(" * 5000)
@example(b"}.")
@settings(deadline=None, max_examples=300)
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedPickleError):
        read_pickled_state(data)


# Weights in files


def saved(path: Path, state: dict[str, NDArray[Any]], **others: Any) -> Path:
    tensors = {name: torch.from_numpy(values.copy()) for name, values in state.items()}
    match path.suffix:
        case ".pkl":
            path.write_bytes(pickle.dumps({"model": state, "__author__": "Nobody", **others}))
        case ".pth" if others:
            torch.save({"model": tensors, **others}, path)
        case ".pth":
            torch.save(tensors, path)
        case _:
            safetensors.torch.save_file(tensors, path)
    return path


@pytest.mark.parametrize("name", ["a.pkl", "a.pth", "a.safetensors"])
def test_weights_and_digest_are_read_from_any_kind_of_file(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, STATE)
    checkpoint = read_weights(path)
    assert checkpoint.state.keys() == STATE.keys()
    for key, tensor in checkpoint.state.items():
        assert torch.equal(tensor, torch.from_numpy(STATE[key]))
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_checkpoints_of_a_training_give_their_model(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", STATE, optimizer={"state": {0: torch.zeros(2)}}, iteration=89999)
    assert read_weights(path).state.keys() == STATE.keys()


def test_files_that_hold_no_weights_are_errors_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        DetectorError, match=r"'\.onnx' are not read; give a \.pkl, \.pt, \.pth or \.safetensors"
    ):
        read_weights(tmp_path / "a.onnx")
    torch.save({"model": {"w": Path()}}, tmp_path / "a.pth")
    with pytest.raises(DetectorError, match=r"a\.pth: the weights are damaged, or hold more") as caught:
        read_weights(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)
    infinite = {"w": np.array([np.inf], dtype=np.float32)}
    with pytest.raises(DetectorError, match="w holds numbers that are not finite"):
        read_weights(saved(tmp_path / "b.pkl", infinite))


def test_what_is_no_weight_is_dropped_and_what_early_files_leave_out_is_filled_in() -> None:
    norm = {
        f"norm.{name}": torch.full((2,), 7.0) for name in ("weight", "bias", "running_mean", "running_var")
    }
    early = {name: tensor for name, tensor in norm.items() if "running" not in name}
    surplus = {
        "pixel_mean": torch.zeros(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4),
        "anchor_generator.cell_anchors.4": torch.zeros(9, 4),
    }
    filled = _completed(Checkpoint(early | surplus, "0"), norm).state
    assert filled.keys() == norm.keys()
    assert filled["norm.running_mean"].tolist() == [0, 0]
    assert filled["norm.running_var"].tolist() == [1, 1]
    assert _completed(Checkpoint(norm | surplus, "0"), norm).state == norm
    # One that has lost a part of them is not an early file.
    del norm["norm.running_mean"]
    assert _completed(Checkpoint(norm, "0"), norm).state == norm


# Weights from the network


def published(path: Path) -> str:
    """Publish weights as the zoo does: with the first digits of their MD5 in the name, which is returned."""
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    return path.rename(path.with_name(f"model_final_{digest[:6]}.pkl")).name


def test_published_weights_are_fetched_once_and_checked_against_their_name(
    site: tuple[str, Path], tmp_path: Path
) -> None:
    url, folder = site
    name = published(saved(folder / "a.pkl", STATE))
    path = fetch_weights(f"{url}/{name}", "faster_rcnn_R_50_FPN_3x")
    assert path == tmp_path / "cache" / "detectron2" / "faster_rcnn_R_50_FPN_3x" / name
    assert read_weights(path).state.keys() == STATE.keys()
    (folder / name).unlink()
    assert fetch_weights(f"{url}/{name}", "faster_rcnn_R_50_FPN_3x") == path


def test_other_weights_than_were_published_are_refused_and_removed(
    site: tuple[str, Path], tmp_path: Path
) -> None:
    url, folder = site
    (folder / "model_final_280758.pkl").write_bytes(b"other")
    with pytest.raises(DownloadError, match="not the expected file"):
        fetch_weights(f"{url}/model_final_280758.pkl", "faster_rcnn_R_50_FPN_3x")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    with pytest.raises(DownloadError, match="does not tell their MD5"):
        fetch_weights(f"{url}/model_final.pkl", "faster_rcnn_R_50_FPN_3x")


# detectron2 itself

with_detectron2 = pytest.mark.skipif(find_spec("detectron2") is None, reason="detectron2 is not installed")
# Its own warnings and those of what it needs; with ours, every other test deals.
its_warnings = pytest.mark.filterwarnings("default")


def config_of(variant: str) -> Any:
    from detectron2 import model_zoo

    config = model_zoo.get_config(ZOO[variant].config)
    config.MODEL.DEVICE = "cpu"
    return config


def strip() -> Image:
    """A long strip, which is made 44 x 1333 pixels, where other shapes become several times as large."""
    coarse = np.random.default_rng(3).integers(0, 256, (3, 30, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.asarray(Pillow.fromarray(coarse).resize((300, 10))))


SPREADS = {
    "objectness_logits": 1.0,
    "anchor_deltas": 0.3,
    "cls_score": 3.0,
    "bbox_pred": 0.5,
    "predictor": 1.0,
}
"""How far the outputs of the last layers spread, so that there is something to find everywhere."""


def random_weights(variant: str, pixels: Image, path: Path) -> Path:
    """Write random weights as the zoo writes its own, scaled so that many scores pass the threshold."""
    from detectron2.engine import DefaultPredictor

    torch.manual_seed(7)
    config = config_of(variant)
    config.MODEL.WEIGHTS = ""
    predictor = DefaultPredictor(config)
    network = predictor.model
    for name, module in network.named_modules():
        if hasattr(module, "running_var"):
            once(module, standardise)
        elif (spread := SPREADS.get(name.rpartition(".")[2])) is not None and hasattr(module, "weight"):
            once(module, partial(rescale, spread=spread))
    predictor(np.ascontiguousarray(pixels[:, :, ::-1]))
    state = network.state_dict()
    if variant.startswith("retinanet"):
        state["head.cls_score.bias"].fill_(-6.0)
    else:
        state["roi_heads.box_predictor.cls_score.bias"][-1] = -20.0  # the background's
    return saved(path, {name: tensor.numpy() for name, tensor in state.items()})


def once(module: nn.Module, prepare: Callable[[nn.Module, Tensor], None]) -> None:
    """Prepare a module by its first input, before it sees it."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        handle.remove()
        prepare(module, inputs[0])

    handle = module.register_forward_pre_hook(hook)


def standardise(module: nn.Module, inputs: Tensor) -> None:
    module.get_buffer("running_mean").copy_(inputs.mean(dim=(0, 2, 3)))
    module.get_buffer("running_var").copy_(inputs.var(dim=(0, 2, 3)) + 0.01)


def rescale(module: nn.Module, inputs: Tensor, *, spread: float) -> None:
    outputs = module(inputs)
    if outputs.ndim == 2:  # of boxes, whose features have much in common in deep random networks
        outputs = outputs - outputs.mean(dim=0)
    module.get_parameter("weight").data.mul_(spread / outputs.std())
    if outputs.ndim == 2:
        module.get_parameter("bias").data.sub_(module(inputs).mean(dim=0))


def expected(variant: str, weights: Path, images: list[Image]) -> list[list[dict[str, Any]]]:
    """What detectron2's own predictor finds, as its own evaluation writes it down for COCO."""
    from detectron2.data import MetadataCatalog
    from detectron2.engine import DefaultPredictor
    from detectron2.evaluation.coco_evaluation import instances_to_coco_json

    config = config_of(variant)
    config.MODEL.WEIGHTS = str(weights)
    predictor = DefaultPredictor(config)
    numbering = MetadataCatalog.get(config.DATASETS.TEST[0]).thing_dataset_id_to_contiguous_id
    category_of = {contiguous: category for category, contiguous in numbering.items()}
    found = []
    for image in images:
        instances = predictor(np.ascontiguousarray(image[:, :, ::-1]))["instances"]
        rows = instances_to_coco_json(instances, 0)
        for row in rows:
            del row["image_id"]
            row["category_id"] = category_of[row["category_id"]]
        found.append(rows)
    return found


def check(variant: str, images: list[Image], folder: Path) -> None:
    weights = random_weights(variant, images[0], folder / "weights.pkl")
    detector = choose(f"detectron2:{variant}", weights)
    found = [detector.predict(image) for image in images]
    assert found == expected(variant, weights, images)
    weights.unlink()
    assert sum(map(len, found)) > 20 * len(images)
    assert len({row["category_id"] for rows in found for row in rows}) > 5
    assert max(map(len, found)) <= 100
    for row in chain(*found):
        assert row["score"] > 0.05
        assert ("segmentation" in row) == ("segmentation" in detector.tasks)


@with_detectron2
@its_warnings
@pytest.mark.slow
@pytest.mark.parametrize("variant", ZOO)
def test_each_model_predicts_what_detectron2s_own_predictor_does(variant: str, tmp_path: Path) -> None:
    check(variant, [strip()], tmp_path)


@with_detectron2
@its_warnings
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["faster_rcnn_R_50_FPN_3x", "mask_rcnn_R_50_FPN_3x"])
def test_photographs_give_detectron2s_own_boxes_and_masks(
    variant: str, tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    images = [read_image(path) for path in sorted(shared_data("coco/val2017").glob("*.jpg"))[:3]]
    check(variant, images, tmp_path)


@with_detectron2
@its_warnings
def test_zoo_and_categories_are_detectron2s() -> None:
    from detectron2.data import MetadataCatalog
    from detectron2.model_zoo import get_checkpoint_url
    from detectron2.model_zoo.model_zoo import _ModelZooUrls

    metadata = MetadataCatalog.get("coco_2017_val")
    named = zip(metadata.thing_dataset_id_to_contiguous_id, metadata.thing_classes, strict=True)
    assert dict(named) == CATEGORIES
    of_streets = MetadataCatalog.get("cityscapes_fine_instance_seg_val").thing_classes
    assert [CITYSCAPES[key] for key in sorted(CITYSCAPES)] == of_streets
    paths = [
        path
        for path in _ModelZooUrls.CONFIG_PATH_TO_URL_SUFFIX
        if path.startswith(("COCO-Detection/", "COCO-InstanceSegmentation/", "Cityscapes/"))
        and not path.startswith(("COCO-Detection/rpn_", "COCO-Detection/fast_rcnn_"))
    ]
    assert sorted(model.config for model in ZOO.values()) == sorted(f"{path}.yaml" for path in paths)
    for model in ZOO.values():
        assert get_checkpoint_url(model.config).endswith(".pkl")
        config = config_of(model.name)
        assert config.INPUT.FORMAT == "BGR"
        sizes = (1024, 2048) if model.folder == "Cityscapes" else (800, 1333)
        assert sizes == (config.INPUT.MIN_SIZE_TEST, config.INPUT.MAX_SIZE_TEST)
        assert config.TEST.DETECTIONS_PER_IMAGE == 100
        assert config.MODEL.ROI_HEADS.SCORE_THRESH_TEST == config.MODEL.RETINANET.SCORE_THRESH_TEST == 0.05
        assert ("segmentation" in model.tasks) == config.MODEL.MASK_ON


@with_detectron2
@its_warnings
def test_the_zoos_weights_are_fetched_where_detectron2_says(
    site: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detectron2.model_zoo.model_zoo import _ModelZooUrls

    url, folder = site
    variant = "mask_rcnn_R_50_FPN_3x"
    place = folder / "COCO-InstanceSegmentation" / variant / "137849600"
    place.mkdir(parents=True)
    name = published(random_weights(variant, strip(), place / "a.pkl"))
    monkeypatch.setattr(_ModelZooUrls, "S3_PREFIX", f"{url}/")
    suffixes = _ModelZooUrls.CONFIG_PATH_TO_URL_SUFFIX
    monkeypatch.setitem(suffixes, ZOO[variant].config.removesuffix(".yaml"), f"137849600/{name}")
    detector = choose(f"detectron2:{variant}")
    path = tmp_path / "cache" / "detectron2" / variant / name
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"weights {sha256[:12]}, cpu" in detector.version()
    assert re.match(
        r"detectron2 [0-9.]+\S*( \([0-9a-f]{12}\))?, torch .*, configuration ", detector.version()
    )
    assert detector.tasks == ("detection", "segmentation")
    assert detector.published == {"detection": 41.0, "segmentation": 37.2}
    assert detector.predict(strip())
    with pytest.raises(DetectorError, match="the network failed on an image of 5000x1"):
        detector.predict(np.zeros((1, 5000, 3), np.uint8))
    with pytest.raises(DetectorError, match=r"the weights are of another model .*missing"):
        choose("detectron2:retinanet_R_50_FPN_3x", path)
    with pytest.raises(DetectorError, match=r"the weights are of another model .*too many"):
        choose("detectron2:faster_rcnn_R_50_FPN_3x", path)


@with_detectron2
@its_warnings
@pytest.mark.slow
def test_detector_conforms(tmp_path: Path) -> None:
    variant = "mask_rcnn_R_50_FPN_3x"
    weights = random_weights(variant, photograph(320, 240, seed=7), tmp_path / "weights.pkl")
    check_detector(cast("type[Detector]", Detectron2), variant=variant, weights=weights)
