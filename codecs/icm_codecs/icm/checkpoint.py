"""The file that the codec ships: what every hyperprior codec's holds, its ROI map's tables and its residual layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from icm_codecs.bitstream.table import Tables
from icm_codecs.bitstream.weights_file import read_facts, read_tables, read_tensors, reading, table_tensors
from icm_codecs.hyperprior import checkpoint as hyperprior
from icm_codecs.hyperprior.checkpoint import HyperpriorCheckpoint, Kind, checkpoint_of
from icm_codecs.icm.network import Analysis, HyperAnalysis, IcmNetwork, IcmShape, Synthesis
from icm_codecs.icm.residual import ResidualPoints, ResidualTransform
from icm_codecs.icm.residual_coder import ResidualCoder
from icm_codecs.icm.roi import RoiLevels
from icm_codecs.icm.roi_map import RoiSteps, map_tables

ICM = Kind(
    "icm-1",
    IcmShape,
    Analysis,
    Synthesis,
    HyperAnalysis,
    "is not a checkpoint of this codec",
    MappingProxyType({"attention": "roi", "remainder": "residual", "rungs": "residual_points"}),
)


@dataclass(frozen=True)
class IcmCheckpoint(HyperpriorCheckpoint):
    """A trained codec, ready for use.

    Attributes:
        roi_steps: How its ROI map changes the steps, if it has one.
        residual_coders: What codes its residual layer, rate point by rate point, if it has one.
    """

    shape: IcmShape
    roi_steps: RoiSteps | None
    residual_coders: tuple[ResidualCoder, ...]


def save_checkpoint(network: IcmNetwork, path: Path, facts: Mapping[str, str]) -> None:
    """Write a trained network as a checkpoint file, all or nothing; it is moved to the CPU.

    Args:
        network: The network as it was trained.
        path: Where to.
        facts: Metadata: the model's name, how it was trained.
    """
    own: dict[str, Any] = {}
    further: dict[str, Tensor] = {}
    if network.shape.roi:
        own["levels"] = network.levels.as_dict()
        further = table_tensors("levels", map_tables(cast(Tensor, network.level_counts)))
    if network.shape.residual_points:
        own["residual"] = network.residual_points.as_dict()
    hyperprior.save_checkpoint(network, path, {**facts, **own}, ICM, further)


def load_checkpoint(path: Path, *, device: str = "cpu") -> IcmCheckpoint:
    """Read a checkpoint file.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    with reading(path, ICM.complaint):
        facts, tensors = read_tensors(path, ICM.format, ICM.former)
        base = checkpoint_of(facts, tensors, ICM, device)
        roi_steps = _roi_steps(facts, tensors, device) if "levels" in facts else None
        coders = (
            _residual_coders(facts["residual"], base.synthesis, base.conditional)
            if "residual" in facts
            else ()
        )
        return IcmCheckpoint(**vars(base), roi_steps=roi_steps, residual_coders=coders)


def count_rates(path: Path) -> int:
    """Return how many rate points a checkpoint file serves.

    Raises:
        CodecError: The file is missing, damaged or of another kind.
    """
    with reading(path, ICM.complaint):
        shape = IcmShape(**read_facts(path, ICM.format, ICM.former)["shape"])
    return shape.qualities + shape.residual_points


def _roi_steps(facts: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> RoiSteps:
    levels, shape = RoiLevels.from_dict(facts["levels"]), IcmShape(**facts["shape"])
    return RoiSteps.of(levels, read_tables("levels", tensors), shape).to(device)


def _residual_coders(
    values: Mapping[str, Any], synthesis: nn.Module, tables: Tables
) -> tuple[ResidualCoder, ...]:
    transform = cast(ResidualTransform, synthesis.get_submodule("residual"))
    points = ResidualPoints.from_dict(values)
    each = zip(points.steps, points.coarser, strict=True)
    return tuple(ResidualCoder(step, coarser, transform, tables) for step, coarser in each)


def start_from(network: IcmNetwork, path: Path) -> None:
    """Set a network's parameters to those of a checkpoint file, as a training's start.

    Raises:
        CodecError: The file is missing, damaged, of another kind or of another shape.
    """
    hyperprior.start_from(network, path, ICM)
    roi_steps = load_checkpoint(path).roi_steps
    if roi_steps is not None:
        with torch.no_grad():
            cast(Tensor, network.level_counts).copy_(roi_steps.map.counts())
