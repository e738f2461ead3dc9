"""Exported detectors: hand-made outputs through every layout, what is refused, and accuracy on real photographs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pycocotools.mask
import pytest
from numpy.typing import NDArray

from icm_bench.dataset import Dataset
from icm_bench.datasets.coco import Coco
from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.detector import Detector, Prediction
from icm_bench.detectors.onnx import Onnx
from icm_bench.detectors.yolox import YoloxNano
from icm_bench.error import DetectorError, UsageError
from icm_bench.metrics.evaluation import evaluation_of
from icm_bench.pipeline.runner import run
from icm_bench.testing import check_detector
from tests.helpers.accuracy import found_in
from tests.helpers.small_run import run_in

onnx = pytest.importorskip("onnx", reason="the extra 'train' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

SHARED = Path(__file__).parents[3] / "shared" / "data"
DETECTORS = SHARED / "detectors"
needs_files = pytest.mark.skipif(
    not DETECTORS.is_dir(), reason="exported detectors are not beside the checkout"
)

HEIGHT, WIDTH = 64, 96
N_CELLS = 8 * 12 + 4 * 6 + 2 * 3
IMAGES: dict[str, tuple[tuple[int | str, ...], str]] = {"images": ((1, 3, HEIGHT, WIDTH), "float")}
SIZES: dict[str, tuple[tuple[int | str, ...], str]] = {"orig_target_sizes": ((1, 2), "int64")}
LANDSCAPE = np.zeros((128, 192, 3), np.uint8)  # twice the input's size: every fit scales by a half

TYPES = {"float": 1, "uint8": 2, "int32": 6, "int64": 7, "float16": 10}

Inputs = Mapping[str, tuple[tuple[int | str, ...], str]]


def constant_model(inputs: Inputs, outputs: Mapping[str, NDArray[Any]]) -> bytes:
    """An ONNX model that returns the same arrays for every input."""
    made = onnx.helper
    graph = made.make_graph(
        [made.make_node("Identity", [f"{name}_value"], [name]) for name in outputs],
        "constant",
        [made.make_tensor_value_info(name, TYPES[kind], shape) for name, (shape, kind) in inputs.items()],
        [
            made.make_tensor_value_info(name, made.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in outputs.items()
        ],
        [onnx.numpy_helper.from_array(array, f"{name}_value") for name, array in outputs.items()],
    )
    model = made.make_model(graph, ir_version=8, opset_imports=[made.make_opsetid("", 13)])
    return bytes(model.SerializeToString())


def make(folder: Path, inputs: Inputs, outputs: Mapping[str, NDArray[Any]], **options: Any) -> Onnx:
    file = folder / "model.onnx"
    file.write_bytes(constant_model(inputs, outputs))
    return Onnx(weights=file, **options)


def cells(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.float32]:
    """The cells' column, row and stride, n x 3."""
    rows = [
        (x, y, stride)
        for stride in (8, 16, 32)
        for y in range(height // stride)
        for x in range(width // stride)
    ]
    return np.array(rows, np.float32)


def yolox_output() -> NDArray[np.float32]:
    """Three boxes: a bus, a worse bus over it, and a cat at a coarser stride."""
    output = np.zeros((1, N_CELLS, 85), np.float32)
    output[..., :2] = 0.5
    # Column 3, row 2 of stride 8: centre (28, 20), 16 x 8.
    output[0, 27, :5] = (0.5, 0.5, np.log(2), 0.0, 0.8)
    output[0, 27, 5 + 5] = 0.5
    output[0, 28, :5] = (-0.5, 0.5, np.log(2), 0.0, 0.6)
    output[0, 28, 5 + 5] = 0.5
    # Column 1, row 1 of stride 16: centre (20, 28), 16 x 48.
    output[0, 96 + 7, :5] = (0.25, 0.75, 0.0, np.log(3), 0.5)
    output[0, 96 + 7, 5 + 15] = 0.5
    return output


YOLOX_ROWS = [
    {"category_id": 6, "bbox": [40, 32, 32, 16], "score": 0.4},
    {"category_id": 17, "bbox": [24, 8, 32, 96], "score": 0.25},
]


def yolo_output(n_coefficients: int = 0) -> NDArray[np.float32]:
    """The same boxes as columns: decoded, in pixels of the input."""
    output = np.zeros((1, 84 + n_coefficients, N_CELLS), np.float32)
    place = cells()
    output[0, :2] = ((place[:, :2] + 0.5) * place[:, 2:]).T
    output[0, 2:4] = place[:, 2]
    output[0, 2:4, 27] = (16, 8)
    output[0, 4 + 5, 27] = 0.4
    output[0, :4, 28] = (28, 20, 16, 8)
    output[0, 4 + 5, 28] = 0.3
    output[0, :4, 96 + 7] = (20, 28, 16, 48)
    output[0, 4 + 15, 96 + 7] = 0.25
    return output


def final_outputs() -> dict[str, NDArray[Any]]:
    """Labels, boxes in pixels of the input, and scores, out of order."""
    return {
        "labels": np.array([[15, 5, 0]], np.int64),
        "boxes": np.array([[[12, 4, 28, 52], [20, 16, 36, 24], [0, 0, 0, 0]]], np.float32),
        "scores": np.array([[0.25, 0.4, 0.0]], np.float32),
    }


def assert_rows(found: list[Prediction], wanted: list[Prediction]) -> None:
    assert [row["category_id"] for row in found] == [row["category_id"] for row in wanted]
    for row, expected in zip(found, wanted, strict=True):
        assert row["bbox"] == pytest.approx(expected["bbox"], abs=1e-3)
        assert row["score"] == pytest.approx(expected["score"], abs=1e-6)


@pytest.mark.parametrize("layout", [None, "yolox"])
def test_yolox_boxes_are_offsets_from_their_cells(tmp_path: Path, layout: Any) -> None:
    detector = make(tmp_path, IMAGES, {"output": yolox_output()}, layout=layout)
    assert detector.tasks == ("detection",)
    assert detector.categories == CATEGORIES
    assert_rows(detector.predict(LANDSCAPE), YOLOX_ROWS)


@pytest.mark.parametrize("units", ["pixels", "shares of the input"])
def test_yolox_boxes_that_are_decoded_are_recognised(tmp_path: Path, units: str) -> None:
    output, place = yolox_output(), cells()
    output[0, :, :2] = (output[0, :, :2] + place[:, :2]) * place[:, 2:]
    output[0, :, 2:4] = np.exp(output[0, :, 2:4]) * place[:, 2:]
    if units != "pixels":
        output[0, :, :4] /= (WIDTH, HEIGHT, WIDTH, HEIGHT)
    detector = make(tmp_path, IMAGES, {"output": output})
    assert f"layout yolox with boxes decoded to {units} by its graph" in detector.version()
    assert_rows(detector.predict(LANDSCAPE), YOLOX_ROWS)


@pytest.mark.parametrize("cells_first", [False, True])
def test_yolo_boxes_are_centre_and_size(tmp_path: Path, cells_first: bool) -> None:
    output = yolo_output()
    detector = make(tmp_path, IMAGES, {"output0": output.transpose(0, 2, 1) if cells_first else output})
    assert detector.tasks == ("detection",)
    assert_rows(detector.predict(LANDSCAPE), YOLOX_ROWS)


@pytest.mark.parametrize("reverse", [False, True])
def test_yolo_masks_are_prototypes_weighed_inside_the_box(tmp_path: Path, reverse: bool) -> None:
    prototypes = np.zeros((1, 2, HEIGHT // 4, WIDTH // 4), np.float32)
    prototypes[0, 0, :, :7] = 1.0  # the left of the bus: its box is 5 to 9 prototype cells across
    prototypes[0, 1] = 1.0
    output = yolo_output(2)
    output[0, 84:, 27] = (20.0, -10.0)
    output[0, 84:, 96 + 7] = (0.0, 10.0)
    outputs = {"output0": output, "output1": prototypes}
    detector = make(tmp_path, IMAGES, dict(reversed(outputs.items())) if reverse else outputs)
    assert detector.tasks == ("detection", "segmentation")
    bus, cat = detector.predict(LANDSCAPE)
    masks = [pycocotools.mask.decode(row["segmentation"]).astype(bool) for row in (bus, cat)]
    wanted = np.zeros((2, 128, 192), bool)
    wanted[0, 32:48, 40:56] = True  # 7 cells of 8 image pixels
    wanted[1, 8:104, 24:56] = True
    assert np.array_equal(masks, wanted)


def test_masks_follow_the_letterbox(tmp_path: Path) -> None:
    prototypes = np.ones((1, 1, HEIGHT // 4, WIDTH // 4), np.float32)
    output = yolo_output(1)
    output[0, 84, 27] = 10.0
    detector = make(tmp_path, IMAGES, {"output0": output, "output1": prototypes})
    # The image takes columns 32 to 64 of the input, so that the bus, columns 20 to 36, is cut at its left edge.
    bus = detector.predict(np.zeros((128, 64, 3), np.uint8))[0]
    assert bus["bbox"] == pytest.approx([0, 32, 8, 16])
    mask = pycocotools.mask.decode(bus["segmentation"])
    assert mask.shape == (128, 64)
    assert mask[32:48, :8].all()
    assert mask.sum() == 8 * 16


def test_detr_takes_the_best_without_suppression(tmp_path: Path) -> None:
    outputs = final_outputs()
    outputs["boxes"][0, 2] = outputs["boxes"][0, 1]
    outputs["labels"][0, 2] = 5
    outputs["scores"][0, 2] = 0.3
    detector = make(tmp_path, IMAGES | SIZES, outputs)
    assert "layout detr by its graph, 96x64 stretch, rgb 0-1, score 0, nms 1," in detector.version()
    rows = detector.predict(LANDSCAPE)
    assert_rows(rows, [YOLOX_ROWS[0], YOLOX_ROWS[0] | {"score": 0.3}, YOLOX_ROWS[1]])
    capped = make(tmp_path, IMAGES | SIZES, outputs, max_detections=2, nms=0.5)
    assert_rows(capped.predict(LANDSCAPE), YOLOX_ROWS)


def test_nms_takes_three_outputs_two_or_one(tmp_path: Path) -> None:
    three = final_outputs()
    scored = np.concatenate([three["boxes"], three["scores"][..., None]], axis=2)
    one = np.concatenate([scored, three["labels"][..., None]], axis=2).astype(np.float32)
    without_batch = {name: array[0] for name, array in three.items()}
    for outputs in (three, without_batch, {"dets": scored, "labels": three["labels"]}, {"output0": one}):
        detector = make(tmp_path, IMAGES, outputs)
        assert "layout nms by its graph, 96x64 letterbox-centre 114" in detector.version()
        assert_rows(detector.predict(LANDSCAPE), YOLOX_ROWS)


def test_nms_of_free_size_takes_each_image_as_it_is(tmp_path: Path) -> None:
    outputs = {name: array[0] for name, array in final_outputs().items()}
    outputs["labels"] = np.array([17, 6, 1])
    for axes in ((3, "h", "w"), (1, 3, "h", "w")):
        detector = make(tmp_path, {"x": (axes, "float")}, outputs, categories="coco91")
        rows = detector.predict(LANDSCAPE)
        assert [row["category_id"] for row in rows] == [6, 17]
        assert rows[0]["bbox"] == pytest.approx([20, 16, 16, 8])
        assert "the image's own size, rgb 0-1" in detector.version()


def test_no_detection_is_no_row(tmp_path: Path) -> None:
    for n in (0, 1):
        outputs: dict[str, NDArray[Any]] = {
            "labels": np.zeros((n, 0), np.int64),
            "boxes": np.zeros((n, 0, 4), np.float32),
            "scores": np.zeros((n, 0), np.float32),
        }
        assert make(tmp_path, IMAGES, outputs).predict(LANDSCAPE) == []


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((1, HEIGHT, WIDTH, 3), "float"), ((1, 3, HEIGHT, WIDTH), "float16"), ((1, 3, HEIGHT, WIDTH), "uint8")],
)
def test_other_orders_and_types_of_input_are_fed(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    detector = make(tmp_path, {"images": (shape, kind)}, {"output0": yolo_output()})
    assert_rows(detector.predict(LANDSCAPE), YOLOX_ROWS)
    assert ("rgb 0-255" if kind == "uint8" else "rgb 0-1") in detector.version()
    if kind == "uint8":
        for options in ({"pixel_max": 1}, {"mean": "1,1,1"}, {"std": "1,2,1"}):
            with pytest.raises(UsageError, match="takes bytes; leave out pixel_max, mean and std"):
                make(tmp_path, {"images": (shape, kind)}, {"output0": yolo_output()}, **options)


def test_options_change_what_is_kept_and_what_is_fed(tmp_path: Path) -> None:
    detector = make(
        tmp_path,
        {"images": ((1, 3, "h", "w"), "float")},
        {"output0": yolo_output()},
        size=f"{HEIGHT}x{WIDTH}",
        fit="stretch",
        channels="bgr",
        pixel_max=255,
        mean="103.5,116,123",
        std="57,57,58",
        score=0.28,
        nms=1.0,
    )
    assert [row["score"] for row in detector.predict(LANDSCAPE)] == pytest.approx([0.4, 0.3])
    stretched = detector.predict(np.zeros((64, 960, 3), np.uint8))[0]
    assert stretched["bbox"] == pytest.approx([200, 16, 160, 8])
    assert (
        "layout yolo by its graph, 96x64 stretch, bgr 0-255, mean 103.5/116/123, std 57/57/58, score 0.28, nms 1, "
        "at most 100, coco80, cpu"
    ) in detector.version()


def damaged(kind: str) -> tuple[Inputs, dict[str, NDArray[Any]]]:
    """Outputs of the right shapes that are not what their layout says."""
    yolox, yolo, final = yolox_output(), yolo_output(), final_outputs()
    place = cells()
    many = np.arange(24, dtype=np.float32)
    crowd = np.stack([many / 30, many / 30, many / 30 + 0.1, many / 30 + 0.1], axis=1)[None]
    crowd_outputs = {
        "labels": np.zeros((1, 24), np.int64),
        "boxes": crowd,
        "scores": np.full((1, 24), 0.5, np.float32),
    }
    match kind:
        case "yolox corners":
            centre = (yolox[0, :, :2] + place[:, :2]) * place[:, 2:]
            yolox[0, :, :2], yolox[0, :, 2:4] = centre - 16 * place[:, 2:], centre + 16 * place[:, 2:]
        case "yolox logits":
            yolox[..., 4:] -= 3.0
        case "yolox noise":
            yolox[..., :2] = np.random.default_rng(1).uniform(-900, 900, (1, N_CELLS, 2))
        case "yolo shares":
            yolo[0, :4] /= np.array([[WIDTH], [HEIGHT], [WIDTH], [HEIGHT]])
        case "yolo corners":
            yolo[0, :2], yolo[0, 2:4] = yolo[0, :2] - yolo[0, 2:4] / 2, yolo[0, :2] + yolo[0, 2:4] / 2
        case "yolo logits":
            yolo[0, 4:] = -4.0
        case "detr shares" | "nms shares":
            final = crowd_outputs
        case "detr centres":
            final["boxes"][..., :] = (50, 30, 10, 10)
        case "detr logits":
            final["scores"][...] = (4.0, -2.0, 0.5)
        case "detr labels":
            final["labels"][0, 0] = 80
        case "nms negative label":
            final["labels"][0, 0] = -1
    if kind.startswith("yolox"):
        return IMAGES, {"output": yolox}
    if kind.startswith("yolo"):
        return IMAGES, {"output": yolo}
    return IMAGES | (SIZES if kind.startswith("detr") else {}), final


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("yolox corners", "yolox .*its boxes are far from their cells"),
        ("yolox noise", "yolox .*its boxes are far from their cells"),
        ("yolox logits", "yolox .*its scores run from -3 to -2.2, so that they are no probabilities"),
        ("yolo shares", "yolo .*not around their cells, as centre and size in pixels"),
        ("yolo corners", "yolo .*its boxes (stick far out of the input|are not around their cells)"),
        ("yolo logits", "yolo .*its scores run from -4 to -4, so that they are no probabilities"),
        ("detr shares", "detr .*its boxes are shares of the input, not pixels"),
        ("detr centres", "detr .*right or bottom edge is before their left or top"),
        ("detr logits", "detr .*its scores run from -2 to 4"),
        ("detr labels", "detr .*labels from 5 to 80 instead of 0 to 79"),
        ("nms shares", "nms .*its boxes are shares of the input, not pixels"),
        ("nms negative label", "nms .*labels from -1 to 5 instead"),
    ],
)
def test_outputs_of_the_right_shape_and_the_wrong_meaning_are_refused(
    tmp_path: Path, kind: str, complaint: str
) -> None:
    with pytest.raises(DetectorError, match=complaint) as caught:
        make(tmp_path, *damaged(kind))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("detector 'onnx': the network's outputs are not of the layout ")


def test_a_few_boxes_that_end_before_they_begin_are_left_out(tmp_path: Path) -> None:
    # DEIMv2 returned one such box of 300, of score 0.055, for an image that HEVC had decoded.
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 40, (1, 30, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 20], axis=2)
    boxes[0, 4, 2] = boxes[0, 4, 0] - 1
    scores = np.linspace(0.9, 0.1, 30, dtype=np.float32)[None]
    outputs = {"labels": np.zeros((1, 30), np.int64), "boxes": boxes, "scores": scores}
    found = make(tmp_path, IMAGES | SIZES, outputs).predict(LANDSCAPE)
    assert len(found) == 29
    boxes[0, :4, 2] = boxes[0, :4, 0] - 1
    with pytest.raises(DetectorError, match="right or bottom edge is before"):
        make(tmp_path, IMAGES | SIZES, outputs)


def test_numbers_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    for value in (np.nan, np.inf):
        output = yolo_output()
        output[0, 7, 100] = value
        with pytest.raises(
            DetectorError, match="'onnx': the network returned numbers that are not finite in output0"
        ):
            make(tmp_path, IMAGES, {"output0": output})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"layout": "detr"},
            "not of the layout detr for 80 classes .no input for an image with one for the size",
        ),
        ({"layout": "yolo"}, "not of the layout yolo .*output 1x126x85 float instead of 1x84x126"),
        ({"layout": "nms"}, "not of the layout nms .*instead of 1xboxesx6"),
        ({"size": "416"}, "its input is images 1x3x64x96 float, not 416 wide and 416 high"),
        (
            {"layout": "yolox", "size": "96x64"},
            "its input is images 1x3x64x96 float, not 64 wide and 96 high",
        ),
        ({"categories": "coco91"}, "of no layout for 91 classes"),
    ],
)
def test_another_layout_or_size_than_the_graphs_is_an_error(
    tmp_path: Path, options: dict[str, str], complaint: str
) -> None:
    with pytest.raises(DetectorError, match=complaint) as caught:
        make(tmp_path, IMAGES, {"output": yolox_output()}, **options)
    assert str(caught.value).count("\n") == 0
    assert re.search(
        r"model\.onnx: the model takes images 1x3x64x96 float and returns output", str(caught.value)
    )


