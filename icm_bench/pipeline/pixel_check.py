"""Whether a stored bitstream still decodes to the pixels that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from icm_bench.codec import Codec, pixel_tolerance
from icm_bench.error import StoreError
from icm_bench.image import Image, pixel_digest
from icm_bench.pipeline.store import CODED, CODED_ROUGHLY
from icm_bench.spec import Spec

_SAMPLED = 4096
"""How many values of a decoded image are stored where they may differ a little."""


def check_pixels(image: Image, row: Mapping[str, Any], codec: Codec, spec: Spec | None) -> None:
    """Compare decoded pixels with those of a row of the coded store: exactly, or to within what the codec declares.

    Raises:
        StoreError: They differ by more.
    """
    if pixel_digest(image) == row["decoded_sha256"]:
        return
    what = "the stored bitstream no longer decodes to the pixels that were measured"
    before = np.frombuffer(row.get("decoded_sample") or b"", np.uint8)
    if before.size:
        found = int(np.abs(np.frombuffer(sample(image), np.uint8).astype(int) - before).max())
        if found <= pixel_tolerance(codec):
            return
        what += f": values differ by up to {found} levels, and the codec declares {pixel_tolerance(codec)}"
    raise StoreError(what, hint=f"the decoder or the machine changed: give --again {spec} to measure again")


def sample(image: Image) -> bytes:
    """Return some values of an image, spread over all of it."""
    values = image.ravel()
    positions = np.linspace(0, values.size - 1, min(values.size, _SAMPLED)).astype(int)
    return bytes(values[positions])


def schema_of(row: Mapping[str, Any]) -> pa.Schema:
    """Return the schema of the coded store that a row fits."""
    return CODED_ROUGHLY if "decoded_sample" in row else CODED
