"""What a training is told: a TOML file, read once, checked, and never changed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from icm_bench.error import TrainingError
from icm_codecs.icm.network import Shape
from icm_codecs.icm.residual import ResidualPoints
from icm_codecs.icm.roi import RoiLevels
from icm_codecs.training.detector_loss import Task

_RECIPES = Path(__file__).parents[1] / "recipes"

_Table = TypeVar("_Table")


@dataclass(frozen=True)
class LossWeights:
    """The weights of the three terms of L = rate L_rate + mse L_mse + task L_task."""

    rate: float = 1.0
    mse: float = 1.0
    task: float = 0.0


@dataclass(frozen=True)
class Knot:
    """Weights that hold at one step."""

    step: int
    rate: float = 1.0
    mse: float = 1.0
    task: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """Loss weights by step: straight lines between knots, constant before the first and after the last.

    Le et al. weigh their terms dynamically because fixed weights let the terms' gradients compete; how their weights
    move is unpublished, so knots are our choice.
    """

    knots: tuple[Knot, ...] = (Knot(0),)

    def weights(self, step: int) -> LossWeights:
        """Return the weights of one optimiser step, counted from 0."""
        before = max((knot for knot in self.knots if knot.step <= step), key=_step, default=self.knots[0])
        after = min((knot for knot in self.knots if knot.step > step), key=_step, default=before)
        way = (
            0.0 if after.step == before.step else max(0.0, (step - before.step) / (after.step - before.step))
        )
        return LossWeights(
            before.rate + way * (after.rate - before.rate),
            before.mse + way * (after.mse - before.mse),
            before.task + way * (after.task - before.task),
        )


def _step(knot: Knot) -> int:
    return knot.step


@dataclass(frozen=True)
class Loss:
    """The lambda of the squared error at each quality, and how the qualities share the gradient.

    Attributes:
        lambdas: One a quality, rising; the loss of a quality is bpp + lambda * 255^2 * MSE (pixels in 0..1).
        balance: Each quality's loss is weighed by lambda ** -balance: 0 favours high rates, 1 low ones.
        background: What an error of pixels or features far from every object weighs, next to 1 on objects. Below 1,
            bits go to objects long before a detector's losses have taught as much; the images must be labelled.
    """

    lambdas: tuple[float, ...]
    balance: float = 0.5
    background: float = 1.0

    def quality_weights(self) -> tuple[float, ...]:
        """Return each quality's share of the loss, 1 on average."""
        raw = [value**-self.balance for value in self.lambdas]
        return tuple(value * len(raw) / sum(raw) for value in raw)


@dataclass(frozen=True)
class Optimisation:
    """How the parameters are learned.

    Attributes:
        steps: Optimiser steps in all; the learning rate's cosine ends here.
        batch: Crops a step and device, a multiple of the number of qualities.
        crop: Height and width of a crop in pixels, multiples of 64; in a recipe also one side of a square.
        rate: Adam's learning rate after the warm-up.
        final_rate: Its learning rate at the last step.
        warmup_steps: Steps over which the learning rate rises from nothing.
        clip: Largest norm of the gradient.
        seed: Fixes the initial parameters and the crops.
        checkpoint_minutes: Time between checkpoints.
        snapshots: Steps after which weights are written as well: where a schedule passes through rates, the ladder.
    """

    steps: int
    batch: int = 8
    crop: tuple[int, int] = (256, 256)
    rate: float = 1e-3
    final_rate: float = 1e-5
    warmup_steps: int = 200
    clip: float = 1.0
    seed: int = 1
    checkpoint_minutes: float = 3.0
    snapshots: tuple[int, ...] = ()


@dataclass(frozen=True)
class Coding:
    """How the weights are used.

    Attributes:
        rdoq_lambda: The squared error, in quantisation steps, that a bit is worth to the encoder, which moves symbols
            towards zero for it. For networks that were trained for the squared error; a task's are harmed by it.
    """

    rdoq_lambda: float = 0.0


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
class Recipe:
    """Everything that a training is told, but where its data and its output lie."""

    name: str
    shape: Shape
    loss: Loss
    schedule: Schedule
    optimisation: Optimisation
    task: Task | None = None
    coding: Coding = Coding()
    roi: Roi = field(default_factory=Roi)
    residual: ResidualPoints = field(default_factory=ResidualPoints)


def find_recipe(name: str) -> Path:
    """Return the path of a shipped recipe, by its name, or of a TOML file.

    Raises:
        TrainingError: There is neither.
    """
    shipped = sorted(_RECIPES.glob("*.toml"))
    found = [path for path in (*shipped, Path(name)) if name in (path.stem, str(path)) and path.is_file()]
    if not found:
        known = ", ".join(path.stem for path in shipped)
        raise TrainingError("there is no such recipe", where=name, hint=f"choose {known} or name a TOML file")
    return found[0]


