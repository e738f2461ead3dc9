"""Train a learned codec by a recipe: any codec with an entry point in the group ``icm_bench.trainers``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn

from icm_bench import registry
from icm_bench.error import TrainingError, UsageError
from icm_codecs.bitstream.weights_file import find_weights, training_record
from icm_codecs.training.images import Source, open_source
from icm_codecs.training.loop import Batch, Training, fit, last_checkpoint
from icm_codecs.training.recipe import (
    Optimisation,
    check,
    coding_of,
    find_recipe,
    optimisation_of,
    read_tables,
)
from icm_codecs.training.trainable import GuidedTrainable, Trainable

__all__ = ["CodecTraining", "export", "find_recipe", "find_weights", "train"]


class CodecTraining(Training):
    """The training of a :class:`Trainable`, as Lightning runs it; the record is what exports and resumptions need."""

    def __init__(
        self, model: Any, record: Mapping[str, Any], optimisation: Optimisation, source: Source
    ) -> None:
        super().__init__(model, optimisation, source)
        self._record = dict(record)
        self._is_guided = isinstance(model, GuidedTrainable)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what an export and a resumption must know."""
        checkpoint["training"] = self._record

    def on_fit_end(self) -> None:
        """Make sure that what had to stay frozen did.

        Raises:
            TrainingError: It has changed.
        """
        if self._is_guided:
            cast(GuidedTrainable, self.network).finish()

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Return the loss of one batch."""
        pixels, targets = batch
        image = pixels.float().div(255.0).contiguous(memory_format=torch.channels_last)
        if self._is_guided:
            found = cast(GuidedTrainable, self.network).guided_losses(image, targets, self.global_step)
        else:
            found = cast(Trainable, self.network).losses(image, self.global_step)
        for name, value in found.items():
            self.log(name, value.detach())
        return found["loss"]


def train(
    recipe: Path,
    *,
    data: Sequence[Path],
    output: Path,
    device: str = "auto",
    resume: bool = True,
    max_steps: int | None = None,
    start: Path | None = None,
    annotations: Sequence[Path] = (),
    detector_weights: Path | None = None,
) -> Path:
    """Train a codec and return the weights file that it wrote.

    Args:
        recipe: A TOML file, see :mod:`icm_codecs.training.recipe`.
        data: Folders of images, or one of drawn scenes.
        output: The folder for checkpoints, curves (TensorBoard) and the weights.
        device: "auto", "cpu", or "cuda" for all the GPUs there are.
        resume: Go on from the checkpoint in ``output`` where there is one.
        max_steps: Stop early, at this step; a later call goes on from there.
        start: A weights file whose parameters a new training starts with.
        annotations: Files in COCO's object format, none or one for each folder, in their order.
        detector_weights: A weights file of the recipe's detector, if not its own.

    Raises:
        TrainingError: The recipe, the images, the checkpoint or the device cannot be used.
    """
    tables = read_tables(recipe)
    optimisation = _optimisation(recipe, tables)
    source = open_source(data, annotations)
    lightning.seed_everything(optimisation.seed, verbose=False)
    model = _model(recipe, tables)
    before = last_checkpoint(output) if resume else None
    if isinstance(model, GuidedTrainable):
        _check_guided(model, recipe, source, has_start=start is not None or before is not None)
        model.prepare(source, detector_weights)
    if start is not None:
        model.start_from(start)
    record = _record(model, tables, source, start)
    if before is not None:
        found = _read_checkpoint(before)
        _check_shape(found, record, before)
        record = {**record, "detectors": found["training"]["detectors"]}
    return fit(
        CodecTraining(model, record, optimisation, source),
        optimisation,
        output / f"{tables['name']}.safetensors",
        partial(export, recipe),
        device=device,
        max_steps=max_steps,
        resumed=before,
    )


def export(recipe: Path, checkpoint: Path, weights: Path) -> None:
    """Write the weights file that the codec uses, from any of a training's checkpoints.

    Raises:
        TrainingError: The recipe or the checkpoint cannot be used.
    """
    tables = read_tables(recipe)
    model, content = _model(recipe, tables), _read_checkpoint(checkpoint)
    _check_shape(content, _shapes(model, tables), checkpoint)
    model.load_state_dict(
        {key.removeprefix("network."): value for key, value in content["state_dict"].items()}
    )
    facts = {
        "name": str(tables["name"]),
        "rdoq_lambda": str(coding_of(tables).rdoq_lambda),
        "recipe": recipe.read_text(),
        "steps": str(content["global_step"]),
        "images": str(content["training"]["images"]),
        "detectors": ",".join(content["training"]["detectors"]),
        "torch": torch.__version__,
    }
    model.save(weights, facts)


def _optimisation(recipe: Path, tables: Mapping[str, Any]) -> Optimisation:
    try:
        check({"there is a name": "name" in tables})
        return optimisation_of(tables)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"is not a recipe: {error}", where=recipe, hint="correct the recipe") from error


def _model(recipe: Path, tables: Mapping[str, Any]) -> Any:
    """Return the untrained networks of a recipe: a module that is :class:`Trainable`."""
    codec = str(tables.get("codec", "icm"))
    try:
        trainer = registry.load("trainer", codec)
    except UsageError as error:
        hint = f"name one of {', '.join(registry.names('trainer'))}"
        raise TrainingError(
            f"names the codec {codec!r}, which cannot be trained", where=recipe, hint=hint
        ) from error
    try:
        coding_of(tables)
        model = trainer.from_recipe(tables)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"is not a recipe: {error}", where=recipe, hint="correct the recipe") from error
    if not (isinstance(model, Trainable) and isinstance(model, nn.Module)):
        raise TrainingError(
            f"the trainer of {codec!r} lacks a method of icm_codecs.training.trainable.Trainable, or is no module",
            where=recipe,
            hint="ask the author of the codec",
        )
    return model


def _check_guided(model: GuidedTrainable, recipe: Path, source: Source, *, has_start: bool) -> None:
    if model.needs_objects and not source.has_objects:
        raise TrainingError(
            "its losses need the objects in the images",
            where=recipe,
            hint="give annotations, or scenes, or set background = 1 and losses = 0 and train by features alone",
        )
    if model.needs_a_start and not has_start:
        raise TrainingError(
            "its further layers need a first", where=recipe, hint="name weights to start with"
        )


def _record(
    model: nn.Module, tables: Mapping[str, Any], source: Source, start: Path | None
) -> dict[str, Any]:
    """Return what a checkpoint says of its training: networks, images, and the detectors of what it started from."""
    detectors = [] if start is None else list(training_record(start, "").detectors)
    return {**_shapes(model, tables), "images": len(source), "detectors": detectors}


def _shapes(model: nn.Module, tables: Mapping[str, Any]) -> dict[str, Any]:
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    return {"network": dict(tables.get("network", {})), "shapes": shapes}


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        _ = [content["training"][key] for key in ("network", "shapes", "images", "detectors")]
        _ = content["state_dict"], content["global_step"]
    except (OSError, EOFError, KeyError, RuntimeError, UnpicklingError) as error:
        hint = "remove it to start afresh"
        raise TrainingError(
            f"is not a checkpoint of this training: {error}", where=path, hint=hint
        ) from error
    return content


def _check_shape(content: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    if any(content["training"][key] != wanted[key] for key in ("network", "shapes")):
        raise TrainingError("holds networks of another shape", where=path, hint="name another output folder")
