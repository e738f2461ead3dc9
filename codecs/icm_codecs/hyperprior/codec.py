"""The mean and scale hyperprior of Minnen et al. (NeurIPS 2018, arXiv 1809.02736) as a codec.

What is guaranteed: latents that are identical, bit for bit, on every device, library and thread count; pixels that are
identical on the same machine and differ by a level at most elsewhere. The bitstream is the frame of
:mod:`icm_codecs.bitstream.container` around the stream of :mod:`icm_codecs.hyperprior.coder`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from icm_bench.codec import Quality
from icm_bench.image import Image
from icm_codecs.learned import LadderCodec

if TYPE_CHECKING:
    from icm_codecs.hyperprior.coder import HyperpriorCoder


class Hyperprior(LadderCodec["HyperpriorCoder"]):
    """A learned image codec with residual transforms and a hyperprior of means and scales.

    Args:
        quality: The rate point, 1 to 8.
        device: Where the networks run: "cpu", "cuda".
        weights: A weights file that the training wrote, instead of the shipped one.

    Raises:
        UsageError: There is no such quality.
    """

    name: ClassVar[str] = "hyperprior"
    qualities: ClassVar[tuple[Quality, ...]] = (1, 2, 3, 4, 5, 6, 7, 8)
    _shipped: ClassVar[Path] = Path(__file__).parents[1] / "weights" / "hyperprior.safetensors"

    def _payload(self, image: Image) -> bytes:
        return self._coder.entropy_code(*self._coder.analyse(image))

    def _open(self) -> HyperpriorCoder:
        from icm_codecs.hyperprior.checkpoint import load_checkpoint
        from icm_codecs.hyperprior.coder import HyperpriorCoder

        model = load_checkpoint(self._path, device=self._device)
        return HyperpriorCoder(model, self._quality, self._device, name=self.name)
