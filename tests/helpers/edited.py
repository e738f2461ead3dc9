"""JSON files that tests change."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icm_bench.curves.schema import content_digest


@contextlib.contextmanager
def edited(path: Path, *, digest: bool = False) -> Iterator[Any]:
    """Read a JSON file, and write what the block made of it, with the digest of a curve where one is wanted."""
    content = json.loads(path.read_text())
    yield content
    if digest:
        content["meta"]["digest"] = content_digest(content)
    path.write_text(json.dumps(content))
