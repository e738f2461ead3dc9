"""What a codec is, and what it may offer beyond that.

A hook is a protocol here, with one function that asks any codec for it and knows the answer for those that lack it.
Nothing else in the package looks for a hook.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from icm_bench.error import UsageError
from icm_bench.image import Image

Quality: TypeAlias = int | float
"""One operating point of a codec, in the codec's own scale (a QP, a quality factor, a rate)."""

Resource: TypeAlias = Literal["cpu", "gpu"]
"""What a codec computes on."""


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


@dataclass(frozen=True)
class Programs:
    """Where programs lie on the machines of a run, which is no part of what a curve is called.

    A codec gets it if its constructor has a parameter ``programs``.

    Attributes:
        vtm: Folder of VTM's executables; None to look elsewhere.
    """

    vtm: Path | None = None


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
    """Return a codec's default ladder for options: by default its ``qualities``."""
    return codec_class.ladder(options) if isinstance(codec_class, HasLadders) else codec_class.qualities


@runtime_checkable
class AlwaysNames(Protocol):
    """A codec class with options that belong to its identity even at their default value.

    Attributes:
        always_named: The options' names. The canonical spec carries them: ``vvc`` becomes ``vvc:preset=fast``.
    """

    always_named: tuple[str, ...]


def always_named(codec_class: type[Codec]) -> tuple[str, ...]:
    """Return the options that a codec's canonical spec always carries: by default none."""
    return codec_class.always_named if isinstance(codec_class, AlwaysNames) else ()


@runtime_checkable
class CompletesOptions(Protocol):
    """A codec class whose defaults depend on task and dataset, or whose options had other names."""

    @classmethod
    def complete_options(cls, options: Mapping[str, str], *, task: str, provider: str) -> dict[str, str]:
        """Return a spec's options with those that follow from the run, which become part of the identity.

        Args:
            options: As written.
            task: What is measured, empty where nothing is.
            provider: The name of the dataset's provider, empty where it is not known.

        Raises:
            UsageError: An option is understood no more; the message names the one to write.
        """
        ...


def complete_options(
    codec_class: type[Codec], options: Mapping[str, str], *, task: str, provider: str
) -> dict[str, str]:
    """Return a spec's options with those that follow from the run: by default the options alone."""
    if isinstance(codec_class, CompletesOptions):
        return codec_class.complete_options(options, task=task, provider=provider)
    return dict(options)


@runtime_checkable
class Labels(Protocol):
    """A codec class with short names for legends and tables."""

    @classmethod
    def label(cls, options: Mapping[str, str]) -> str:
        """Return the short name of the codec with a canonical spec's options: ``VVC medium``; ``icm, no ROI``."""
        ...


def label_of(codec_class: type[Codec], options: Mapping[str, str]) -> str:
    """Return the short name of a codec with options: by default its name and the options as written."""
    if isinstance(codec_class, Labels):
        return codec_class.label(options)
    return ", ".join([codec_class.name, *(f"{key}={value}" for key, value in options.items())])


@runtime_checkable
class KeepsFront(Protocol):
    """A codec class whose curve is the Pareto front of its operating points.

    Attributes:
        front_of: The metric whose front it is; the dataset's own accuracy where the dataset has not that metric.
    """

    front_of: str


def front_of(codec_class: type[Codec]) -> str | None:
    """Return the metric whose Pareto front a codec's curve is: by default None, every point is kept."""
    return codec_class.front_of if isinstance(codec_class, KeepsFront) else None


@runtime_checkable
class CodedAs(Protocol):
    """A codec whose operating point is another codec's, and is coded and stored as that."""

    def coded_as(self) -> tuple[str, Quality] | None:
        """Return the other codec's spec and quality; None for a point that is this codec's own."""
        ...


def coded_as(codec: Codec) -> tuple[str, Quality] | None:
    """Return the spec and the quality that a codec's point is stored as: by default None, its own."""
    return codec.coded_as() if isinstance(codec, CodedAs) else None


@runtime_checkable
class RunsOn(Protocol):
    """A codec that knows what it computes on."""

    def runs_on(self) -> Resource:
        """Return "gpu" where networks run on a GPU, else "cpu"."""
        ...


def runs_on(codec: Codec) -> Resource:
    """Return what a codec computes on: by default "cpu"."""
    return codec.runs_on() if isinstance(codec, RunsOn) else "cpu"


@runtime_checkable
class DeclaresCost(Protocol):
    """A codec that estimates how long it takes, so that a long run can be planned and divided."""

    def s_per_megapixel(self) -> float:
        """Return about how many seconds of one core a megapixel takes to encode and decode."""
        ...


def s_per_megapixel(codec: Codec) -> float:
    """Return about how many seconds of one core a megapixel takes: by default 1."""
    return codec.s_per_megapixel() if isinstance(codec, DeclaresCost) else 1.0


@runtime_checkable
class ReportsHeaderBytes(Protocol):
    """A codec that can tell its header bytes from its payload."""

    def header_bytes(self, data: bytes) -> int:
        """Return how many bytes of the bitstream are parameter sets and other headers, of ``len(data)`` in all."""
        ...


