"""The files that learned codecs ship: safetensors, and facts in their metadata.

Floating-point networks are stored in half precision; a codec computes with exactly those values, in single precision.
What encoder and decoder must agree on is stored as integers, never recomputed.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from icm_bench.error import CodecError, TrainingError
from icm_codecs.bitstream.integer_layer import ExactLayer
from icm_codecs.bitstream.table import Tables

SHIPPED = Path(__file__).parents[1] / "weights"
"""The folder of the weights that the package carries."""

_UNUSABLE: Final = (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError)
"""What reading a file may raise that is missing, damaged or of another kind."""

_LAYERS = ("first", "second", "third")
_TABLE_FIELDS = ("frequencies", "sizes", "offsets")

_FORMER_FACTS: Final = MappingProxyType({"bit_price": "rdoq_lambda", "pictures": "images"})
"""The present names of facts that older files know by another."""

_NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})

_Network = TypeVar("_Network", bound=nn.Module)


def find_weights(name: str) -> Path:
    """Return the path of shipped weights, by their name, or of a file.

    Raises:
        TrainingError: There is neither.
    """
    return find_file(name, SHIPPED, ".safetensors", "weights file")


def find_file(name: str, shipped: Path, suffix: str, what: str) -> Path:
    """Return the path of a shipped file, by its stem, or of any other.

    Args:
        name: The stem, or a path.
        shipped: The folder of those that the package carries.
        suffix: The ending of their names.
        what: What it is, for the error.

    Raises:
        TrainingError: There is neither.
    """
    own = {path.stem: path for path in sorted(shipped.glob(f"*{suffix}"))}
    path = own.get(name, Path(name))
    if not path.is_file():
        raise TrainingError(
            f"there is no such {what}", where=name, hint=f"choose {', '.join(own)} or name a file"
        )
    return path


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], kind: str) -> None:
    """Write a weights file that :func:`read_tensors` reads, all or nothing."""
    # One entry, because the library writes several in no fixed order.
    metadata = {kind: json.dumps(dict(facts), sort_keys=True)}
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    save_file(whole, temporary, metadata=metadata)
    temporary.replace(path)


def read_tensors(
    path: Path, kind: str, former: Mapping[str, str] = _NO_NAMES
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a weights file's facts and its tensors.

    Args:
        path: The file.
        kind: What its metadata must name.
        former: The present names of facts, sizes and networks that older files know by another.

    Raises:
        OSError: The file cannot be read.
        SafetensorError: It is damaged.
        ValueError: It is not of the kind that its metadata must name.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator of its own
    present = {".".join(former.get(part, part) for part in name.split(".")): name for name in tensors}
    return read_facts(path, kind, former), {name: tensors[stored] for name, stored in present.items()}


def read_facts(path: Path, kind: str, former: Mapping[str, str] = _NO_NAMES) -> dict[str, Any]:
    """Return a weights file's facts alone; see :func:`read_tensors`."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if kind not in metadata:
        raise ValueError(f"its metadata has no {kind}")
    names = {**_FORMER_FACTS, **former}
    facts = {names.get(name, name): value for name, value in json.loads(metadata[kind]).items()}
    facts["shape"] = {names.get(name, name): value for name, value in facts["shape"].items()}
    return facts


class TrainingRecord(NamedTuple):
    """What weights were trained for, and the detectors that they were trained through, sorted."""

    objective: str
    detectors: tuple[str, ...]


def training_record(path: Path, fidelity: str) -> TrainingRecord:
    """Return what a weights file of any codec records of its training.

    Args:
        path: The file.
        fidelity: What a training without a task minimises.

    Raises:
        CodecError: The file is missing or damaged.
    """
    with reading(path), safe_open(path, framework="pt") as file:
        (content,) = (file.metadata() or {}).values() or ("{}",)
        facts = json.loads(content)
        recipe = tomllib.loads(facts.get("recipe", ""))
        task, roi = recipe.get("task", {}), recipe.get("roi", recipe.get("attention", {}))
        structure = recipe.get("loss", {}).get("structure", 0.0)
        objective = "detection" if task else f"{fidelity}+ssim" if structure else fidelity
        detectors = {task.get("detector", ""), roi.get("begin", ""), *facts.get("detectors", "").split(",")}
        return TrainingRecord(recipe.get("objective", objective), tuple(sorted(detectors - {""})))


def is_of_format(path: Path, kind: str) -> bool:
    """Return whether a file is one of weights whose metadata name a format; what cannot be read is none."""
    try:
        read_facts(path, kind)
    except _UNUSABLE:
        return False
    return True


