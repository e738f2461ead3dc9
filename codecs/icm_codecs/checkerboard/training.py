"""Train the codec for photographs: bits per pixel plus lambda times a distortion, at all positions at once.

First the entropy model alone, on the frozen transforms of tucodec; then everything, with a distortion that is in part
the loss of frozen teachers (:mod:`icm_codecs.training.teacher`). As in :mod:`icm_codecs.tucodec.training`, each sample
of a batch is coded at a position of its own, drawn so that a batch is spread over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from icm_bench.detectors.target import Target
from icm_bench.error import TrainingError
from icm_codecs.checkerboard.checkpoint import save_checkpoint, start_from
from icm_codecs.checkerboard.network import CheckerboardNetwork, CheckerboardShape, add_noise
from icm_codecs.training.detector_loss import focus_on
from icm_codecs.training.images import Source
from icm_codecs.training.recipe import check_tables, table_of
from icm_codecs.training.ssim_loss import with_structure
from icm_codecs.training.teacher import OnnxTeacher, RcnnTeacher, Teacher, TeachersLoss
from icm_codecs.tucodec.network import interpolate

Stage = Literal["entropy", "all"]
"""What is learned: the entropy model alone, on frozen transforms, or everything."""

_LEAST_BPP = 0.02
"""Below it, a sample's rate is no longer weighed by its inverse where the entropy model is learned alone."""


