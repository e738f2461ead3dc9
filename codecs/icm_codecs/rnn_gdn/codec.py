"""The recurrent codec of Islam et al. (CVPRW 2021, arXiv 2109.01999).

What is guaranteed:

- The bits that a decoder recovers are identical on every device, library and thread count: they are sent as they
  are, or through a context model that is integer arithmetic alone.
- A float network stands behind the bits alone, never before them: the decoder's recurrence feeds its own later
  iterations, and what the encoder makes of the image so far never leaves the encoder. Where another machine
  rounds otherwise, pixels move slightly and bits never do, so errors cannot grow into garbage.
- A bitstream of k iterations begins with all that the bitstreams of fewer iterations hold: its first segments behind
  a head that says so are, byte for byte, what encoding at the lower quality gives.

The networks are loaded when the first image is coded: naming a codec and its version costs nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from icm_bench.codec import Quality
from icm_bench.error import UsageError
from icm_bench.image import Image
from icm_codecs.learned import FramedCodec, checked_size

if TYPE_CHECKING:
    from icm_codecs.rnn_gdn.coder import RnnCoder
    from icm_codecs.rnn_gdn.container import ProgressiveFrame

_ITERATIONS = 16


class RnnGdn(FramedCodec["RnnCoder"]):
    """A progressive codec: recurrent networks that code again and again what is still missing of the image.

    Args:
        quality: How many iterations, 1 to 16: each costs 0.125 bit per pixel, or less where ``coding`` finds less.
        device: Where the networks run: "cpu", "cuda".
        gdn: Whether the networks have the normalisations that the paper adds.
        reconstruction: Whether an iteration adds to the image so far, as in the paper, or makes the image anew.
        coding: Whether the bits are sent as they are, as in the paper, or entropy coded without loss. An instance
            decodes the bitstreams of either.
        weights: A file that the training wrote, instead of the shipped one; of the variant that the options say.

    Raises:
        UsageError: There is no such quality.
    """

    name: ClassVar[str] = "rnn-gdn"
    _fidelity: ClassVar[str] = "mae"
    qualities: ClassVar[tuple[Quality, ...]] = (1, 2, 3, 4, 6, 8, 12, 16)

    def __init__(
        self,
        quality: Quality,
        *,
        device: str = "cpu",
        gdn: bool = True,
        reconstruction: Literal["additive", "one-shot"] = "additive",
        coding: Literal["raw", "adaptive"] = "raw",
        weights: str = "",
    ) -> None:
        if quality not in range(1, _ITERATIONS + 1):
            hint = f"choose 1 to {_ITERATIONS}"
            raise UsageError(f"has no quality {quality}", where=self.name, hint=hint)
        self._iterations = int(quality)
        self._device = device
        self._variant = (gdn, reconstruction)
        self._coding = coding
        self._path = Path(weights) if weights else _shipped_weights(gdn, reconstruction)

    def encode(self, image: Image) -> bytes:
        """Return one self-contained bitstream.

        Raises:
            CodecError: The array is no image, or has more pixels than are coded.
            UsageError: The networks were trained for fewer iterations.
        """
        from icm_codecs.rnn_gdn.coder import write_segments
        from icm_codecs.rnn_gdn.container import ProgressiveFrame

        height, width = checked_size(image, self.name)
        planes = self._coder.planes(image, self._iterations)
        segments = write_segments(planes, self._coding)
        return ProgressiveFrame(self._coding, self._model_id, width, height, segments).pack()

    def _unpack(self, data: bytes) -> ProgressiveFrame:
        from icm_codecs.rnn_gdn.container import unpack

        frame = unpack(data)
        if frame.model != self._model_id:
            raise self._foreign()
        return frame

    def _open(self) -> RnnCoder:
        from icm_codecs.rnn_gdn.checkpoint import load_checkpoint
        from icm_codecs.rnn_gdn.coder import RnnCoder

        checkpoint = load_checkpoint(self._path, device=self._device)
        shape = checkpoint.network.shape
        if (shape.gdn, shape.reconstruction) != self._variant:
            options = f"gdn={'on' if shape.gdn else 'off'} and reconstruction={shape.reconstruction}"
            raise UsageError("holds another variant of the networks", where=self._path, hint=f"set {options}")
        return RnnCoder(checkpoint, self._device)


def _shipped_weights(gdn: bool, reconstruction: str) -> Path:
    variant = ("" if gdn else "-off") + ("" if reconstruction == "additive" else f"-{reconstruction}")
    return Path(__file__).parents[1] / "weights" / f"rnn-gdn{variant}.safetensors"