def test_a_missing_output_or_a_strange_input_is_an_error(tmp_path: Path) -> None:
    outputs = final_outputs()
    without = {name: outputs[name] for name in ("labels", "boxes")}
    for layout in (None, "detr"):
        with pytest.raises(DetectorError, match="2 outputs instead of labels, boxes and scores"):
            make(tmp_path, IMAGES | SIZES, without, layout=layout)
    with pytest.raises(DetectorError, match="nms: two outputs that are not boxes with scores"):
        make(tmp_path, IMAGES, without)
    with pytest.raises(DetectorError, match="of no layout .*no input takes an image of three channels"):
        make(tmp_path, {"x": ((1, 10), "float")}, {"output": yolox_output()})


def test_an_answer_of_another_shape_than_the_input_asks_for_is_an_error(tmp_path: Path) -> None:
    free = {"images": ((1, 3, "h", "w"), "float")}
    with pytest.raises(DetectorError, match="which is of no layout"):
        make(tmp_path, free, {"output": yolox_output()}, size="416")
    detector = make(tmp_path, free, {"output": yolox_output()}, size=f"{HEIGHT}x{WIDTH}")
    assert_rows(detector.predict(LANDSCAPE), YOLOX_ROWS)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"size": "big"}, "onnx:size=big: not a size; give pixels, as in 640 or 384x640"),
        ({"size": "9999"}, "onnx:size=9999: not from 1 to 8192"),
        ({"padding": 256}, "onnx:padding=256: not from 0 to 255"),
        ({"score": 1.5}, "onnx:score=1.5: not from 0 to 1"),
        ({"score": float("nan")}, "onnx:score=nan: not from 0 to 1"),
        ({"nms": -0.1}, "onnx:nms=-0.1: not from 0 to 1"),
        ({"max_detections": 0}, "onnx:max_detections=0: not from 1 to 10000"),
        ({"mean": "1,2"}, "onnx:mean=1,2: not three numbers; separate them by commas"),
        ({"mean": "1,2,inf"}, "not three numbers"),
        ({"std": "1,0,1"}, "onnx:std=1,0,1: a deviation that is not above 0"),
    ],
)
def test_values_that_do_not_fit_their_option_are_errors(
    tmp_path: Path, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(complaint)):
        make(tmp_path, IMAGES, {"output": yolox_output()}, **options)


