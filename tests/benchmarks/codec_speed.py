"""Time codecs side by side, and weigh the networks of those that have any.

    OMP_NUM_THREADS=1 python tests/benchmarks/codec_speed.py icm vvc:preset=fast [--images 8] [--rounds 2]

Every codec codes the same images at the middle of its ladder, in turn within every round, in one process. Seconds are
of the clock, entropy coding and external programs included: the median over images of the least over rounds. MACs are
those of the networks' convolutions and products of matrices, counted while an image is coded, per pixel of that image.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from icm_bench.codec import Codec, Learned, load
from icm_bench.dataset import open_dataset
from icm_bench.image import Image
from icm_bench.spec import create_codec, resolve_codec

_T = TypeVar("_T")


@dataclass(frozen=True)
class Weight:
    """What a learned codec costs: parameters, and MACs a pixel to encode and to decode."""

    parameters: int
    encode: float
    decode: float


def create(text: str, *, task: str, provider: str) -> Codec:
    """Return a codec at the middle of its ladder, its networks loaded."""
    spec, cls = resolve_codec(text, task=task, provider=provider)
    codec = create_codec(spec, cls.qualities[len(cls.qualities) // 2], "cpu")
    load(codec)
    return codec


def timed(work: Callable[[], _T]) -> tuple[_T, float]:
    """Do work and return what it returns and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def time_all(
    codecs: dict[str, Codec], images: list[Image], rounds: int
) -> dict[str, tuple[float, float, float]]:
    """Return every codec's median seconds to encode and to decode an image, and its bits a pixel."""
    seconds: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    n_bytes: dict[str, int] = defaultdict(int)
    for _ in range(rounds):
        for number, image in enumerate(images):
            for name, codec in codecs.items():
                data, encode_s = timed(lambda codec=codec, image=image: codec.encode(image))  # type: ignore[misc]  # the defaults bind
                _, decode_s = timed(lambda codec=codec, data=data: codec.decode(data))  # type: ignore[misc]  # the defaults bind
                seconds[name, number].append((encode_s, decode_s))
                n_bytes[name] += len(data)
    n_pixels = rounds * sum(image.shape[0] * image.shape[1] for image in images)

    def typical(name: str, side: int) -> float:
        return median(min(pair[side] for pair in seconds[name, k]) for k in range(len(images)))

    return {name: (typical(name, 0), typical(name, 1), 8 * n_bytes[name] / n_pixels) for name in codecs}


def weigh(codec: Codec, image: Image) -> Weight | None:
    """Return what a codec's networks cost; None where it has none."""
    if not isinstance(codec, Learned):
        return None
    n_pixels = image.shape[0] * image.shape[1]
    with FlopCounterMode(display=False) as encoding:
        data = codec.encode(image)
    with FlopCounterMode(display=False) as decoding:
        codec.decode(data)
    # That counter takes a product and a sum for two operations.
    to_encode, to_decode = (counter.get_total_flops() / 2 / n_pixels for counter in (encoding, decoding))
    return Weight(codec.n_parameters(), to_encode, to_decode)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("codecs", nargs="+", help="specs")
    parser.add_argument("--task", default="detection")
    parser.add_argument("--dataset", default="scenes")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(options.dataset, data_root=options.data_root, limit=options.images)
    images = [record.read() for record in dataset.images]
    codecs = {text: create(text, task=options.task, provider=dataset.provider) for text in options.codecs}
    megapixels = sum(image.shape[0] * image.shape[1] for image in images) / len(images) / 1e6
    print(
        "| codec | quality | bpp | encode s | decode s | s/MP | decode s/MP | parameters | kMAC/px encode | decode |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (encode_s, decode_s, bpp) in time_all(codecs, images, options.rounds).items():
        codec = codecs[name]
        quality = codec.qualities[len(codec.qualities) // 2]
        weight = weigh(codec, images[0])
        costs = (
            "| | "
            if weight is None
            else (f"{weight.parameters / 1e6:.2f} M | {weight.encode / 1e3:.1f} | {weight.decode / 1e3:.1f}")
        )
        print(
            f"| `{name}` | {quality} | {bpp:.3f} | {encode_s:.3f} | {decode_s:.3f} "
            f"| {encode_s / megapixels:.2f} | {decode_s / megapixels:.2f} | {costs} |"
        )


if __name__ == "__main__":
    main()
