"""What a layout of exported detectors is: how it takes images and how its outputs become boxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from icm_bench.detectors.box import Detections, Floats, Indices
from icm_bench.detectors.network_input import Channels, Fit, Placement
from icm_bench.detectors.onnx_model import Port

Outputs: TypeAlias = Mapping[str, NDArray[Any]]
"""What a network returns, by the outputs' names."""


class LayoutMismatch(Exception):  # noqa: N818  (says what was found; callers make it an error with a file's name)
    """A graph, or what it returns, is not of a layout; the message is a clause that says why."""


class SizeMismatch(LayoutMismatch):
    """The size that was asked for is not the graph's, whatever the layout."""


class Graph(Protocol):
    """What a layout reads of a model."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True)
class Defaults:
    """How the detectors of a family are usually run.

    Attributes:
        side: Height and width of the input where the graph leaves them free, in pixels; None for the image's own.
        fit: How an image is brought to that size.
        channels: The order of the channels.
        pixel_max: What the brightest pixel becomes.
        score: The score below which boxes are left out.
        nms: The intersection over union of suppression; 1 where the family needs none.
    """

    side: int | None
    fit: Fit
    channels: Channels
    pixel_max: Literal[1, 255]
    score: float
    nms: float


@dataclass(frozen=True)
class ImageInput:
    """The input that takes the image.

    Attributes:
        name: Its name.
        size: Height and width in pixels, None where both are free.
        kind: The type of its elements.
        channels_last: Whether the channels are its last axis.
        has_batch: Whether its first axis counts images.
    """

    name: str
    size: tuple[int, int] | None
    kind: str
    channels_last: bool = False
    has_batch: bool = True


@dataclass(frozen=True)
class Layout(ABC):
    """How a family of exported detectors takes images and returns boxes.

    Attributes:
        image: The input that takes the image.
        name: The family's name on the command line.
        defaults: How the family is usually run.
    """

    image: ImageInput

    name: ClassVar[str]
    defaults: ClassVar[Defaults]

    @property
    def has_masks(self) -> bool:
        """Whether the network draws masks."""
        return False

    @classmethod
    @abstractmethod
    def bind(cls, graph: Graph, n_classes: int, size: tuple[int, int] | None) -> Self:
        """Return the layout of a graph.

        Args:
            graph: The model's inputs and outputs.
            n_classes: How many classes it knows.
            size: Height and width of the input in pixels that were asked for, if any.

        Raises:
            LayoutMismatch: The graph is not of this layout.
        """

    def feeds(self, _placement: Placement) -> dict[str, NDArray[Any]]:
        """Return what the network takes beside the image."""
        return {}

    @abstractmethod
    def examine(self, outputs: Outputs, placement: Placement) -> Self:
        """Return the layout as the network's answer to a known image shows it.

        Raises:
            LayoutMismatch: No form of the layout explains the answer.
        """

    @abstractmethod
    def decode(self, outputs: Outputs, placement: Placement, lowest: float) -> Detections:
        """Return the boxes whose score is above the lowest, in the input's pixels.

        Raises:
            LayoutMismatch: The outputs are impossible in this layout.
        """

    def masks(
        self, _outputs: Outputs, _sources: Indices, _boxes: Floats, _placement: Placement
    ) -> list[NDArray[np.bool_]]:
        """Return the masks, height x width of the image each, of detections.

        Args:
            _outputs: What the network returned.
            _sources: The output rows of the detections.
            _boxes: Their boxes in the image's pixels, n x 4.
            _placement: Where the image lies in the input.
        """
        return []

    def __str__(self) -> str:
        return self.name
