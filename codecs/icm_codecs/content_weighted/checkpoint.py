"""The file that the codec ships: safetensors, everything that defines a byte or a pixel, and its facts.

Encoder and decoder are stored in half precision, and compute with exactly those values in single precision. The
context models and the probability tables are stored as integers, never recomputed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from icm_bench.error import CodecError
from icm_codecs.content_weighted.context import (
    CODE_DEPTH,
    N_TABLES,
    ContextNetwork,
    ExactContext,
    Rules,
    bit_tables,
)
from icm_codecs.content_weighted.network import Decoder, Encoder, Shape
from icm_codecs.exact import ExactLayer
from icm_codecs.table import Tables

_FORMAT = "content-weighted-1"
_LAYERS = ("first", "second", "third")

_Network = TypeVar("_Network", bound=nn.Module)


def code_rules(shape: Shape) -> Rules:
    """Return how large the context model of the code is; the side information is the importance level."""
    return Rules(shape.code, CODE_DEPTH, shape.levels, shape.qualities, shape.context)


def map_rules(shape: Shape) -> Rules:
    """Return how large the context model of the importance map is: it sees all the higher bit-planes."""
    return Rules(shape.bit_planes, shape.bit_planes, 1, shape.qualities, shape.context)


@dataclass(frozen=True)
class Checkpoint:
    """A trained codec, ready for use.

    Attributes:
        shape: How large the networks are.
        encoder: Image -> code and importance.
        decoder: Code -> image.
        code_context: The code's context model, in integers.
        map_context: The importance map's.
        tables: The frequencies of a bit.
        facts: The file's metadata.
    """

    shape: Shape
    encoder: Encoder
    decoder: Decoder
    code_context: ExactContext
    map_context: ExactContext
    tables: Tables
    facts: Mapping[str, Any]

    def n_parameters(self) -> int:
        """Count the learned values: of the networks and of the context models, not of the tables."""
        learned = [value.numel() for part in (self.encoder, self.decoder) for value in part.parameters()]
        return sum(learned) + self.code_context.n_parameters() + self.map_context.n_parameters()


def save_checkpoint(
    path: Path,
    shape: Shape,
    networks: tuple[Encoder, Decoder],
    contexts: tuple[ContextNetwork, ContextNetwork],
    facts: Mapping[str, str],
) -> None:
    """Write trained networks as a checkpoint file, all or nothing.

    Args:
        path: Where to.
        shape: How large the networks are.
        networks: Encoder and decoder.
        contexts: The context models of the code and of the map.
        facts: Metadata: the model's name, how it was trained.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in zip(("encoder", "decoder"), networks, strict=True):
        tensors |= {f"{name}.{key}": value.cpu().half() for key, value in module.state_dict().items()}
    for name, network in zip(("code", "map"), contexts, strict=True):
        exact = ExactContext.of(network)
        tensors[f"{name}.gain"] = exact.gain.cpu()
        for part, layer in zip(_LAYERS, exact.layers, strict=True):
            tensors[f"{name}.{part}.weight"] = layer.weight.cpu()
            tensors[f"{name}.{part}.bias"] = layer.bias.cpu()
            tensors[f"{name}.{part}.shift"] = torch.tensor(layer.shift)
    tensors["bit.frequencies"] = torch.from_numpy(bit_tables().frequencies).int()
    # One entry, because the library writes several in no fixed order.
    metadata = {_FORMAT: json.dumps({**facts, "shape": shape.as_dict()}, sort_keys=True)}
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    save_file(whole, temporary, metadata=metadata)
    temporary.replace(path)


def file_sha256(path: Path) -> str:
    """Return the hash of a checkpoint file, hexadecimal.

    Raises:
        CodecError: The file is missing or unreadable.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CodecError(
            f"the checkpoint cannot be read ({error.strerror})",
            where=path,
            mend="train one with the recipe content-weighted, or give a checkpoint's file with weights=FILE",
        ) from error


def load_checkpoint(path: Path, *, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint file.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    try:
        facts, tensors = _read(path)
        shape = Shape(**facts["shape"])
        targets = [0.5] * shape.qualities
        checkpoint = Checkpoint(
            shape,
            _load_into(Encoder(shape, targets), "encoder", tensors, device),
            _load_into(Decoder(shape), "decoder", tensors, device),
            _context("code", tensors, code_rules(shape)),
            _context("map", tensors, map_rules(shape)),
            _tables(tensors),
            facts,
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CodecError(
            f"is not a checkpoint of this codec: {error}",
            where=path,
            mend="name a file that the training wrote",
        ) from error
    return checkpoint


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if _FORMAT not in metadata:
            raise ValueError(f"its metadata has no {_FORMAT}")
        return json.loads(metadata[_FORMAT]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator of its own


def _load_into(module: _Network, name: str, tensors: dict[str, Tensor], device: str) -> _Network:
    prefix = f"{name}."
    own = {key[len(prefix) :]: value.float() for key, value in tensors.items() if key.startswith(prefix)}
    module.load_state_dict(own)
    module.requires_grad_(False).eval().to(device)
    return module.to(memory_format=torch.channels_last)


def _context(name: str, tensors: dict[str, Tensor], rules: Rules) -> ExactContext:
    first, second, third = (
        ExactLayer(
            tensors[f"{name}.{part}.weight"],
            tensors[f"{name}.{part}.bias"],
            int(tensors[f"{name}.{part}.shift"]),
        )
        for part in _LAYERS
    )
    context = ExactContext(rules.depth, tensors[f"{name}.gain"], (first, second, third), rules.sides)
    if len(context.gain) != rules.planes or len(first.bias) != rules.planes + rules.sides + rules.qualities:
        raise ValueError(f"its context model of the {name} is of another shape")
    return context


def _tables(tensors: dict[str, Tensor]) -> Tables:
    frequencies = tensors["bit.frequencies"].numpy().astype(np.int64)
    sizes = np.full(N_TABLES, 3, dtype=np.int64)
    tables = Tables(frequencies, sizes, np.zeros(N_TABLES, dtype=np.int64))
    if not tables.is_valid():
        raise ValueError("its tables are malformed")
    return tables
