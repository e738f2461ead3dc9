"""Read hostile checkpoints: pickles that double, nest or run in circles, and mutations of honest ones.

``python tests/campaigns/pickles.py --count 10000 --seed 1`` makes each from the opcodes of real ones, and reads it as
.pkl and as both kinds of .pth. Each must be read, or refused as damaged, within the time and the memory.
"""

from __future__ import annotations

import io
import pickle
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from campaign import MOST_MIB, MOST_S, in_child, parser, timed
from icm_bench.detectors.detectron2 import read_weights
from icm_bench.error import IcmBenchError
from icm_bench.network.checkpoint import read_checkpoint
from tests.helpers.mutation import mutated

# Opcodes and arguments that build tuples, lists, dictionaries, calls and memos in every order.
PIECES = (
    *(
        b")",
        b"]",
        b"}",
        b"(",
        b"t",
        b"l",
        b"d",
        b"\x85",
        b"\x86",
        b"\x87",
        b"a",
        b"e",
        b"s",
        b"u",
        b"0",
        b"2",
    ),
    *(
        b"q\x00",
        b"q\x01",
        b"q\x02",
        b"h\x00",
        b"h\x01",
        b"h\x02",
        b"K\x01",
        b"J\xff\xff\xff\x7f",
        b"N",
        b"\x88",
    ),
    *(
        b"U\x01a",
        b"X\x01\x00\x00\x00a",
        b"C\x01b",
        b"R",
        b"b",
        b"\x81",
        b"Q",
        b"\x94",
        b"\x93",
        b"\x8f",
        b"\x90",
    ),
    *(b"cnumpy\ndtype\n", b"ccollections\nOrderedDict\n", b"cnumpy.core.multiarray\n_reconstruct\n"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"cbuiltins\neval\n", b"c_codecs\nencode\n"),
)
DOUBLING = b"0h\x00h\x00\x86q\x00"


def hostile(random: np.random.Generator, honest: list[bytes]) -> bytes:
    """Return a pickle: opcodes at random, a tower of doublings or of nests, or a mutation of an honest one."""
    match int(random.integers(0, 4)):
        case 0:
            chosen = random.integers(0, len(PIECES), int(random.integers(1, 200)))
            return b"\x80\x02" + b"".join(PIECES[index] for index in chosen) + b"."
        case 1:
            tower = b")q\x00" + b"h\x00h\x00\x86q\x00" + DOUBLING * int(random.integers(1, 100))
            return b"\x80\x02}U\x01a" + tower + PIECES[int(random.integers(0, len(PIECES)))] + b"s."
        case 2:
            nest = (b"\x85", b"]a", b"}")[int(random.integers(0, 3))]
            return b"\x80\x02)" + nest * int(2 ** random.uniform(1, 20)) + b"."
        case _:
            return mutated(honest[int(random.integers(0, len(honest)))], random)


def attack(count: int, seed: int, minutes: float) -> tuple[dict[str, int], float, float, list[str]]:
    """Read hostile checkpoints in this process; return endings, most seconds, most MiB, and what went wrong."""
    start = time.monotonic()
    random = np.random.default_rng(seed)
    weights = {"model": {"a.weight": np.zeros((2, 3), np.float32)}, "lr": 0.1}
    file = io.BytesIO()
    torch.save({"model": {"a.weight": torch.zeros(2, 3)}}, file, _use_new_zipfile_serialization=False)
    honest = [pickle.dumps(weights, protocol) for protocol in range(2, 6)] + [file.getvalue()]
    endings = {"read": 0, "refused": 0}
    slowest, wrong = 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for index in range(count):
            if time.monotonic() - start >= 60 * minutes:
                break
            read, path = _written(Path(folder), hostile(random, honest), index)
            began = time.process_time()
            try:
                read(path)
                endings["read"] += 1
            except IcmBenchError:
                endings["refused"] += 1
            except Exception as error:
                wrong.append(f"pickle {index}: {type(error).__name__}: {error}")
            slowest = max(slowest, time.process_time() - began)
        growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return endings, slowest, growth, wrong


def _written(folder: Path, data: bytes, index: int) -> tuple[Callable[[Path], object], Path]:
    match index % 3:
        case 0:
            path = folder / "a.pkl"
            path.write_bytes(data)
            return read_weights, path
        case 1:
            path = folder / "a.pth"
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", data)
                archive.writestr("archive/version", "3\n")
            return read_checkpoint, path
        case _:
            path = folder / "old.pth"
            head = b"".join(map(pickle.dumps, (0x1950A86A20F9469CFC6C, 1001, {})))
            path.write_bytes(head + data)
            return read_checkpoint, path


def main() -> int:
    """Print what was found; return 1 where a pickle did not hold."""
    options = parser(__doc__, 10_000).parse_args()
    began = time.monotonic()
    endings, slowest, growth, wrong = in_child(attack, options.count, options.seed, options.minutes)
    outcome = f"{endings}, slowest {slowest:.2f} s, {growth:.0f} MiB more, {len(wrong)} failures"
    timed(f"{sum(endings.values()) + len(wrong)} pickles", outcome, began)
    for line in wrong:
        print(line)
    return int(bool(wrong) or slowest > MOST_S or growth > MOST_MIB)


if __name__ == "__main__":
    sys.exit(main())
