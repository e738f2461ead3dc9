"""One image through the networks of a codec with a hyperprior and the entropy coder, and back."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from icm_bench.image import Image
from icm_codecs.bitstream.container import Frame
from icm_codecs.bitstream.integer_layer import HYPER_BOUND, MEAN_BITS
from icm_codecs.bitstream.quantiser import SYMBOL_BOUND, Quantiser
from icm_codecs.bitstream.table import Decoder, Encoder
from icm_codecs.hyperprior.checkpoint import HyperpriorCheckpoint
from icm_codecs.hyperprior.variable_rate import HYPER_STRIDE, LATENT_STRIDE
from icm_codecs.learned import OfCheckpoint, checked_quality
from icm_codecs.pixel import n_blocks, padded, to_image, to_tensor


class Latents(NamedTuple):
    """What a bitstream says, int64, on the CPU.

    Attributes:
        hyper: Hyper x h x w whole numbers.
        latent: Sent x H x W in units of ``2**-MEAN_BITS`` of a step.
    """

    hyper: Tensor
    latent: Tensor


class Symbols(NamedTuple):
    """What a latent is coded as, int64: scale indices, symbols, and means in units of ``2**-MEAN_BITS``."""

    scale: Tensor
    symbol: Tensor
    mean: Tensor

    def latent(self) -> Tensor:
        """Return what the decoder will have of the latent, in units of ``2**-MEAN_BITS``."""
        latent: Tensor = self.symbol * 2**MEAN_BITS + self.mean
        return latent


class Grid(NamedTuple):
    """How many positions the latent and the hyper-latent of an image have."""

    rows: int
    columns: int
    hyper_rows: int
    hyper_columns: int

    @classmethod
    def of(cls, frame: Frame) -> Grid:
        """Return the grid of a frame's image."""
        rows, columns = n_blocks(frame.height, LATENT_STRIDE), n_blocks(frame.width, LATENT_STRIDE)
        return cls(rows, columns, n_blocks(rows, HYPER_STRIDE), n_blocks(columns, HYPER_STRIDE))


_Checkpoint = TypeVar("_Checkpoint", bound=HyperpriorCheckpoint)


