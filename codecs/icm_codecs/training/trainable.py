"""What a learned codec brings to be trained by a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor

from icm_bench.network.target import Target
from icm_codecs.training.images import Source


@runtime_checkable
class Trainable(Protocol):
    """A codec's networks as they are trained: a ``torch.nn.Module`` with these methods besides.

    A recipe names it by ``codec = "NAME"``; the entry point of that name in the group ``icm_bench.trainers`` is the
    class, in this package or in any other. The trainer moves it to the device, optimises what has gradients, saves
    checkpoints and resumes.
    """

    @classmethod
    def from_recipe(cls, tables: Mapping[str, Any]) -> Self:
        """Build the untrained networks from a recipe's tables, ``[network]`` and ``[loss]`` among them.

        Raises:
            ValueError: An entry is unknown, missing or impossible; the message says which.
        """

    def losses(self, image: Tensor, step: int) -> dict[str, Tensor]:
        """Return scalars by name for a batch N x 3 x H x W in 0..1, sides those of the recipe's crop.

        ``loss`` is minimised; the others are drawn as curves (``bpp``, ``psnr``, ...). The step, counted from 0, is
        what a staged training goes by.
        """

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights file that the codec loads, all or nothing, the facts in its metadata.

        It is safetensors, in half precision where the codec computes with exactly those values.
        """

    def start_from(self, path: Path) -> None:
        """Set the parameters to those of a weights file, as a training's start.

        Raises:
            CodecError: The file is missing, damaged, or of another kind or shape.
        """


@runtime_checkable
class GuidedTrainable(Trainable, Protocol):
    """Networks that learn from more than images: from the objects in them, or through a frozen detector."""

    @property
    def needs_objects(self) -> bool:
        """Whether the losses need to know the objects in the images."""

    @property
    def needs_a_start(self) -> bool:
        """Whether a training must start from weights."""

    def prepare(self, source: Source, detector_weights: Path | None) -> None:
        """Get ready for a training, before ``start_from``.

        Args:
            source: The training images.
            detector_weights: A weights file of the recipe's detector, if not its own.

        Raises:
            TrainingError: The detector cannot be used.
        """

    def guided_losses(self, image: Tensor, targets: list[Target], step: int) -> dict[str, Tensor]:
        """Return what :meth:`Trainable.losses` does, from the objects in each image as well."""

    def finish(self) -> None:
        """Check, at a training's end, that what had to stay frozen did.

        Raises:
            TrainingError: It has changed.
        """


@runtime_checkable
class HasOwnRates(Protocol):
    """Networks of which some parts learn faster than others."""

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """Return all that has gradients as an optimiser's groups, ``params`` and ``lr``.

        Args:
            rate: The recipe's learning rate.
        """
