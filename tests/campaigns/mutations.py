"""Decode mutated streams of each learned codec and each baseline; report endings, seconds and memory.

``python tests/campaigns/mutations.py --count 10000 --seed 1 --codecs hyperprior`` mutates one codec's. Streams with a
check are mutated below it too: every second one has a check that holds, so that it is the decoder that is tried.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from campaign import BASELINES, LEARNED, Tally, decode_all, in_child, open_codec, parser, timed
from icm_baselines import envelope
from icm_bench.error import IcmBenchError
from icm_bench.testing import photograph
from tests.helpers.mutation import mutated

ENVELOPED = ("avif", "hevc", "vtm", "vvc", "vvc-filtered")
"""The codecs whose stream has a check before it."""

CODERS = tuple(f"icm_codecs.{name}.coder" for name in ("content_weighted", "icm", "rnn_gdn", "tucodec"))
"""What learned codecs import when they open their weights."""


def attack(text: str, quality: float, count: int, seed: int, minutes: float) -> Tally | str:
    """Decode mutated streams of a codec in this process; return why where the codec cannot be had."""
    try:
        codec = open_codec(text, quality)
        data = codec.encode(photograph(40, 33))
    except IcmBenchError as error:
        return f"left out: {error}"
    codec.decode(data)
    end = time.monotonic() + 60 * minutes
    mutations = streams(text, data, count, seed)
    return decode_all(codec, itertools.takewhile(lambda _: time.monotonic() < end, mutations))


def streams(text: str, data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield mutations of a stream."""
    random = np.random.default_rng(seed)
    for index in range(count):
        if text in LEARNED and index % 2:
            yield _below_the_check(text, data, random)
        elif text.split(":")[0] in ENVELOPED and index % 2:
            packed = envelope.unpack(data)
            yield replace(packed, stream=mutated(packed.stream, random)).pack()
        else:
            yield mutated(data, random)


def _below_the_check(text: str, data: bytes, random: np.random.Generator) -> bytes:
    """Return a stream with other content, and now and then another size, under a check that holds."""
    from icm_codecs.bitstream import container
    from icm_codecs.rnn_gdn import container as progressive
    from icm_codecs.tucodec import container as tucodec

    size: dict[str, Any] = {}
    if random.integers(0, 4) == 0:
        size = {"width": int(2.0 ** random.uniform(0, 10)), "height": int(2.0 ** random.uniform(0, 10))}
    if text.startswith("rnn-gdn"):
        whole = progressive.unpack(data)
        segments = list(whole.segments)
        chosen = int(random.integers(0, len(segments)))
        segments[chosen] = mutated(segments[chosen], random)
        return replace(whole, segments=tuple(segments), **size).pack()
    frame: Any = (tucodec if text == "tucodec" else container).unpack(data)
    return bytes(replace(frame, payload=mutated(frame.payload, random), **size).pack())


def main() -> int:
    """Print a line for each codec; return 1 where one did not hold."""
    options = parser(__doc__, 10_000)
    options.add_argument("--codecs", nargs="+", default=[*LEARNED, *BASELINES])
    given = options.parse_args()
    failed = False
    for text in given.codecs:
        began = time.monotonic()
        quality = (LEARNED | BASELINES)[text]
        imported = CODERS if text in LEARNED else ()
        arguments = (text, quality, given.count, given.seed, given.minutes)
        outcome = in_child(attack, *arguments, imported=imported)
        timed(text, outcome, began)
        failed |= isinstance(outcome, Tally) and not outcome.holds()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