class HyperpriorNetworks(OfCheckpoint[_Checkpoint]):
    """A checkpoint's networks on one device, and how their latents are coded."""

    def __init__(self, model: _Checkpoint, device: str) -> None:
        super().__init__(model, device)
        hyper = model.shape.hyper
        self._quantiser = Quantiser(model.conditional, model.rdoq_lambda, device)
        self._priors = [model.prior.select(q * hyper, (q + 1) * hyper) for q in range(model.shape.qualities)]

    @property
    def n_qualities(self) -> int:
        """How many rate points the checkpoint serves."""
        return self._model.shape.qualities

    def _analysed(self, pixels: Tensor, quality: int) -> tuple[Tensor, Tensor]:
        """Return the hyper-latent, whole numbers, and the latent scaled for the quality, of padded pixels."""
        index = torch.tensor([quality], device=self._device)
        latent = self._model.analysis(pixels, index)
        scaled = latent * self._model.gain[quality][: latent.shape[1], None, None]
        hyper = torch.round(self._model.hyper_analysis(padded(scaled, HYPER_STRIDE), index))
        return hyper.clamp(-HYPER_BOUND, HYPER_BOUND).long(), scaled

    def _put(self, encoder: Encoder, hyper: Tensor, symbols: Symbols, quality: int) -> None:
        sent = symbols.scale > 0
        encoder.put(hyper.flatten(), _channel_index(hyper.shape[1:]), self._priors[quality])
        encoder.put(symbols.symbol[sent], symbols.scale[sent], self._model.conditional)

    def _take(
        self, decoder: Decoder, grid: Grid, quality: int, levels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the hyper-latent and the latent."""
        shape = self._model.shape
        hyper_shape = torch.Size([shape.hyper, grid.hyper_rows, grid.hyper_columns])
        hyper = decoder.take(_channel_index(hyper_shape), self._priors[quality]).reshape(hyper_shape)
        sent = torch.Size((shape.sent(quality), grid.rows, grid.columns))
        index, mean = self._expected(hyper[None].to(self._device), quality, sent, levels)
        index, mean = index[0].cpu(), mean[0].cpu()
        symbol = torch.zeros_like(index)
        symbol[index > 0] = decoder.take(index[index > 0], self._model.conditional)
        symbol = symbol.clamp(-SYMBOL_BOUND, SYMBOL_BOUND)
        return hyper, Symbols(index, symbol, mean).latent()

    def _n_symbols(self, grid: Grid) -> int:
        """Return how many symbols an image has at most."""
        shape = self._model.shape
        return shape.hyper * grid.hyper_rows * grid.hyper_columns + shape.latent * grid.rows * grid.columns

    def _symbols(self, hyper: Tensor, scaled: Tensor, quality: int, levels: Tensor | None = None) -> Symbols:
        """Quantise the first channels of the scaled latent, as many as there are."""
        channels, rows, columns = scaled.shape[1:]
        index, mean = self._expected(hyper, quality, torch.Size((channels, rows, columns)), levels)
        scaled = scaled * self._share(channels, quality, levels)
        symbol = self._quantiser.apply(scaled.double() - mean * 2.0**-MEAN_BITS, index)
        return Symbols(index, symbol * (index > 0), mean)

    def _pixels(self, latent: Tensor, quality: int, levels: Tensor | None = None) -> Tensor:
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
        del levels
        channels, rows, columns = sent
        index, mean = self._model.hyper_synthesis.apply(hyper, quality)
        return index[:, :channels, :rows, :columns], mean[:, :channels, :rows, :columns]

    def _share(self, channels: int, quality: int, levels: Tensor | None) -> Tensor:
        """Return what the latent is multiplied by where a map of levels makes its steps coarser."""
        del channels, quality, levels
        return torch.ones((), device=self._device)


class HyperpriorCoder(HyperpriorNetworks[HyperpriorCheckpoint]):
    """A hyperprior at one rate point.

    Args:
        model: The checkpoint, on the device.
        quality: Index of the rate point, from 0.
        device: "cpu", "cuda".
        name: The codec's name, for errors.

    Raises:
        UsageError: The checkpoint has no such rate point.
    """

    def __init__(self, model: HyperpriorCheckpoint, quality: int, device: str, *, name: str) -> None:
        super().__init__(model, device)
        self._quality = checked_quality(quality, self.n_qualities, name)

    @torch.inference_mode()
    def analyse(self, image: Image) -> tuple[Tensor, Tensor]:
        """Return the hyper-latent and the scaled latent. Nothing here need be reproducible: the decoder is told."""
        return self._analysed(padded(to_tensor(image, self._device), LATENT_STRIDE), self._quality)

    @torch.inference_mode()
    def entropy_code(self, hyper: Tensor, scaled: Tensor) -> bytes:
        """Return the stream of what :meth:`analyse` returned."""
        encoder = Encoder()
        self._put(encoder, hyper, self._symbols(hyper, scaled, self._quality), self._quality)
        return encoder.bytes()

    @torch.inference_mode()
    def entropy_decode(self, frame: Frame) -> Latents:
        """Return what a frame says; its quality is one that the checkpoint has."""
        grid = Grid.of(frame)
        decoder = Decoder(frame.payload, most_symbols=self._n_symbols(grid))
        return Latents(*self._take(decoder, grid, frame.quality))

    @torch.inference_mode()
    def synthesise(self, frame: Frame, latents: Latents) -> Image:
        """Return the image of a frame's latents, of the frame's size."""
        pixels = self._pixels(latents.latent.to(self._device)[None], frame.quality)
        return to_image(pixels, frame.height, frame.width)


def _channel_index(shape: torch.Size) -> Tensor:
    """Number the elements of channels x h x w by their channel, flat."""
    return torch.arange(shape[0]).repeat_interleave(shape[1] * shape[2])
