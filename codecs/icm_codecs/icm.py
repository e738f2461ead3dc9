"""The learned codec for machines, after Le et al. (ICASSP 2021, arXiv 2108.09993).

What is guaranteed:

- The latents that a decoder recovers are identical, bit for bit, on every device, library and thread count: all that
  encoder and decoder must agree on is integer (:mod:`icm_codecs.exact`) or a stored table (:mod:`icm_codecs.table`).
- The pixels are identical on the same machine, device and library. They come from a floating-point network, whose last
  bits other processors or libraries may round differently: there a pixel may differ by one level.
- The same holds for the encoder's choice of latents, so another machine may write other bytes, which every decoder
  reads alike.

The networks are loaded when the first image is coded: naming a codec and its version costs nothing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from icm_bench.codec import Quality
from icm_bench.error import CodecError, UsageError
from icm_bench.image import Image
from icm_codecs.container import Frame, check_size, unpack

if TYPE_CHECKING:
    from icm_codecs.coder import Coder, Latents

MOST_QUALITIES = 16
"""The most rate points that a bitstream can tell apart."""

Domain = Literal["photos", "scenes"]
"""The pictures that weights were trained on: photographs, or the drawn pictures of the dataset ``scenes``."""

Objective = Literal["mse", "detection", "segmentation"]
"""What weights were trained for: fidelity to the pixels, or a task through its frozen detector."""

_SHIPPED = MappingProxyType(
    {
        ("photos", "mse"): "icm-mse",
        ("scenes", "mse"): "icm-scenes-mse",
        ("scenes", "detection"): "icm-scenes",
        ("scenes", "segmentation"): "icm-scenes",
    }
)


class Icm:
    """A learned image codec whose networks are trained for machines.

    Convolutional networks with residual connections, a mean and scale hyperprior and a coder of asymmetric numeral
    systems, as the paper has them; one model serves every rate, which is our choice.

    Args:
        quality: The rate point, 1 to 8; the weights' model cards say which rates these are.
        device: Where the networks run: "cpu", "cuda".
        domain: What the shipped weights were trained on.
        objective: What they were trained for. Where a run names neither, ``scenes`` is coded by the weights for its
            task, and everything else by those for the fidelity of photographs.
        weights: A checkpoint file that the training wrote, instead of the shipped one.

    Raises:
        UsageError: There is no such quality, or no weights of that domain for that objective.
    """

    name: ClassVar[str] = "icm"
    qualities: ClassVar[tuple[Quality, ...]] = (1, 2, 3, 4, 5, 6, 7, 8)

    def __init__(
        self,
        quality: Quality,
        *,
        device: str = "cpu",
        domain: Domain = "photos",
        objective: Objective = "mse",
        weights: str = "",
    ) -> None:
        self._path = Path(weights) if weights else _shipped_weights(domain, objective)
        known = range(1, MOST_QUALITIES + 1) if weights else self.qualities
        if quality not in known:
            raise UsageError(f"has no quality {quality}", where=self.name, mend=f"choose 1 to {known[-1]}")
        self._quality = int(quality) - 1
        self._device = device

    @classmethod
    def complete_options(cls, options: Mapping[str, str], *, task: str, dataset: str) -> dict[str, str]:
        """Return a spec's options with those that say which of the shipped weights a run takes."""
        if "weights" in options:
            return dict(options)
        drawn = dataset.partition("-")[0] == "scenes"
        domain = options.get("domain", "scenes" if drawn else "photos")
        objective = options.get("objective", task if (domain, task) in _SHIPPED else "mse")
        return {**options, "domain": domain, "objective": objective}

    def version(self) -> str:
        """Name the package, the libraries that compute and code, and the weights."""
        packages = ("icm-bench", "torch", "compressai")
        versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
        return ", ".join([*versions, f"weights {self._path.stem} {self._sha256[:12]}"])

    def load(self) -> None:
        """Load the networks and tables.

        Raises:
            CodecError: The checkpoint cannot be read.
            UsageError: The checkpoint has no such rate point.
        """
        _ = self._coder

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
        payload = self._coder.entropy_code(*self._coder.analyse(image))
        return Frame(self._model_id, self._quality, width, height, payload).pack()

    def decode(self, data: bytes) -> Image:
        """Return the image, of exactly the size that was encoded, whatever the quality of this instance.

        Raises:
            CodecError: The bytes are empty, truncated, damaged, or of another codec or checkpoint.
        """
        frame = self._unpack(data)
        return self._coder.synthesise(frame, self._coder.entropy_decode(frame))

    def latents(self, data: bytes) -> Latents:
        """Return what the bitstream says, without turning it into an image.

        Raises:
            CodecError: As for :meth:`decode`.
        """
        return self._coder.entropy_decode(self._unpack(data))

    def header_bytes(self, data: bytes) -> int:
        """Return how many bytes of the bitstream are not the entropy coder's: format, model, size and check."""
        return self._unpack(data).header_bytes

    def n_parameters(self) -> int:
        """Return how many learned values the networks have."""
        return self._coder.n_parameters

    @cached_property
    def _coder(self) -> Coder:
        from icm_codecs.checkpoint import load_checkpoint
        from icm_codecs.coder import Coder

        return Coder(load_checkpoint(self._path, device=self._device), self._quality, self._device)

    @cached_property
    def _sha256(self) -> str:
        try:
            return hashlib.sha256(self._path.read_bytes()).hexdigest()
        except OSError as error:
            raise CodecError(
                f"the checkpoint cannot be read ({error.strerror})",
                where=self._path,
                mend="give a checkpoint's file with weights=FILE",
            ) from error

    @property
    def _model_id(self) -> bytes:
        return bytes.fromhex(self._sha256[:4])

    def _unpack(self, data: bytes) -> Frame:
        frame = unpack(data)
        if frame.model != self._model_id or frame.quality >= self._coder.n_qualities:
            raise CodecError(
                "the bitstream was written with other weights",
                where=self.name,
                mend="decode with the same checkpoint",
            )
        return frame


def _shipped_weights(domain: str, objective: str) -> Path:
    name = _SHIPPED.get((domain, objective))
    if name is None:
        known = ", ".join(f"{one}:{other}" for one, other in _SHIPPED)
        raise UsageError(
            f"has no weights of the domain {domain!r} for the objective {objective!r}",
            where=Icm.name,
            mend=f"choose one of domain:objective = {known}, or give weights=FILE",
        )
    return Path(__file__).parent / "weights" / f"{name}.safetensors"
