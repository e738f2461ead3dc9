"""Damaged bytes."""

from __future__ import annotations

import numpy as np


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Return bytes of which some are changed, and some missing or added."""
    damaged = bytearray(data)
    for position in random.integers(0, max(1, len(data)), random.integers(1, 5)):
        if data:
            damaged[position] ^= int(random.integers(1, 256))
    start, end = sorted(random.integers(0, len(data) + 1, 2).tolist())
    match random.integers(0, 4):
        case 0:
            del damaged[start:end]
        case 1:
            damaged[start:start] = random.bytes(end - start)
        case 2:
            del damaged[start:]
    return bytes(damaged)
