"""Decode streams that claim another size than theirs, each well formed but for that; report seconds and memory.

``python tests/campaigns/forged_size.py --count 200 --seed 1`` takes each shipped weights file, and webp.
"""

from __future__ import annotations

import struct
import sys
import time
import zlib
from collections.abc import Iterator

import numpy as np

from campaign import (
    BASELINES,
    LEARNED,
    MOST_MIB,
    MOST_S,
    Tally,
    decode_all,
    in_child,
    open_codec,
    parser,
    timed,
)
from icm_bench.spec import Spec
from icm_bench.testing import photograph
from icm_codecs.bitstream.container import read_varint, seal, varint

CODECS = {**LEARNED, "webp": BASELINES["webp"]}
"""The codecs whose streams are forged, and at which quality."""

WORST = (8192, 8192)


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


def attack(text: str, count: int, seed: int, length: int) -> Tally:
    """Decode forged streams of a codec in this process."""
    codec = open_codec(text, CODECS[text])
    data = codec.encode(photograph(40, 33))
    codec.decode(data)
    name = Spec.parse(text).name
    return decode_all(codec, (forged(name, data, *size, length) for size in sizes(count, seed)))


def main() -> int:
    """Print a line for each codec; return 1 where a stream took more than it may."""
    options = parser(__doc__, 200)
    options.add_argument("--codecs", nargs="+", default=list(CODECS))
    options.add_argument("--length", type=int, default=8, help="bytes behind the header")
    options.add_argument("--most-seconds", type=float, default=MOST_S)
    options.add_argument("--most-mib", type=float, default=MOST_MIB)
    given = options.parse_args()
    failed = False
    for text in given.codecs:
        began = time.monotonic()
        tally = in_child(attack, text, given.count, given.seed, given.length)
        timed(text, tally, began)
        failed |= not tally.holds(given.most_seconds, given.most_mib)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