def test_categories_come_from_a_file_beside_the_weights(tmp_path: Path) -> None:
    rows = [{"id": 7, "name": "car"}, {"id": 3, "name": "bus"}]
    output = yolo_output()
    output = np.concatenate([output[:, :4], output[:, [9]], output[:, [19]]], axis=1)
    for content in (rows, {"categories": rows}, [rows[1] | {"label": 1}, rows[0] | {"label": 0}]):
        (tmp_path / "labels.json").write_text(json.dumps(content))
        detector = make(tmp_path, IMAGES, {"output0": output}, layout="yolo", categories="labels.json")
        assert detector.categories == {7: "car", 3: "bus"}
        assert [row["category_id"] for row in detector.predict(LANDSCAPE)] == [7, 3]
        assert re.search(r", categories [0-9a-f]{12}, cpu$", detector.version())


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "[1]",
        '[{"id": 1}]',
        '[{"id": "1", "name": "a"}]',
        '[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]',
    ],
)
def test_a_malformed_file_of_categories_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(
        DetectorError, match=r"labels\.json: the (file is no list of categories|categories cannot)"
    ):
        make(tmp_path, IMAGES, {"output0": yolo_output()}, categories="labels.json")
    with pytest.raises(DetectorError, match=r"absent\.json: the categories cannot be read"):
        make(tmp_path, IMAGES, {"output0": yolo_output()}, categories="absent.json")


