"""One image through the networks, the ROI map, the further layers and the entropy coder, and back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from icm_bench.error import UsageError
from icm_bench.image import Image
from icm_codecs.bitstream.container import Frame
from icm_codecs.bitstream.table import Decoder, Encoder
from icm_codecs.hyperprior.coder import Grid, HyperpriorNetworks
from icm_codecs.hyperprior.variable_rate import LATENT_STRIDE
from icm_codecs.icm.checkpoint import IcmCheckpoint
from icm_codecs.icm.residual_coder import ResidualCoder
from icm_codecs.learned import checked_quality
from icm_codecs.pixel import padded, to_image, to_tensor


class IcmLatents(NamedTuple):
    """What a bitstream says, int64, on the CPU.

    Attributes:
        hyper: Hyper x h x w whole numbers.
        latent: Sent x H x W in units of ``2**-MEAN_BITS`` of a step, which may be another from place to place.
        levels: H x W levels of the ROI map that says which, where there is one.
        residual: 192 x 2H x 2W symbols of the residual layer, where it is sent.
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
        levels: The ROI map's levels, H x W int64, where there is one.
        residual: The symbols of the residual layer, 192 x 2H x 2W int64, where it is sent.
    """

    hyper: Tensor
    scaled: Tensor
    levels: Tensor | None = None
    residual: Tensor | None = None


class IcmCoder(HyperpriorNetworks[IcmCheckpoint]):
    """A checkpoint's networks at one rate point, on one device.

    Args:
        model: The checkpoint, on the device.
        quality: Index of the rate point, from 0.
        device: "cpu", "cuda".
        uses_roi: Whether a checkpoint that has an ROI network uses it.

    Raises:
        UsageError: The checkpoint has no such rate point.
    """

    def __init__(self, model: IcmCheckpoint, quality: int, device: str, *, uses_roi: bool = True) -> None:
        super().__init__(model, device)
        self._quality = checked_quality(quality, self.n_qualities, "icm")
        self._uses_roi = uses_roi

    @property
    def n_qualities(self) -> int:
        """How many rate points the checkpoint serves."""
        return self._model.shape.qualities + len(self._model.residual_coders)

    @torch.inference_mode()
    def analyse(self, image: Image) -> Analysed:
        """Return what is to be coded. Nothing here need be reproducible: the decoder is told the result."""
        pixels = padded(to_tensor(image, self._device), LATENT_STRIDE)
        base = self._network_quality(self._quality)
        hyper, scaled = self._analysed(pixels, base)
        levels = self._levels(pixels)
        residual_coder = self._residual_coder(self._quality)
        if residual_coder is None and scaled.shape[1] == self._model.shape.sent(base):
            return Analysed(hyper, scaled, levels)
        symbols = self._symbols(hyper, scaled, base, levels)
        missing = pixels - self._pixels(symbols.latent(), base, levels)
        if residual_coder is not None and levels is not None:
            return Analysed(hyper, scaled, levels, residual_coder.quantise(missing, levels))
        detail = self._model.analysis.get_submodule("detail")(missing)
        gain = self._model.gain[base][scaled.shape[1] :, None, None]
        return Analysed(hyper, torch.cat([scaled, detail * gain], dim=1), levels)

    @torch.inference_mode()
    def region(self, image: Image) -> NDArray[np.float32]:
        """Return what the ROI network takes for the probability of an object, height x width, 0 to 1.

        Raises:
            UsageError: The weights have no ROI network.
        """
        if self._model.roi_steps is None:
            raise UsageError(
                "the weights have no ROI network", where="icm", hint="give weights that have one"
            )
        pixels = padded(to_tensor(image, self._device), LATENT_STRIDE)
        logits = self._model.analysis.get_submodule("roi")(pixels)[0, 0]
        near = torch.sigmoid(logits).cpu().numpy().repeat(LATENT_STRIDE, 0).repeat(LATENT_STRIDE, 1)
        return np.asarray(near[: image.shape[0], : image.shape[1]], np.float32)

    def _levels(self, pixels: Tensor) -> Tensor | None:
        """Return the ROI map of an image, H x W int64, where there is an ROI network."""
        roi_steps = self._model.roi_steps
        if roi_steps is None:
            return None
        levels = roi_steps.levels.of(self._model.analysis.get_submodule("roi")(pixels))[0, 0]
        return levels if self._uses_roi else torch.zeros_like(levels)

    @torch.inference_mode()
    def entropy_code(
        self, hyper: Tensor, scaled: Tensor, levels: Tensor | None = None, residual: Tensor | None = None
    ) -> bytes:
        """Return the stream of what :meth:`analyse` returned."""
        base = self._network_quality(self._quality)
        encoder = Encoder()
        if self._model.roi_steps is not None and levels is not None:
            self._model.roi_steps.map.put(encoder, levels)
        self._put(encoder, hyper, self._symbols(hyper, scaled, base, levels), base)
        residual_coder = self._residual_coder(self._quality)
        if residual_coder is not None and levels is not None and residual is not None:
            residual_coder.put(encoder, residual, levels)
        return encoder.bytes()

    @torch.inference_mode()
    def entropy_decode(self, frame: Frame) -> IcmLatents:
        """Return what a frame says; its quality is one that the checkpoint has."""
        grid, residual_coder = Grid.of(frame), self._residual_coder(frame.quality)
        n_symbols = self._n_symbols(grid) + grid.rows * grid.columns
        if residual_coder is not None:
            n_symbols += ResidualCoder.most_symbols(grid.rows, grid.columns)
        decoder = Decoder(frame.payload, most_symbols=n_symbols)
        levels, residual = None, None
        if self._model.roi_steps is not None:
            levels = self._model.roi_steps.map.take(decoder, grid.rows, grid.columns)
        hyper, latent = self._take(decoder, grid, self._network_quality(frame.quality), levels)
        if residual_coder is not None and levels is not None:
            residual = residual_coder.take(decoder, levels)
        return IcmLatents(hyper, latent, levels, residual)

    @torch.inference_mode()
    def synthesise(self, frame: Frame, latents: IcmLatents) -> Image:
        """Return the image of a frame's latents, of the frame's size."""
        base, residual_coder = self._network_quality(frame.quality), self._residual_coder(frame.quality)
        pixels = self._pixels(latents.latent.to(self._device)[None], base, latents.levels)
        if residual_coder is not None and latents.residual is not None and latents.levels is not None:
            pixels = pixels + residual_coder.missing(latents.residual, latents.levels)
        return to_image(pixels, frame.height, frame.width)

    def _network_quality(self, quality: int) -> int:
        """Return the quality at which the networks run: rate points above theirs have a residual layer."""
        return quality if quality < self._model.shape.qualities else self._model.shape.base

    def _residual_coder(self, quality: int) -> ResidualCoder | None:
        """Return what codes the residual layer at a rate point, where that has one."""
        above = quality - self._model.shape.qualities
        return self._model.residual_coders[above] if above >= 0 else None

    def _expected(
        self, hyper: Tensor, quality: int, sent: torch.Size, levels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        index, mean = super()._expected(hyper, quality, sent, levels)
        roi_steps = self._model.roi_steps
        if roi_steps is None or levels is None:
            return index, mean
        return roi_steps.expected(index, mean, quality, levels)

    def _share(self, channels: int, quality: int, levels: Tensor | None) -> Tensor:
        roi_steps = self._model.roi_steps
        if roi_steps is None or levels is None:
            return super()._share(channels, quality, levels)
        return roi_steps.share(channels, quality, levels)
