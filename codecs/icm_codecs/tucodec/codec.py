"""The learned codec after TuCodec (Zhou et al., CLIC 2018), whose quality is a rate.

What is guaranteed:

- A stream is no longer than its target allows, headers included, and as near to it as a bisection over some hundred
  steps a doubling of the rate comes. A target that an image cannot meet (its least stream is longer, as a tiny
  image's headers are) gives the shortest stream that was found; one that it cannot use up gives the longest.
- The latents that a decoder recovers are identical, bit for bit, on every device, library and thread count: all that
  encoder and decoder must agree on is integer (:mod:`icm_codecs.tucodec.network_exact`) or a stored table.
- The pixels are identical on the same machine, device and library; elsewhere one may differ by one level, and an
  encoder may write other bytes, which every decoder reads alike.

The networks are loaded when the first image is coded: naming a codec and its version costs nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from icm_bench.codec import Quality
from icm_bench.error import UsageError
from icm_bench.image import Image
from icm_codecs.learned import FramedCodec, checked_size
from icm_codecs.tucodec.container import RateFrame, unpack
from icm_codecs.tucodec.rate import meet

if TYPE_CHECKING:
    from icm_codecs.tucodec.coder import TucodecCoder

_SHIPPED = Path(__file__).parents[1] / "weights" / "tucodec.safetensors"
_MOST_BPP = 24.0


class Tucodec(FramedCodec["TucodecCoder"]):
    """A learned image codec that meets a target rate image by image.

    Convolutional networks, Laplacians whose scales a hyperprior tells, and a post-filter, as the paper has them;
    one model serves every rate, which is our choice.

    Args:
        quality: The target in bits per pixel, above 0, at most 24: no image takes more, unless it cannot take less.
        device: Where the networks run: "cpu", "cuda".
        weights: A file that the training wrote, instead of the shipped one.

    Raises:
        UsageError: The target is no rate.
    """

    name: ClassVar[str] = "tucodec"
    qualities: ClassVar[tuple[Quality, ...]] = (0.1, 0.15, 0.25, 0.35, 0.5, 0.7)

    def __init__(self, quality: Quality, *, device: str = "cpu", weights: str = "") -> None:
        if not 0.0 < quality <= _MOST_BPP:
            hint = f"choose a rate above 0, at most {_MOST_BPP:g} bits per pixel"
            raise UsageError(f"{quality!r} is no target rate", where=self.name, hint=hint)
        self._bpp = float(quality)
        self._device = device
        self._path = Path(weights) if weights else _SHIPPED

    def encode(self, image: Image) -> bytes:
        """Return one self-contained bitstream, the largest found within the target, or else the smallest.

        Raises:
            CodecError: The array is no image, or has more pixels than are coded.
        """
        height, width = checked_size(image, self.name)
        latent = self._coder.analyse(image)

        def code(position: int) -> bytes:
            payload = self._coder.entropy_code(self._coder.quantise(latent, position), position)
            return RateFrame(self._model_id, position, width, height, payload).pack()

        return meet(self._bpp * width * height / 8.0, code, self._coder.last_position)

    def _open(self) -> TucodecCoder:
        from icm_codecs.tucodec.checkpoint import load_checkpoint
        from icm_codecs.tucodec.coder import TucodecCoder

        return TucodecCoder(load_checkpoint(self._path, device=self._device), self._device)

    def _unpack(self, data: bytes) -> RateFrame:
        frame = unpack(data)
        if frame.model != self._model_id or frame.position > self._coder.last_position:
            raise self._foreign()
        return frame
