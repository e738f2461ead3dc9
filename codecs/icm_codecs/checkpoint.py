"""The file that the codec ships: safetensors, everything that defines a byte or a pixel, and its facts.

Floating-point networks are stored in half precision; the codec computes with exactly those values, in single precision.
What encoder and decoder must agree on is stored as integers, never recomputed.
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

from icm_bench.error import CodecError, TrainingError
from icm_codecs.exact import ExactHyperSynthesis, ExactLayer
from icm_codecs.network import Analysis, HyperAnalysis, IcmNetwork, Shape, Synthesis
from icm_codecs.table import Tables, gaussian_tables, prior_tables

_FORMAT = "icm-1"
_NETWORKS = ("analysis", "synthesis", "hyper_analysis")
_LAYERS = ("first", "second", "third")

_Network = TypeVar("_Network", bound=nn.Module)


SHIPPED = Path(__file__).parent / "weights"
"""The folder of the weights that the package carries."""


def find_weights(name: str) -> Path:
    """Return the path of shipped weights, by their name, or of a file.

    Raises:
        TrainingError: There is neither.
    """
    shipped = sorted(SHIPPED.glob("*.safetensors"))
    found = [path for path in (*shipped, Path(name)) if name in (path.stem, str(path)) and path.is_file()]
    if not found:
        known = ", ".join(path.stem for path in shipped)
        raise TrainingError("there are no such weights", where=name, mend=f"choose {known} or name a file")
    return found[0]


@dataclass(frozen=True)
class Checkpoint:
    """A trained codec, ready for use.

    Attributes:
        sha256: The file's hash, hexadecimal.
        shape: How large the networks are.
        analysis: Image -> latent.
        synthesis: Latent -> image.
        hyper_analysis: Latent -> hyper-latent.
        hyper_synthesis: Hyper-latent -> scale indices and means, in integers.
        gain: Qualities x latent, float32: scales the latent before rounding.
        inverse_gain: Qualities x latent, float32: scales it back.
        prior: The hyper-latent's tables, quality by quality and channel by channel.
        conditional: The latent's tables, scale by scale.
        facts: The file's metadata.
    """

    sha256: str
    shape: Shape
    analysis: Analysis
    synthesis: Synthesis
    hyper_analysis: HyperAnalysis
    hyper_synthesis: ExactHyperSynthesis
    gain: Tensor
    inverse_gain: Tensor
    prior: Tables
    conditional: Tables
    facts: Mapping[str, Any]

    def n_parameters(self) -> int:
        """Count the learned values: of the networks and of the scalings, not of the tables."""
        networks = (self.analysis, self.synthesis, self.hyper_analysis)
        learned = [value.numel() for network in networks for value in network.parameters()]
        exact = self.hyper_synthesis
        learned += [value.numel() for layer in exact.layers for value in (layer.weight, layer.bias)]
        return sum(learned) + sum(value.numel() for value in (exact.gain, self.gain, self.inverse_gain))


def save_checkpoint(network: IcmNetwork, path: Path, facts: Mapping[str, str]) -> None:
    """Write a trained network as a checkpoint file, all or nothing.

    Args:
        network: The network as it was trained.
        path: Where to.
        facts: Metadata: the model's name, how it was trained.
    """
    network = network.cpu()
    tensors: dict[str, Tensor] = {
        "gain": torch.exp(network.log_gain),
        "inverse_gain": torch.exp(network.log_inverse_gain),
    }
    for name in _NETWORKS:
        module: nn.Module = getattr(network, name)
        tensors |= {f"{name}.{key}": value.half() for key, value in module.state_dict().items()}
    # Only a training that starts from this file reads these.
    tensors |= {f"training.prior.{key}": value.half() for key, value in network.prior.named_parameters()}
    exact = ExactHyperSynthesis.of(network.hyper_synthesis)
    tensors["hyper_synthesis.gain"] = exact.gain
    for name, layer in zip(_LAYERS, exact.layers, strict=True):
        tensors[f"hyper_synthesis.{name}.weight"] = layer.weight
        tensors[f"hyper_synthesis.{name}.bias"] = layer.bias
        tensors[f"hyper_synthesis.{name}.shift"] = torch.tensor(layer.shift)
    for name, tables in (("prior", prior_tables(network)), ("conditional", gaussian_tables())):
        tensors |= table_tensors(name, tables)
    write_tensors(path, tensors, {**facts, "shape": network.shape.as_dict()})


def table_tensors(name: str, tables: Tables) -> dict[str, Tensor]:
    """Return what :func:`read_tables` makes tables of."""
    fields = ("frequencies", "sizes", "offsets")
    return {f"{name}.{field}": torch.from_numpy(getattr(tables, field)).int() for field in fields}


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], kind: str = _FORMAT
) -> None:
    """Write a weights file that :func:`read_tensors` reads, all or nothing."""
    # One entry, because the library writes several in no fixed order.
    metadata = {kind: json.dumps(dict(facts), sort_keys=True)}
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    save_file(whole, temporary, metadata=metadata)
    temporary.replace(path)


def load_checkpoint(path: Path, *, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint file.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        facts, tensors = read_tensors(path)
        shape = Shape(**facts["shape"])
        checkpoint = Checkpoint(
            sha256,
            shape,
            load_into(Analysis(shape), "analysis", tensors, device),
            load_into(Synthesis(shape), "synthesis", tensors, device),
            load_into(HyperAnalysis(shape), "hyper_analysis", tensors, device),
            _hyper_synthesis(tensors).to(device),
            tensors["gain"].to(device),
            tensors["inverse_gain"].to(device),
            read_tables("prior", tensors),
            read_tables("conditional", tensors),
            facts,
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CodecError(
            f"is not a checkpoint of this codec: {error}",
            where=path,
            mend="name a file that the training wrote",
        ) from error
    return checkpoint


def start_from(network: IcmNetwork, path: Path) -> None:
    """Set a network's parameters to those of a checkpoint file, as a training's start.

    Raises:
        CodecError: The file is missing, damaged, of another kind or of another shape.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.shape != network.shape:
        raise CodecError("holds networks of another shape", where=path, mend="use the same [network] table")
    with torch.no_grad():
        for name in _NETWORKS:
            getattr(network, name).load_state_dict(getattr(checkpoint, name).state_dict())
        network.log_gain.copy_(torch.log(checkpoint.gain))
        network.log_inverse_gain.copy_(torch.log(checkpoint.inverse_gain))
        _, tensors = read_tensors(path)
        for key, parameter in network.prior.named_parameters():
            parameter.copy_(tensors[f"training.prior.{key}"])
        checkpoint.hyper_synthesis.copy_to(network.hyper_synthesis)


