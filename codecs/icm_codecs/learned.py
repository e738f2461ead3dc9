"""What the learned codecs share as codecs: weights that name them, networks loaded when they are needed, one frame."""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from icm_bench.codec import Complexity, Quality, Resource
from icm_bench.error import CodecError, UsageError
from icm_bench.file import file_digest
from icm_bench.image import Image, check_image, printable
from icm_codecs.bitstream.container import Frame, check_size, unpack
from icm_codecs.operation import complexity

if TYPE_CHECKING:
    from icm_codecs.bitstream.weights_file import StoredNetworks, TrainingRecord

MOST_QUALITIES = 16
"""The most rate points that a bitstream of a ladder can tell apart."""


class Networks(Protocol):
    """Networks that are loaded."""

    @property
    def n_parameters(self) -> int:
        """How many learned values they have."""


_Stored = TypeVar("_Stored", bound="StoredNetworks")


class OfCheckpoint(Generic[_Stored]):
    """A checkpoint's networks on one device, "cpu" or "cuda", where the checkpoint is."""

    def __init__(self, model: _Stored, device: str) -> None:
        self._model, self._device = model, device

    @property
    def n_parameters(self) -> int:
        """How many learned values the checkpoint has."""
        return self._model.n_parameters()


class Unpacked(Protocol):
    """A bitstream, taken apart."""

    @property
    def header_bytes(self) -> int:
        """How many of its bytes are not the entropy coder's."""


class FrameCoder(Networks, Protocol):
    """What decodes a codec's frames."""

    def entropy_decode(self, frame: Any) -> Any:
        """Return what a frame says."""

    def synthesise(self, frame: Any, latents: Any) -> Image:
        """Turn that into the image."""


class LadderCoder(FrameCoder, Protocol):
    """What decodes the frames of a ladder."""

    @property
    def n_qualities(self) -> int:
        """How many rate points the weights serve."""


def checked_size(image: Image, codec: str) -> tuple[int, int]:
    """Return the height and the width of what is an image and not too large.

    Raises:
        CodecError: The array is no image, or has more pixels than are coded.
    """
    check_image(image, where=codec)
    height, width = image.shape[:2]
    check_size(width, height)
    return height, width


def checked_quality(quality: int, n_qualities: int, codec: str) -> int:
    """Return the index of a rate point that a checkpoint has.

    Raises:
        UsageError: The checkpoint has no such rate point.
    """
    if quality not in range(n_qualities):
        hint = f"choose 1 to {n_qualities}"
        raise UsageError(f"has no quality {quality + 1}", where=codec, hint=hint)
    return quality


_Networks = TypeVar("_Networks", bound=Networks)
_Coder = TypeVar("_Coder", bound=FrameCoder)
_LadderCoder = TypeVar("_LadderCoder", bound=LadderCoder)


