"""The Python that the documentation shows."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("one_core")

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


@pytest.mark.slow
def test_the_tour_runs_from_top_to_bottom_and_stores_what_it_shows(tmp_path: Path) -> None:
    client: Any = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    nbformat: Any = pytest.importorskip("nbformat")

    stored = nbformat.read(DOCS / "tour.ipynb", as_version=4)
    codes = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in codes] == list(range(1, len(codes) + 1))
    anew = copy.deepcopy(stored)
    client.NotebookClient(anew, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for before, after in zip(codes, (cell for cell in anew.cells if cell.cell_type == "code"), strict=True):
        assert [kinds(output) for output in before.outputs] == [kinds(output) for output in after.outputs]
        shown = [output.data["text/plain"] for output in (*before.outputs, *after.outputs)]
        assert not [text for text in shown if re.search(r"\b(nan|none|inf)\b", text, re.IGNORECASE)]
    assert not list(tmp_path.iterdir()), "the tour writes to a temporary folder alone"


def kinds(output: Any) -> list[str]:
    """Return what an output is made of; warnings and errors are of a kind that a stored one must not have."""
    assert output.output_type in ("execute_result", "display_data"), output
    return sorted(output.data)
