"""The pixel-fidelity models of CompressAI's zoo, under its own names, as codecs with real bitstreams.

Networks, weights and entropy coder are CompressAI's: Ballé et al. (ICLR 2018, arXiv 1802.01436), Minnen et al. (NeurIPS
2018, arXiv 1809.02736) and Cheng et al. (CVPR 2020, arXiv 2001.01568). The published weights are fetched once::

    python -m icm_codecs.compressai_zoo mbt2018-mean            # all qualities, trained for MSE
    python -m icm_codecs.compressai_zoo mbt2018-mean ms-ssim

and kept in ``compressai/`` of ``$ICM_BENCH_CACHE`` (``~/.cache/icm-bench``). Nothing else here opens a connection.

What is not guaranteed: that another machine can decode. The scales (and, in most models, the means) that encoder and
decoder must agree on come out of floating-point networks, which other processors, libraries and devices round
differently; one symbol that is read with a neighbouring table ruins the rest. On a CPU everything is computed by one
thread, so on one machine streams decode whatever the number of threads. The package's own codecs have no such limit.

The bitstream is the frame of :mod:`icm_codecs.bitstream.container`. Its payload is, for a factorised prior, the one
string of CompressAI; for the others three bytes with the hyper-latent's length, its string, and the latent's.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from icm_bench.codec import Quality
from icm_bench.download import Patience, Progress, download
from icm_bench.error import CodecError, DownloadError, UsageError, WeightsError
from icm_bench.image import Image, first_line, printable
from icm_bench.machine import one_thread
from icm_codecs.bitstream.container import Frame, unpack
from icm_codecs.bitstream.quiet import quiet_import
from icm_codecs.learned import LearnedCodec, checked_size

Metric: TypeAlias = Literal["mse", "ms-ssim"]
"""What the published weights were trained for."""

STRIDE = 64
"""Pixels to a hyper-latent position, in each direction: images are padded to multiples of it."""

_LATENT_STRIDE = 16
_LENGTH_BYTES = 3
_HINT = "give the bytes that encode returned, whole"


def published_url(name: str, metric: str, quality: int) -> str:
    """Return where CompressAI publishes the weights of a model."""
    with quiet_import():
        from compressai.zoo.image import model_urls
    return str(model_urls[name][metric][quality])


def cached_file(url: str) -> Path:
    """Return where the published weights of an address are kept, fetched or not."""
    from icm_bench.network.checkpoint import cache_folder

    return cache_folder() / "compressai" / PurePosixPath(url).name


def fetch(url: str, *, progress: Progress | None = None, patience: Patience | None = None) -> Path:
    """Fetch published weights unless they are cached, verify them, and return their file.

    Args:
        url: Their address; the file's name ends in ``-`` and the first eight digits of its SHA-256.
        progress: What to tell of the bytes that arrive.
        patience: How long to bear with the network; as ``download`` by default.

    Raises:
        DownloadError: They cannot be fetched, or what came is another file.
    """
    file = cached_file(url)
    download(url, file, sha256=_published_digest(file), progress=progress, patience=patience or Patience())
    return file


class ZooCodec(LearnedCodec[Any]):
    """One of CompressAI's models at one quality.

    Args:
        quality: CompressAI's quality index.
        device: Where the networks run: "cpu", "cuda". Context models, which code position by position, use the CPU.
        metric: What the published weights were trained for.
        weights: A file with the state dictionary of the same architecture, of any width, instead of the published
            weights: .safetensors, or what torch saved. ``{quality}`` in its name stands for the quality.

    Raises:
        UsageError: There is no such quality or metric.
    """

    name: ClassVar[str]
    qualities: ClassVar[tuple[Quality, ...]] = (1, 2, 3, 4, 5, 6, 7, 8)
    _is_hierarchical: ClassVar[bool] = True
    _has_context: ClassVar[bool] = False

    def __init__(
        self, quality: Quality, *, device: str = "cpu", metric: Metric = "mse", weights: str = ""
    ) -> None:
        if quality not in self.qualities:
            hint = f"choose 1 to {self.qualities[-1]}"
            raise UsageError(f"has no quality {quality}", where=self.name, hint=hint)
        if metric not in get_args(Metric):
            raise UsageError(f"has no weights for '{metric}'", where=self.name, hint="choose mse or ms-ssim")
        self._quality = int(quality)
        self._device = "cpu" if self._has_context else device
        self._metric = metric
        self._weights = weights

    def version(self) -> str:
        """Name the bitstream's layout, the libraries that compute and code, and the weights.

        Raises:
            WeightsError: The published weights have not been fetched.
            CodecError: The weights cannot be read.
        """
        versions = [f"{package} {importlib.metadata.version(package)}" for package in ("compressai", "torch")]
        return ", ".join(["zoo 1", *versions, f"weights {self._path.name} {self._sha256[:12]}"])

    def encode(self, image: Image) -> bytes:
        """Return one self-contained bitstream.

        Raises:
            CodecError: The array is no image, or has more pixels than are coded, or the weights cannot be used.
        """
        height, width = checked_size(image, self.name)
        payload = self._join(self._compress(image))
        return Frame(self._model_id, self._quality - 1, width, height, payload).pack()

    def decode(self, data: bytes) -> Image:
        """Return the image, of exactly the size that was encoded.

        Raises:
            CodecError: The bytes are empty, truncated, damaged, or of another codec, quality or weights.
        """
        frame = self._unpack(data)
        return self._decompress(frame, self._split(frame))

    def header_bytes(self, data: bytes) -> int:
        """Return how many bytes of the bitstream are not the entropy coder's."""
        return self._unpack(data).header_bytes + (_LENGTH_BYTES if self._is_hierarchical else 0)

    def objective(self) -> str:
        """Return what the weights were trained for."""
        return self._metric

    def trained_through(self) -> tuple[str, ...]:
        """Return none: the published weights were trained for fidelity."""
        return ()

    def n_parameters(self) -> int:
        """Return how many learned values the networks have."""
        return sum(parameter.numel() for parameter in self._coder.parameters())

    def _compress(self, image: Image) -> list[bytes]:
        import torch

        from icm_codecs.pixel import padded, to_tensor

        # Not inference mode: CompressAI writes into what it has sliced.
        with one_thread(), torch.no_grad():
            coded = self._coder.compress(padded(to_tensor(image, self._device), STRIDE))
        return [strings[0] for strings in coded["strings"]]

    def _decompress(self, frame: Frame, strings: list[bytes]) -> Image:
        import torch

        from icm_codecs.pixel import n_blocks, to_image

        rows, columns = n_blocks(frame.height, STRIDE), n_blocks(frame.width, STRIDE)
        scale = 1 if self._is_hierarchical else STRIDE // _LATENT_STRIDE
        # The coder trusts its input and reads on past the end: zeros there keep a forged stream inside the buffer.
        n_latents = self._coder.M * rows * columns * (STRIDE // _LATENT_STRIDE) ** 2
        beyond = bytes(4 * n_latents + 64)
        with one_thread(), torch.no_grad():
            shape = (rows * scale, columns * scale)
            decoded = self._coder.decompress([[string + beyond] for string in strings], shape)["x_hat"]
            return to_image(torch.nan_to_num(decoded), frame.height, frame.width)

    def _join(self, strings: list[bytes]) -> bytes:
        if not self._is_hierarchical:
            return strings[0]
        latent, hyper = strings
        if len(hyper) >= 2 ** (8 * _LENGTH_BYTES):
            raise CodecError("the hyper-latent is too long", where=self.name, hint="code a smaller image")
        return len(hyper).to_bytes(_LENGTH_BYTES, "big") + hyper + latent

    def _split(self, frame: Frame) -> list[bytes]:
        """Return the payload's strings in CompressAI's order: the latent, the hyper-latent."""
        payload = frame.payload
        if not self._is_hierarchical:
            return [payload]
        rest = payload[_LENGTH_BYTES:]
        length = int.from_bytes(payload[:_LENGTH_BYTES], "big")
        if len(payload) < _LENGTH_BYTES or length > len(rest):
            raise CodecError("the bitstream's length field is malformed", where=self.name, hint=_HINT)
        return [rest[length:], rest[:length]]

    def _unpack(self, data: bytes) -> Frame:
        frame = unpack(data)
        if frame.model != self._model_id or frame.quality != self._quality - 1:
            raise CodecError(
                "the bitstream was written with other weights",
                where=self.name,
                hint="decode with the quality and weights that encoded it",
            )
        return frame

    @cached_property
    def _path(self) -> Path:  # type: ignore[override]  # where published weights lie is looked up late
        if self._weights:
            return Path(self._weights.replace("{quality}", str(self._quality)))
        return cached_file(published_url(self.name, self._metric, self._quality))

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            if self._weights:
                raise CodecError(
                    f"the weights cannot be read ({error.strerror})",
                    where=printable(self._path),
                    hint="name a file with weights=FILE",
                ) from error
            raise WeightsError(
                f"the published weights of quality {self._quality} are not on this machine",
                where=self.name,
                hint=f"fetch them with: python -m icm_codecs.compressai_zoo {self.name} {self._metric}; "
                "or give weights=FILE",
            ) from error

    @cached_property
    def _sha256(self) -> str:
        return self._verified(self._read())

    def _verified(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if not self._weights and not sha256.startswith(_published_digest(self._path)):
            raise CodecError(
                "the cached weights are not the published ones",
                where=printable(self._path),
                hint="remove the file and fetch it again",
            )
        return sha256

    def _open(self) -> Any:
        from icm_bench.network.checkpoint import damage_refused

        where = printable(self._path)
        data = self._read()
        if self._verified(data) != self._sha256:
            raise CodecError(
                "the weights have changed since they were hashed", where=where, hint="start again"
            )
        with damage_refused(where, CodecError):
            state = _read_state(data, self._path)
        try:
            return _build(self.name, state).to(self._device)
        except (RuntimeError, KeyError, ValueError, AttributeError, TypeError, IndexError) as error:
            raise CodecError(
                f"the weights are of another model ({first_line(error)})",
                where=where,
                hint=f"give the state dictionary of a {self.name} model",
            ) from error


class Bmshj2018Factorized(ZooCodec):
    """Factorised prior, GDN transforms (Ballé et al. 2018)."""

    name: ClassVar[str] = "bmshj2018-factorized"
    _is_hierarchical: ClassVar[bool] = False


class Bmshj2018Hyperprior(ZooCodec):
    """Scale hyperprior (Ballé et al. 2018)."""

    name: ClassVar[str] = "bmshj2018-hyperprior"


class Mbt2018Mean(ZooCodec):
    """Mean and scale hyperprior (Minnen et al. 2018)."""

    name: ClassVar[str] = "mbt2018-mean"


class Mbt2018(ZooCodec):
    """Mean and scale hyperprior with an autoregressive context model (Minnen et al. 2018)."""

    name: ClassVar[str] = "mbt2018"
    _has_context: ClassVar[bool] = True


class Cheng2020Anchor(ZooCodec):
    """Residual transforms with an autoregressive context model (Cheng et al. 2020, without attention)."""

    name: ClassVar[str] = "cheng2020-anchor"
    qualities: ClassVar[tuple[Quality, ...]] = (1, 2, 3, 4, 5, 6)
    _has_context: ClassVar[bool] = True


class Cheng2020Attn(ZooCodec):
    """Residual transforms with attention and an autoregressive context model (Cheng et al. 2020)."""

    name: ClassVar[str] = "cheng2020-attn"
    qualities: ClassVar[tuple[Quality, ...]] = (1, 2, 3, 4, 5, 6)
    _has_context: ClassVar[bool] = True


CODECS = (Bmshj2018Factorized, Bmshj2018Hyperprior, Mbt2018Mean, Mbt2018, Cheng2020Anchor, Cheng2020Attn)
"""All of them, in the order in which they were published."""


def main(arguments: Sequence[str]) -> int:
    """Fetch the published weights of one model at all qualities: ``NAME [mse|ms-ssim]``; return the exit status."""
    known = {codec.name: codec for codec in CODECS}
    name, metric = (*arguments, "mse")[:2] if arguments else ("", "mse")
    if name not in known or metric not in get_args(Metric) or len(arguments) > 2:
        sys.stderr.write(f"usage: python -m icm_codecs.compressai_zoo {{{','.join(known)}}} [mse|ms-ssim]\n")
        return 2
    try:
        for quality in known[name].qualities:
            file = fetch(published_url(name, metric, int(quality)))
            sys.stdout.write(f"{file}\n")
    except DownloadError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _published_digest(file: Path) -> str:
    """Return the first digits of the SHA-256 that a published file's name ends in."""
    return file.name.partition(".")[0].rpartition("-")[2]


def _read_state(data: bytes, path: Path) -> dict[str, Any]:
    import safetensors.torch

    from icm_bench.network.checkpoint import read_pth

    if path.suffix == ".safetensors":
        return dict(safetensors.torch.load(data))
    state = read_pth(data)
    if not isinstance(state, dict):
        raise TypeError(f"a {type(state).__name__} is no state dictionary")
    return state


def _build(name: str, state: dict[str, Any]) -> Any:
    """Return the model of a state dictionary, with the tables that it holds, or else with new ones."""
    with quiet_import():
        from compressai.zoo.image import model_architectures
        from compressai.zoo.pretrained import load_pretrained
    model = model_architectures[name].from_state_dict(load_pretrained(state))
    model.eval().requires_grad_(False)
    model.update()
    return model


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
