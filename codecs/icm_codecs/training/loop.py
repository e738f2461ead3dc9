"""The loop that every learned codec is trained in: Lightning's, with its checkpoints, curves and devices."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from icm_bench.error import TrainingError
from icm_bench.network.target import Target
from icm_codecs.training.images import Crops, Source
from icm_codecs.training.recipe import Optimisation
from icm_codecs.training.trainable import HasOwnRates

Batch = tuple[Tensor, list[Target]]

_LOG_STEPS = 50
"""Steps from one point of the curves to the next."""

_LAST = "last.ckpt"

Export = Callable[[Path, Path], None]
"""Writes weights from a checkpoint: the checkpoint's path, the weights' path."""


class Training(lightning.LightningModule):
    """What all trainings share: Adam, the learning rate's way, clipping and crops."""

    def __init__(self, network: nn.Module, optimisation: Optimisation, source: Source) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.source = source
        self._optimisation = optimisation

    def configure_optimizers(self) -> Any:
        """Give Adam a warm-up and a cosine that ends with the recipe's last step."""
        plan = self._optimisation
        network: Any = self.network
        learned = network.parameter_groups(plan.rate) if isinstance(network, HasOwnRates) else self._learned()
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
        self.log("gradient_norm", nn.utils.clip_grad_norm_(self._learned(), self._optimisation.clip))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Deal crops from the step that the training stands at."""
        plan = self._optimisation
        crops = Crops(
            self.source,
            batch=plan.batch,
            size=plan.crop,
            seed=plan.seed,
            rank=self.global_rank,
            start=self.global_step,
            with_objects=self.source.has_objects,
        )
        return DataLoader(crops, batch_size=None)

    def _learned(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]


class _Snapshots(Callback):
    """Writes weights files on the way."""

    def __init__(self, steps: tuple[int, ...], last: Path, weights: Path, export: Export) -> None:
        self._steps, self._last, self._weights, self._export = steps, last, weights, export

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Write weights after the steps that the recipe names."""
        if trainer.global_step not in self._steps:
            return
        trainer.save_checkpoint(self._last, weights_only=False)
        if trainer.is_global_zero:
            name = f"{self._weights.stem}-{trainer.global_step}"
            self._export(self._last, self._weights.with_stem(name))


def last_checkpoint(output: Path) -> Path | None:
    """Return the checkpoint that a training in a folder goes on from, if there is one."""
    path = output / _LAST
    return path if path.exists() else None


def fit(
    training: Training,
    optimisation: Optimisation,
    weights: Path,
    export: Export,
    *,
    device: str,
    max_steps: int | None,
    resumed: Path | None,
) -> Path:
    """Train, and write the weights beside the checkpoints and curves.

    Args:
        training: What is trained.
        optimisation: How.
        weights: Where the weights go; its folder takes everything else.
        export: What writes them.
        device: "auto", "cpu", or "cuda" for all the GPUs there are.
        max_steps: Stop early, at this step.
        resumed: The checkpoint to go on from.

    Returns:
        ``weights``.

    Raises:
        TrainingError: There is no such device.
    """
    output = weights.parent
    last = output / _LAST
    checkpoint = ModelCheckpoint(
        dirpath=output,
        filename=last.stem,
        enable_version_counter=False,
        train_time_interval=timedelta(minutes=optimisation.checkpoint_minutes),
        save_on_train_epoch_end=False,
    )
    try:
        trainer = lightning.Trainer(
            accelerator="gpu" if device == "cuda" else device,
            precision="bf16-mixed",
            max_steps=min(optimisation.steps, max_steps or optimisation.steps),
            max_epochs=-1,
            callbacks=[checkpoint, _Snapshots(optimisation.snapshots, last, weights, export)],
            logger=TensorBoardLogger(str(output), name="tensorboard", version=""),
            log_every_n_steps=_LOG_STEPS,
            enable_progress_bar=sys.stderr.isatty(),
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError) as error:
        raise TrainingError(f"cannot train on {device!r}: {error}", hint="use device auto or cpu") from error
    trainer.fit(training, ckpt_path=resumed, weights_only=True)
    trainer.save_checkpoint(last, weights_only=False)
    if trainer.is_global_zero:
        export(last, weights)
    return weights