class LearnedCodec(ABC, Generic[_Networks]):
    """A codec with a weights file, whose networks are loaded when the first image is coded."""

    name: ClassVar[str]
    pixel_tolerance: ClassVar[int] = 1
    """The bitstream is read exactly; what makes pixels of it computes in floating point, and a few of them round
    otherwise on another processor or number of threads."""
    _fidelity: ClassVar[str] = "mse"
    _path: Path
    _device: str

    def version(self) -> str:
        """Name the package, the libraries that compute and code, and the weights.

        Raises:
            CodecError: The weights cannot be read.
        """
        packages = ("icm-bench", "torch", "compressai")
        versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
        return ", ".join([*versions, f"weights {self._path.stem} {self._sha256[:12]}"])

    @abstractmethod
    def encode(self, image: Image) -> bytes:
        """Return one self-contained bitstream."""

    @abstractmethod
    def decode(self, data: bytes) -> Image:
        """Return the image, of exactly the size that was encoded."""

    def load(self) -> None:
        """Load the networks and tables.

        Raises:
            CodecError: The weights cannot be read.
            UsageError: The weights are not of what the options ask for.
        """
        _ = self._coder

    def n_parameters(self) -> int:
        """Return how many learned values the networks have."""
        return self._coder.n_parameters

    def complexity(self, image: Image) -> Complexity:
        """Return what encoding and decoding an image takes.

        Raises:
            CodecError: The image cannot be coded, or the weights cannot be read.
        """
        self.load()
        return complexity(self, image)

    def runs_on(self) -> Resource:
        """Return "gpu" where the networks run on one, else "cpu"."""
        return "gpu" if self._device.startswith("cuda") else "cpu"

    def objective(self) -> str:
        """Return what the weights were trained for.

        Raises:
            CodecError: The weights cannot be read.
        """
        return self._training.objective

    def trained_through(self) -> tuple[str, ...]:
        """Return the detectors that the weights were trained through.

        Raises:
            CodecError: The weights cannot be read.
        """
        return self._training.detectors

    @cached_property
    def _training(self) -> TrainingRecord:
        from icm_codecs.bitstream.weights_file import training_record

        return training_record(self._path, self._fidelity)

    @abstractmethod
    def _open(self) -> _Networks:
        """Load the networks and tables."""

    @cached_property
    def _coder(self) -> _Networks:
        _ = self._sha256  # says more plainly that there is no such file
        return self._open()

    @cached_property
    def _sha256(self) -> str:
        try:
            return file_digest(self._path)
        except OSError as error:
            raise CodecError(
                f"the checkpoint cannot be read ({error.strerror})",
                where=printable(self._path),
                hint="give a checkpoint's file with weights=FILE",
            ) from error

    @property
    def _model_id(self) -> bytes:
        return bytes.fromhex(self._sha256[:4])

    def _foreign(self) -> CodecError:
        return CodecError(
            "the bitstream was written with other weights",
            where=self.name,
            hint="decode with the same checkpoint",
        )


class FramedCodec(LearnedCodec[_Coder]):
    """A learned codec whose bitstream is a frame around what its entropy coder has written."""

    def decode(self, data: bytes) -> Image:
        """Return the image, of exactly the size that was encoded, whatever the quality of this instance.

        Raises:
            CodecError: The bytes are empty, truncated, damaged, or of another codec or checkpoint.
        """
        frame = self._unpack(data)
        return self._coder.synthesise(frame, self._coder.entropy_decode(frame))

    def latents(self, data: bytes) -> Any:
        """Return what the bitstream says, without turning it into an image.

        Raises:
            CodecError: As for :meth:`decode`.
        """
        return self._coder.entropy_decode(self._unpack(data))

    def header_bytes(self, data: bytes) -> int:
        """Return how many bytes of the bitstream are not the entropy coder's: format, model, size and check."""
        return self._unpack(data).header_bytes

    @abstractmethod
    def _unpack(self, data: bytes) -> Unpacked:
        """Return the frame of a bitstream of these weights."""


class LadderCodec(FramedCodec[_LadderCoder]):
    """A learned codec whose weights serve a ladder of rate points, numbered from 1.

    Args:
        quality: The rate point.
        device: Where the networks run: "cpu", "cuda".
        weights: A file that the training wrote, instead of the shipped one.

    Raises:
        UsageError: There is no such quality.
    """

    qualities: ClassVar[tuple[Quality, ...]]
    _shipped: ClassVar[Path]

    def __init__(self, quality: Quality, *, device: str = "cpu", weights: str = "") -> None:
        shipped = None if weights else self.qualities
        self._set(quality, device, Path(weights) if weights else self._shipped, shipped=shipped)

    def _set(self, quality: Quality, device: str, path: Path, *, shipped: Sequence[Quality] | None) -> None:
        known = range(1, MOST_QUALITIES + 1) if shipped is None else shipped
        if quality not in known:
            raise UsageError(f"has no quality {quality}", where=self.name, hint=f"choose 1 to {known[-1]}")
        self._path, self._device = path, device
        self._quality = int(quality) - 1

    def encode(self, image: Image) -> bytes:
        """Return one self-contained bitstream.

        Raises:
            CodecError: The array is no image, or has more pixels than are coded.
        """
        height, width = checked_size(image, self.name)
        return Frame(self._model_id, self._quality, width, height, self._payload(image)).pack()

    @abstractmethod
    def _payload(self, image: Image) -> bytes:
        """Return an image's entropy-coded bytes."""

    def _unpack(self, data: bytes) -> Frame:
        frame = unpack(data)
        if frame.model != self._model_id or frame.quality >= self._coder.n_qualities:
            raise self._foreign()
        return frame
