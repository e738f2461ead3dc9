"""One image through the networks and the entropy coder, and back."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from icm_bench.error import UsageError
from icm_bench.image import Image
from icm_codecs.bitstream.container import Frame
from icm_codecs.bitstream.integer_layer import HYPER_BOUND, MEAN_BITS
from icm_codecs.bitstream.quantiser import SYMBOL_BOUND, Quantiser
from icm_codecs.bitstream.table import Decoder, Encoder
from icm_codecs.hyperprior.variable_rate import HYPER_STRIDE, LATENT_STRIDE
from icm_codecs.icm.checkpoint import Checkpoint
from icm_codecs.icm.network import Shape
from icm_codecs.icm.residual_coder import ResidualCoder


class Latents(NamedTuple):
    """What a bitstream says, int64.

    Attributes:
        hyper: Hyper x h x w whole numbers.
        latent: Sent x H x W in units of ``2**-MEAN_BITS`` of a step, which may be another from place to place.
        levels: H x W levels of the map that says which, where there is one.
        residual: 192 x 2H x 2W symbols of the residual layer, where it is sent.

    All lie on the CPU.
    """

    hyper: Tensor
    latent: Tensor
    levels: Tensor | None = None
    residual: Tensor | None = None


class Analysed(NamedTuple):
    """What an encoder makes of an image.

    Attributes:
        hyper: The hyper-latent, whole numbers, 1 x hyper x h x w.
        scaled: The latent, scaled for the quality and not for the levels, 1 x sent x H x W.
        levels: The map of levels, H x W int64, where there is one.
        residual: The symbols of the residual layer, 192 x 2H x 2W int64, where it is sent.
    """

    hyper: Tensor
    scaled: Tensor
    levels: Tensor | None = None
    residual: Tensor | None = None


class _Symbols(NamedTuple):
    """What a latent is coded as, int64: scale indices, symbols, and means in units of ``2**-MEAN_BITS``."""

    scale: Tensor
    symbol: Tensor
    mean: Tensor

    def latent(self) -> Tensor:
        """Return what the decoder will have of the latent, in units of ``2**-MEAN_BITS``."""
        latent: Tensor = self.symbol * 2**MEAN_BITS + self.mean
        return latent


class Coder:
    """A checkpoint's networks at one rate point, on one device.

    Args:
        model: The checkpoint, on the device.
        quality: Index of the rate point, from 0.
        device: "cpu", "cuda".
        name: The codec's name, for errors.
        uses_roi: Whether a checkpoint that has an ROI network uses it.

    Raises:
        UsageError: The checkpoint has no such rate point.
    """

    def __init__(
        self, model: Checkpoint, quality: int, device: str, *, name: str = "icm", uses_roi: bool = True
    ) -> None:
        n_qualities = _n_qualities(model)
        if quality not in range(n_qualities):
            raise UsageError(f"has no quality {quality + 1}", where=name, hint=f"choose 1 to {n_qualities}")
        self._model = model
        self._quality = quality
        self._network_quality = _network_quality(model, quality)
        self._device = device
        self._uses_roi = uses_roi
        hyper = model.shape.hyper
        self._quantiser = Quantiser(model.conditional, model.rdoq_lambda, device)
        self._priors = [model.prior.select(q * hyper, (q + 1) * hyper) for q in range(model.shape.qualities)]

    @property
    def n_qualities(self) -> int:
        """How many rate points the checkpoint serves."""
        return _n_qualities(self._model)

    @property
    def n_parameters(self) -> int:
        """How many learned values the checkpoint has."""
        return self._model.n_parameters()

    @torch.inference_mode()
    def analyse(self, image: Image) -> Analysed:
        """Return what is to be coded. Nothing here need be reproducible: the decoder is told the result."""
        pixels = torch.tensor(image, device=self._device).permute(2, 0, 1)[None].float() / 255.0
        quality = torch.tensor([self._network_quality], device=self._device)
        padded = _padded(pixels, LATENT_STRIDE)
        latent = self._model.analysis(padded, quality)
        gain = self._model.gain[self._network_quality][:, None, None]
        scaled = latent * gain[: latent.shape[1]]
        hyper = torch.round(self._model.hyper_analysis(_padded(scaled, HYPER_STRIDE), quality))
        hyper = hyper.clamp(-HYPER_BOUND, HYPER_BOUND).long()
        levels = self._levels(padded)
        third = self._third(self._quality)
        if third is None and latent.shape[1] == self._model.shape.sent(self._network_quality):
            return Analysed(hyper, scaled, levels)
        symbols = self._symbols(hyper, scaled, levels)
        missing = padded - self._pixels(symbols.latent(), self._network_quality, levels)
        if third is not None and levels is not None:
            return Analysed(hyper, scaled, levels, third.quantise(missing, levels))
        detail = self._model.analysis.get_submodule("detail")(missing)
        return Analysed(hyper, torch.cat([scaled, detail * gain[latent.shape[1] :]], dim=1), levels)

    def _levels(self, padded: Tensor) -> Tensor | None:
        """Return the map of levels of an image, H x W int64, where there is an ROI network."""
        roi_steps = self._model.roi_steps
        if roi_steps is None:
            return None
        levels = roi_steps.levels.of(self._model.analysis.get_submodule("roi")(padded))[0, 0]
        return levels if self._uses_roi else torch.zeros_like(levels)

    @torch.inference_mode()
    def entropy_code(
        self, hyper: Tensor, scaled: Tensor, levels: Tensor | None = None, residual: Tensor | None = None
    ) -> bytes:
        """Return the stream of what :meth:`analyse` returned."""
        symbols = self._symbols(hyper, scaled, levels)
        sent = symbols.scale > 0
        encoder = Encoder()
        if self._model.roi_steps is not None and levels is not None:
            self._model.roi_steps.map.put(encoder, levels)
        encoder.put(hyper.flatten(), _channel_index(hyper.shape[1:]), self._priors[self._network_quality])
        encoder.put(symbols.symbol[sent], symbols.scale[sent], self._model.conditional)
        third = self._third(self._quality)
        if third is not None and levels is not None and residual is not None:
            third.put(encoder, residual, levels)
        return encoder.bytes()

    def _symbols(self, hyper: Tensor, scaled: Tensor, levels: Tensor | None) -> _Symbols:
        """Quantise the first channels of the scaled latent, as many as there are."""
        channels, rows, columns = scaled.shape[1:]
        index, mean = self._expected(
            hyper, self._network_quality, torch.Size((channels, rows, columns)), levels
        )
        scaled = scaled * self._share(channels, self._network_quality, levels)
        symbol = self._quantiser.apply(scaled.double() - mean * 2.0**-MEAN_BITS, index)
        return _Symbols(index, symbol * (index > 0), mean)

    @torch.inference_mode()
    def entropy_decode(self, frame: Frame) -> Latents:
        """Return what a frame says; its quality is one that the checkpoint has."""
        shape = self._model.shape
        rows, columns = _ceil(frame.height, LATENT_STRIDE), _ceil(frame.width, LATENT_STRIDE)
        hyper_shape = torch.Size([shape.hyper, _ceil(rows, HYPER_STRIDE), _ceil(columns, HYPER_STRIDE)])
        n_symbols = hyper_shape.numel() + (shape.latent + 1) * rows * columns
        network_quality, third = _network_quality(self._model, frame.quality), self._third(frame.quality)
        if third is not None:
            n_symbols += ResidualCoder.most_symbols(rows, columns)
        decoder = Decoder(frame.payload, most_symbols=n_symbols)
        levels = None
        if self._model.roi_steps is not None:
            levels = self._model.roi_steps.map.take(decoder, rows, columns)
        symbols = decoder.take(_channel_index(hyper_shape), self._priors[network_quality])
        hyper = symbols.reshape(hyper_shape)
        sent = torch.Size((shape.sent(network_quality), rows, columns))
        index, mean = self._expected(hyper[None].to(self._device), network_quality, sent, levels)
        index, mean = index[0].cpu(), mean[0].cpu()
        symbol = torch.zeros_like(index)
        symbol[index > 0] = decoder.take(index[index > 0], self._model.conditional)
        symbol = symbol.clamp(-SYMBOL_BOUND, SYMBOL_BOUND)
        latent, residual = _Symbols(index, symbol, mean).latent(), None
        if third is not None and levels is not None:
            residual = third.take(decoder, levels)
        return Latents(hyper, latent, levels, residual)

    @torch.inference_mode()
    def synthesise(self, frame: Frame, latents: Latents) -> Image:
        """Return the image of a frame's latents, of the frame's size."""
        network_quality, third = _network_quality(self._model, frame.quality), self._third(frame.quality)
        pixels = self._pixels(latents.latent.to(self._device)[None], network_quality, latents.levels)
        if third is not None and latents.residual is not None and latents.levels is not None:
            pixels = pixels + third.missing(latents.residual, latents.levels)
        levels = torch.round(pixels[0, :, : frame.height, : frame.width] * 255.0).clamp(0.0, 255.0)
        return np.ascontiguousarray(levels.permute(1, 2, 0).to(torch.uint8).cpu().numpy())

    def _third(self, quality: int) -> ResidualCoder | None:
        """Return what codes the residual layer at a rate point, where that has one."""
        above = quality - self._model.shape.qualities
        return self._model.residual_coders[above] if above >= 0 else None

    def _pixels(self, latent: Tensor, quality: int, levels: Tensor | None) -> Tensor:
        """Return the image, about 0..1, of a latent in units of ``2**-MEAN_BITS`` of the steps."""
        inverse_gain = self._model.inverse_gain[quality][: latent.shape[1], None, None]
        scaled_back = (latent * 2.0**-MEAN_BITS).float() * inverse_gain
        scaled_back = scaled_back / self._share(latent.shape[1], quality, levels)
        pixels: Tensor = self._model.synthesis(scaled_back, torch.tensor([quality], device=self._device))
        return pixels

    def _expected(
        self, hyper: Tensor, quality: int, sent: torch.Size, levels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the scale indices and the means of what is sent, channels x rows x columns."""
        channels, rows, columns = sent
        index, mean = self._model.hyper_synthesis.apply(hyper, quality)
        index, mean = index[:, :channels, :rows, :columns], mean[:, :channels, :rows, :columns]
        roi_steps = self._model.roi_steps
        if roi_steps is None or levels is None:
            return index, mean
        return roi_steps.expected(index, mean, quality, levels)

    def _share(self, channels: int, quality: int, levels: Tensor | None) -> Tensor:
        """Return what the latent is multiplied by where its steps are coarser: channels x rows x columns."""
        roi_steps = self._model.roi_steps
        if roi_steps is None or levels is None:
            return torch.ones((), device=self._device)
        return roi_steps.share(channels, quality, levels)


def _n_qualities(model: Checkpoint) -> int:
    return model.shape.qualities + len(model.residual_coders)


def _network_quality(model: Checkpoint, quality: int) -> int:
    """Return the quality at which the networks run for a rate point: those above theirs have a residual layer."""
    return quality if quality < model.shape.qualities else cast(Shape, model.shape).base


def _padded(x: Tensor, stride: int) -> Tensor:
    """Replicate the last row and column until the sides are multiples of the stride."""
    below, right = -x.shape[2] % stride, -x.shape[3] % stride
    return functional.pad(x, (0, right, 0, below), mode="replicate")


def _channel_index(shape: torch.Size) -> Tensor:
    """Number the elements of channels x h x w by their channel, flat."""
    return torch.arange(shape[0]).repeat_interleave(shape[1] * shape[2])


def _ceil(n: int, divisor: int) -> int:
    return -(-n // divisor)
