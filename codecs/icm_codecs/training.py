"""Train the learned codec.

The loss is Le et al.'s L = w_rate L_rate + w_mse L_mse + w_task L_task: bits per pixel, squared error, and
optionally the loss of a frozen task network on the decoded images. Rounding is replaced by additive uniform noise
where rates are estimated and passed straight through where images are decoded; the latter is our choice.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from icm_bench.detectors.target import Target
from icm_bench.error import TrainingError
from icm_codecs.checkpoint import find_weights, save_checkpoint, start_from
from icm_codecs.network import Estimate, IcmNetwork
from icm_codecs.picture import Crops, Source, open_source
from icm_codecs.recipe import Recipe, find_recipe, read_recipe
from icm_codecs.task import FrozenDetector, focus_on

__all__ = ["CodecTraining", "export", "find_recipe", "find_weights", "train"]

_LAST = "last.ckpt"
_LOG_STEPS = 50

Batch = tuple[Tensor, list[Target]]


class CodecTraining(lightning.LightningModule):
    """One network's training, as Lightning runs it.

    Args:
        recipe: What to train and how.
        source: The training pictures.
        detector_weights: A weights file of the recipe's detector, if not its own.
    """

    def __init__(self, recipe: Recipe, source: Source, detector_weights: Path | None = None) -> None:
        super().__init__()
        self.network = IcmNetwork(recipe.shape, recipe.loss.lambdas).to(memory_format=torch.channels_last)
        self._recipe, self._source, self._detector_weights = recipe, source, detector_weights
        # No module of this one: its weights are not saved, and nobody may set it to training mode.
        self._detector: FrozenDetector | None = None
        qualities = torch.arange(recipe.optimisation.batch) % recipe.shape.qualities
        self._lambdas = torch.tensor(recipe.loss.lambdas)[qualities]
        self._shares = torch.tensor(recipe.loss.quality_weights())[qualities]
        prices = recipe.task.prices if recipe.task is not None else (0.0,) * recipe.shape.qualities
        self._prices = torch.tensor(prices)[qualities]

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
                "the frozen detector has changed", mend="report this as an error of the package"
            )

    def configure_optimizers(self) -> Any:
        """Give Adam a warm-up and a cosine that ends with the recipe's last step."""
        plan = self._recipe.optimisation
        learned = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        adam = torch.optim.Adam(learned, lr=plan.rate, fused=True)

        def factor(step: int) -> float:
            warm = min(1.0, (step + 1) / plan.warmup_steps)
            end = plan.final_rate / plan.rate
            way = min(1.0, step / plan.steps)
            return warm * (end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * way)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(adam, factor)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_before_optimizer_step(self, _optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient, here because Lightning refuses to for fused optimisers."""
        learned = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(learned, self._recipe.optimisation.clip)
        self.log("gradient_norm", norm)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Deal crops from the step that the training stands at."""
        plan = self._recipe.optimisation
        crops = Crops(
            self._source,
            batch=plan.batch,
            size=plan.crop,
            seed=plan.seed,
            rank=self.global_rank,
            start=self.global_step,
            with_objects=self._source.has_objects,
        )
        return DataLoader(crops, batch_size=None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what an export and a resumption must know."""
        checkpoint["icm"] = {"shape": self._recipe.shape.as_dict(), "pictures": len(self._source)}

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Return the loss of one batch."""
        pixels, targets = batch
        image = pixels.float().div(255.0).contiguous(memory_format=torch.channels_last)
        estimate = self.network(image)
        bpp = estimate.bits / (image.shape[2] * image.shape[3])
        error = (estimate.image - image).square().mean(dim=1, keepdim=True)
        mse = error.mean(dim=(1, 2, 3))
        loss = self._loss(image, estimate, bpp, error, targets)
        self.log("loss", loss)
        if (self.global_step + 1) % _LOG_STEPS == 0:
            self._log_rungs(bpp.detach(), mse.detach())
        return loss

    def _loss(
        self, image: Tensor, estimate: Estimate, bpp: Tensor, error: Tensor, targets: list[Target]
    ) -> Tensor:
        weights = self._recipe.schedule.weights(self.global_step)
        shares = self._shares.to(error)
        prices = self._lambdas.to(error) * 255.0**2
        focus = focus_on(targets, self._recipe.loss.background, like=error)
        mse = (focus * error).mean(dim=(1, 2, 3))
        loss = (shares * (weights.rate * bpp + weights.mse * prices * mse)).mean()
        if self._detector is None or weights.task == 0.0:
            return loss
        task_prices = shares * self._prices.to(error)
        task = self._detector.loss(estimate.image, image, targets, prices=task_prices, focus=focus)
        self.log("task", task.detach())
        return loss + weights.task * task

    def _log_rungs(self, bpp: Tensor, mse: Tensor) -> None:
        n_qualities = self._recipe.shape.qualities
        for quality in range(n_qualities):
            self.log(f"bpp/{quality + 1}", bpp[quality::n_qualities].mean())
            self.log(f"psnr/{quality + 1}", (-10.0 * torch.log10(mse[quality::n_qualities])).mean())


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
        recipe: A TOML file, see :mod:`icm_codecs.recipe`.
        data: Folders of pictures, or one of drawn scenes.
        output: The folder for checkpoints, curves (TensorBoard) and the weights.
        device: "auto", "cpu", or "cuda" for all the GPUs there are.
        resume: Go on from the checkpoint in ``output`` where there is one.
        max_steps: Stop early, at this step; a later call goes on from there.
        start: A weights file whose parameters a new training starts with.
        annotations: A file in COCO's object format, of the one folder of pictures.
        detector_weights: A weights file of the recipe's detector, if not its own.

    Raises:
        TrainingError: The recipe, the pictures, the checkpoint or the device cannot be used.
    """
    plan = read_recipe(recipe)
    source = open_source(data, annotations)
    _check_objects(plan, source)
    lightning.seed_everything(plan.optimisation.seed, verbose=False)
    training = CodecTraining(plan, source, detector_weights)
    if start is not None:
        start_from(training.network, start)
    last = output / _LAST
    resumed = last if resume and last.exists() else None
    if resumed is not None:
        _read_checkpoint(resumed, plan)
    trainer = _trainer(recipe, plan, output, device, max_steps)
    trainer.fit(training, ckpt_path=resumed, weights_only=True)
    trainer.save_checkpoint(last, weights_only=False)
    weights = output / f"{plan.name}.safetensors"
    if trainer.is_global_zero:
        export(recipe, last, weights)
    return weights


def export(recipe: Path, checkpoint: Path, weights: Path) -> None:
    """Write the weights file that the codec uses, from any of a training's checkpoints.

    Raises:
        TrainingError: The recipe or the checkpoint cannot be used.
    """
    plan = read_recipe(recipe)
    content = _read_checkpoint(checkpoint, plan)
    network = IcmNetwork(plan.shape, plan.loss.lambdas)
    prefix = "network."
    network.load_state_dict({key[len(prefix) :]: value for key, value in content["state_dict"].items()})
    facts = {
        "name": plan.name,
        "recipe": recipe.read_text(),
        "steps": str(content["global_step"]),
        "pictures": str(content["icm"]["pictures"]),
        "torch": torch.__version__,
    }
    save_checkpoint(network, weights, facts)


def _check_objects(plan: Recipe, source: Source) -> None:
    needed = plan.loss.background < 1.0 or (plan.task is not None and plan.task.losses > 0.0)
    if needed and not source.has_objects:
        raise TrainingError(
            "its losses need the objects in the pictures",
            where=f"recipe '{plan.name}'",
            mend="give annotations, or scenes, or set background = 1 and losses = 0 and train by features alone",
        )


class _Snapshots(Callback):
    """Writes weights files on the way."""

    def __init__(self, recipe: Path, plan: Recipe, output: Path) -> None:
        self._recipe, self._plan, self._output = recipe, plan, output

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Write weights after the steps that the recipe names."""
        step = trainer.global_step
        if step not in self._plan.optimisation.snapshots:
            return
        last = self._output / _LAST
        trainer.save_checkpoint(last, weights_only=False)
        if trainer.is_global_zero:
            export(self._recipe, last, self._output / f"{self._plan.name}-{step}.safetensors")


def _trainer(
    recipe: Path, plan: Recipe, output: Path, device: str, max_steps: int | None
) -> lightning.Trainer:
    checkpoint = ModelCheckpoint(
        dirpath=output,
        filename=Path(_LAST).stem,
        enable_version_counter=False,
        train_time_interval=timedelta(minutes=plan.optimisation.checkpoint_minutes),
        save_on_train_epoch_end=False,
    )
    try:
        return lightning.Trainer(
            accelerator="gpu" if device == "cuda" else device,
            precision="bf16-mixed",
            max_steps=min(plan.optimisation.steps, max_steps or plan.optimisation.steps),
            max_epochs=-1,
            callbacks=[checkpoint, _Snapshots(recipe, plan, output)],
            logger=TensorBoardLogger(str(output), name="tensorboard", version=""),
            log_every_n_steps=_LOG_STEPS,
            enable_progress_bar=sys.stderr.isatty(),
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError) as error:
        raise TrainingError(f"cannot train on {device!r}: {error}", mend="use device auto or cpu") from error


def _read_checkpoint(path: Path, plan: Recipe) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        trained = content["icm"]["shape"]
    except (OSError, EOFError, KeyError, RuntimeError, UnpicklingError) as error:
        mend = "remove it to start afresh"
        raise TrainingError(
            f"is not a checkpoint of this training: {error}", where=path, mend=mend
        ) from error
    if trained != plan.shape.as_dict():
        raise TrainingError("holds networks of another shape", where=path, mend="name another output folder")
    return content
