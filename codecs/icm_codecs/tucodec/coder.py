"""One image through the networks and the entropy coder, and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from icm_bench.image import Image
from icm_codecs.bitstream.integer_layer import HYPER_BOUND
from icm_codecs.bitstream.table import Decoder, Encoder
from icm_codecs.learned import OfCheckpoint
from icm_codecs.pixel import n_blocks, padded, to_image, to_tensor
from icm_codecs.tucodec.checkpoint import TucodecCheckpoint
from icm_codecs.tucodec.container import RateFrame
from icm_codecs.tucodec.network import HYPER_STRIDE, interpolate
from icm_codecs.tucodec.network_exact import STEP_BITS

_LATENT_BOUND = 2**15 - 1


class Latents(NamedTuple):
    """What a bitstream says, whole numbers, int64: hyper x h x w and latent x H x W."""

    hyper: Tensor
    latent: Tensor


class TucodecCoder(OfCheckpoint[TucodecCheckpoint]):
    """A checkpoint's networks on one device: see the base."""

    @property
    def last_position(self) -> int:
        """The highest position that the checkpoint serves, in units of ``2**-STEP_BITS`` of a rate point."""
        return (self._model.shape.rate_points - 1) << STEP_BITS

    @torch.inference_mode()
    def analyse(self, image: Image) -> Tensor:
        """Return the latent, 1 x latent x H x W, from which every position's stream is made."""
        pixels = padded(to_tensor(image, self._device), self._model.shape.stride)
        latent: Tensor = self._model.analysis(pixels)
        return latent

    @torch.inference_mode()
    def quantise(self, latent: Tensor, position: int) -> Latents:
        """Return what a stream at a position says of an image's latent.

        Nothing here need be reproducible: the decoder is told the result.
        """
        place = self._place(position)
        scaled = latent * torch.exp(interpolate(self._model.log_gain, place))
        hyper = torch.round(self._model.hyper_analysis(padded(scaled, HYPER_STRIDE), place))[0]
        whole = torch.round(scaled)[0].clamp(-_LATENT_BOUND, _LATENT_BOUND)
        return Latents(hyper.clamp(-HYPER_BOUND, HYPER_BOUND).long(), whole.long())

    @torch.inference_mode()
    def entropy_code(self, latents: Latents, position: int) -> bytes:
        """Return the stream of latents; what the scales say is zero is not sent."""
        index = self._latent_index(latents.hyper, position, latents.latent.shape)
        sent = index > 0
        encoder = Encoder()
        hyper_index = self._hyper_index(latents.hyper.shape, position)
        encoder.put(latents.hyper.flatten(), hyper_index, self._model.laplacians)
        encoder.put(latents.latent[sent], index[sent], self._model.laplacians)
        return encoder.bytes()

    @torch.inference_mode()
    def entropy_decode(self, frame: RateFrame) -> Latents:
        """Return what a frame says; its position is one that the checkpoint has."""
        shape = self._model.shape
        rows, columns = n_blocks(frame.height, shape.stride), n_blocks(frame.width, shape.stride)
        hyper_shape = torch.Size([shape.hyper, n_blocks(rows, HYPER_STRIDE), n_blocks(columns, HYPER_STRIDE)])
        latent_shape = torch.Size([shape.latent, rows, columns])
        decoder = Decoder(frame.payload, most_symbols=hyper_shape.numel() + latent_shape.numel())
        symbols = decoder.take(self._hyper_index(hyper_shape, frame.position), self._model.laplacians)
        hyper = symbols.reshape(hyper_shape).clamp(-HYPER_BOUND, HYPER_BOUND)
        index = self._latent_index(hyper.to(self._device), frame.position, latent_shape).cpu()
        latent = torch.zeros_like(index)
        latent[index > 0] = decoder.take(index[index > 0], self._model.laplacians)
        return Latents(hyper, latent.clamp(-_LATENT_BOUND, _LATENT_BOUND))

    @torch.inference_mode()
    def synthesise(self, frame: RateFrame, latents: Latents) -> Image:
        """Return the image of a frame's latents, of the frame's size, after the post-filter."""
        place = self._place(frame.position)
        inverse_gain = torch.exp(interpolate(self._model.log_inverse_gain, place))
        unfiltered = self._model.synthesis(latents.latent.to(self._device)[None] * inverse_gain, place)
        pixels = self._model.post_filter(unfiltered, place)
        return to_image(pixels, frame.height, frame.width)

    def _place(self, position: int) -> Tensor:
        return torch.tensor([position * 2.0**-STEP_BITS], device=self._device)

    def _latent_index(self, hyper: Tensor, position: int, shape: torch.Size) -> Tensor:
        return self._model.scales.apply(hyper[None], position)[0, :, : shape[1], : shape[2]]

    def _hyper_index(self, shape: torch.Size, position: int) -> Tensor:
        return self._model.scales.hyper_index(position).cpu().repeat_interleave(shape[1] * shape[2])