def read_tables(path: Path) -> dict[str, Any]:
    """Read a recipe's tables, unchecked.

    Raises:
        TrainingError: The file is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise TrainingError("cannot be read", where=path, hint="name an existing recipe") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"is not TOML: {error}", where=path, hint="correct the recipe") from error


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe of ``icm``.

    Raises:
        TrainingError: The file is missing or no TOML, or a table has an unknown, missing or impossible entry.
    """
    tables = read_tables(path)
    try:
        return _parse(tables)
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"is not a recipe: {error}", where=path, hint="correct the recipe") from error


def read_optimisation(path: Path) -> Optimisation:
    """Read and check what a recipe of any codec says of the optimisation.

    Raises:
        TrainingError: The file is missing or no TOML, or an entry is unknown, missing or impossible.
    """
    tables = read_tables(path)
    try:
        optimisation = _optimisation(tables["optimisation"])
        _check({**_bounds(optimisation), "batch is positive": optimisation.batch > 0})
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"is not a recipe: {error}", where=path, hint="correct the recipe") from error
    return optimisation


def read_coding(tables: Mapping[str, Any]) -> Coding:
    """Return what a recipe's tables say of how the weights are used.

    Raises:
        TypeError: The lambda is no number.
        ValueError: An entry is unknown or impossible.
    """
    coding = _table(Coding, dict(tables.get("coding", {})))
    _check({"rdoq_lambda is from 0 to 1": 0.0 <= coding.rdoq_lambda <= 1.0})
    return coding


def _parse(tables: dict[str, Any]) -> Recipe:
    unknown = set(tables) - {
        "name",
        "network",
        "loss",
        "schedule",
        "optimisation",
        "task",
        "coding",
        "roi",
        "residual",
    }
    for former, present in (("attention", "roi"), ("remainder", "residual")):
        if former in unknown:
            raise ValueError(f"the table {former} is now called {present}")
    if unknown:
        raise ValueError(f"unknown tables {', '.join(sorted(unknown))}")
    loss = _table(Loss, _with_tuples(tables["loss"]))
    residual_points = ResidualPoints.from_dict(tables.get("residual", {}))
    sizes = {
        "qualities": len(loss.lambdas),
        "residual_points": len(residual_points),
        **tables.get("network", {}),
    }
    shape = _table(Shape, sizes)
    knots = tuple(_table(Knot, knot) for knot in tables.get("schedule", [{"step": 0}]))
    recipe = Recipe(
        name=str(tables["name"]),
        shape=shape,
        loss=loss,
        schedule=Schedule(tuple(sorted(knots, key=_step))),
        optimisation=_optimisation(tables["optimisation"]),
        task=_table(Task, _with_tuples(tables["task"])) if "task" in tables else None,
        coding=read_coding(tables),
        roi=_roi(tables.get("roi", {})),
        residual=residual_points,
    )
    _check({**_demands(recipe), **_bounds(recipe.optimisation)})
    return recipe


def _roi(table: dict[str, Any]) -> Roi:
    names = {entry.name for entry in fields(RoiLevels)}
    levels = RoiLevels.from_dict({key: value for key, value in table.items() if key in names})
    rest = {key: value for key, value in table.items() if key not in names}
    return _table(Roi, {**rest, "levels": levels})


def _optimisation(table: dict[str, Any]) -> Optimisation:
    values = _with_tuples(table)
    crop = values.get("crop", (256, 256))
    return _table(Optimisation, {**values, "crop": crop if isinstance(crop, tuple) else (crop, crop)})


def _with_tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _table(kind: type[_Table], values: dict[str, Any]) -> _Table:
    unknown = set(values) - {entry.name for entry in fields(kind)}  # type: ignore[arg-type]  # always a dataclass
    if unknown:
        raise ValueError(f"unknown entries {', '.join(sorted(unknown))}")
    return kind(**values)


def _check(requirements: dict[str, bool]) -> None:
    broken = [requirement for requirement, holds in requirements.items() if not holds]
    if broken:
        raise ValueError(f"it must hold that {broken[0]}")


def _bounds(optimisation: Optimisation) -> dict[str, bool]:
    return {
        "crop is a side or two, multiples of 64": len(optimisation.crop) == 2
        and all(side % 64 == 0 < side for side in optimisation.crop),
        "steps is positive": optimisation.steps > 0,
    }


def _demands(recipe: Recipe) -> dict[str, bool]:
    lambdas, batch = recipe.loss.lambdas, recipe.optimisation.batch
    return {
        "lambdas are positive and rise": lambdas[0] > 0 and list(lambdas) == sorted(set(lambdas)),
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
        "background is from 0 to 1": 0.0 <= recipe.loss.background <= 1.0,
        "there is a knot in the schedule": bool(recipe.schedule.knots),
        "there are as many task lambdas as qualities": recipe.task is None
        or len(recipe.task.lambdas) == recipe.shape.qualities,
        "a schedule that weighs a task names one": recipe.task is not None
        or not any(knot.task for knot in recipe.schedule.knots),
    }
