"""How an image becomes the input of a network, and how the network's boxes become boxes of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from icm_bench.detectors.box import Floats
from icm_bench.image import Image

Fit: TypeAlias = Literal["stretch", "letterbox", "letterbox-centre", "none"]
"""How an image is brought to the input's size: stretched; scaled into the top left corner or the centre, the rest
filled; or not at all."""

Channels: TypeAlias = Literal["rgb", "bgr"]
"""The order of the channels."""


@dataclass(frozen=True)
class Placement:
    """Where an image lies in a network's input.

    Attributes:
        width: The image's width in pixels.
        height: The image's height in pixels.
        input_width: The input's width in pixels.
        input_height: The input's height in pixels.
        scale: Pixels of the input for a pixel of the image, across and down.
        offset: The image's left and top edge in the input, in the input's pixels.
    """

    width: int
    height: int
    input_width: int
    input_height: int
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[int, int] = (0, 0)

    def to_image(self, boxes: Floats) -> Floats:
        """Return boxes of the input, n x 4, left, top, right, bottom, in the image's pixels."""
        return (boxes - np.array(self.offset * 2, np.float32)) / np.array(self.scale * 2, np.float32)


@dataclass(frozen=True)
class InputForm:
    """What a network wants to be given.

    Attributes:
        size: Height and width in pixels; None for each image's own.
        fit: How an image is brought to that size.
        padding: What fills the rest of a letterbox, 0 to 255.
        channels: The order of the channels.
        pixel_max: What the brightest pixel, 255, becomes.
        mean: What is subtracted from each channel, in the order and the range given.
        std: What each channel is then divided by.
        channels_last: Whether the input is 1 x height x width x 3 instead of 1 x 3 x height x width.
    """

    size: tuple[int, int] | None
    fit: Fit = "stretch"
    padding: int = 114
    channels: Channels = "rgb"
    pixel_max: int = 1
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels_last: bool = False

    def prepare(self, image: Image) -> tuple[Floats, Placement]:
        """Return the network's input, with a first axis of 1, and where the image lies in it."""
        placed, placement = self._place(image)
        ordered = placed if self.channels == "rgb" else placed[:, :, ::-1]
        pixels = ordered.astype(np.float32)
        if self.pixel_max != 255:
            pixels = pixels / np.float32(255.0 / self.pixel_max)
        if any(self.mean) or set(self.std) != {1.0}:
            pixels = (pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(pixels if self.channels_last else pixels.transpose(2, 0, 1))[
            None
        ], placement

    def __str__(self) -> str:
        size = "the image's own size" if self.size is None else f"{self.size[1]}x{self.size[0]}"
        fit = "" if self.fit == "none" else f" {self.fit}"
        padding = f" {self.padding}" if self.fit.startswith("letterbox") else ""
        text = f"{size}{fit}{padding}, {self.channels} 0-{self.pixel_max}"
        if any(self.mean):
            text += f", mean {_listed(self.mean)}"
        if set(self.std) != {1.0}:
            text += f", std {_listed(self.std)}"
        return text

    def _place(self, image: Image) -> tuple[NDArray[np.uint8], Placement]:
        height, width = image.shape[:2]
        if self.size is None or self.fit == "none":
            return image, Placement(width, height, width, height)
        rows, columns = self.size
        if self.fit == "stretch":
            scales = (columns / width, rows / height)
            return _resize(image, columns, rows), Placement(width, height, columns, rows, scales)
        scale = min(columns / width, rows / height)
        across, down = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (
            ((columns - across) // 2, (rows - down) // 2) if self.fit == "letterbox-centre" else (0, 0)
        )
        canvas = np.full((rows, columns, 3), self.padding, dtype=np.uint8)
        canvas[top : top + down, left : left + across] = _resize(image, across, down)
        return canvas, Placement(width, height, columns, rows, (scale, scale), (left, top))


def _resize(image: Image, width: int, height: int) -> Image:
    resized = PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.BILINEAR)
    return np.asarray(resized)


def _listed(numbers: tuple[float, ...]) -> str:
    return "/".join(f"{number:g}" for number in numbers)
