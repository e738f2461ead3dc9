"""The learned codec for machines, after Le et al. (ICASSP 2021, arXiv 2108.09993).

What is guaranteed:

- The latents that a decoder recovers are identical, bit for bit, on every device, library and thread count: all that
  encoder and decoder must agree on is integer (:mod:`icm_codecs.exact`) or a stored table (:mod:`icm_codecs.table`).
- The pixels are identical on the same machine, device and library. They come from a floating-point network, whose last
  bits other processors or libraries may round differently: there a pixel may differ by one level.
- The same holds for the encoder's choice of latents: another machine may write other bytes, which every decoder
  reads alike.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from icm_bench.codec import Quality
from icm_bench.error import CodecError, UsageError
from icm_bench.image import Image
from icm_codecs.checkpoint import load_checkpoint
from icm_codecs.container import Frame, check_size, unpack
from icm_codecs.exact import HYPER_BOUND, MEAN_BITS
from icm_codecs.network import HYPER_STRIDE, LATENT_STRIDE
from icm_codecs.table import Decoder, Encoder

_WEIGHTS = Path(__file__).parent / "weights"
_RESIDUAL_BOUND = 2**15 - 1


class Latents(NamedTuple):
    """What a bitstream says, int64: hyper x h x w whole numbers, and latent x H x W in units of ``2**-MEAN_BITS``."""

    hyper: Tensor
    latent: Tensor


class Icm:
    """A learned image codec whose networks are trained for machines.

    Convolutional networks with residual connections, a mean and scale hyperprior and a coder of asymmetric numeral
    systems, as the paper has them; one model serves every rate, which is our choice.

    Args:
        quality: The rate point, 1 to 8, from about 0.03 to about 0.9 bit per pixel of a photograph.
        device: Where the networks run: "cpu", "cuda".
        objective: What the shipped weights were trained for: "mse", fidelity to the pixels.
        weights: A checkpoint file that the training wrote, instead of the shipped one.

    Raises:
        UsageError: There is no such quality or objective.
        CodecError: The checkpoint cannot be read.
    """

    name: ClassVar[str] = "icm"
    qualities: ClassVar[tuple[Quality, ...]] = (1, 2, 3, 4, 5, 6, 7, 8)

    def __init__(
        self, quality: Quality, *, device: str = "cpu", objective: Literal["mse"] = "mse", weights: str = ""
    ) -> None:
        if objective != "mse":
            raise UsageError(f"has no objective {objective!r}", where=self.name, mend="choose mse")
        path = Path(weights) if weights else _WEIGHTS / f"icm-{objective}.safetensors"
        self._model = load_checkpoint(path, device=device)
        n_qualities = self._model.shape.qualities
        if quality not in range(1, n_qualities + 1):
            raise UsageError(f"has no quality {quality}", where=self.name, mend=f"choose 1 to {n_qualities}")
        hyper = self._model.shape.hyper
        self._priors = [self._model.prior.select(q * hyper, (q + 1) * hyper) for q in range(n_qualities)]
        self._quality = int(quality) - 1
        self._device = device

    def version(self) -> str:
        """Name the package, the libraries that compute and code, and the weights."""
        packages = ("icm-bench", "torch", "compressai")
        versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
        return ", ".join([*versions, f"weights {self._model.sha256[:12]}"])

    def encode(self, image: Image) -> bytes:
        """Return one self-contained bitstream.

        Raises:
            CodecError: The array is no image, or has more pixels than are coded.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise CodecError(
                f"an array of {image.dtype} {image.shape} is no image",
                where=self.name,
                mend="give H x W x 3 uint8",
            )
        height, width = image.shape[:2]
        check_size(width, height)
        payload = self._entropy_code(*self._analyse(image))
        return Frame(self._model_id, self._quality, width, height, payload).pack()

    def decode(self, data: bytes) -> Image:
        """Return the image, of exactly the size that was encoded, whatever the quality of this instance.

        Raises:
            CodecError: The bytes are empty, truncated, damaged, or of another codec or checkpoint.
        """
        frame = self._unpack(data)
        return self._synthesise(frame, self._entropy_decode(frame))

    def latents(self, data: bytes) -> Latents:
        """Return what the bitstream says, without turning it into an image.

        Raises:
            CodecError: As for :meth:`decode`.
        """
        return self._entropy_decode(self._unpack(data))

    def header_bytes(self, data: bytes) -> int:
        """Return how many bytes of the bitstream are not the entropy coder's: format, model, size and check."""
        return self._unpack(data).header_bytes

    @property
    def _model_id(self) -> bytes:
        return bytes.fromhex(self._model.sha256[:4])

    def _unpack(self, data: bytes) -> Frame:
        frame = unpack(data)
        if frame.model != self._model_id or frame.quality >= self._model.shape.qualities:
            raise CodecError(
                "the bitstream was written with other weights",
                where=self.name,
                mend="decode with the same checkpoint",
            )
        return frame

    @torch.inference_mode()
    def _analyse(self, image: Image) -> tuple[Tensor, Tensor]:
        """Return the hyper-latent, whole numbers, 1 x hyper x h x w, and the scaled latent, 1 x latent x H x W.

        Nothing here need be reproducible: the decoder is told the result.
        """
        pixels = torch.tensor(image, device=self._device).permute(2, 0, 1)[None].float() / 255.0
        quality = torch.tensor([self._quality], device=self._device)
        latent = self._model.analysis(_padded(pixels, LATENT_STRIDE), quality)
        scaled = latent * self._model.gain[self._quality][:, None, None]
        hyper = torch.round(self._model.hyper_analysis(_padded(scaled, HYPER_STRIDE), quality))
        return hyper.clamp(-HYPER_BOUND, HYPER_BOUND).long(), scaled

    @torch.inference_mode()
    def _entropy_code(self, hyper: Tensor, scaled: Tensor) -> bytes:
        index, mean = self._model.hyper_synthesis.apply(hyper, self._quality)
        rows, columns = scaled.shape[2:]
        index, mean = index[..., :rows, :columns], mean[..., :rows, :columns]
        residual = torch.round(scaled.double() - mean * 2.0**-MEAN_BITS)
        residual = residual.clamp(-_RESIDUAL_BOUND, _RESIDUAL_BOUND).long()
        sent = index > 0
        encoder = Encoder()
        encoder.put(hyper.flatten(), _channel_index(hyper.shape[1:]), self._priors[self._quality])
        encoder.put(residual[sent], index[sent], self._model.conditional)
        return encoder.bytes()

    @torch.inference_mode()
    def _entropy_decode(self, frame: Frame) -> Latents:
        shape = self._model.shape
        rows, columns = _ceil(frame.height, LATENT_STRIDE), _ceil(frame.width, LATENT_STRIDE)
        hyper_shape = torch.Size([shape.hyper, _ceil(rows, HYPER_STRIDE), _ceil(columns, HYPER_STRIDE)])
        n_symbols = hyper_shape.numel() + shape.latent * rows * columns
        decoder = Decoder(frame.payload, most_symbols=n_symbols)
        symbols = decoder.take(_channel_index(hyper_shape), self._priors[frame.quality])
        hyper = symbols.reshape(hyper_shape)
        index, mean = self._model.hyper_synthesis.apply(hyper[None].to(self._device), frame.quality)
        index, mean = index[0, :, :rows, :columns].cpu(), mean[0, :, :rows, :columns].cpu()
        residual = torch.zeros_like(index)
        residual[index > 0] = decoder.take(index[index > 0], self._model.conditional)
        return Latents(hyper, residual.clamp(-_RESIDUAL_BOUND, _RESIDUAL_BOUND) * 2**MEAN_BITS + mean)

    @torch.inference_mode()
    def _synthesise(self, frame: Frame, latents: Latents) -> Image:
        latent = (latents.latent.to(self._device)[None] * 2.0**-MEAN_BITS).float()
        quality = torch.tensor([frame.quality], device=self._device)
        pixels = self._model.synthesis(
            latent * self._model.inverse_gain[frame.quality][:, None, None], quality
        )
        levels = torch.round(pixels[0, :, : frame.height, : frame.width] * 255.0).clamp(0.0, 255.0)
        return np.ascontiguousarray(levels.permute(1, 2, 0).to(torch.uint8).cpu().numpy())


def _padded(x: Tensor, stride: int) -> Tensor:
    """Replicate the last row and column until the sides are multiples of the stride."""
    below, right = -x.shape[2] % stride, -x.shape[3] % stride
    return functional.pad(x, (0, right, 0, below), mode="replicate")


def _channel_index(shape: torch.Size) -> Tensor:
    """Number the elements of channels x h x w by their channel, flat."""
    return torch.arange(shape[0]).repeat_interleave(shape[1] * shape[2])


def _ceil(n: int, divisor: int) -> int:
    return -(-n // divisor)
