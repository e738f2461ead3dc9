"""The file that the codec ships: everything that defines a byte or a pixel, and its facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icm_codecs.bitstream import weights_file
from icm_codecs.bitstream.table import Tables
from icm_codecs.content_weighted.context import (
    CODE_DEPTH,
    N_TABLES,
    ContextNetwork,
    ExactContext,
    Rules,
    bit_tables,
)
from icm_codecs.content_weighted.network import ContentWeightedShape, Decoder, Encoder

_FORMAT = "content-weighted-1"


def code_rules(shape: ContentWeightedShape) -> Rules:
    """Return how large the context model of the code is; the side information is the importance level."""
    return Rules(shape.code, CODE_DEPTH, shape.levels, shape.qualities, shape.context)


def map_rules(shape: ContentWeightedShape) -> Rules:
    """Return how large the context model of the importance map is: it sees all the higher bit-planes."""
    return Rules(shape.bit_planes, shape.bit_planes, 1, shape.qualities, shape.context)


@dataclass(frozen=True)
class ContentWeightedCheckpoint(weights_file.StoredNetworks):
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

    shape: ContentWeightedShape
    encoder: Encoder
    decoder: Decoder
    code_context: ExactContext
    map_context: ExactContext
    tables: Tables
    facts: Mapping[str, Any]


def save_checkpoint(
    path: Path,
    shape: ContentWeightedShape,
    networks: tuple[Encoder, Decoder],
    contexts: tuple[ContextNetwork, ContextNetwork],
    facts: Mapping[str, str],
) -> None:
    """Write trained networks, and the context models of code and map, as a checkpoint file, all or nothing."""
    tensors: dict[str, Tensor] = {}
    for name, module in zip(("encoder", "decoder"), networks, strict=True):
        tensors |= weights_file.network_tensors(name, module)
    for name, network in zip(("code", "map"), contexts, strict=True):
        exact = ExactContext.of(network)
        tensors |= {f"{name}.gain": exact.gain, **weights_file.layer_tensors(name, exact.layers)}
    tensors["bit.frequencies"] = torch.from_numpy(bit_tables().frequencies).int()
    weights_file.write_tensors(path, tensors, {**facts, "shape": shape.as_dict()}, _FORMAT)


def load_checkpoint(path: Path, *, device: str = "cpu") -> ContentWeightedCheckpoint:
    """Read a checkpoint file.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    with weights_file.reading(path):
        facts, tensors = weights_file.read_tensors(path, _FORMAT)
        shape = ContentWeightedShape(**facts["shape"])
        targets = [0.5] * shape.qualities
        return ContentWeightedCheckpoint(
            shape,
            weights_file.load_into(Encoder(shape, targets), "encoder", tensors, device),
            weights_file.load_into(Decoder(shape), "decoder", tensors, device),
            _context("code", tensors, code_rules(shape)),
            _context("map", tensors, map_rules(shape)),
            _tables(tensors),
            facts,
        )


def _context(name: str, tensors: dict[str, Tensor], rules: Rules) -> ExactContext:
    layers = weights_file.read_layers(name, tensors)
    context = ExactContext(rules.depth, tensors[f"{name}.gain"], layers, rules.sides)
    if (
        len(context.gain) != rules.planes
        or len(layers[0].bias) != rules.planes + rules.sides + rules.qualities
    ):
        raise ValueError(f"its context model of the {name} is of another shape")
    return context


def _tables(tensors: dict[str, Tensor]) -> Tables:
    frequencies = tensors["bit.frequencies"].numpy().astype(np.int64)
    sizes = np.full(N_TABLES, 3, dtype=np.int64)
    tables = Tables(frequencies, sizes, np.zeros(N_TABLES, dtype=np.int64))
    if not tables.is_valid():
        raise ValueError("its tables are malformed")
    return tables
