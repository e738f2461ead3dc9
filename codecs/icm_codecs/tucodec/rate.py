"""Rate control: find the position at which an image's real bytes meet a target.

The paper's algorithm is unpublished; bisection is our choice.
"""

from __future__ import annotations

from collections.abc import Callable

_CLOSE = 0.999


def meet(budget: float, code: Callable[[int], bytes], last: int) -> bytes:
    """Return the largest stream found that is no longer than the budget, or the shortest where none is.

    Positions 0 to ``last`` are bisected, until a stream takes up 99.9 % of the budget or two neighbours enclose it.
    Lengths need not rise with every step: whatever was tried counts.

    Args:
        budget: Bytes.
        code: Gives the stream, headers included, of one position.
        last: The highest position.
    """
    low, high = 0, last
    tried: list[bytes] = []
    while low <= high and not any(_CLOSE * budget <= len(stream) <= budget for stream in tried):
        middle = (low + high) // 2
        tried.append(code(middle))
        low, high = (middle + 1, high) if len(tried[-1]) <= budget else (low, middle - 1)
    within = [stream for stream in tried if len(stream) <= budget]
    return max(within, key=len) if within else min(tried, key=len)
