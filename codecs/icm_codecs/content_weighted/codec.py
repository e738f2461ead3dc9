"""Content-weighted image compression, after Li et al. (CVPR 2018, arXiv 1703.10553), as a codec.

A binary code whose length follows the content: an importance map says at each position how many channels are kept.
The paper trains a model for each rate. Here one model serves the ladder, because the networks' first and last layers
do the same at every rate, and the importance map is a rate control already: what a quality adds is its own target
for the map and some scales and shifts of features. A ladder then costs one file below 8 MiB, where single models of
the same size together would each have a sixth of the parameters; a recipe with a single target trains the paper's.

What is guaranteed is what :mod:`icm_codecs.icm` guarantees: codes are recovered identically, bit for bit, on every
device, library and thread count; pixels come from a floating-point network, and may differ by one level elsewhere.

The networks are loaded when the first image is coded: naming a codec and its version costs nothing.
"""

from __future__ import annotations

import importlib.metadata
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from icm_bench.codec import Quality
from icm_bench.error import CodecError, UsageError
from icm_bench.image import Image
from icm_codecs.container import Frame, check_size, unpack

if TYPE_CHECKING:
    from icm_codecs.content_weighted.coder import Code, Coder

_MOST_QUALITIES = 16
_SHIPPED = Path(__file__).parents[1] / "weights" / "content-weighted.safetensors"


class ContentWeighted:
    """A learned image codec that spends its bits where an importance map says.

    Args:
        quality: The rate point, 1 to 6, aimed at about 0.1 to 0.7 bit per pixel.
        device: Where the networks run: "cpu", "cuda".
        weights: A checkpoint file that the training wrote, instead of the shipped one.

    Raises:
        UsageError: There is no such quality.
    """

    name: ClassVar[str] = "content-weighted"
    qualities: ClassVar[tuple[Quality, ...]] = (1, 2, 3, 4, 5, 6)

    def __init__(self, quality: Quality, *, device: str = "cpu", weights: str = "") -> None:
        self._path = Path(weights) if weights else _SHIPPED
        known = range(1, _MOST_QUALITIES + 1) if weights else self.qualities
        if quality not in known:
            raise UsageError(f"has no quality {quality}", where=self.name, mend=f"choose 1 to {known[-1]}")
        self._quality = int(quality) - 1
        self._device = device

    def version(self) -> str:
        """Name the package, the libraries that compute and code, and the weights.

        Raises:
            CodecError: The checkpoint cannot be read.
        """
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
        payload = self._coder.entropy_code(self._coder.analyse(image))
        return Frame(self._model_id, self._quality, width, height, payload).pack()

    def decode(self, data: bytes) -> Image:
        """Return the image, of exactly the size that was encoded, whatever the quality of this instance.

        Raises:
            CodecError: The bytes are empty, truncated, damaged, or of another codec or checkpoint.
        """
        frame = self._unpack(data)
        return self._coder.synthesise(frame, self._coder.entropy_decode(frame))

    def code(self, data: bytes) -> Code:
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
        from icm_codecs.content_weighted.checkpoint import load_checkpoint
        from icm_codecs.content_weighted.coder import Coder

        _ = self._sha256
        return Coder(load_checkpoint(self._path, device=self._device), self._quality, self._device)

    @cached_property
    def _sha256(self) -> str:
        from icm_codecs.content_weighted.checkpoint import file_sha256

        return file_sha256(self._path)

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
