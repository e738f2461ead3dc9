"""An ONNX graph as a differentiable torch module, for codecs that are trained through exported detectors."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from icm_bench.error import TrainingError
from icm_codecs.training.onnx_operator import OPERATORS

_SOFTMAX_CHANGED = 13
"""The version of ONNX's operators from which Softmax runs over one axis."""

_EMPTY = ""
"""The name of an optional input or output that is left out."""


class Node(NamedTuple):
    """One operation of a graph.

    Attributes:
        operator: Its name, a key of :data:`icm_codecs.training.onnx_operator.OPERATORS` where gradients can pass it.
        inputs: Names of tensors, empty where an optional one is left out.
        outputs: Likewise.
        attributes: Numbers, texts and lists by name.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


class OnnxGraph(nn.Module):
    """An ONNX graph that is run by torch, frozen: gradients pass to its inputs alone.

    Args:
        path: The file.

    Raises:
        TrainingError: The package onnx is missing, or the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph, version = _read(path)
        self._path, self._constants = path, dict[str, str]()
        self.nodes: tuple[Node, ...] = tuple(self._nodes(graph, version))
        self.inputs = tuple(entry.name for entry in graph.input if entry.name not in self._constants)
        self.outputs = tuple(entry.name for entry in graph.output)
        self._makers = {name: node for node in self.nodes for name in node.outputs}
        self._plans: dict[tuple[str, ...], list[Node]] = {}

    def forward(self, inputs: Mapping[str, Tensor], wanted: Sequence[str] = ()) -> list[Tensor]:
        """Return tensors of the graph by name, in order; by default its outputs.

        Only what they follow from is computed, so an operator behind them need not be known.

        Args:
            inputs: Tensors by name: the graph's inputs, as many as are needed.
            wanted: Names of tensors.

        Raises:
            TrainingError: Gradients cannot pass an operator or one of its settings, or there is no such tensor.
        """
        wanted = tuple(wanted) or self.outputs
        plan = self._plan(wanted)
        uses = Counter(name for node in plan for name in node.inputs) + Counter(wanted)
        values: dict[str, Tensor | None] = {_EMPTY: None, **inputs}
        for node in plan:
            values.update(self._run(node, values))
            for name in node.inputs:
                uses[name] -= 1
                if name and not uses[name]:
                    # An image's tensors are large: none is kept longer than it is needed.
                    values.pop(name, None)
        value = self._value(values)
        return [tensor for name in wanted if (tensor := value(name)) is not None]

    @torch.no_grad()
    def shapes(self, inputs: Mapping[str, Tensor]) -> dict[str, torch.Size]:
        """Return the shapes of all floating-point tensors that can be computed from some of the inputs.

        What would need another input, another size of images or an unknown operator is left out.
        """
        values: dict[str, Tensor | None] = {_EMPTY: None, **inputs}
        for node in self.nodes:
            if node.operator in OPERATORS and all(n in values or n in self._constants for n in node.inputs):
                try:
                    self._check(node)
                    values.update(self._run(node, values))
                except (RuntimeError, TrainingError):
                    continue
        floats = {n: v for n, v in values.items() if v is not None and v.is_floating_point()}
        return {name: value.shape for name, value in floats.items()}

    def _run(self, node: Node, values: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        found = OPERATORS[node.operator](*map(self._value(values), node.inputs), **node.attributes)
        results = found if isinstance(found, tuple | list) else (found,)
        return dict(zip(node.outputs, results, strict=False))

    def _value(self, values: Mapping[str, Tensor | None]) -> Any:
        def value(name: str) -> Tensor | None:
            if name in values:
                return values[name]
            if name not in self._constants:
                raise TrainingError(
                    "has no such tensor", where=f"{self._path}: {name}", hint="name one of its tensors"
                )
            return self.get_buffer(self._constants[name])

        return value

    def _plan(self, wanted: tuple[str, ...]) -> list[Node]:
        """Return the operations that lead to tensors, in order."""
        if wanted not in self._plans:
            needed, open_names = set[str](), list(wanted)
            while open_names:
                node = self._makers.get(name := open_names.pop())
                if node is not None and name not in needed:
                    needed.update(node.outputs)
                    open_names.extend(node.inputs)
            plan = [node for node in self.nodes if needed.intersection(node.outputs) - {_EMPTY}]
            for node in plan:
                self._check(node)
            self._plans[wanted] = plan
        return self._plans[wanted]

    def _check(self, node: Node) -> None:
        operator = OPERATORS.get(node.operator)
        if operator is None:
            hint = "choose taps before this operator"
            raise TrainingError(
                f"gradients cannot pass the operator {node.operator}", where=self._path, hint=hint
            )
        unknown = node.attributes.keys() - inspect.signature(operator).parameters.keys()
        if unknown:
            what = f"gradients cannot pass {node.operator} with {', '.join(sorted(unknown))}"
            raise TrainingError(what, where=self._path, hint="export the detector with other settings")

    def _nodes(self, graph: Any, version: int) -> list[Node]:
        from onnx import helper, numpy_helper

        for tensor in graph.initializer:
            self._keep(tensor.name, numpy_helper.to_array(tensor))
        nodes = []
        for node in graph.node:
            attributes = {entry.name: _plain(helper.get_attribute_value(entry)) for entry in node.attribute}
            if node.op_type == "Constant":
                (value,) = attributes.values()
                self._keep(node.output[0], np.asarray(value))
                continue
            operator = node.op_type
            if operator == "Softmax" and version < _SOFTMAX_CHANGED:
                operator = "Softmax before 13"
            if operator == "Split":
                attributes["num_outputs"] = len(node.output)
            nodes.append(Node(operator, tuple(node.input), tuple(node.output), attributes))
        return nodes

    def _keep(self, name: str, value: Any) -> None:
        key = f"constant_{len(self._constants)}"
        self._constants[name] = key
        self.register_buffer(key, torch.from_numpy(np.array(value)), persistent=False)


def _read(path: Path) -> tuple[Any, int]:
    """Return a file's graph and the version of its operators."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        hint = "install icm-bench[train]"
        raise TrainingError("the package onnx is missing", where=path, hint=hint) from error
    try:
        model = onnx.load(str(path))
    except (OSError, DecodeError, ValueError) as error:
        raise TrainingError(
            f"cannot be read as ONNX: {error}", where=path, hint="name an ONNX file"
        ) from error
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return model.graph, max(versions, default=_SOFTMAX_CHANGED)


def _plain(value: Any) -> Any:
    from onnx import TensorProto, numpy_helper

    if isinstance(value, bytes):
        return value.decode()
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value
