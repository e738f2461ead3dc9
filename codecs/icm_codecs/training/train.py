"""Train the learned codec.

The loss is Le et al.'s L = w_rate L_rate + w_mse L_mse + w_task L_task: bits per pixel, squared error, and
optionally the loss of a frozen task network on the decoded images. Rounding is replaced by additive uniform noise
where rates are estimated and passed straight through where images are decoded; the latter is our choice.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.nn import functional

from icm_bench import registry
from icm_bench.detectors.target import Target
from icm_bench.error import TrainingError
from icm_codecs.bitstream.weights_file import find_weights
from icm_codecs.hyperprior.variable_rate import LATENT_STRIDE, Estimate
from icm_codecs.icm.checkpoint import save_checkpoint
from icm_codecs.icm.network import IcmNetwork
from icm_codecs.icm.roi import RoiNetwork
from icm_codecs.icm.stage import (
    fit_residual,
    learn_all_but_roi,
    learn_enhancement_layer,
    learn_roi,
    start_staged,
)
from icm_codecs.training.detector_loss import FrozenDetector, focus_on
from icm_codecs.training.images import Source, open_source
from icm_codecs.training.loop import Batch, Training, fit, last_checkpoint
from icm_codecs.training.recipe import (
    Optimisation,
    Recipe,
    find_recipe,
    read_coding,
    read_optimisation,
    read_recipe,
    read_tables,
)
from icm_codecs.training.trainable import Trainable

__all__ = ["CodecTraining", "export", "find_recipe", "find_weights", "train"]


class CodecTraining(Training):
    """The training of ``icm``, as Lightning runs it.

    Args:
        recipe: What to train and how.
        source: The training images.
        detector_weights: A weights file of the recipe's detector, if not its own.
    """

    def __init__(self, recipe: Recipe, source: Source, detector_weights: Path | None = None) -> None:
        network = IcmNetwork(recipe.shape, recipe.loss.lambdas, recipe.roi.levels, recipe.residual)
        if recipe.roi.learned:
            learn_roi(network)
        elif recipe.shape.detail:
            learn_enhancement_layer(network)
        else:
            learn_all_but_roi(network)
        super().__init__(network, recipe.optimisation, source)
        self._recipe, self._detector_weights = recipe, detector_weights
        # No module of this one: its weights are not saved, and nobody may set it to training mode.
        self._detector: FrozenDetector | None = None
        self._qualities = network.coded_at(torch.empty(recipe.optimisation.batch))
        self._lambdas = torch.tensor(recipe.loss.lambdas)[self._qualities]
        self._shares = torch.tensor(recipe.loss.quality_weights())[self._qualities]
        lambdas = recipe.task.lambdas if recipe.task is not None else (0.0,) * recipe.shape.qualities
        self._task_lambdas = torch.tensor(lambdas)[self._qualities]

    def on_fit_start(self) -> None:
        """Load the frozen detector to where the network is."""
        if self._recipe.task is not None:
            weights, device = self._detector_weights, self.device
            self._detector = FrozenDetector(self._recipe.task, weights=weights, device=device)

    def on_fit_end(self) -> None:
        """Make sure that what had to stay frozen did.

        Raises:
            TrainingError: The detector has changed.
        """
        if self._detector is not None and self._detector.has_moved():
            raise TrainingError(
                "the frozen detector has changed", hint="report this as an error of the package"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what an export and a resumption must know."""
        checkpoint["icm"] = {"shape": self._recipe.shape.as_dict(), "images": len(self.source)}

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Return the loss of one batch."""
        pixels, targets = batch
        image = pixels.float().div(255.0).contiguous(memory_format=torch.channels_last)
        if self._recipe.roi.learned:
            return self._roi_loss(image, targets)
        estimate = self.network(image)
        bpp = estimate.bits / (image.shape[2] * image.shape[3])
        error = (estimate.image - image).square().mean(dim=1, keepdim=True)
        mse = error.mean(dim=(1, 2, 3))
        loss = self._loss(image, estimate, bpp, error, targets)
        self.log("loss", loss)
        if self.is_logged:
            self._log_rate_points(bpp.detach(), mse.detach())
        return loss

    def _roi_loss(self, image: Tensor, targets: list[Target]) -> Tensor:
        """Return the cross-entropy between where objects seem to be and where they, or what is near them, are."""
        network = cast(IcmNetwork, self.network)
        network.levels_of(image)
        logits = cast(Tensor, cast(nn.Module, network.analysis.roi)(image))
        near = focus_on(targets, 0.0, like=image[:, :1])
        wanted = functional.max_pool2d(near, LATENT_STRIDE)
        loss = functional.binary_cross_entropy_with_logits(logits, wanted)
        self.log("loss", loss)
        return loss

    def _loss(
        self, image: Tensor, estimate: Estimate, bpp: Tensor, error: Tensor, targets: list[Target]
    ) -> Tensor:
        weights = self._recipe.schedule.weights(self.global_step)
        shares = self._shares.to(error)
        lambdas = self._lambdas.to(error) * 255.0**2
        focus = focus_on(targets, self._recipe.loss.background, like=error)
        mse = (focus * error).mean(dim=(1, 2, 3))
        loss = (shares * (weights.rate * bpp + weights.mse * lambdas * mse)).mean()
        if self._detector is None or weights.task == 0.0:
            return loss
        task_lambdas = shares * self._task_lambdas.to(error)
        task = self._detector.loss(estimate.image, image, targets, lambdas=task_lambdas, focus=focus)
        self.log("task", task.detach())
        return loss + weights.task * task

    def _log_rate_points(self, bpp: Tensor, mse: Tensor) -> None:
        for quality in sorted(set(self._qualities.tolist())):
            coded = self._qualities == quality
            self.log(f"bpp/{quality + 1}", bpp[coded].mean())
            self.log(f"psnr/{quality + 1}", (-10.0 * torch.log10(mse[coded])).mean())


def train(
    recipe: Path,
    *,
    data: Sequence[Path],
    output: Path,
    device: str = "auto",
    resume: bool = True,
    max_steps: int | None = None,
    start: Path | None = None,
    annotations: Path | None = None,
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
        annotations: A file in COCO's object format, of the one folder of images.
        detector_weights: A weights file of the recipe's detector, if not its own.

    Raises:
        TrainingError: The recipe, the images, the checkpoint or the device cannot be used.
    """
    tables = read_tables(recipe)
    source = open_source(data, annotations)
    resumed = last_checkpoint(output) if resume else None
    one: _Icm | _Model = (
        _Icm(recipe, source, detector_weights) if "codec" not in tables else _Model(recipe, tables, source)
    )
    if start is not None:
        one.start_from(start)
    elif resumed is None and one.needs_a_start:
        raise TrainingError(
            "its further layers need a first", where=f"recipe '{one.name}'", hint="name weights to start with"
        )
    if resumed is not None:
        one.check(resumed)
    return fit(
        one.training,
        one.optimisation,
        output / f"{one.name}.safetensors",
        partial(export, recipe),
        device=device,
        max_steps=max_steps,
        resumed=resumed,
    )


