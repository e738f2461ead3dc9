"""A recipe's ``[task]``: the teachers that a codec is trained through, and what they weigh next to fidelity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from icm_bench.error import TrainingError
from icm_bench.network.target import Target
from icm_codecs.training.detector_loss import focus_on
from icm_codecs.training.images import Source
from icm_codecs.training.recipe import check_shares, table_of
from icm_codecs.training.teacher import OnnxTeacher, RcnnTeacher, Teacher, TeachersLoss


@dataclass(frozen=True)
class TeacherEntry:
    """One teacher of a recipe: ``detector``, the name of one of torchvision's R-CNNs, or ``onnx``, a file.

    Attributes:
        detector: The name of a detector.
        onnx: The path of a graph.
        enlarge: How much larger the detector sees crops.
        taps: Names of the graph's tensors that are its features; by default chosen from the graph.
        bgr: Whether the graph wants blue first.
        pixel_max: What the brightest pixel becomes for it.
        spec: What results call it where it judges; by default the detector's name or the file's.
    """

    detector: str = ""
    onnx: str = ""
    enlarge: float = 1.0
    taps: tuple[str, ...] = ()
    bgr: bool = False
    pixel_max: float = 1.0
    spec: str = ""

    def __post_init__(self) -> None:
        if bool(self.detector) == bool(self.onnx):
            raise ValueError("a teacher is either a detector or an onnx file")

    @property
    def name(self) -> str:
        """What the weights record of it."""
        return self.spec or self.detector or Path(self.onnx).stem

    def open(self, weights: Path | None) -> Teacher:
        """Load the teacher; ``weights`` is a file for a detector, if not its own."""
        if self.detector:
            return RcnnTeacher(self.detector, weights=weights, enlarge=self.enlarge)
        return OnnxTeacher(Path(self.onnx), taps=self.taps, bgr=self.bgr, pixel_max=self.pixel_max)


@dataclass(frozen=True)
class TaskLoss:
    """The teachers' part of the distortion.

    Attributes:
        teachers: They take turns.
        share: What share of the distortion they have, 0 to 1, once it is reached.
        share_steps: Steps over which the share rises from nothing.
        scale: What one of their loss is worth in the distortion's unit.
        background: What errors far from every object weigh, 0 to 1.
        sizes: Sides in pixels at which they see crops; none for crops as they are.
        logits: What the divergence of logits weighs next to the features' error.
    """

    teachers: tuple[TeacherEntry, ...]
    share: float = 0.8
    share_steps: int = 300
    scale: float = 0.0046
    background: float = 0.2
    sizes: tuple[int, ...] = ()
    logits: float = 4.0

    def __post_init__(self) -> None:
        if not self.teachers:
            raise ValueError("[task] has no teachers")
        check_shares(share=self.share, background=self.background)

    def share_at(self, step: int) -> float:
        """Return the share at a step, counted from 0."""
        return self.share * min(1.0, step / max(1, self.share_steps))


class RecipeTeachers:
    """The teachers of a recipe, loaded when they are first asked.

    It is no module: their weights are not saved with a codec's, and nobody may set them to training mode.

    Args:
        task: The recipe's table.
    """

    def __init__(self, task: TaskLoss) -> None:
        self.task = task
        self._loss: TeachersLoss | None = None

    @classmethod
    def from_recipe(cls, tables: Mapping[str, Any]) -> RecipeTeachers | None:
        """Read a recipe's ``[task]``, where there is one.

        Raises:
            ValueError: An entry is unknown, missing or impossible; the message says which.
        """
        if "task" not in tables:
            return None
        table = tables["task"]
        entries = tuple(table_of(TeacherEntry, entry, "task.teachers") for entry in table.get("teachers", ()))
        return cls(table_of(TaskLoss, {**table, "teachers": entries}, "task"))

    @property
    def needs_objects(self) -> bool:
        """Whether what they weigh depends on where objects are."""
        return self.task.background < 1.0

    def open(self, weights: Path | None = None) -> TeachersLoss:
        """Load the teachers, once.

        Args:
            weights: A weights file of the recipe's detectors, if not their own.

        Raises:
            TrainingError: One cannot be used.
        """
        if self._loss is None:
            opened = [entry.open(weights) for entry in self.task.teachers]
            self._loss = TeachersLoss(opened, sizes=self.task.sizes, logits=self.task.logits)
        return self._loss

    def loss(self, decoded: Tensor, image: Tensor, targets: list[Target], step: int) -> Tensor:
        """Return each image's loss, N, by the teacher whose turn it is.

        Args:
            decoded: N x 3 x H x W, about 0..1.
            image: The same before coding.
            targets: The objects in each image; none where they are not known, which makes all of an image one.
            step: Counted from 0.
        """
        focus = focus_on(targets, self.task.background if targets else 1.0, like=image[:, :1])
        # Outside of 0..1 pixels are clipped: a little beyond, so that a gradient leads back.
        return self.open()(decoded.clamp(-0.1, 1.1), image, focus, step)

    def check_frozen(self) -> None:
        """Check that the teachers have not changed.

        Raises:
            TrainingError: One has.
        """
        for teacher in self._loss.teachers if self._loss is not None else ():
            if teacher.has_moved():
                hint = "report this as an error of the package"
                raise TrainingError("the frozen detector has changed", where=teacher.name, hint=hint)


def with_detectors(facts: Mapping[str, str], teachers: RecipeTeachers | None) -> dict[str, str]:
    """Return a weights file's facts with the detectors that it was trained through, in the start's training too."""
    names = {entry.name for entry in teachers.task.teachers} if teachers else set()
    names |= set(facts.get("detectors", "").split(",")) - {""}
    return {**facts, "detectors": ",".join(sorted(names))}


class TaughtModel(nn.Module, ABC):
    """What the models that teachers may judge have in common."""

    def __init__(self, teachers: RecipeTeachers | None) -> None:
        super().__init__()
        self._teachers = teachers

    @property
    def needs_objects(self) -> bool:
        """Whether the losses need to know the objects in the images."""
        return self._teachers is not None and self._teachers.needs_objects

    def prepare(self, _source: Source | None, detector_weights: Path | None) -> None:
        """Get ready for a training.

        Args:
            detector_weights: A weights file of the recipe's detectors, if not their own.

        Raises:
            TrainingError: A teacher cannot be used.
        """
        if self._teachers is not None:
            self._teachers.open(detector_weights)

    def losses(self, image: Tensor, step: int) -> dict[str, Tensor]:
        """Return :meth:`guided_losses` of images of which no objects are known: all of an image is one."""
        return self.guided_losses(image, [], step)

    @abstractmethod
    def guided_losses(self, image: Tensor, targets: list[Target], step: int) -> dict[str, Tensor]:
        """Return ``loss`` and the means over the batch of what a training reports."""

    def finish(self) -> None:
        """Check, at a training's end, that the teachers have not changed.

        Raises:
            TrainingError: One has.
        """
        if self._teachers is not None:
            self._teachers.check_frozen()
