"""One image through the networks and the entropy coder, and back.

The stream holds the importance map's levels, bit-plane by bit-plane from the most significant, then those bits of the
code that the map keeps. Each bit goes through the binary entropy coder with the probability that the context model
names; bits that are masked are not sent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from icm_bench.error import CodecError
from icm_bench.image import Image
from icm_codecs.bitstream.container import Frame
from icm_codecs.bitstream.table import Decoder, Encoder, Tables
from icm_codecs.content_weighted.checkpoint import ContentWeightedCheckpoint
from icm_codecs.content_weighted.context import ContextRun, Walk, offsets, walk
from icm_codecs.content_weighted.network import STRIDE, level_of, mask_of
from icm_codecs.learned import OfCheckpoint, checked_quality
from icm_codecs.pixel import n_blocks, padded, to_image, to_tensor

_REACH = 2


class Code(NamedTuple):
    """What a bitstream says.

    Attributes:
        level: h x w int64, the importance map's levels.
        bits: code x h x w bool, false where the map keeps none.
    """

    level: NDArray[np.int64]
    bits: NDArray[np.bool_]


class ContentWeightedCoder(OfCheckpoint[ContentWeightedCheckpoint]):
    """A checkpoint's networks at one rate point, on one device.

    Args:
        model: The checkpoint, on the device.
        quality: Index of the rate point, from 0.
        device: "cpu", "cuda"; the context models always run on the processor.

    Raises:
        UsageError: The checkpoint has no such rate point.
    """

    def __init__(self, model: ContentWeightedCheckpoint, quality: int, device: str) -> None:
        super().__init__(model, device)
        self._quality = checked_quality(quality, self.n_qualities, "content-weighted")

    @property
    def n_qualities(self) -> int:
        """How many rate points the checkpoint serves."""
        return self._model.shape.qualities

    @torch.inference_mode()
    def analyse(self, image: Image) -> Code:
        """Return the code of an image; nothing here need be reproducible, as the decoder is told the result."""
        pixels = padded(to_tensor(image, self._device), STRIDE)
        quality = torch.tensor([self._quality], device=self._device)
        encoding = self._model.encoder(pixels, quality)
        level = level_of(encoding.importance, self._model.shape)
        bits = (encoding.code > 0.5) & mask_of(level, self._model.shape)
        return Code(level[0].cpu().numpy(), bits[0].cpu().numpy())

    def entropy_code(self, code: Code) -> bytes:
        """Return the stream of a code."""
        model = self._model
        encoder = Encoder()
        flat = np.zeros_like(code.level)
        planes = _planes_of(code.level, model.shape.bit_planes)
        _put(encoder, planes, np.ones_like(planes), flat, model.map_context.at(self._quality), model.tables)
        mask = self._mask(code.level)
        _put(encoder, code.bits, mask, code.level, model.code_context.at(self._quality), model.tables)
        return encoder.bytes()

    def entropy_decode(self, frame: Frame) -> Code:
        """Return what a frame says; its quality is one that the checkpoint has.

        Raises:
            CodecError: The stream is damaged.
        """
        model = self._model
        rows, columns = n_blocks(frame.height, STRIDE), n_blocks(frame.width, STRIDE)
        n_planes = model.shape.bit_planes
        most_symbols = (n_planes + model.shape.code) * rows * columns
        decoder = Decoder(frame.payload, most_symbols=most_symbols)
        flat = np.zeros((rows, columns), dtype=np.int64)
        everything = np.ones((n_planes, rows, columns), dtype=np.bool_)
        planes = _take(decoder, everything, flat, model.map_context.at(frame.quality), model.tables)
        level = _levels_of(planes)
        context = model.code_context.at(frame.quality)
        return Code(level, _take(decoder, self._mask(level), level, context, model.tables))

    @torch.inference_mode()
    def synthesise(self, frame: Frame, code: Code) -> Image:
        """Return the image of a frame's code, of the frame's size."""
        bits = torch.from_numpy(code.bits).to(self._device)[None].float()
        quality = torch.tensor([frame.quality], device=self._device)
        pixels = self._model.decoder(bits, quality)
        return to_image(pixels, frame.height, frame.width)

    def _mask(self, level: NDArray[np.int64]) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = mask_of(torch.from_numpy(level)[None], self._model.shape)[0].numpy()
        return mask


def _put(
    encoder: Encoder,
    bits: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    side: NDArray[np.int64],
    context: ContextRun,
    tables: Tables,
) -> None:
    way = walk(mask, side, context.depth)
    volume = _empty_volume(mask.shape, context.depth)
    inside = volume[context.depth - 1 :, _REACH:-_REACH, _REACH:-_REACH]
    inside[...] = np.where(mask, 2 * bits.astype(np.int8) - 1, 0)
    flat = volume.reshape(-1)
    index = context.index_all(flat, way, offsets(context.depth, *volume.shape[1:]))
    symbols = (flat[way.position] > 0).astype(np.int64)
    encoder.put(torch.from_numpy(symbols), torch.from_numpy(index), tables)


def _take(
    decoder: Decoder, mask: NDArray[np.bool_], side: NDArray[np.int64], context: ContextRun, tables: Tables
) -> NDArray[np.bool_]:
    way = walk(mask, side, context.depth)
    volume = _empty_volume(mask.shape, context.depth)
    flat = volume.reshape(-1)
    steps = offsets(context.depth, *volume.shape[1:])
    for start, end in zip(way.fronts[:-1], way.fronts[1:], strict=True):
        flat[way.position[start:end]] = _take_front(
            decoder, flat, way, slice(start, end), steps, context, tables
        )
    bits: NDArray[np.bool_] = volume[context.depth - 1 :, _REACH:-_REACH, _REACH:-_REACH] > 0
    return bits


def _take_front(
    decoder: Decoder,
    flat: NDArray[np.int8],
    way: Walk,
    front: slice,
    steps: NDArray[np.int64],
    context: ContextRun,
    tables: Tables,
) -> NDArray[np.int8]:
    neighbours = flat[way.position[front, None] + steps]
    index = context.index(neighbours, way.plane[front], way.side[front])
    symbols = decoder.take(torch.from_numpy(index), tables).numpy()
    if symbols.min() < 0 or symbols.max() > 1:
        raise CodecError("the bitstream is damaged", hint="give the bytes that encode returned, whole")
    signs: NDArray[np.int8] = (2 * symbols - 1).astype(np.int8)
    return signs


def _empty_volume(shape: tuple[int, ...], depth: int) -> NDArray[np.int8]:
    planes, rows, columns = shape
    return np.zeros((planes + depth - 1, rows + 2 * _REACH, columns + 2 * _REACH), dtype=np.int8)


def _planes_of(level: NDArray[np.int64], n_planes: int) -> NDArray[np.bool_]:
    places = np.arange(n_planes - 1, -1, -1)[:, None, None]
    bits: NDArray[np.bool_] = (level >> places) & 1 == 1
    return bits


def _levels_of(planes: NDArray[np.bool_]) -> NDArray[np.int64]:
    places = np.arange(len(planes) - 1, -1, -1)[:, None, None]
    levels: NDArray[np.int64] = (planes.astype(np.int64) << places).sum(axis=0)
    return levels
