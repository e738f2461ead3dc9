"""What a codec is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from icm_bench.image import Image

Quality: TypeAlias = int | float
"""One operating point of a codec, in the codec's own scale (a QP, a quality factor, a rate)."""


@runtime_checkable
class Codec(Protocol):
    """An image codec at one operating point.

    The class names the codec; an instance fixes the quality. A constructor takes the quality, the device and the
    codec's options as keyword arguments annotated ``str``, ``int``, ``float``, ``bool`` or a ``Literal`` of strings;
    from those annotations the command line checks and converts ``name:option=value``.

    Attributes:
        name: The codec's name in kebab case: entry point, command line, file names and legends.
        qualities: The default ladder, in order of rising rate; :class:`HasLadders` where options change it.
    """

    name: ClassVar[str]
    qualities: ClassVar[tuple[Quality, ...]]

    def __init__(self, quality: Quality, *, device: str = "cpu") -> None: ...

    def encode(self, image: Image) -> bytes:
        """Return one self-contained bitstream for an image of any size from 1x1 up.

        Raises:
            CodecError: The image cannot be encoded.
        """
        ...

    def decode(self, data: bytes) -> Image:
        """Return the image that the bitstream describes, of exactly the size that was encoded.

        Raises:
            CodecError: The bytes are truncated, damaged, empty or foreign.
        """
        ...

    def version(self) -> str:
        """Name all that can change a byte: the library, the binary, the hash of the weights."""
        ...


@runtime_checkable
class HasLadders(Protocol):
    """A codec class whose default ladder follows from its options."""

    @classmethod
    def ladder(cls, options: Mapping[str, Any]) -> tuple[Quality, ...]:
        """Return the default ladder for options, in order of rising rate, as ``qualities`` is for none.

        Raises:
            IcmBenchError: The options are impossible.
        """
        ...


def ladder_of(codec_class: type[Codec], options: Mapping[str, Any]) -> tuple[Quality, ...]:
    """Return a codec's default ladder for options."""
    if isinstance(codec_class, HasLadders):
        return codec_class.ladder(options)
    return codec_class.qualities


@runtime_checkable
class ReportsHeaderBytes(Protocol):
    """A codec that can tell its header bytes from its payload."""

    def header_bytes(self, data: bytes) -> int:
        """Return how many bytes of the bitstream are parameter sets and other headers, of ``len(data)`` in all."""
        ...


@runtime_checkable
class Loads(Protocol):
    """A codec that loads networks or tables, which no image's time should hold."""

    def load(self) -> None:
        """Make ready what the first image would otherwise wait for; a second call does nothing."""
        ...


@runtime_checkable
class Learned(Protocol):
    """A codec whose networks can be weighed."""

    def n_parameters(self) -> int:
        """Return how many learned values the networks have."""
        ...
