"""Teachers: frozen detectors that a codec is trained through, several at once.

What several architectures need of an image is what a detector that nobody has seen will need. Each teacher gives its
features of the decoded and of the original image; their relative error is the loss, and where a teacher has dense
class logits, the divergence between the two of them as well (as in distillation). Only gradients to the image are
taken: a teacher never changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from icm_bench.error import TrainingError
from icm_bench.network.target import Target
from icm_codecs.training.detector_loss import FrozenDetector, Task
from icm_codecs.training.onnx_graph import OnnxGraph

_PROBE = 128
"""Side of the image by which a graph's shapes are found out, in pixels."""

_LEAST_CHANNELS = 8
"""A tensor of fewer channels is an output, not a feature."""


class Seen(NamedTuple):
    """What a teacher makes of images.

    Attributes:
        features: N x C x h x w each, a pyramid.
        logits: Dense logits, pairs of objectness (N x 1 x h x w) and classes (N x K x h x w), where there are any.
    """

    features: list[Tensor]
    logits: list[tuple[Tensor, Tensor]]


class Teacher(Protocol):
    """A frozen detector, through which gradients pass to the image."""

    name: str

    def features(self, image: Tensor) -> Seen:
        """Return what the detector makes of images, N x 3 x H x W in 0..1."""

    def losses(self, image: Tensor, targets: list[Target]) -> Tensor | None:
        """Return the detector's own loss, a scalar, from the objects in the images; none where it has no such loss."""

    def has_moved(self) -> bool:
        """Whether any weight or statistic differs from what was loaded."""


class RcnnTeacher:
    """A torchvision R-CNN.

    Args:
        name: The detector's name: see :class:`~icm_codecs.training.detector_loss.Task`.
        weights: A weights file; by default the detector's own.
        enlarge: How much larger the detector sees images.

    Raises:
        TrainingError: There is no such detector, or none that gradients can pass.
    """

    def __init__(self, name: str, *, weights: Path | None = None, enlarge: float = 1.0) -> None:
        self.name = name
        self._enlarge = enlarge
        self._detector = FrozenDetector(Task(name, (), enlarge=enlarge), weights=weights)

    def features(self, image: Tensor) -> Seen:
        """Return the pyramid that its heads see."""
        network = self._detector.network.to(image.device)
        height, width = (round(side * self._enlarge) for side in image.shape[2:])
        network.transform.fixed_size = (width, height)
        levels: dict[str, Tensor] = network.backbone(network.transform(list(image), None)[0].tensors)
        return Seen([levels[level] for level in network.roi_heads.box_roi_pool.featmap_names], [])

    def losses(self, image: Tensor, targets: list[Target]) -> Tensor | None:
        """Return the sum of its proposals' and its heads' losses."""
        self._detector.network.to(image.device)
        return self._detector.loss(image, image, targets, lambdas=torch.ones(len(image), device=image.device))

    def has_moved(self) -> bool:
        """Whether any weight or statistic differs from what was loaded."""
        return self._detector.has_moved()


class OnnxTeacher:
    """A detector that was exported to ONNX.

    Args:
        path: The graph: its first input takes images, N x 3 x H x W.
        taps: Names of the tensors that are its features; by default chosen from the graph: the last tensor before
            each down-sampling, and what the heads branch off from.
        bgr: Whether it wants blue first.
        pixel_max: What the brightest pixel becomes.

    Raises:
        TrainingError: The graph cannot be read, or gradients cannot pass to a tap.
    """

    def __init__(
        self, path: Path, *, taps: Sequence[str] = (), bgr: bool = False, pixel_max: float = 1.0
    ) -> None:
        self.name = path.stem
        self._graph = OnnxGraph(path)
        self._bgr, self._pixel_max = bgr, pixel_max
        self._logits = _dense_logits(self._graph)
        self.taps = tuple(taps) or self._default_taps()
        _ = self.features(torch.zeros(1, 3, _PROBE, _PROBE))

    def features(self, image: Tensor) -> Seen:
        """Return the tensors at the taps."""
        flat = [name for pair in self._logits for name in pair]
        found = self._run(image, [*self.taps, *flat])
        features, logits = found[: len(self.taps)], found[len(self.taps) :]
        return Seen(features, list(zip(logits[::2], logits[1::2], strict=True)))

    def losses(self, _image: Tensor, _targets: list[Target]) -> None:
        """Return none: a graph for inference has no loss."""
        return

    def has_moved(self) -> bool:
        """Return that nothing has: a graph's constants are no parameters, and no operator writes to them."""
        return False

    def _run(self, image: Tensor, wanted: Sequence[str]) -> list[Tensor]:
        given = self._pixel_max * (image.flip(1) if self._bgr else image)
        graph = self._graph.to(image.device)
        return cast("list[Tensor]", graph({graph.inputs[0]: given}, wanted))

    def _default_taps(self) -> tuple[str, ...]:
        """Return names in the graph's order: the last of each size before a down-sampling, and heads' last branches."""
        shapes = self._graph.shapes({self._graph.inputs[0]: torch.zeros(1, 3, _PROBE, _PROBE)})
        sizes = {name: s[2] for name, s in shapes.items() if len(s) == 4 and s[1] >= _LEAST_CHANNELS}
        before_sampling, branching = dict[int, str](), dict[int, str]()
        for node in self._graph.nodes:
            source, made = sizes.get(node.inputs[0]), sizes.get(node.outputs[0])
            if source is not None and made is not None and 1 < made < source < _PROBE // 2:
                before_sampling[source] = node.inputs[0]
        branches = Counter(node.inputs[0] for node in self._graph.nodes if node.operator == "Conv")
        for name, size in sizes.items():
            if branches[name] > 1 and size < _PROBE // 2:
                branching[size] = name
        chosen = {*before_sampling.values(), *branching.values()}
        if not chosen:
            raise TrainingError("has no features to tap", where=self.name, hint="name its tensors with taps")
        return tuple(name for name in sizes if name in chosen)


