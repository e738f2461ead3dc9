"""One image through the networks and the entropy coder, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from icm_bench.error import CodecError
from icm_bench.image import Image
from icm_codecs.bitstream.container import Frame
from icm_codecs.bitstream.integer_layer import HYPER_BOUND, MEAN_BITS
from icm_codecs.bitstream.quantiser import SYMBOL_BOUND, Quantiser
from icm_codecs.bitstream.table import PRECISION_BITS, Decoder, Encoder
from icm_codecs.checkerboard.checkpoint import CheckerboardCheckpoint
from icm_codecs.learned import OfCheckpoint, checked_quality
from icm_codecs.pixel import n_blocks, padded, to_image, to_tensor
from icm_codecs.tucodec.network import HYPER_STRIDE

if TYPE_CHECKING:
    from icm_codecs.checkerboard.refine import Refiner

_SLACK_BITS = 64
"""What the entropy coder's state may hold beside the bytes that it has written."""

_COST = 0.999
"""How much of a symbol's information the entropy coder spends at least: its state is whole, and 31 bits long."""


class CheckerboardLatents(NamedTuple):
    """What a bitstream says, int64, on the CPU.

    Attributes:
        hyper: Hyper x h x w whole numbers.
        latent: Latent x H x W in units of ``2**-MEAN_BITS`` of a quantisation step.
    """

    hyper: Tensor
    latent: Tensor


class CheckerboardCoder(OfCheckpoint[CheckerboardCheckpoint]):
    """A checkpoint's networks at one rate point, on one device.

    Args:
        model: The checkpoint, on the device.
        quality: The rate point, from 0.
        device: "cpu", "cuda".
        name: The codec's name, for errors.
        refiner: Betters the latent of each image, if anything does.

    Raises:
        UsageError: The checkpoint has no such rate point.
    """

    def __init__(
        self,
        model: CheckerboardCheckpoint,
        quality: int,
        device: str,
        *,
        name: str,
        refiner: Refiner | None = None,
    ) -> None:
        super().__init__(model, device)
        self._refiner = refiner
        self._quality, self._name = checked_quality(quality, self.n_qualities, name), name
        self._quantiser = Quantiser(model.laplacians, model.rdoq_lambda, device)

    @property
    def n_qualities(self) -> int:
        """How many rate points the checkpoint serves."""
        return len(self._model.positions)

    @torch.inference_mode()
    def analyse(self, image: Image) -> tuple[Tensor, Tensor]:
        """Return the hyper-latent, hyper x h x w int64, and the scaled latent, latent x H x W, not rounded.

        Nothing here need be reproducible: the decoder is told the result.
        """
        pixels = padded(to_tensor(image, self._device), self._model.shape.transforms.stride)
        latent = self._model.analysis(pixels)
        scaled = latent * self._model.gain[self._quality][:, None, None]
        hyper = torch.round(
            self._model.hyper_analysis(padded(scaled, HYPER_STRIDE), self._position(self._quality))
        )
        hyper, scaled = hyper[0].clamp(-HYPER_BOUND, HYPER_BOUND).long(), scaled[0]
        if self._refiner is not None:
            scaled = self._refiner.refine(image, hyper, scaled, self._model.positions[self._quality])
        return hyper, scaled

    @torch.inference_mode()
    def entropy_code(self, hyper: Tensor, scaled: Tensor) -> bytes:
        """Return the stream of what :meth:`analyse` returned; what the scales say is zero is not sent."""
        encoder = Encoder()
        encoder.put(hyper.flatten(), self._hyper_index(hyper.shape, self._quality), self._model.laplacians)

        def code(channels: slice, places: Tensor, index: Tensor, mean: Tensor) -> Tensor:
            wanted = scaled[channels][:, places].double() - mean * 2.0**-MEAN_BITS
            symbols = self._quantiser.apply(wanted, index) * (index > 0)
            encoder.put(symbols[index > 0], index[index > 0], self._model.laplacians)
            return symbols

        self._model.entropy_model.walk(hyper, self._quality, (scaled.shape[1], scaled.shape[2]), code)
        return encoder.bytes()

    @torch.inference_mode()
    def entropy_decode(self, frame: Frame) -> CheckerboardLatents:
        """Return what a frame says; its quality is one that the checkpoint has.

        Raises:
            CodecError: The frame is larger than its bytes can say.
        """
        shape = self._model.shape
        rows, columns = (n_blocks(side, shape.transforms.stride) for side in (frame.height, frame.width))
        hyper_shape = torch.Size([shape.hyper, n_blocks(rows, HYPER_STRIDE), n_blocks(columns, HYPER_STRIDE)])
        self._check_size(frame, hyper_shape)
        n_symbols = hyper_shape.numel() + shape.latent * rows * columns
        decoder = Decoder(frame.payload, most_symbols=n_symbols)
        symbols = decoder.take(self._hyper_index(hyper_shape, frame.quality), self._model.laplacians)
        hyper = symbols.reshape(hyper_shape).clamp(-HYPER_BOUND, HYPER_BOUND)

        def code(_channels: slice, _places: Tensor, index: Tensor, _mean: Tensor) -> Tensor:
            symbols = torch.zeros_like(index)
            found = decoder.take(index[index > 0], self._model.laplacians)
            symbols[index > 0] = found.clamp(-SYMBOL_BOUND, SYMBOL_BOUND).to(index.device)
            return symbols

        model = self._model.entropy_model
        latent = model.walk(hyper.to(self._device), frame.quality, (rows, columns), code)
        return CheckerboardLatents(hyper, latent.cpu())

    @torch.inference_mode()
    def synthesise(self, frame: Frame, latents: CheckerboardLatents) -> Image:
        """Return the image of a frame's latents, of the frame's size, after the post-filter."""
        position = self._position(frame.quality)
        steps = (latents.latent.to(self._device)[None] * 2.0**-MEAN_BITS).float()
        scaled_back = steps * self._model.inverse_gain[frame.quality][:, None, None]
        pixels = self._model.post_filter(self._model.synthesis(scaled_back, position), position)
        return to_image(pixels, frame.height, frame.width)

    def _check_size(self, frame: Frame, hyper_shape: torch.Size) -> None:
        """Refuse a size whose hyper-latent alone takes more bits than there are, before anything is allocated."""
        tables = self._model.laplacians
        per_place = 0.0
        for index in self._model.entropy_model.hyper_index(frame.quality).tolist():
            likeliest = tables.select(index, index + 1).frequencies.max()
            per_place += PRECISION_BITS - float(np.log2(likeliest))
        least = _COST * per_place * hyper_shape[1] * hyper_shape[2]
        if least > 8 * len(frame.payload) + _SLACK_BITS:
            raise CodecError(
                f"{len(frame.payload)} bytes are too few for {frame.width}x{frame.height} pixels",
                where=self._name,
                hint="give the bytes that encode returned, whole",
            )

    def _position(self, quality: int) -> Tensor:
        return torch.tensor([self._model.positions[quality]], device=self._device)

    def _hyper_index(self, shape: torch.Size, quality: int) -> Tensor:
        return self._model.entropy_model.hyper_index(quality).cpu().repeat_interleave(shape[1] * shape[2])
