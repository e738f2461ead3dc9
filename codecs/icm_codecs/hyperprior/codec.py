"""The scale hyperprior of Ballé et al. (ICLR 2018, arXiv 1802.01436) as a codec.

What is guaranteed is what :mod:`icm_codecs.icm` guarantees: latents that are identical, bit for bit, on every device,
library and thread count; pixels that are identical on the same machine and differ by a level at most elsewhere. The
bitstream is the frame of :mod:`icm_codecs.container` around the stream of :mod:`icm_codecs.coder`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from icm_bench.codec import Quality
from icm_bench.error import CodecError, UsageError
from icm_bench.image import Image, printable
from icm_codecs.container import Frame, check_size, unpack

if TYPE_CHECKING:
    from icm_codecs.coder import Coder, Latents

MOST_QUALITIES = 16
"""The most rate points that a bitstream can tell apart."""

_SHIPPED = Path(__file__).parents[1] / "weights" / "hyperprior.safetensors"


class Hyperprior:
    """A learned image codec with normalising transforms and a scale hyperprior.

    Args:
        quality: The rate point, 1 to 8.
        device: Where the networks run: "cpu", "cuda".
        weights: A weights file that the training wrote, instead of the shipped one.

    Raises:
        UsageError: There is no such quality.
    """

    name: ClassVar[str] = "hyperprior"
    qualities: ClassVar[tuple[Quality, ...]] = (1, 2, 3, 4, 5, 6, 7, 8)

    def __init__(self, quality: Quality, *, device: str = "cpu", weights: str = "") -> None:
        known = range(1, MOST_QUALITIES + 1) if weights else self.qualities
        if quality not in known:
            raise UsageError(f"has no quality {quality}", where=self.name, mend=f"choose 1 to {known[-1]}")
        self._path = Path(weights) if weights else _SHIPPED
        self._quality = int(quality) - 1
        self._device = device

    def version(self) -> str:
        """Name the package, the libraries that compute and code, and the weights.

        Raises:
            CodecError: The weights cannot be read.
        """
        packages = ("icm-bench", "torch", "compressai")
        versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
        return ", ".join([*versions, f"weights {self._path.stem} {self._sha256[:12]}"])

    def load(self) -> None:
        """Load the networks and tables.

        Raises:
            CodecError: The weights cannot be read.
            UsageError: The weights have no such rate point.
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
            CodecError: The bytes are empty, truncated, damaged, or of another codec or other weights.
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
        from icm_codecs.coder import Coder
        from icm_codecs.hyperprior.checkpoint import load_checkpoint

        # The hash first: it says in one line what is wrong with a file that is not there.
        _ = self._sha256
        return Coder(
            load_checkpoint(self._path, device=self._device), self._quality, self._device, name=self.name
        )

    @cached_property
    def _sha256(self) -> str:
        try:
            return hashlib.sha256(self._path.read_bytes()).hexdigest()
        except OSError as error:
            raise CodecError(
                f"the weights cannot be read ({error.strerror})",
                where=printable(self._path),
                mend="train them with the recipe hyperprior, and give weights=FILE",
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
                mend="decode with the same weights",
            )
        return frame