def test_a_label_without_a_category_is_an_error(tmp_path: Path) -> None:
    outputs = final_outputs()
    outputs["labels"] = np.array([[15, 12, 0]])  # there is no category 12
    detector = make(tmp_path, IMAGES, outputs, categories="coco91")
    with pytest.raises(DetectorError, match="label 12 names no category"):
        detector.predict(LANDSCAPE)


def test_the_model_is_named_by_its_file_and_hash(tmp_path: Path) -> None:
    file = tmp_path / "my model (2).onnx"
    file.write_bytes(constant_model(IMAGES, {"output": yolox_output()}))
    options = Onnx.name_by_weights({"size": "64x96"}, weights=file)
    assert re.fullmatch(r"my-model-2-[0-9a-f]{8}", options["model"])
    assert options["size"] == "64x96"
    assert Onnx.name_by_weights(options, weights=file) == options
    renamed = tmp_path / "b.onnx"
    renamed.write_bytes(file.read_bytes())
    Onnx(weights=renamed, **options)  # type: ignore[arg-type]
    with pytest.raises(
        DetectorError, match=r"the weights are b-[0-9a-f]{8}, not b-01234567; leave out model="
    ):
        Onnx(weights=renamed, model="b-01234567")


def test_weights_that_are_missing_or_foreign_are_errors(tmp_path: Path) -> None:
    with pytest.raises(
        DetectorError, match="detector 'onnx': needs the weights as an ONNX file; give --detector-we"
    ):
        Onnx()
    with pytest.raises(DetectorError, match="the weights cannot be read"):
        Onnx(weights=tmp_path / "absent.onnx")
    with pytest.raises(DetectorError, match="the weights cannot be read"):
        Onnx.name_by_weights({}, weights=tmp_path / "absent.onnx")
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(DetectorError, match=r"a\.onnx: the weights are not an ONNX model that can be loaded"):
        Onnx(weights=tmp_path / "a.onnx")