def read_tensors(path: Path, kind: str = _FORMAT) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a weights file's facts and its tensors.

    Raises:
        OSError: The file cannot be read.
        SafetensorError: It is damaged.
        ValueError: It is not of the kind that its metadata must name.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if kind not in metadata:
            raise ValueError(f"its metadata has no {kind}")
        return json.loads(metadata[kind]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator of its own


def load_into(module: _Network, name: str, tensors: Mapping[str, Tensor], device: str) -> _Network:
    """Return a network with the tensors whose names begin with its own, frozen, on a device."""
    prefix = f"{name}."
    own = {key[len(prefix) :]: value.float() for key, value in tensors.items() if key.startswith(prefix)}
    module.load_state_dict(own)
    module.requires_grad_(False).eval().to(device)
    return module.to(memory_format=torch.channels_last)


def _hyper_synthesis(tensors: dict[str, Tensor]) -> ExactHyperSynthesis:
    first, second, third = (
        ExactLayer(
            tensors[f"hyper_synthesis.{name}.weight"],
            tensors[f"hyper_synthesis.{name}.bias"],
            int(tensors[f"hyper_synthesis.{name}.shift"]),
        )
        for name in _LAYERS
    )
    return ExactHyperSynthesis(tensors["hyper_synthesis.gain"], (first, second, third))


def read_tables(name: str, tensors: Mapping[str, Tensor]) -> Tables:
    """Return the tables of a name.

    Raises:
        KeyError: There are none.
        ValueError: They are malformed.
    """
    frequencies, sizes, offsets = (
        tensors[f"{name}.{field}"].numpy().astype(np.int64) for field in ("frequencies", "sizes", "offsets")
    )
    tables = Tables(frequencies, sizes, offsets)
    if not tables.is_valid():
        raise ValueError(f"its {name} tables are malformed")
    return tables