def export(recipe: Path, checkpoint: Path, weights: Path) -> None:
    """Write the weights file that the codec uses, from any of a training's checkpoints.

    Raises:
        TrainingError: The recipe or the checkpoint cannot be used.
    """
    tables = read_tables(recipe)
    content = _read_checkpoint(checkpoint)
    state = {key.removeprefix("network."): value for key, value in content["state_dict"].items()}
    facts = {
        "rdoq_lambda": str(read_coding(tables).rdoq_lambda),
        "recipe": recipe.read_text(),
        "steps": str(content["global_step"]),
        "images": str(content["icm"]["images"]),
        "torch": torch.__version__,
    }
    if "codec" in tables:
        model = _model(recipe, tables)
        model.load_state_dict(state)
        model.save(weights, {"name": str(tables["name"]), **facts})
        return
    plan = read_recipe(recipe)
    _check_shape(content, plan.shape.as_dict(), checkpoint)
    network = IcmNetwork(plan.shape, plan.loss.lambdas, plan.roi.levels, plan.residual)
    network.load_state_dict(state)
    save_checkpoint(network, weights, {"name": plan.name, **facts})


class _Icm:
    """The training of ``icm``, by a task or without one."""

    def __init__(self, recipe: Path, source: Source, detector_weights: Path | None) -> None:
        self._plan = read_recipe(recipe)
        _check_objects(self._plan, source)
        self.name, self.optimisation = self._plan.name, self._plan.optimisation
        lightning.seed_everything(self.optimisation.seed, verbose=False)
        self.training = CodecTraining(self._plan, source, detector_weights)
        self.needs_a_start = bool(self._plan.shape.detail or self._plan.shape.residual_points)
        self._source, self._detector_weights = source, detector_weights
        if self._plan.roi.begin:
            _begin_roi(cast(IcmNetwork, self.training.network), self._plan.roi.begin)

    def start_from(self, weights: Path) -> None:
        network = cast(IcmNetwork, self.training.network)
        start_staged(network, weights)
        if self._plan.shape.residual_points and self._plan.task is not None:
            fit_residual(
                network, self._source, FrozenDetector(self._plan.task, weights=self._detector_weights)
            )

    def check(self, checkpoint: Path) -> None:
        _check_shape(_read_checkpoint(checkpoint), self._plan.shape.as_dict(), checkpoint)


