from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from icm_bench.error import TrainingError
from icm_codecs.training.onnx_graph import OnnxGraph
from icm_codecs.training.onnx_operator import OPERATORS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

DATA = Path(__file__).parents[4] / "shared" / "data" / "detectors"
Array = NDArray[Any]


def noise(*shape: int, low: float = -1.0, high: float = 1.0) -> Array:
    # No two values alike, so that maxima have one gradient.
    values = np.linspace(low, high, int(np.prod(shape)), dtype=np.float32)
    return np.random.default_rng(1).permutation(values).reshape(shape)


def whole(*values: int) -> Array:
    return np.array(values, np.int64)


def number(value: float) -> Array:
    return np.array(value, np.float32)


X = noise(2, 4, 6, 8)
FLAT = noise(3, 5)
FLOOR = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
CORNERS = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
CASES: list[tuple[str, dict[str, Any], list[Array | None]]] = [
    ("Abs", {}, [X]),
    ("Add", {}, [X, noise(4, 1, 1)]),
    ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}, [X]),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [X]),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, [X]),
    ("BatchNormalization", {}, [X, noise(4), noise(4), noise(4), noise(4, low=0.1)]),
    ("Cast", {"to": 1}, [X]),
    ("Clip", {}, [X, number(-0.5), number(0.4)]),
    ("Clip", {}, [X, None, number(0.4)]),
    ("Concat", {"axis": 1}, [X, noise(2, 3, 6, 8)]),
    ("Conv", {"pads": [1, 1, 1, 1]}, [X, noise(6, 4, 3, 3), noise(6)]),
    ("Conv", {"strides": [2, 2], "pads": [0, 1, 2, 0]}, [X, noise(6, 4, 3, 3)]),
    ("Conv", {"group": 4, "dilations": [2, 2], "pads": [2, 2, 2, 2]}, [X, noise(8, 1, 3, 3)]),
    ("Div", {}, [X, noise(8, low=0.5)]),
    ("Erf", {}, [X]),
    ("Exp", {}, [X]),
    ("Expand", {}, [noise(2, 1, 4), whole(2, 3, 1)]),
    ("Flatten", {"axis": 2}, [X]),
    ("Gather", {"axis": 1}, [X, whole(3, -1, 0)]),
    ("Gather", {"axis": 2}, [X, np.array(1, np.int64)]),
    ("GatherElements", {"axis": 1}, [FLAT, np.array([[0, 4], [2, 2], [1, 3]])]),
    ("Gemm", {"alpha": 0.5, "beta": 2.0, "transB": 1}, [FLAT, noise(4, 5), noise(4)]),
    ("GlobalAveragePool", {}, [X]),
    ("GridSample", {}, [X, noise(2, 3, 5, 2, low=-1.2, high=1.2)]),
    ("GridSample", {"align_corners": 1, "padding_mode": "border"}, [X, noise(2, 3, 5, 2)]),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, [3 * X]),
    ("HardSwish", {}, [4 * X]),
    ("Identity", {}, [X]),
    ("LayerNormalization", {"axis": -1, "epsilon": 1e-3}, [X, noise(8), noise(8)]),
    ("LeakyRelu", {"alpha": 0.1}, [X]),
    ("Log", {}, [noise(3, 4, low=0.5, high=2.0)]),
    ("MatMul", {}, [X, noise(8, 3)]),
    ("Max", {}, [X, noise(4, 6, 8)]),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [X]),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]}, [X]),
    ("Min", {}, [X, noise(4, 6, 8)]),
    ("Mul", {}, [X, noise(2, 1, 6, 1)]),
    ("Neg", {}, [X]),
    ("Pad", {}, [X, whole(0, 0, 1, 0, 0, 0, 0, 2), number(0.5)]),
    ("Pow", {}, [noise(3, 4, low=0.5, high=2.0), number(1.5)]),
    ("ReduceMax", {"axes": [2, 3]}, [X]),
    ("ReduceMean", {"axes": [1], "keepdims": 0}, [X]),
    ("ReduceMean", {}, [X]),
    ("ReduceMin", {"axes": [-1]}, [X]),
    ("ReduceSum", {"keepdims": 0}, [X, whole(1, 3)]),
    ("Relu", {}, [X]),
    ("Reshape", {}, [X, whole(0, -1, 3)]),
    ("Resize", FLOOR, [X, None, np.array([1, 1, 2, 2], np.float32)]),
    ("Resize", {"mode": "linear"}, [X, None, None, whole(2, 4, 9, 12)]),
    ("Resize", CORNERS, [X, None, None, whole(2, 4, 12, 5)]),
    ("Resize", {}, [X, None, np.array([1, 1, 2, 3], np.float32)]),
    ("Sigmoid", {}, [X]),
    ("Slice", {}, [X, whole(1, 0), whole(6, 9), whole(2, -1), whole(2, 3)]),
    ("Slice", {}, [X, whole(-1), whole(-9999), whole(3), whole(-1)]),
    ("Softmax", {"axis": 1}, [X]),
    ("Split", {"axis": 1}, [X, whole(1, 3)]),
    ("Split", {"axis": 1}, [X]),
    ("Sqrt", {}, [noise(3, 4, low=0.5, high=2.0)]),
    ("Squeeze", {}, [noise(2, 1, 3, 1), whole(1)]),
    ("Sub", {}, [X, noise(1)]),
    ("Tanh", {}, [X]),
    ("Tile", {}, [FLAT, whole(2, 3)]),
    ("TopK", {"axis": 1}, [FLAT, whole(2)]),
    ("Transpose", {"perm": [0, 2, 3, 1]}, [X]),
    ("Unsqueeze", {}, [FLAT, whole(0, 3)]),
]  # fmt: skip
"""Operators, attributes and inputs, of which the first is the one that gradients are taken of."""