def test_the_contract_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    prototypes = np.ones((1, 1, HEIGHT // 4, WIDTH // 4), np.float32)
    for inputs, outputs in (
        (IMAGES, {"output": yolox_output()}),
        (IMAGES, {"output0": yolo_output(1), "output1": prototypes}),
        (IMAGES | SIZES, final_outputs()),
    ):
        file.write_bytes(constant_model(inputs, outputs))
        check_detector(cast("type[Detector]", Onnx), weights=file)


@pytest.mark.usefixtures("plugins")
def test_a_run_names_the_model_and_keeps_models_apart(tmp_path: Path, blobs: Dataset) -> None:
    (tmp_path / "labels.json").write_text(json.dumps((blobs.ground_truth or {})["categories"]))
    found = {}
    for shift in (0.0, 0.1):
        output = np.concatenate([yolo_output()[:, :6], yolo_output()[:, [9]] + np.float32(shift)], axis=1)
        weights = tmp_path / "model.onnx"
        weights.write_bytes(constant_model(IMAGES, {"output0": output}))
        summary = run_in(
            blobs,
            tmp_path,
            codecs=["fake"],
            detector="onnx:categories=labels.json",
            weights=weights,
            qualities=["fake=5"],
        )
        named = summary.results[0].detector
        assert re.fullmatch(r"onnx:categories=labels\.json:model=model-[0-9a-f]{8}", named)
        assert summary.paths[0].parent.name == named.replace(":", "+")
        assert "layout yolo by its graph, 96x64" in summary.results[0].meta["detector"]["version"]
        found[named] = summary.n_detected
    assert list(found.values()) == [40, 40]


@pytest.mark.usefixtures("plugins")
def test_categories_that_are_not_the_datasets_are_an_error(tmp_path: Path, blobs: Dataset) -> None:
    weights = tmp_path / "model.onnx"
    weights.write_bytes(constant_model(IMAGES, {"output": yolox_output()}))
    options: Any = {"weights": weights, "results": tmp_path, "runs": tmp_path, "bootstrap": 0}
    with pytest.raises(
        UsageError, match="category 1 is 'red' in dataset 'blobs' and 'person' to the detector"
    ):
        run(blobs, task="detection", codecs=["fake"], detector="onnx", **options)
    with pytest.raises(
        UsageError, match=r"detector 'onnx:model=model-.*': does not do segmentation; it does detect"
    ):
        run(blobs, task="segmentation", codecs=["fake"], detector="onnx", **options)
    with pytest.raises(UsageError, match="unknown option of onnx 'layuot'; did you mean 'layout'"):
        run(blobs, task="detection", codecs=["fake"], detector="onnx:layuot=yolo", **options)
    with pytest.raises(UsageError, match="onnx:layout=yolov8: no such value; known: yolox, detr, yolo, nms"):
        run(blobs, task="detection", codecs=["fake"], detector="onnx:layout=yolov8", **options)


REFERENCES = {
    "yolox_nano": (29.8, 46.2, None),
    "deimv2_femto": (33.9, 49.0, None),
    "yolo11n_seg": (39.8, 54.6, 32.9),
}
"""AP, AP50 and mask AP on the 100 validation images, measured by other code."""


@needs_files
@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCES)
def test_accuracy_on_the_validation_images_is_the_one_measured_elsewhere(name: str) -> None:
    dataset = Coco.open(data_root=SHARED / "coco")
    rows = found_in(dataset.images, Onnx(weights=DETECTORS / f"{name}_coco80.onnx").predict)
    evaluation = evaluation_of(dataset)
    truth = evaluation.read(dataset.ground_truth or {})
    ap, ap50, mask_ap = REFERENCES[name]
    found = evaluation.score(truth, rows, "detection").metrics()
    assert (found["map"], found["map50"]) == pytest.approx((ap, ap50), abs=0.3)
    if mask_ap is not None:
        found = evaluation.score(truth, rows, "segmentation").metrics()
        assert found["map"] == pytest.approx(mask_ap, abs=0.3)


@needs_files
def test_yolox_exported_with_decoded_boxes_predicts_the_same(tmp_path: Path) -> None:
    data = (DETECTORS / "yolox_nano_coco80.onnx").read_bytes()
    decoded = tmp_path / "decoded.onnx"
    decoded.write_bytes(with_decoded_boxes(data))
    detector = Onnx(weights=decoded)
    assert "layout yolox with boxes decoded to pixels by its graph" in detector.version()
    original = Onnx(weights=DETECTORS / "yolox_nano_coco80.onnx")
    image = Coco.open(data_root=SHARED / "coco").images[0].read()
    assert_rows(detector.predict(image)[:20], original.predict(image)[:20])
    # The detector of that name takes it too, and says so.
    assert "yolox with boxes decoded to pixels" in YoloxNano(weights=decoded).version()
    assert "decoded" not in YoloxNano(weights=DETECTORS / "yolox_nano_coco80.onnx").version()


def with_decoded_boxes(model: bytes) -> bytes:
    """YOLOX-Nano's model with the decoding of boxes as its last nodes: offset + raw * factor + exp(raw) * size."""
    place = cells(416, 416)
    factor, size, offset = (np.zeros((1, len(place), 85), np.float32) for _ in range(3))
    factor[0, :, :2] = place[:, 2:]
    factor[0, :, 4:] = 1.0
    size[0, :, 2:4] = place[:, 2:]
    offset[0, :, :2] = place[:, :2] * place[:, 2:]
    whole = onnx.load_from_string(model)
    for name, array in (("factor", factor), ("size", size), ("offset", offset)):
        whole.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for operator, inputs, output in (
        ("Exp", ["output"], "sizes"),
        ("Mul", ["sizes", "size"], "scaled"),
        ("Mul", ["output", "factor"], "moved"),
        ("Add", ["scaled", "moved"], "sum"),
        ("Add", ["sum", "offset"], "decoded"),
    ):
        whole.graph.node.append(onnx.helper.make_node(operator, inputs, [output]))
    del whole.graph.output[:]
    whole.graph.output.append(onnx.helper.make_tensor_value_info("decoded", 1, (1, len(place), 85)))
    return bytes(whole.SerializeToString())


@needs_files
def test_graphs_of_no_layout_are_an_error() -> None:
    for name in ("centernet_mobilenetv3", "nanodet_g"):
        with pytest.raises(
            DetectorError, match=f"{name}_coco80.onnx: the model takes .*, which is of no layout"
        ):
            Onnx(weights=DETECTORS / f"{name}_coco80.onnx")


@needs_files
@pytest.mark.slow
@pytest.mark.parametrize("name", ["deimv2_femto", "yolo11n_seg"])
def test_the_contract_is_kept_by_real_networks(name: str) -> None:
    check_detector(cast("type[Detector]", Onnx), weights=DETECTORS / f"{name}_coco80.onnx")
