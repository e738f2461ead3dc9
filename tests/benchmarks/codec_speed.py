"""Time codecs side by side, and weigh the networks of those that have any.

    OMP_NUM_THREADS=1 python tests/benchmarks/codec_speed.py icm vvc:preset=fast [--images 8] [--rounds 2]

Every codec codes the same images at the middle of its ladder, in turn within every round, in one process. Seconds are
of the clock, entropy coding and external programs included: the median over images of the least over rounds. MACs are
those of the networks' convolutions and products of matrices, counted while an image is coded, per pixel of that image.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch

from icm_bench.codec import Codec, complexity_of, load, n_parameters
from icm_bench.dataset import open_dataset
from icm_bench.image import Image
from icm_bench.spec import create_codec, resolve_codec
from tests.helpers import options

_T = TypeVar("_T")


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


def main() -> None:
    """Print a Markdown table."""
    parser = options.parser(__doc__)
    parser.add_argument("codecs", nargs="+", help="specs")
    parser.add_argument("--task", default="detection")
    parser.add_argument("--dataset", default="scenes")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(given.dataset, data_root=given.data_root, limit=given.images)
    images = [record.read() for record in dataset.images]
    codecs = {text: create(text, task=given.task, provider=dataset.provider) for text in given.codecs}
    megapixels = sum(image.shape[0] * image.shape[1] for image in images) / len(images) / 1e6
    print(
        "| codec | quality | bpp | encode s | decode s | s/MP | decode s/MP | parameters | kMAC/px encode | decode |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (encode_s, decode_s, bpp) in time_all(codecs, images, given.rounds).items():
        codec = codecs[name]
        quality = codec.qualities[len(codec.qualities) // 2]
        counted = complexity_of(codec, images[0])
        costs = (
            "| | "
            if counted is None
            else f"{n_parameters(codec) / 1e6:.2f} M | {counted.encoder_kmac:.1f} | {counted.decoder_kmac:.1f}"
        )
        print(
            f"| `{name}` | {quality} | {bpp:.3f} | {encode_s:.3f} | {decode_s:.3f} "
            f"| {encode_s / megapixels:.2f} | {decode_s / megapixels:.2f} | {costs} |"
        )


if __name__ == "__main__":
    main()
