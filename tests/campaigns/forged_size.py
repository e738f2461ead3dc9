"""Decode streams that claim another size than theirs, each well formed but for that; report seconds and memory.

``python tests/campaigns/forged_size.py --count 200 --seed 1`` takes each shipped weights file, and webp.
"""

from __future__ import annotations

import argparse
import resource
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from icm_bench.error import IcmBenchError
from icm_bench.spec import create_codec, resolve_codec
from icm_bench.testing import photograph
from icm_codecs.bitstream.container import read_varint, seal, varint

CODECS = {
    "content-weighted": 1,
    "hyperprior": 1,
    "icm:domain=photos:objective=mse": 1,
    "icm:domain=scenes:objective=detection": 10,
    "icm:domain=scenes:objective=mse": 1,
    "rnn-gdn": 16,
    "rnn-gdn:coding=adaptive": 16,
    "tucodec": 0.1,
    "webp": 10,
}
"""The codecs whose streams are forged, and at which quality."""

WORST = (8192, 8192)


@dataclass(frozen=True)
class Outcome:
    """What decoding forged streams of one codec came to.

    Attributes:
        n_refused: How many were a ``CodecError``, or another error of the tree.
        n_decoded: How many gave an image.
        slowest_s: The longest decoding.
        growth_mib: By how much the process grew at its peak.
    """

    n_refused: int
    n_decoded: int
    slowest_s: float
    growth_mib: float


def forged(name: str, data: bytes, width: int, height: int, length: int) -> bytes:
    """Return a stream's first bytes with another size in its header and a check that holds."""
    if name == "webp":
        at = data.index(b"\x9d\x01\x2a") + 3
        return data[:at] + struct.pack("<HH", min(width, 16383), min(height, 16383)) + data[at + 4 :]
    start = 4 if name == "tucodec" else 3
    _, end = read_varint(data, start)
    _, end = read_varint(data, end)
    head, payload = data[:start] + varint(width) + varint(height), data[end:-3]
    if name == "rnn-gdn":
        body = head + payload[:length]
        first = bytes([body[0] & 0xF0])
        check = zlib.crc32(first + body[1:], zlib.crc32(b"rnn-gdn")) & 0xFFFF
        return body[:1] + body[1:] + check.to_bytes(2, "big")
    return seal(head + payload[:length])


def sizes(count: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yield sizes to claim, the worst first."""
    yield WORST
    random = np.random.default_rng(seed)
    for _ in range(count - 1):
        side = 2.0 ** random.uniform(0.0, 16.0, 2)
        yield int(side[0]), int(side[1])


def attack(text: str, count: int, seed: int, length: int) -> Outcome:
    """Decode forged streams of a codec in this process."""
    torch.set_num_threads(1)
    spec, _ = resolve_codec(text)
    codec: Any = create_codec(spec, CODECS[text], "cpu")
    data = codec.encode(photograph(40, 33))
    codec.decode(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_refused, n_decoded, slowest = 0, 0, 0.0
    for width, height in sizes(count, seed):
        stream = forged(spec.name, data, width, height, length)
        begin = time.perf_counter()
        try:
            codec.decode(stream)
            n_decoded += 1
        except IcmBenchError:
            n_refused += 1
        slowest = max(slowest, time.perf_counter() - begin)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return Outcome(n_refused, n_decoded, slowest, growth)


def main() -> int:
    """Print a line for each codec; return 1 where a stream took more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codecs", nargs="+", default=list(CODECS))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--length", type=int, default=8, help="bytes behind the header")
    parser.add_argument("--most-seconds", type=float, default=10.0)
    parser.add_argument("--most-mib", type=float, default=1024.0)
    options = parser.parse_args()
    failed = False
    for text in options.codecs:
        outcome = attack(text, options.count, options.seed, options.length)
        failed |= outcome.slowest_s > options.most_seconds or outcome.growth_mib > options.most_mib
        print(
            f"{text}: {outcome.n_refused} refused, {outcome.n_decoded} decoded, slowest "
            f"{outcome.slowest_s:.2f} s, {outcome.growth_mib:.0f} MiB more",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