class ModelTraining(Training):
    """The training of a codec that brings its own losses, as Lightning runs it.

    Args:
        model: Its networks.
        network: The recipe's table of them, kept to tell checkpoints apart.
        optimisation: How it is trained.
        source: The training images.
    """

    def __init__(
        self, model: Any, network: Mapping[str, Any], optimisation: Optimisation, source: Source
    ) -> None:
        super().__init__(model, optimisation, source)
        self._table = dict(network)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what an export and a resumption must know."""
        checkpoint["icm"] = {"shape": self._table, "images": len(self.source)}

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Return the loss of one batch."""
        image = batch[0].float().div(255.0).contiguous(memory_format=torch.channels_last)
        found = cast(Trainable, self.network).losses(image, self.global_step)
        for name, value in found.items():
            self.log(name, value.detach())
        return found["loss"]


class _Model:
    """The training of a codec that brings its own losses."""

    needs_a_start = False

    def __init__(self, recipe: Path, tables: Mapping[str, Any], source: Source) -> None:
        self.name = str(tables["name"])
        self.optimisation = read_optimisation(recipe)
        self._table = dict(tables.get("network", {}))
        lightning.seed_everything(self.optimisation.seed, verbose=False)
        self._model = _model(recipe, tables)
        self.training = ModelTraining(self._model, self._table, self.optimisation, source)

    def start_from(self, weights: Path) -> None:
        self._model.start_from(weights)

    def check(self, checkpoint: Path) -> None:
        _check_shape(_read_checkpoint(checkpoint), self._table, checkpoint)


def _model(recipe: Path, tables: Mapping[str, Any]) -> Any:
    module = f"icm_codecs.{str(tables['codec']).replace('-', '_')}.training"
    try:
        read_coding(tables)
        return importlib.import_module(module).Model.from_recipe(tables)
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"names the codec {tables['codec']!r}, which cannot be trained", where=recipe, hint="correct it"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"is not a recipe: {error}", where=recipe, hint="correct the recipe") from error


def _check_objects(plan: Recipe, source: Source) -> None:
    needed = (
        plan.roi.learned or plan.loss.background < 1.0 or (plan.task is not None and plan.task.losses > 0.0)
    )
    if needed and not source.has_objects:
        raise TrainingError(
            "its losses need the objects in the images",
            where=f"recipe '{plan.name}'",
            hint="give annotations, or scenes, or set background = 1 and losses = 0 and train by features alone",
        )


def _begin_roi(network: IcmNetwork, detector: str) -> None:
    backbone = getattr(registry.load("detector", detector), "network", lambda **_: nn.Module())(weights=None)
    try:
        cast(RoiNetwork, network.analysis.roi).begin_with(backbone.get_submodule("backbone"))
    except (AttributeError, RuntimeError) as error:
        raise TrainingError(
            "the ROI network cannot begin with the layers of this detector",
            where=f"detector '{detector}'",
            hint="name a detector of scenes, or none",
        ) from error


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        _ = content["icm"]["shape"], content["state_dict"], content["global_step"]
    except (OSError, EOFError, KeyError, RuntimeError, UnpicklingError) as error:
        hint = "remove it to start afresh"
        raise TrainingError(
            f"is not a checkpoint of this training: {error}", where=path, hint=hint
        ) from error
    return content


def _check_shape(content: Mapping[str, Any], shape: Mapping[str, Any], path: Path) -> None:
    if content["icm"]["shape"] != dict(shape):
        raise TrainingError("holds networks of another shape", where=path, hint="name another output folder")