NO_GRADIENT = {"Floor", "Shape", "Equal", "Where"}
"""Operators that have a test of their own."""


def build(
    path: Path, nodes: list[Any], inputs: dict[str, Array], outputs: list[str], *, version: int = 17
) -> OnnxGraph:
    """Write a graph whose first input is given when it is run, and whose others are constants; read it back."""
    first, *others = inputs
    constants = [onnx.numpy_helper.from_array(inputs[name], name) for name in others]
    kind = onnx.helper.np_dtype_to_tensor_dtype(inputs[first].dtype)
    graph = onnx.helper.make_graph(
        nodes,
        "test",
        [onnx.helper.make_tensor_value_info(first, kind, list(inputs[first].shape))],
        [onnx.helper.make_empty_tensor_value_info(name) for name in outputs],
        constants,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)], ir_version=8)
    onnx.save(model, str(path))
    return OnnxGraph(path)


def runtime(path: Path, image: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, {session.get_inputs()[0].name: image})
    return found


def one_node(path: Path, operator: str, attributes: dict[str, Any], tensors: list[Array | None]) -> OnnxGraph:
    inputs = {f"in{k}": np.asarray(value) for k, value in enumerate(tensors) if value is not None}
    names = [f"in{k}" if value is not None else "" for k, value in enumerate(tensors)]
    outputs = ["out0", "out1"] if operator in ("Split", "TopK") else ["out0"]
    node = onnx.helper.make_node(operator, names, outputs, **attributes)
    return build(path, [node], inputs, outputs)


