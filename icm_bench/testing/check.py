"""How checks fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from icm_bench.codec import Codec
from icm_bench.detector import Detector


def require(holds: bool, otherwise: str) -> None:
    """Fail with a message where something does not hold."""
    if not holds:
        raise AssertionError(otherwise)


@contextmanager
def checking(subject: type[Codec] | type[Detector], name: str) -> Iterator[None]:
    """Name the subject and the check in whatever fails within."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        raise AssertionError(f"{subject.__name__}: {name}: {kind}{error}") from error
