"""What a training of ``icm`` is told, checked: see :mod:`icm_codecs.training.recipe`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any

import numpy as np

from icm_codecs.icm.network import IcmShape
from icm_codecs.icm.residual import ResidualPoints
from icm_codecs.icm.roi import RoiLevels
from icm_codecs.training.detector_loss import Task
from icm_codecs.training.recipe import (
    Loss,
    Optimisation,
    check,
    check_tables,
    coding_of,
    optimisation_of,
    table_of,
)


@dataclass(frozen=True)
class LossWeights:
    """The weights of the three terms of L = rate L_rate + mse L_mse + task L_task."""

    rate: float = 1.0
    mse: float = 1.0
    task: float = 0.0


@dataclass(frozen=True)
class Knot(LossWeights):
    """Weights that hold at one step."""

    step: int = 0


@dataclass(frozen=True)
class Schedule:
    """Loss weights by step: straight lines between knots, constant before the first and after the last.

    Le et al. weigh their terms dynamically because fixed weights let the terms' gradients compete; how their weights
    move is unpublished, so knots are our choice.
    """

    knots: tuple[Knot, ...] = (Knot(),)

    def weights(self, step: int) -> LossWeights:
        """Return the weights of one optimiser step, counted from 0."""
        steps = [knot.step for knot in self.knots]
        names = [entry.name for entry in fields(LossWeights)]
        found = {name: np.interp(step, steps, [getattr(knot, name) for knot in self.knots]) for name in names}
        return LossWeights(**{name: float(value) for name, value in found.items()})


@dataclass(frozen=True)
class Roi:
    """Where the latent's steps are coarser, and what finds out where.

    Attributes:
        levels: How much coarser, by how likely an object is.
        learned: Whether this training teaches it, from labels, and nothing else. It is frozen otherwise.
        begin: The detector whose backbone's first layers it begins with where it is learned.
    """

    levels: RoiLevels = field(default_factory=RoiLevels)
    learned: bool = False
    begin: str = ""


@dataclass(frozen=True)
class IcmRecipe:
    """Everything that a training is told, but where its data and its output lie."""

    name: str
    shape: IcmShape
    loss: Loss
    schedule: Schedule
    optimisation: Optimisation
    task: Task | None = None
    roi: Roi = field(default_factory=Roi)
    residual: ResidualPoints = field(default_factory=ResidualPoints)


def recipe_of(tables: Mapping[str, Any]) -> IcmRecipe:
    """Return what a recipe's tables say.

    Raises:
        ValueError: An entry is unknown, missing or impossible; the message says which.
    """
    for former, present in (("attention", "roi"), ("remainder", "residual")):
        if former in tables:
            raise ValueError(f"the table {former} is now called {present}")
    check_tables(tables, "schedule", "task", "roi", "residual")
    coding_of(tables)
    loss = table_of(Loss, tables["loss"], "loss")
    points = ResidualPoints.from_dict(tables.get("residual", {}))
    sizes = {"qualities": len(loss.lambdas), "residual_points": len(points), **tables.get("network", {})}
    knots = tuple(table_of(Knot, knot, "schedule") for knot in tables.get("schedule", [{"step": 0}]))
    recipe = IcmRecipe(
        name=str(tables["name"]),
        shape=table_of(IcmShape, sizes, "network"),
        loss=loss,
        schedule=Schedule(tuple(sorted(knots, key=attrgetter("step")))),
        optimisation=optimisation_of(tables),
        task=table_of(Task, tables["task"], "task") if "task" in tables else None,
        roi=_roi(tables.get("roi", {})),
        residual=points,
    )
    check(_demands(recipe))
    return recipe


def _roi(table: Mapping[str, Any]) -> Roi:
    names = {entry.name for entry in fields(RoiLevels)}
    levels = RoiLevels.from_dict({key: value for key, value in table.items() if key in names})
    rest = {key: value for key, value in table.items() if key not in names}
    return table_of(Roi, {**rest, "levels": levels}, "roi")


def _demands(recipe: IcmRecipe) -> dict[str, bool]:
    lambdas, batch = recipe.loss.lambdas, recipe.optimisation.batch
    return {
        "there are as many lambdas as qualities": len(lambdas) == recipe.shape.qualities,
        "batch is a multiple of the number of lambdas": batch % len(lambdas) == 0 < batch,
        "detail is from 0 to less than latent": 0 <= recipe.shape.detail < recipe.shape.latent,
        "detailed counts some of the qualities where there is detail, and none elsewhere": (
            0 < recipe.shape.detailed < recipe.shape.qualities
            if recipe.shape.detail
            else recipe.shape.detailed == 0
        ),
        "roi has second steps for as many qualities as send an enhancement layer": (
            not recipe.shape.roi or len(recipe.roi.levels.second) == recipe.shape.detailed
        ),
        "residual has as many points as steps, an ROI network, and a task whose detector weights errors": (
            recipe.shape.residual_points == len(recipe.residual)
            and (not recipe.residual or (recipe.shape.roi > 0 and recipe.task is not None))
        ),
        "residual has steps for each ROI level": all(
            len(places) == len(recipe.roi.levels) for places in recipe.residual.coarser
        ),
        "roi has channels where it is learned": recipe.shape.roi > 0 or not recipe.roi.learned,
        "there is a knot in the schedule": bool(recipe.schedule.knots),
        "there are as many task lambdas as qualities": recipe.task is None
        or len(recipe.task.lambdas) == recipe.shape.qualities,
        "a schedule that weighs a task names one": recipe.task is not None
        or not any(knot.task for knot in recipe.schedule.knots),
    }