def header_bytes(codec: Codec, data: bytes) -> int | None:
    """Return how many bytes of a bitstream are headers: by default None, not known."""
    return codec.header_bytes(data) if isinstance(codec, ReportsHeaderBytes) else None


@runtime_checkable
class TellsQuality(Protocol):
    """A codec whose bitstreams tell the quality at which they were coded."""

    def quality_of(self, data: bytes) -> Quality:
        """Return a bitstream's quality, whatever the quality of this instance; errors as :func:`quality_of`."""
        ...


def quality_of(codec: Codec, data: bytes) -> Quality:
    """Return the quality at which a bitstream was coded.

    Raises:
        CodecError: The bytes are truncated, damaged, empty or foreign.
        UsageError: The codec's bitstreams do not tell it.
    """
    if isinstance(codec, TellsQuality):
        return codec.quality_of(data)
    raise UsageError(
        "does not tell a bitstream's quality", where=f"codec '{codec.name}'", hint="name another"
    )


@runtime_checkable
class ToleratesPixels(Protocol):
    """A codec whose decoder may give slightly other pixels, by so many levels, on other threads or another machine."""

    pixel_tolerance: int


def pixel_tolerance(codec: Codec) -> int:
    """Return by how many levels a value may differ where a bitstream is decoded again: by default 0, exactly alike."""
    return codec.pixel_tolerance if isinstance(codec, ToleratesPixels) else 0


@runtime_checkable
class Loads(Protocol):
    """A codec that loads networks or tables; the time for it must not count as an image's."""

    def load(self) -> None:
        """Load what the first image needs; a second call does nothing."""
        ...


def load(codec: Codec) -> None:
    """Load what a codec's first image needs: by default nothing."""
    if isinstance(codec, Loads):
        codec.load()


@runtime_checkable
class Learned(Protocol):
    """A codec with networks."""

    def n_parameters(self) -> int:
        """Return how many learned values the networks have."""
        ...


def n_parameters(codec: Codec) -> int:
    """Return how many learned values a codec has: by default 0."""
    return codec.n_parameters() if isinstance(codec, Learned) else 0


@dataclass(frozen=True)
class Complexity:
    """What the networks of a codec take at one operating point.

    Attributes:
        encoder_kmac: Thousands of multiply-accumulate operations to encode, per pixel of the image.
        decoder_kmac: The same to decode.
    """

    encoder_kmac: float
    decoder_kmac: float


@runtime_checkable
class CountsOperations(Protocol):
    """A codec that counts what its networks take."""

    def complexity(self, image: Image) -> Complexity:
        """Return what encoding and decoding an image takes, counted while it is coded.

        Raises:
            CodecError: The image cannot be coded.
        """
        ...


def complexity_of(codec: Codec, image: Image) -> Complexity | None:
    """Return what a codec's networks take to code an image: by default None, not counted or no networks."""
    return codec.complexity(image) if isinstance(codec, CountsOperations) else None


@runtime_checkable
class TrainedThrough(Protocol):
    """A codec with weights that record what they were trained for.

    Results store both, so that a number says where the detector that judges a codec has also trained it.
    """

    def objective(self) -> str:
        """Return what the weights were trained for: "mse", "ms-ssim", "detection", ...; empty where not recorded."""
        ...

    def trained_through(self) -> tuple[str, ...]:
        """Return the specs of the detectors whose gradients or layers the weights saw, sorted; empty for none."""
        ...


def objective_of(codec: Codec) -> str | None:
    """Return what a codec's weights were trained for: by default None, there are no weights or no record."""
    return (codec.objective() or None) if isinstance(codec, TrainedThrough) else None


def trained_through(codec: Codec) -> tuple[str, ...]:
    """Return the detectors that a codec was trained through: by default none."""
    return codec.trained_through() if isinstance(codec, TrainedThrough) else ()


@dataclass(frozen=True)
class Guide:
    """What looks at an image to guide its encoder.

    Attributes:
        spec: The spec of a detector, or of a codec with an ROI network.
        weights: The file that the user gave for it, None for the published or shipped one.
    """

    spec: str
    weights: Path | None = None


@runtime_checkable
class Guided(Protocol):
    """A codec whose encoder spends its bits where something else sees objects.

    Results store what that is, and whether it is the detector that judges the codec.
    """

    def guide(self) -> Guide:
        """Return what looks at the images."""
        ...


def guide_of(codec: Codec) -> Guide | None:
    """Return what guides a codec's encoder: by default None, nothing."""
    return codec.guide() if isinstance(codec, Guided) else None


@runtime_checkable
class FindsRegions(Protocol):
    """A codec with an ROI network that others may ask."""

    def region(self, image: Image) -> NDArray[np.float32]:
        """Return how likely an object is near each pixel, height x width, 0 to 1; errors as :func:`region_by`."""
        ...


def region_by(codec: Codec, image: Image) -> NDArray[np.float32]:
    """Return how likely an object is near each pixel of an image, height x width, 0 to 1.

    Raises:
        UsageError: The codec has no ROI network.
    """
    if isinstance(codec, FindsRegions):
        return codec.region(image)
    raise UsageError("has no ROI network", where=f"codec '{codec.name}'", hint="name a detector")
