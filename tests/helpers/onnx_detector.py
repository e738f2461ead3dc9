"""A small detector as an ONNX file, for what differentiates through one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx: Any = pytest.importorskip("onnx")


def _weight(name: str, *shape: int) -> Any:
    values = np.random.default_rng(len(name)).normal(0, 0.3, shape).astype(np.float32)
    return onnx.numpy_helper.from_array(values, name)


def write_detector(path: Path) -> Path:
    """Write a detector in YOLOX's manner: two levels, a head with two branches, sigmoids joined with boxes."""
    make = onnx.helper.make_node
    down = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        make("Conv", ["image", "w1"], ["a"], **down),
        make("Conv", ["a", "w2"], ["b"], **down),
        make("Relu", ["b"], ["fine"]),
        make("Conv", ["fine", "w3"], ["c"], **down),
        make("Relu", ["c"], ["coarse"]),
        make("Conv", ["coarse", "wbox"], ["box"]),
        make("Conv", ["coarse", "wobj"], ["object_logit"]),
        make("Conv", ["coarse", "wcls"], ["class_logit"]),
        make("Sigmoid", ["object_logit"], ["object"]),
        make("Sigmoid", ["class_logit"], ["class"]),
        make("Concat", ["box", "object", "class"], ["out"], axis=1),
        make("NonZero", ["out"], ["end"]),
    ]
    constants = [_weight("w1", 8, 3, 3, 3), _weight("w2", 12, 8, 3, 3), _weight("w3", 16, 12, 3, 3)]
    constants += [_weight("wbox", 4, 16, 1, 1), _weight("wobj", 1, 16, 1, 1), _weight("wcls", 5, 16, 1, 1)]
    graph = onnx.helper.make_graph(
        nodes,
        "detector",
        [onnx.helper.make_tensor_value_info("image", 1, [None, 3, None, None])],
        [onnx.helper.make_empty_tensor_value_info("end")],
        constants,
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), str(path))
    return path
