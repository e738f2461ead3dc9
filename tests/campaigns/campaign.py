"""What the campaigns share: options, codecs to attack, damaged bytes, and the limits of a decoder."""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from icm_bench.error import IcmBenchError
from icm_bench.spec import create_codec, resolve_codec

T = TypeVar("T")

LEARNED = {
    "content-weighted": 1,
    "hyperprior": 1,
    "icm:domain=photos:objective=detection": 1,
    "icm:domain=photos:objective=mse": 1,
    "icm:domain=scenes:objective=detection": 10,
    "icm:domain=scenes:objective=mse": 1,
    "rnn-gdn": 16,
    "rnn-gdn:coding=adaptive": 16,
    "tucodec": 0.1,
}
"""Every shipped weights file, by a codec that opens it and a rate point."""

BASELINES = {
    "avif": 39,
    "bpg": 32,
    "hevc": 32,
    "jpeg": 50,
    "jpeg2000": 0.5,
    "jpegxl": 3.5,
    "png": 0,
    "vtm": 37,
    "vvc": 37,
    "vvc-filtered:preset=faster": 42,
    "webp": 10,
}
"""The other codecs, by a rate point; one has weights, and the bitstream of another."""
MOST_S = 10.0
"""CPU time that decoding one stream may take, this process and its programs together."""

MOST_MIB = 1024.0
"""By how much decoding may make a process grow, or the largest of its programs."""


def parser(description: str | None, count: int) -> argparse.ArgumentParser:
    """Return a parser of the options that every campaign has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--count", type=int, default=count)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--minutes", type=float, default=float("inf"), help="end then, whatever the count")
    return made


def open_codec(text: str, quality: float) -> Any:
    """Return a codec on one thread; without PyTorch where it needs none, so that its programs start small."""
    if text in LEARNED:
        import torch

        torch.set_num_threads(1)
    return create_codec(resolve_codec(text)[0], quality, "cpu")


@dataclass
class Tally:
    """What attacked decodings came to.

    Attributes:
        counts: How many ended how: ``refused`` by an error of the tree, ``decoded`` to an image, anything else wrong.
        slowest_s: The longest decoding in seconds of CPU.
        growth_mib: By how much the process, or its largest program, grew at its peak.
    """

    counts: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    growth_mib: float = 0.0

    def holds(self, most_s: float = MOST_S, most_mib: float = MOST_MIB) -> bool:
        """Tell whether every stream was refused or decoded, within the limits."""
        within = self.slowest_s <= most_s and self.growth_mib <= most_mib
        return within and self.counts.keys() <= {"refused", "decoded"}

    def __str__(self) -> str:
        counted = ", ".join(f"{n} {kind}" for kind, n in sorted(self.counts.items(), reverse=True))
        return f"{counted}, slowest {self.slowest_s:.2f} s, {self.growth_mib:.0f} MiB more"


def decode_all(codec: Any, streams: Iterable[bytes]) -> Tally:
    """Decode hostile streams in this process, which may not grow by more than twice what is allowed."""
    tally = Tally()
    before = _peaks()
    _limit_memory()
    for index, stream in enumerate(streams):
        began = _cpu_s()
        tally.counts[_ending(codec, stream, index)] += 1
        tally.slowest_s = max(tally.slowest_s, _cpu_s() - began)
    own, programs = (after - earlier for after, earlier in zip(_peaks(), before, strict=True))
    tally.growth_mib = max(own, programs)
    return tally


def in_child(function: Callable[..., T], *arguments: object, imported: Sequence[str] = ()) -> T:
    """Call a function in a new process, whose memory nothing else has used, but for modules that are imported once."""
    context = get_context("forkserver" if imported else "spawn")
    if imported:
        context.set_forkserver_preload(list(imported))
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def timed(what: str, outcome: object, began: float) -> None:
    """Print a line of what an attack came to."""
    print(f"{what}: {outcome}, {time.monotonic() - began:.0f} s in all", flush=True)


def _ending(codec: Any, stream: bytes, index: int) -> str:
    try:
        image = codec.decode(stream)
    except IcmBenchError as error:
        return "refused" if "\n" not in str(error) else f"stream {index}: {error!r} of several lines"
    except BaseException as error:  # an error of any other kind is what is sought
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"stream {index}: {type(error).__name__}: {error}"
    is_image = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,)
    return "decoded" if is_image else f"stream {index}: no image"


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + int(2 * MOST_MIB * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _peaks() -> list[float]:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return [resource.getrusage(kind).ru_maxrss / 1024 for kind in kinds]


def _cpu_s() -> float:
    return sum(os.times()[:4])
