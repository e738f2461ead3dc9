"""One picture through one of ffmpeg's video encoders, with its true size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from icm_baselines import envelope, ffmpeg
from icm_bench import color
from icm_bench.image import Image, check_image


@dataclass(frozen=True)
class Still:
    """A picture format in ffmpeg.

    Attributes:
        form: The planes that are coded.
        container: ffmpeg's name of the elementary stream.
        multiple: What coded sides must be a multiple of.
        smallest: The smallest coded side.
        decoder: Arguments that choose a decoder other than ffmpeg's first.
    """

    form: color.PlaneFormat
    container: str
    multiple: int = 2
    smallest: int = 16
    decoder: tuple[str, ...] = ()

    def encode(self, image: Image, arguments: Sequence[str]) -> bytes:
        """Return the enveloped stream of an image, padded as the format needs it.

        Args:
            image: The image.
            arguments: ffmpeg's output options: the encoder and its settings.

        Raises:
            ProgramError: ffmpeg is missing, failed, hung or wrote nothing.
        """
        columns, rows, raw = self.planes(image)
        layout = ffmpeg.pixel_format(self.form)
        stream = ffmpeg.encode(raw, layout, columns, rows, arguments, self.container)
        return self.packed(stream, image)

    def planes(self, image: Image) -> tuple[int, int, bytes]:
        """Return coded width and height of an image, and its raw planes of that size.

        Raises:
            CodecError: It is no image.
        """
        check_image(image, where=self.container)
        columns, rows = self._coded_size(image)
        padded = color.padded(image, columns, rows)
        return columns, rows, color.to_bytes(color.to_planes(padded, self.form), self.form)

    def packed(self, stream: bytes, image: Image) -> bytes:
        """Return an image's stream in the envelope that says how to crop it."""
        columns, rows = self._coded_size(image)
        height, width = image.shape[:2]
        return envelope.Envelope(stream, columns - width, rows - height).pack()

    def decode(self, data: bytes) -> Image:
        """Return the image of an enveloped stream.

        Raises:
            CodecError: The bytes are truncated, damaged, empty or foreign.
        """
        packed = envelope.unpack(data)
        raw, width, height = ffmpeg.decode(packed.stream, self.form, self.container, decoder=self.decoder)
        picture = color.to_image(color.from_bytes(raw, self.form, width, height), self.form)
        return packed.crop(picture)

    def _coded_size(self, image: Image) -> tuple[int, int]:
        height, width = image.shape[:2]
        return self._coded(width), self._coded(height)

    def _coded(self, side: int) -> int:
        return max(self.smallest, side + -side % self.multiple)
