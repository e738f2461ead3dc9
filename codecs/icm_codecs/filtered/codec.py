"""VVC with a learned filter behind its decoder: the bitstream is VVC's own, byte for byte.

What is guaranteed:

- The bitstream is the codec ``vvc``'s, and its decoder decodes it; whoever has the weights filters what comes out.
- The filter is told the QP by the bitstream's headers and nothing else.
- The pixels are identical on the same machine, device and library; elsewhere one may differ by one level.

The network is loaded when the first image is decoded: naming a codec and its version costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from icm_bench import limit
from icm_bench.codec import Quality, header_bytes, label_of, quality_of, s_per_megapixel
from icm_bench.image import Image
from icm_bench.spec import Spec, create_codec, resolve_codec
from icm_codecs.learned import LearnedCodec

if TYPE_CHECKING:
    from icm_codecs.filtered.checkpoint import Filter

_SHIPPED = Path(__file__).parents[1] / "weights" / "vvc-filtered.safetensors"
_STANDARD = "vvc"

# The filter takes a second a megapixel: beyond 4 million pixels a byte must stand for no more than 2,048, less than a
# tenth of what the coarsest QP of the ladder spends on an image of anything.
_SMALL_PIXELS = 2**22
_PIXELS_A_BYTE = 2**11


class VvcFiltered(LearnedCodec["Filter"]):
    """VVC, its decoded images filtered by a network that was trained through detectors.

    Args:
        quality: VVC's QP, 0 to 63; fewer bits the higher.
        device: Where the filter runs: "cpu", "cuda".
        preset: VVenC's speed preset.
        weights: A file that the training wrote, instead of the shipped one.

    Raises:
        UsageError: There is no such QP or preset.
    """

    name: ClassVar[str] = "vvc-filtered"
    qualities: ClassVar[tuple[Quality, ...]] = (52, 47, 42, 37, 32, 27, 22)
    always_named: ClassVar[tuple[str, ...]] = ("preset",)

    def __init__(
        self, quality: Quality, *, device: str = "cpu", preset: str = "fast", weights: str = ""
    ) -> None:
        self._standard = create_codec(Spec(_STANDARD, (("preset", preset),)), quality, "cpu")
        self._device = device
        self._path = Path(weights) if weights else _SHIPPED

    @classmethod
    def label(cls, options: Mapping[str, str]) -> str:
        """Return the short name: ``VVC medium, filtered``; ``VVC medium, filtered by FILE``."""
        standard = {key: value for key, value in options.items() if key != "weights"}
        own = f" by {Path(options['weights']).stem}" if "weights" in options else ""
        return f"{label_of(resolve_codec(_STANDARD)[1], standard)}, filtered{own}"

    def encode(self, image: Image) -> bytes:
        """Return VVC's bitstream of an image."""
        return self._standard.encode(image)

    def decode(self, data: bytes) -> Image:
        """Return the filtered image, of exactly the size that was encoded.

        Raises:
            CodecError: The bytes are truncated, damaged, empty or foreign, too few for what they claim, or the weights
                cannot be read.
        """
        decoded = self._standard.decode(data)
        height, width = decoded.shape[:2]
        limit.check_claim(
            width, height, len(data), where=self.name, pixels_a_byte=_PIXELS_A_BYTE, small=_SMALL_PIXELS
        )
        return self._coder.apply(decoded, quality_of(self._standard, data))

    def header_bytes(self, data: bytes) -> int:
        """Return the header bytes that VVC counts."""
        return header_bytes(self._standard, data) or 0

    def s_per_megapixel(self) -> float:
        """Return VVC's seconds and what the filter takes on one core."""
        return s_per_megapixel(self._standard) + 0.7

    def version(self) -> str:
        """Name what a learned codec names, and what VVC names.

        Raises:
            CodecError: The weights cannot be read.
        """
        return f"{super().version()}, {self._standard.version()}"

    def _open(self) -> Filter:
        from icm_codecs.filtered.checkpoint import load_checkpoint

        return load_checkpoint(self._path, device=self._device)