@contextmanager
def reading(path: Path, complaint: str = "is not a checkpoint of this codec") -> Iterator[None]:
    """Turn what reading a weights file within raises into one error.

    Args:
        path: The file.
        complaint: What the error says of a file that cannot be used.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    try:
        yield
    except _UNUSABLE as error:
        hint = "name a file that the training wrote"
        raise CodecError(f"{complaint}: {error}", where=path, hint=hint) from error


class StoredNetworks:
    """What a weights file holds of a codec, as fields: networks, in floating point or in integers, and scalings."""

    def n_parameters(self) -> int:
        """Count the learned values: of the networks and of the scalings, not of the tables."""
        return sum(_n_values(part) for part in vars(self).values())


def _n_values(part: object) -> int:
    if isinstance(part, nn.Module):
        return sum(value.numel() for value in part.parameters())
    if isinstance(part, Tensor):
        return part.numel()
    counted = getattr(part, "n_values", None)  # of integer networks
    return 0 if counted is None else int(counted())


def check_same_shape(found: object, wanted: object, path: Path) -> None:
    """Raise ``CodecError`` where the networks in a weights file are of another shape than those to be trained."""
    if found != wanted:
        raise CodecError("holds networks of another shape", where=path, hint="use the same [network] table")


def network_tensors(name: str, network: nn.Module) -> dict[str, Tensor]:
    """Return what :func:`load_into` fills a network from: its state in half precision, under a name."""
    return {f"{name}.{key}": value.half() for key, value in network.state_dict().items()}


def load_into(network: _Network, name: str, tensors: Mapping[str, Tensor], device: str) -> _Network:
    """Return a network with the tensors whose names begin with its own, frozen, on a device."""
    prefix = f"{name}."
    own = {key[len(prefix) :]: value.float() for key, value in tensors.items() if key.startswith(prefix)}
    network.load_state_dict(own)
    network.requires_grad_(False).eval().to(device)
    return network.to(memory_format=torch.channels_last)


def layer_tensors(name: str, layers: Sequence[ExactLayer]) -> dict[str, Tensor]:
    """Return what :func:`read_layers` makes three integer layers of."""
    named = zip(_LAYERS, layers, strict=True)
    return {
        key: value for part, layer in named for key, value in layer_entries(f"{name}.{part}", layer).items()
    }


def layer_entries(name: str, layer: ExactLayer) -> dict[str, Tensor]:
    """Return what :func:`read_layer` makes an integer layer of."""
    return {
        f"{name}.weight": layer.weight,
        f"{name}.bias": layer.bias.int() if _fits(layer.bias) else layer.bias,
        f"{name}.shift": torch.tensor(layer.shift),
    }


def _fits(values: Tensor) -> bool:
    return bool(values.abs().max() <= torch.iinfo(torch.int32).max)


def read_layers(name: str, tensors: Mapping[str, Tensor]) -> tuple[ExactLayer, ExactLayer, ExactLayer]:
    """Return the three integer layers of a name.

    Raises:
        KeyError: There are none.
    """
    first, second, third = (read_layer(f"{name}.{part}", tensors) for part in _LAYERS)
    return first, second, third


def read_layer(name: str, tensors: Mapping[str, Tensor]) -> ExactLayer:
    """Return the integer layer of a name.

    Raises:
        KeyError: There is none.
    """
    weight, bias, shift = (tensors[f"{name}.{entry}"] for entry in ("weight", "bias", "shift"))
    return ExactLayer(weight, bias.long(), int(shift))


def table_tensors(name: str, tables: Tables) -> dict[str, Tensor]:
    """Return what :func:`read_tables` makes tables of."""
    return {
        f"{name}.frequencies": torch.from_numpy(tables.frequencies.astype(np.uint16)),
        f"{name}.sizes": torch.from_numpy(tables.sizes).int(),
        f"{name}.offsets": torch.from_numpy(tables.offsets).int(),
    }


def read_tables(name: str, tensors: Mapping[str, Tensor]) -> Tables:
    """Return the tables of a name.

    Raises:
        KeyError: There are none.
        ValueError: They are malformed.
    """
    frequencies, sizes, offsets = (
        tensors[f"{name}.{field}"].numpy().astype(np.int64) for field in _TABLE_FIELDS
    )
    tables = Tables(frequencies, sizes, offsets)
    if not tables.is_valid():
        raise ValueError(f"its {name} tables are malformed")
    return tables
