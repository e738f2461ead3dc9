"""One image through the networks and the coding of their bits, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from icm_bench.error import UsageError
from icm_bench.image import Image
from icm_codecs.learned import OfCheckpoint
from icm_codecs.pixel import padded, to_image, to_tensor
from icm_codecs.rnn_gdn.checkpoint import RnnCheckpoint
from icm_codecs.rnn_gdn.container import Coding, ProgressiveFrame, raw_bytes
from icm_codecs.rnn_gdn.context import ContextModel, Plane
from icm_codecs.rnn_gdn.network import BITS, STRIDE, State


class RnnCoder(OfCheckpoint[RnnCheckpoint]):
    """A checkpoint's networks on one device: see the base."""

    def planes(self, image: Image, iterations: int) -> list[Plane]:
        """Return the bits of each iteration.

        Nothing here need be reproducible: the decoder is told the result.

        Raises:
            UsageError: The networks were trained for fewer iterations.
        """
        most = self._model.network.shape.iterations
        if iterations > most:
            raise UsageError(f"has no quality {iterations}", where="rnn-gdn", hint=f"choose 1 to {most}")
        with torch.inference_mode():
            # The paper pads to 32 pixels; 16 are enough for its networks, and cost fewer bits.
            pixels = padded(to_tensor(image, self._device) - 0.5, STRIDE)
            bits = list(self._encoded(pixels, iterations))
        return [(plane[0] > 0).to(torch.uint8).cpu().numpy() for plane in bits]

    def _encoded(self, image: Tensor, iterations: int) -> Iterator[Tensor]:
        residual, seen = image, None
        encoder_state: State = ()
        decoder_state: State = ()
        for iteration in range(1, iterations + 1):
            values, encoder_state = self._model.network.encoder(residual, encoder_state)
            bits = _signs(values > 0.0)
            yield bits
            if iteration < iterations:
                output, decoder_state = self._model.network.decoder(bits, decoder_state)
                seen = self._model.network.add(seen, output)
                residual = image - seen

    def entropy_decode(self, frame: ProgressiveFrame) -> list[Plane]:
        """Return the bits of each of a frame's iterations."""
        return read_segments(frame)

    def synthesise(self, frame: ProgressiveFrame, planes: Iterable[Plane]) -> Image:
        """Return the image, of the frame's size, of one iteration's bits or more."""
        with torch.inference_mode():
            return to_image(self._decoded(planes) + 0.5, frame.height, frame.width)

    def _decoded(self, planes: Iterable[Plane]) -> Tensor:
        seen = None
        state: State = ()
        for plane in planes:
            bits = _signs(torch.from_numpy(plane).to(self._device)[None] > 0)
            output, state = self._model.network.decoder(bits, state)
            seen = self._model.network.add(seen, output)
        if seen is None:
            raise ValueError("there is no iteration")
        return seen


def write_segments(planes: list[Plane], coding: Coding) -> tuple[bytes, ...]:
    """Return the segments of a bitstream, one an iteration, each 32 x rows x columns bits."""
    raw = [np.packbits(plane).tobytes() for plane in planes]
    if coding == "raw":
        return tuple(raw)
    model = ContextModel(*planes[0].shape[1:])
    coded = [model.encode(plane) for plane in planes]
    return tuple(min(pair, key=len) for pair in zip(raw, coded, strict=True))


def read_segments(frame: ProgressiveFrame) -> list[Plane]:
    """Return the bits of each iteration.

    Raises:
        CodecError: A segment is malformed.
    """
    rows, columns = frame.blocks
    model = ContextModel(rows, columns) if frame.coding == "adaptive" else None
    planes = []
    for segment in frame.segments:
        if len(segment) == raw_bytes(rows, columns):
            flat = np.unpackbits(np.frombuffer(segment, np.uint8))
            plane = flat.reshape(BITS, rows, columns)
            if model is not None:
                model.learn(plane)
        elif model is not None:
            plane = model.decode(segment)
        planes.append(plane)
    return planes


def _signs(positive: Tensor) -> Tensor:
    return positive.float() * 2.0 - 1.0
