"""The Python that the documentation shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.slow
def test_the_page_on_python_runs_from_top_to_bottom(tmp_path: Path) -> None:
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    script = tmp_path / "page.py"
    script.write_text("\n".join(re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ap50.pdf").read_bytes().startswith(b"%PDF")
    assert len(re.findall(r"^Estimate\(.* \[", done.stdout, flags=re.MULTILINE)) == 2
