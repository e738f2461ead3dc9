"""Importing CompressAI, whose own dependencies warn of their future while they are imported."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_import() -> Iterator[None]:
    """Silence the warnings of what is imported within."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
