"""A network in an ONNX file, run by ONNX Runtime on one thread or a GPU."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from icm_bench.error import DetectorError
from icm_bench.image import printable

DIGEST_DIGITS = 12
"""How many digits of a file's SHA-256 name it."""

_PROVIDERS: Mapping[str, str] = MappingProxyType(
    {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
)


@dataclass(frozen=True)
class Port:
    """An input or an output of a network.

    Attributes:
        name: Its name.
        shape: Its axes; None where an axis is free.
        kind: The type of its elements, as ONNX Runtime writes it: ``float``, ``float16``, ``int64``, ...
    """

    name: str
    shape: tuple[int | None, ...]
    kind: str

    def __str__(self) -> str:
        axes = "x".join("?" if axis is None else str(axis) for axis in self.shape)
        return f"{self.name} {axes or 'scalar'} {self.kind}"

    def fits(self, *axes: int | None) -> bool:
        """Return whether the port may have these axes, None standing for any."""
        return len(axes) == len(self.shape) and all(
            wanted is None or own is None or wanted == own
            for wanted, own in zip(axes, self.shape, strict=True)
        )


class OnnxModel:
    """A network in an ONNX file.

    Args:
        weights: The ONNX file, which holds all of the network's weights.
        device: ``cpu`` (one thread) or ``cuda``.
        detector: The name of the detector that wants it, for messages.

    Attributes:
        inputs: What it takes.
        outputs: What it returns.
        digest: The first digits of the file's SHA-256.

    Raises:
        DetectorError: ONNX Runtime or the device is missing, no weights were given, or they are not an ONNX file that
            can be loaded.
    """

    def __init__(self, weights: Path | None, *, device: str, detector: str) -> None:
        self._where = f"detector '{detector}'"
        if weights is None:
            raise DetectorError(
                "needs the weights as an ONNX file",
                where=self._where,
                hint="give --detector-weights FILE.onnx",
            )
        runtime = _import_runtime(self._where)
        data = read_weights(weights)
        self.digest = digest(data)
        self._session = _open_session(runtime, data, weights, device, self._where)
        self.inputs = _ports(self._session.get_inputs())
        self.outputs = _ports(self._session.get_outputs())
        self._runtime = f"onnxruntime {runtime.__version__}, pillow {PIL.__version__}"

    def __str__(self) -> str:
        return f"takes {_listed(self.inputs)} and returns {_listed(self.outputs)}"

    @property
    def version(self) -> str:
        """ONNX Runtime's, Pillow's and the weights' version."""
        return f"{self._runtime}, weights {self.digest}"

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name, floating-point ones in single precision.

        Raises:
            DetectorError: The network fails or returns what is not finite.
        """
        try:
            values = self._session.run(None, dict(feeds))
        except Exception as error:  # ONNX Runtime's own exceptions share no public ancestor
            raise DetectorError(
                f"ONNX Runtime failed ({_one_line(error)})",
                where=self._where,
                hint="check the weights and the device",
            ) from error
        outputs: dict[str, NDArray[Any]] = {}
        for port, value in zip(self.outputs, values, strict=True):
            array = np.asarray(value)
            if array.dtype.kind == "f":
                array = array.astype(np.float32, copy=False)
                if not np.isfinite(array).all():
                    raise DetectorError(
                        f"the network returned numbers that are not finite in {port.name}",
                        where=self._where,
                        hint="check the weights",
                    )
            outputs[port.name] = array
        return outputs


def read_weights(weights: Path) -> bytes:
    """Return the bytes of a file of weights.

    Raises:
        DetectorError: The file cannot be read.
    """
    try:
        return weights.read_bytes()
    except (OSError, ValueError) as error:
        raise DetectorError(
            f"the weights cannot be read ({_one_line(error)})",
            where=printable(weights),
            hint="check the path given to --detector-weights",
        ) from error


def digest(data: bytes) -> str:
    """Return the first digits of the SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()[:DIGEST_DIGITS]


def _import_runtime(where: str) -> Any:
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise DetectorError(
            "ONNX Runtime is not installed", where=where, hint="run pip install icm-bench[onnx]"
        ) from error


def _open_session(runtime: Any, data: bytes, weights: Path, device: str, where: str) -> Any:
    if device not in _PROVIDERS:
        raise DetectorError(f"knows no device '{device}'", where=where, hint="use cpu or cuda")
    provider = _PROVIDERS[device]
    if provider not in runtime.get_available_providers():
        raise DetectorError(
            f"this ONNX Runtime has no {provider}",
            where=where,
            hint="install onnxruntime-gpu in place of onnxruntime, or use --device cpu",
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(data, options, providers=[provider])
    except Exception as error:  # ONNX Runtime's own exceptions share no public ancestor
        raise DetectorError(
            f"the weights are not an ONNX model that can be loaded ({_one_line(error)})",
            where=printable(weights),
            hint="give an ONNX file that holds its weights itself",
        ) from error
    if session.get_providers()[0] != provider:
        raise DetectorError(
            f"ONNX Runtime fell back from {provider} to {session.get_providers()[0]}",
            where=where,
            hint="repair the CUDA installation, or use --device cpu",
        )
    return session


def _ports(nodes: Sequence[Any]) -> tuple[Port, ...]:
    return tuple(
        Port(
            node.name,
            tuple(axis if isinstance(axis, int) else None for axis in node.shape),
            node.type.removeprefix("tensor(").removesuffix(")"),
        )
        for node in nodes
    )


def _listed(ports: Sequence[Port]) -> str:
    return ", ".join(map(str, ports)) or "nothing"


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:200]
