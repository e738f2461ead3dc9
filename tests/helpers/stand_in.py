"""Programs that stand in for encoders which are not installed."""

from __future__ import annotations

import sys
from pathlib import Path

from icm_baselines import ffmpeg


def install(path: Path, code: str, interpreter: str = sys.executable) -> str:
    """Write an executable script, which knows ffmpeg as ``FFMPEG`` where it is one of Python; return its path."""
    known = f"FFMPEG = {ffmpeg.executable()!r}\n" if interpreter == sys.executable else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{interpreter}\n{known}{code}\n")
    path.chmod(0o755)
    return str(path)
