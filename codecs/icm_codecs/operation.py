"""Counts the multiply-accumulate operations of networks while they code an image."""

from __future__ import annotations

from typing import Protocol

from icm_bench.codec import Complexity
from icm_bench.image import Image


class Coder(Protocol):
    """What codes an image."""

    def encode(self, image: Image) -> bytes:
        """Return one self-contained bitstream."""

    def decode(self, data: bytes) -> Image:
        """Return the image that the bitstream describes."""


def complexity(codec: Coder, image: Image) -> Complexity:
    """Return what a codec takes to encode and to decode an image: the convolutions and products of matrices that run.

    Args:
        codec: A codec on PyTorch, whose other arithmetic is not counted.
        image: What it codes.

    Raises:
        CodecError: The image cannot be coded.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as encoding:
        data = codec.encode(image)
    with FlopCounterMode(display=False) as decoding:
        codec.decode(data)
    # That counter takes a product and a sum for two operations.
    n_pixels = image.shape[0] * image.shape[1]
    return Complexity(*(counter.get_total_flops() / 2e3 / n_pixels for counter in (encoding, decoding)))
