"""Content-weighted image compression, after Li et al. (CVPR 2018, arXiv 1703.10553), as a codec.

A binary code whose length follows the content: an importance map says at each position how many channels are kept.
The paper trains a model for each rate. Here one model serves the ladder, because the networks' first and last layers
do the same at every rate, and the importance map is a rate control already: what a quality adds is its own target
for the map and some scales and shifts of features. A ladder then costs one file below 8 MiB, where single models of
the same size together would each have a sixth of the parameters; a recipe with a single target trains the paper's.

What is guaranteed is what :mod:`icm_codecs.icm.codec` guarantees: codes are recovered identically, bit for bit, on
every device, library and thread count; pixels come from a floating-point network, and may differ by one level
elsewhere.

The networks are loaded when the first image is coded: naming a codec and its version costs nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from icm_bench.codec import Quality
from icm_bench.image import Image
from icm_codecs.learned import LadderCodec

if TYPE_CHECKING:
    from icm_codecs.content_weighted.coder import ContentWeightedCoder


class ContentWeighted(LadderCodec["ContentWeightedCoder"]):
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
    _shipped: ClassVar[Path] = Path(__file__).parents[1] / "weights" / "content-weighted.safetensors"

    def _payload(self, image: Image) -> bytes:
        return self._coder.entropy_code(self._coder.analyse(image))

    def _open(self) -> ContentWeightedCoder:
        from icm_codecs.content_weighted.checkpoint import load_checkpoint
        from icm_codecs.content_weighted.coder import ContentWeightedCoder

        return ContentWeightedCoder(
            load_checkpoint(self._path, device=self._device), self._quality, self._device
        )