def _dense_logits(graph: OnnxGraph) -> list[tuple[str, str]]:
    """Return what YOLOX's heads join with their boxes, before its sigmoids: pairs of objectness and classes."""
    makers = {name: node for node in graph.nodes for name in node.outputs}
    pairs = []
    for node in graph.nodes:
        if node.operator == "Concat" and len(node.inputs) == 3:
            scores = [makers[name] for name in node.inputs[1:] if name in makers]
            if [one.operator for one in scores] == ["Sigmoid", "Sigmoid"]:
                pairs.append((scores[0].inputs[0], scores[1].inputs[0]))
    return pairs


class TeachersLoss:
    """The loss of several teachers, of which each step asks one.

    Args:
        teachers: They.
        sizes: Sides in pixels at which a teacher sees crops, one drawn for each step; none for crops as they are.
        logits: What the divergence of logits weighs next to the features' error.
    """

    def __init__(
        self, teachers: Sequence[Teacher], *, sizes: Sequence[int] = (), logits: float = 4.0
    ) -> None:
        if not teachers:
            raise ValueError("there is no teacher")
        self.teachers, self._sizes, self._logits = tuple(teachers), tuple(sizes), logits

    def __call__(self, decoded: Tensor, image: Tensor, focus: Tensor, step: int) -> Tensor:
        """Return each image's loss, N.

        Args:
            decoded: N x 3 x H x W, about 0..1.
            image: The same before coding.
            focus: What errors weigh in each place, N x 1 x H x W.
            step: Counted from 0; says which teacher is asked.
        """
        teacher = self.teachers[step % len(self.teachers)]
        size = self._sizes[int(torch.randint(len(self._sizes), ()))] if self._sizes else None
        with torch.autocast(image.device.type, enabled=False):
            with torch.no_grad():
                wanted = teacher.features(_resized(image.float(), size))
            found = teacher.features(_resized(decoded.float(), size))
            return _feature_loss(found, wanted, focus) + self._logits * _logit_loss(found, wanted, focus)


def _resized(image: Tensor, size: int | None) -> Tensor:
    if size is None:
        return image
    return functional.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)


def _feature_loss(found: Seen, wanted: Seen, focus: Tensor) -> Tensor:
    """Return the share of the features' variance that is lost, a mean over the pyramid: N."""
    lost = []
    for value, original in zip(found.features, wanted.features, strict=True):
        error = (value - original).square().mean(dim=1, keepdim=True) / original.var(dim=(0, 2, 3)).mean()
        lost.append(_mean(error, focus))
    return torch.stack(lost).mean(dim=0)


def _logit_loss(found: Seen, wanted: Seen, focus: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of objectness, and of classes where objects are, summed over levels: N.

    Finer levels weigh less, by half from one to the next: they have four times the places, most of them empty.
    """
    total = focus.new_zeros(len(focus))
    pairs = list(zip(found.logits, wanted.logits, strict=True))
    for level, ((objectness, classes), (true_objectness, true_classes)) in enumerate(pairs):
        each = _divergence(true_classes, classes) * torch.sigmoid(true_objectness)
        each = each + _divergence(true_objectness, objectness)
        total = total + 0.5 ** (len(pairs) - 1 - level) * _mean(each, focus)
    return total


def _divergence(true: Tensor, logits: Tensor) -> Tensor:
    """Return the divergence of Bernoulli distributions, summed over channels: N x 1 x h x w."""
    probability, log = torch.sigmoid(true), functional.logsigmoid
    each = probability * (log(true) - log(logits)) + (1.0 - probability) * (log(-true) - log(-logits))
    return each.sum(dim=1, keepdim=True)


def _mean(error: Tensor, focus: Tensor) -> Tensor:
    """Return the mean over places, as they are weighed: N x 1 x h x w, N x 1 x H x W -> N."""
    weighed: Tensor = error * functional.adaptive_max_pool2d(focus, error.shape[2:])
    return weighed.mean(dim=(1, 2, 3))