@dataclass(frozen=True)
class CheckerboardLoss:
    """What is minimised.

    Attributes:
        lambdas: One a trained rate point, rising; the loss is bpp + lambda * 255^2 * distortion (pixels in 0..1).
        balance: Each sample's loss is weighed by lambda ** -balance: 0 favours high rates, 1 low ones.
        unfiltered: Share of the squared error that is taken before the post-filter, 0 to 1.
        structure: Share of the structural dissimilarity in the fidelity's distortion, 0 to 1.
        stage: What is learned.
    """

    lambdas: tuple[float, ...]
    balance: float = 0.5
    unfiltered: float = 0.2
    structure: float = 0.7
    stage: Stage = "all"

    def __post_init__(self) -> None:
        if not self.lambdas or self.lambdas[0] <= 0 or list(self.lambdas) != sorted(set(self.lambdas)):
            raise ValueError("lambdas are not positive, or do not rise")
        _check_shares(unfiltered=self.unfiltered, structure=self.structure)
        if self.stage not in get_args(Stage):
            raise ValueError(f"stage is {self.stage!r}, not one of {', '.join(get_args(Stage))}")


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
    """

    detector: str = ""
    onnx: str = ""
    enlarge: float = 1.0
    taps: tuple[str, ...] = ()
    bgr: bool = False
    pixel_max: float = 1.0

    def __post_init__(self) -> None:
        if bool(self.detector) == bool(self.onnx):
            raise ValueError("a teacher is either a detector or an onnx file")

    @property
    def name(self) -> str:
        """What the weights record of it."""
        return self.detector or Path(self.onnx).stem

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
        scale: What one of their loss is worth in squared error of pixels in 0..1.
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
        _check_shares(share=self.share, background=self.background)

    def share_at(self, step: int) -> float:
        """Return the share at a step, counted from 0."""
        return self.share * min(1.0, step / max(1, self.share_steps))


@dataclass(frozen=True)
class Ladder:
    """Which rate points the weights serve: where they lie between those that are trained."""

    positions: tuple[float, ...] = ()


class CheckerboardModel(nn.Module):
    """The networks as they are trained.

    Args:
        shape: How large the networks are.
        loss: What is minimised.
        task: The teachers' part of it, if there is one.
        ladder: Which rate points are exported; by default the trained ones.
    """

    def __init__(
        self,
        shape: CheckerboardShape,
        loss: CheckerboardLoss,
        task: TaskLoss | None = None,
        ladder: Ladder = Ladder(),
    ) -> None:
        super().__init__()
        self.network = CheckerboardNetwork(shape, loss.lambdas)
        self._loss, self._task = loss, task
        self._positions = ladder.positions or tuple(float(k) for k in range(shape.rate_points))
        self._detector_weights: Path | None = None
        # No module of this one: its weights are not saved, and nobody may set it to training mode.
        self._teachers: TeachersLoss | None = None
        self._log_lambdas: Tensor
        self.register_buffer("_log_lambdas", torch.tensor(loss.lambdas).log()[:, None], persistent=False)
        if loss.stage == "entropy":
            self.network.requires_grad_(False)
            for parameter in self.network.entropy_parameters():
                parameter.requires_grad_(True)

    @classmethod
    def from_recipe(cls, tables: Mapping[str, Any]) -> Self:
        """Build the untrained networks from a recipe's tables.

        Raises:
            ValueError: An entry is unknown, missing or impossible; the message says which.
        """
        check_tables(tables, "task", "ladder")
        loss = table_of(CheckerboardLoss, tables.get("loss", {}), "loss")
        task = None
        if "task" in tables:
            entries = tuple(
                table_of(TeacherEntry, entry, "task.teachers") for entry in tables["task"].get("teachers", ())
            )
            task = table_of(TaskLoss, {**tables["task"], "teachers": entries}, "task")
        sizes = {**tables.get("network", {}), "rate_points": len(loss.lambdas)}
        ladder = table_of(Ladder, tables.get("ladder", {}), "ladder")
        return cls(table_of(CheckerboardShape, sizes, "network"), loss, task, ladder)

    @property
    def needs_objects(self) -> bool:
        """Whether the losses need to know the objects in the images."""
        return self._task is not None and self._task.background < 1.0

    @property
    def needs_a_start(self) -> bool:
        """Whether a training must start from weights: frozen transforms are those of weights."""
        return self._loss.stage == "entropy"

    def prepare(self, _source: Source, detector_weights: Path | None) -> None:
        """Get ready for a training.

        Args:
            detector_weights: A weights file of the recipe's detectors, if not their own.

        Raises:
            TrainingError: A teacher cannot be used.
        """
        self._detector_weights = detector_weights
        self._open_teachers()

    def losses(self, image: Tensor, step: int) -> dict[str, Tensor]:
        """Return :meth:`guided_losses` of images of which no objects are known: all of an image is one."""
        return self.guided_losses(image, [], step)

    def guided_losses(self, image: Tensor, targets: list[Target], step: int) -> dict[str, Tensor]:
        """Return ``loss``, and the means over the batch of ``bpp``, ``psnr`` and, where teachers are asked, ``task``.

        Args:
            image: N x 3 x H x W in 0..1, sides multiples of 64.
            targets: The objects in each image; none where they are not known.
            step: Counted from 0.
        """
        position = self._spread(len(image), image.device)
        n_pixels = image.shape[2] * image.shape[3]
        if self._loss.stage == "entropy":
            with torch.no_grad():
                scaled = self.network.scale(image, position)
            coded = self.network.code(scaled, position)
            bpp = self.network.bits(scaled, coded, position, add_noise) / n_pixels
            return {"loss": (bpp / bpp.detach().clamp(min=_LEAST_BPP)).mean(), "bpp": bpp.detach().mean()}
        estimate = self.network(image, position)
        bpp = estimate.bits / n_pixels
        mse = (estimate.image - image).square().mean(dim=(1, 2, 3))
        unfiltered = (estimate.unfiltered - image).square().mean(dim=(1, 2, 3))
        error = torch.lerp(mse, unfiltered, self._loss.unfiltered)
        distortion = with_structure(error, estimate.image, image, self._loss.structure)
        found = {
            "bpp": bpp.detach().mean(),
            "psnr": (-10.0 * torch.log10(mse.detach().clamp(min=1e-10))).mean(),
        }
        if self._task is not None:
            share = self._task.share_at(step)
            # Outside of 0..1 pixels are clipped: a little beyond, so that a gradient leads back.
            decoded = estimate.image.clamp(-0.1, 1.1)
            seen = self._open_teachers()(decoded, image, self._focus(image, targets), step)
            distortion = (1.0 - share) * distortion + share * self._task.scale * seen
            found["task"] = seen.detach().mean()
        lambdas = torch.exp(interpolate(self._log_lambdas, position))[:, 0, 0, 0]
        weights = lambdas**-self._loss.balance / torch.exp(-self._loss.balance * self._log_lambdas).mean()
        return {"loss": (weights * (bpp + lambdas * 255.0**2 * distortion)).mean(), **found}

    def finish(self) -> None:
        """Check, at a training's end, that the teachers have not changed.

        Raises:
            TrainingError: One has.
        """
        for teacher in self._teachers.teachers if self._teachers is not None else ():
            if teacher.has_moved():
                hint = "report this as an error of the package"
                raise TrainingError("the frozen detector has changed", where=teacher.name, hint=hint)

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write the weights file that the codec loads, all or nothing."""
        names = {entry.name for entry in self._task.teachers} if self._task else set()
        # A training that started from weights went through their detectors as well.
        names |= set(facts.get("detectors", "").split(",")) - {""}
        save_checkpoint(self.network, path, {**facts, "detectors": ",".join(sorted(names))}, self._positions)

    def start_from(self, path: Path) -> None:
        """Set the parameters to those of a weights file, of this codec's or, for the transforms alone, of tucodec's.

        Raises:
            CodecError: The file is missing, damaged, or of another kind or shape.
        """
        start_from(self.network, path)

    def _open_teachers(self) -> TeachersLoss:
        if self._task is None:
            raise TrainingError("has no teachers", where="[task]", hint="add a [task] table to the recipe")
        if self._teachers is None:
            opened = [entry.open(self._detector_weights) for entry in self._task.teachers]
            self._teachers = TeachersLoss(opened, sizes=self._task.sizes, logits=self._task.logits)
        return self._teachers

    def _focus(self, image: Tensor, targets: list[Target]) -> Tensor:
        background = self._task.background if self._task is not None and targets else 1.0
        return focus_on(targets, background, like=image[:, :1])

    def _spread(self, n: int, device: torch.device) -> Tensor:
        """Draw one position from each of n equal parts of the range, in random order."""
        parts = torch.randperm(n, device=device) + torch.rand(n, device=device)
        return parts * ((self.network.shape.rate_points - 1) / n)


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"{name} is {share}, not from 0 to 1")