@pytest.mark.parametrize(("operator", "attributes", "tensors"), CASES, ids=[case[0] for case in CASES])
def test_operator_gives_what_onnx_runtime_gives_and_passes_right_gradients(
    operator: str, attributes: dict[str, Any], tensors: list[Array | None], tmp_path: Path
) -> None:
    path = tmp_path / "one.onnx"
    graph = one_node(path, operator, attributes, tensors)
    image = tensors[0]
    assert image is not None
    with torch.no_grad():
        found = graph({"in0": torch.from_numpy(image)})
    for ours, theirs in zip(found, runtime(path, image), strict=True):
        assert ours.numpy().dtype == theirs.dtype
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-4)
    exact = graph.double()
    value = torch.from_numpy(image).double().requires_grad_()
    outputs = [k for k, tensor in enumerate(found) if tensor.is_floating_point()]

    def run(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = exact({"in0": x})
        return tuple(results[k] for k in outputs)

    assert torch.autograd.gradcheck(run, value, eps=1e-6, atol=1e-5, fast_mode=True)


def test_every_operator_has_a_case() -> None:
    assert set(OPERATORS) == {case[0] for case in CASES} | NO_GRADIENT | {"Softmax before 13"}


def test_whole_numbers_and_conditions_are_as_in_onnx_runtime(tmp_path: Path) -> None:
    path, make = tmp_path / "whole.onnx", onnx.helper.make_node
    nodes = [
        make("Shape", ["x"], ["shape"]),
        make("Div", ["shape", "two"], ["half"]),
        make("Floor", ["x"], ["floor"]),
        make("Equal", ["floor", "minus"], ["low"]),
        make("Where", ["low", "x", "floor"], ["y"]),
    ]
    inputs = {"x": 3 * FLAT, "two": whole(-2, 2), "minus": np.array(-2, np.float32)}
    graph = build(path, nodes, inputs, ["half", "y"])
    for ours, theirs in zip(graph({"x": torch.from_numpy(3 * FLAT)}), runtime(path, 3 * FLAT), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)


def test_softmax_of_old_versions_runs_over_all_later_axes(tmp_path: Path) -> None:
    path = tmp_path / "old.onnx"
    node = onnx.helper.make_node("Softmax", ["x"], ["y"], axis=2)
    graph = build(path, [node], {"x": X}, ["y"], version=11)
    np.testing.assert_allclose(graph({"x": torch.from_numpy(X)})[0].numpy(), runtime(path, X)[0], rtol=1e-5)


def test_unknown_operator_is_named_and_matters_only_where_it_is_needed(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    nodes = [make("Relu", ["x"], ["y"]), make("NonZero", ["y"], ["z"])]
    graph = build(tmp_path / "unknown.onnx", nodes, {"x": X}, ["z"])
    assert torch.equal(graph({"x": torch.from_numpy(X)}, ["y"])[0], torch.from_numpy(X).relu())
    with pytest.raises(TrainingError, match="operator NonZero"):
        graph({"x": torch.from_numpy(X)})


@pytest.mark.parametrize(
    ("operator", "attributes", "what"),
    [
        ("MaxPool", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}, "auto_pad SAME_UPPER"),
        ("Selu", {}, "operator Selu"),
        ("Resize", {"mode": "cubic"}, "mode cubic"),
        ("Relu", {"alpha": 1.0}, "Relu with alpha"),
    ],
)
def test_setting_that_has_no_counterpart_is_refused(
    operator: str, attributes: dict[str, Any], what: str, tmp_path: Path
) -> None:
    more = [None, np.array([1, 1, 2, 2], np.float32)] if operator == "Resize" else []
    graph = one_node(tmp_path / "odd.onnx", operator, attributes, [X, *more])
    with pytest.raises(TrainingError, match=what):
        graph({"in0": torch.from_numpy(X)})


def test_file_that_is_no_graph_and_a_tensor_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"\xff\xfe no graph")
    for name in ("no.onnx", "absent.onnx"):
        with pytest.raises(TrainingError, match="cannot be read as ONNX"):
            OnnxGraph(tmp_path / name)
    graph = one_node(tmp_path / "one.onnx", "Relu", {}, [X])
    with pytest.raises(TrainingError, match="has no such tensor"):
        graph({"in0": torch.from_numpy(X)}, ["elsewhere"])


def _yolox(image: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"images": 255.0 * image}


def _deim(image: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"images": image, "orig_target_sizes": torch.tensor([[640, 480]])}


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("yolox_nano_coco80", _yolox), ("deimv2_femto_coco80", _deim)],
    ids=["yolox", "deimv2"],
)
def test_detector_gives_what_onnx_runtime_gives_and_gradients(
    name: str, inputs: Callable[[torch.Tensor], dict[str, torch.Tensor]]
) -> None:
    path = DATA / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} does not lie beside the checkout")
    torch.manual_seed(1)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 26, 26), size=416, mode="bicubic").clamp(0, 1)
    model, graph = onnx.load(str(path)), OnnxGraph(path)
    # Before the first choice of the best, after which a last bit decides on what is compared.
    choices = [node.input[0] for node in model.graph.node if node.op_type == "TopK"]
    names = choices[:1] or list(graph.outputs)
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {entry.name: inputs(image)[entry.name].numpy() for entry in session.get_inputs()}
    with torch.no_grad():
        found = graph(inputs(image), names)
    for ours, theirs in zip(found, session.run(None, given), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-4)
    image.requires_grad_()
    sum(tensor.float().square().mean() for tensor in graph(inputs(image))).backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    assert float(image.grad.abs().sum()) > 0.0
    assert not list(graph.parameters())
