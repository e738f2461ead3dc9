"""What a training is told: a TOML file, read once, checked, and never changed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from icm_bench.error import TrainingError
from icm_codecs.bitstream.weights_file import find_file

_RECIPES = Path(__file__).parents[1] / "recipes"
_SHARED_TABLES = frozenset({"name", "codec", "objective", "network", "loss", "optimisation", "coding"})

_Table = TypeVar("_Table")
_Shape = TypeVar("_Shape")


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

    def __post_init__(self) -> None:
        check_lambdas(self.lambdas)
        check({"background is from 0 to 1": 0.0 <= self.background <= 1.0})

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


def find_recipe(name: str) -> Path:
    """Return the path of a shipped recipe, by its name, or of a TOML file.

    Raises:
        TrainingError: There is neither.
    """
    return find_file(name, _RECIPES, ".toml", "recipe")


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


def table_of(kind: type[_Table], values: Mapping[str, Any], name: str) -> _Table:
    """Return a table as a dataclass, its lists as tuples.

    Args:
        kind: The dataclass, which checks what its fields may be.
        values: The table.
        name: Its name, for errors.

    Raises:
        ValueError: An entry is unknown, missing, impossible or of another type; the message says which.
    """
    unknown = set(values) - {entry.name for entry in fields(kind)}  # type: ignore[arg-type]  # always a dataclass
    if unknown:
        raise ValueError(f"[{name}] has unknown entries {', '.join(sorted(unknown))}")
    try:
        return kind(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        )
    except TypeError as error:
        raise ValueError(f"[{name}] has a missing entry, or one of the wrong type: {error}") from error


def loss_and_shape(
    tables: Mapping[str, Any], loss: type[_Table], shape: type[_Shape], **counted: str
) -> tuple[_Table, _Shape]:
    """Return what a recipe's ``[loss]`` and ``[network]`` say.

    Args:
        tables: The recipe's.
        loss: The dataclass of the one.
        shape: The dataclass of the other.
        counted: Fields of the shape that count a list of the loss, as in ``qualities="lambdas"``.

    Raises:
        ValueError: An entry is unknown, missing or impossible; the message says which.
    """
    said = table_of(loss, tables.get("loss", {}), "loss")
    counts = {name: len(getattr(said, listed)) for name, listed in counted.items()}
    return said, table_of(shape, {**tables.get("network", {}), **counts}, "network")


def check_tables(tables: Mapping[str, Any], *own: str) -> None:
    """Raise ``ValueError`` where a recipe has tables beside those of every codec and a codec's own."""
    unknown = set(tables) - _SHARED_TABLES - set(own)
    if unknown:
        raise ValueError(f"unknown tables {', '.join(sorted(unknown))}")


def check(requirements: Mapping[str, bool]) -> None:
    """Raise ``ValueError`` with the first requirement that does not hold."""
    broken = [requirement for requirement, holds in requirements.items() if not holds]
    if broken:
        raise ValueError(f"it must hold that {broken[0]}")


def check_lambdas(lambdas: Sequence[float]) -> None:
    """Raise ``ValueError`` where lambdas are no positive numbers that rise."""
    check(
        {
            "lambdas are numbers": all(isinstance(value, int | float) for value in lambdas),
            "lambdas are positive and rise": bool(lambdas)
            and lambdas[0] > 0
            and list(lambdas) == sorted(set(lambdas)),
        }
    )


def check_shares(**shares: float) -> None:
    """Raise ``ValueError`` with the first share that is not from 0 to 1."""
    check({f"{name}, now {share}, is from 0 to 1": 0.0 <= share <= 1.0 for name, share in shares.items()})


def optimisation_of(tables: Mapping[str, Any]) -> Optimisation:
    """Return what a recipe's tables say of the optimisation.

    Raises:
        ValueError: An entry is unknown, missing or impossible; the message says which.
    """
    values = dict(tables.get("optimisation", {}))
    crop = values.get("crop", 256)
    sides = list(crop) if isinstance(crop, list) else [crop, crop]
    optimisation = table_of(Optimisation, {**values, "crop": sides}, "optimisation")
    check(
        {
            "crop is a side or two, multiples of 64": len(sides) == 2
            and all(side % 64 == 0 < side for side in sides),
            "steps is positive": optimisation.steps > 0,
            "batch is positive": optimisation.batch > 0,
        }
    )
    return optimisation


def coding_of(tables: Mapping[str, Any]) -> Coding:
    """Return what a recipe's tables say of how the weights are used.

    Raises:
        ValueError: An entry is unknown or impossible; the message says which.
    """
    coding = table_of(Coding, tables.get("coding", {}), "coding")
    check({"rdoq_lambda is from 0 to 1": 0.0 <= coding.rdoq_lambda <= 1.0})
    return coding
