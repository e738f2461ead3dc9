"""Codecs that note every image that they encode in a file that outlives their process: what is encoded twice shows."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

from icm_baselines.jpeg import Jpeg
from icm_baselines.vvc import Vvc
from icm_bench.image import Image
from icm_codecs.icm.codec import Icm

COUNT_FILE = "ICM_BENCH_COUNT_FILE"
"""The variable that names the file."""

PROVIDERS = {name: f"tests.benchmarks.counted:Counted{name.capitalize()}" for name in ("icm", "vvc", "jpeg")}
"""What to put in the place of the codecs' own providers."""

_TRIED_SIDE = 256
"""Largest height of the images on which a codec is tried and its operations counted; those of a dataset are higher."""


def _counted(codec: type[Any]) -> type[Any]:
    def encode(self: Any, image: Image) -> bytes:
        data: bytes = codec.encode(self, image)
        if image.shape[0] > _TRIED_SIDE:
            digests = (hashlib.sha256(each).hexdigest()[:16] for each in (image.tobytes(), data))
            with Path(os.environ[COUNT_FILE]).open("a") as file:
                file.write(f"{codec.__name__} {' '.join(digests)}\n")
        return data

    return type(f"Counted{codec.__name__}", (codec,), {"encode": encode, "__doc__": codec.__doc__})


CountedIcm, CountedVvc, CountedJpeg = map(_counted, (Icm, Vvc, Jpeg))


def tally(path: Path) -> str:
    """Say how many encodings there were, and how many of them were made before; then begin anew."""
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return f"encoded {len(lines)} images, {len(lines) - len(Counter(lines))} of them again"
