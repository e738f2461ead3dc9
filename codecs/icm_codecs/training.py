"""Train the learned codec.

The loss is Le et al.'s L = w_rate L_rate + w_mse L_mse + w_task L_task: bits per pixel, squared error, and
optionally the loss of a frozen task network on the decoded images. Rounding is replaced by additive uniform noise
where rates are estimated and passed straight through where images are decoded; the latter is our choice.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image as PillowImage
from PIL import ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from icm_bench.error import TrainingError
from icm_bench.image import Image
from icm_codecs.checkpoint import save_checkpoint, start_from
from icm_codecs.network import Estimate, IcmNetwork
from icm_codecs.recipe import Recipe, find_recipe, read_recipe

__all__ = ["CodecTraining", "Crops", "TaskLoss", "export", "find_recipe", "read_images", "train"]

TaskLoss = Callable[[Tensor, Tensor], Tensor]
"""Decoded and original images, N x 3 x H x W about 0..1 -> one loss a sample, N."""

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_LAST = "last.ckpt"
_LOG_STEPS = 50


def read_images(folders: Sequence[Path], *, least_side: int) -> list[Image]:
    """Read every picture under the folders, padded by replication to at least ``least_side`` each way.

    Raises:
        TrainingError: There is no picture, or one cannot be read.
    """
    paths = sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES
    )
    if not paths:
        where = ", ".join(str(folder) for folder in folders)
        raise TrainingError("holds no picture to train on", where=where, mend="name folders of pictures")
    return [_read_image(path, least_side) for path in paths]


def _read_image(path: Path, least_side: int) -> Image:
    try:
        with PillowImage.open(path) as file:
            image = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"cannot be read: {error}", where=path, mend="remove or replace it") from error
    short = [(0, max(0, least_side - side)) for side in image.shape[:2]]
    return np.pad(image, [*short, (0, 0)], mode="edge")


class Crops(IterableDataset[Tensor]):
    """Random, randomly mirrored crops: batches N x 3 x side x side, uint8.

    Every batch follows from the seed, its step and the device's rank alone, so a resumed training goes on where it was.
    """

    def __init__(
        self, images: list[Image], *, batch: int, side: int, seed: int, rank: int, start: int
    ) -> None:
        self._images, self._batch, self._side = images, batch, side
        self._seed, self._rank, self._start = seed, rank, start

    def __iter__(self) -> Iterator[Tensor]:
        step = self._start
        while True:
            random = np.random.default_rng((self._seed, self._rank, step))
            yield torch.from_numpy(np.stack([self._crop(random) for _ in range(self._batch)]))
            step += 1

    def _crop(self, random: np.random.Generator) -> Image:
        image = self._images[random.integers(len(self._images))]
        top = random.integers(image.shape[0] - self._side + 1)
        left = random.integers(image.shape[1] - self._side + 1)
        crop = image[top : top + self._side, left : left + self._side]
        mirrored = crop[:, ::-1] if random.random() < 0.5 else crop
        return np.ascontiguousarray(mirrored.transpose(2, 0, 1))


class CodecTraining(lightning.LightningModule):
    """One network's training, as Lightning runs it.

    Args:
        recipe: What to train and how.
        images: The training pictures, each at least as large as a crop.
        task_loss: The loss of a frozen task network, if the schedule gives it weight.
    """

    def __init__(self, recipe: Recipe, images: list[Image], task_loss: TaskLoss | None = None) -> None:
        super().__init__()
        self.network = IcmNetwork(recipe.shape, recipe.loss.lambdas).to(memory_format=torch.channels_last)
        self._recipe, self._images, self._task_loss = recipe, images, task_loss
        self._lambdas = torch.tensor(recipe.loss.lambdas)
        self._quality_weights = torch.tensor(recipe.loss.quality_weights())

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

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Deal crops from the step that the training stands at."""
        plan = self._recipe.optimisation
        crops = Crops(
            self._images,
            batch=plan.batch,
            side=plan.crop,
            seed=plan.seed,
            rank=self.global_rank,
            start=self.global_step,
        )
        return DataLoader(crops, batch_size=None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what an export and a resumption must know."""
        checkpoint["icm"] = {"shape": self._recipe.shape.as_dict(), "pictures": len(self._images)}

    def training_step(self, batch: Tensor, _index: int) -> Tensor:
        """Return the loss of one batch."""
        image = batch.float().div(255.0).contiguous(memory_format=torch.channels_last)
        estimate = self.network(image)
        bpp = estimate.bits / (image.shape[2] * image.shape[3])
        mse = (estimate.image - image).square().mean(dim=(1, 2, 3))
        loss = self._loss(image, estimate, bpp, mse)
        self.log("loss", loss)
        if (self.global_step + 1) % _LOG_STEPS == 0:
            self._log_rungs(bpp.detach(), mse.detach())
        return loss

    def _loss(self, image: Tensor, estimate: Estimate, bpp: Tensor, mse: Tensor) -> Tensor:
        quality = torch.arange(len(image)) % self._recipe.shape.qualities
        weights = self._recipe.schedule.weights(self.global_step)
        price = self._lambdas[quality].to(mse) * 255.0**2
        per_sample = weights.rate * bpp + weights.mse * price * mse
        if self._task_loss is not None:
            per_sample = per_sample + weights.task * self._task_loss(estimate.image, image)
        return (self._quality_weights[quality].to(mse) * per_sample).mean()

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
    task_loss: TaskLoss | None = None,
) -> Path:
    """Train a codec and return the weights file that it wrote.

    Args:
        recipe: A TOML file, see :mod:`icm_codecs.recipe`.
        data: Folders of pictures.
        output: The folder for checkpoints, curves (TensorBoard) and the weights.
        device: "auto", "cpu", or "cuda" for all the GPUs there are.
        resume: Go on from the checkpoint in ``output`` where there is one.
        max_steps: Stop early, at this step; a later call goes on from there.
        start: A weights file whose parameters a new training starts with.
        task_loss: The loss of a frozen task network.

    Raises:
        TrainingError: The recipe, the pictures, the checkpoint or the device cannot be used.
    """
    plan = read_recipe(recipe)
    images = read_images(data, least_side=plan.optimisation.crop)
    lightning.seed_everything(plan.optimisation.seed, verbose=False)
    training = CodecTraining(plan, images, task_loss)
    if start is not None:
        start_from(training.network, start)
    last = output / _LAST
    resumed = last if resume and last.exists() else None
    if resumed is not None:
        _read_checkpoint(resumed, plan)
    trainer = _trainer(plan, output, device, max_steps)
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


def _trainer(plan: Recipe, output: Path, device: str, max_steps: int | None) -> lightning.Trainer:
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
            callbacks=[checkpoint],
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
