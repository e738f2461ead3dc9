"""The public interface."""

from __future__ import annotations

import subprocess
import sys

import pytest

import icm_bench


def test_all_is_sorted_and_is_what_can_be_imported() -> None:
    assert icm_bench.__all__ == sorted(icm_bench.__all__)
    assert set(icm_bench.__all__) <= set(dir(icm_bench))
    for name in icm_bench.__all__:
        assert getattr(icm_bench, name) is not None


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import icm_bench", {"torch", "pandas", "matplotlib", "scipy"}),
        ("import icm_bench.dataset, icm_bench.download", {"torch"}),
        ("import icm_codecs.compressai_zoo as zoo; zoo.Mbt2018(1)", {"torch", "compressai"}),
        (
            "from icm_bench import cli, registry; "
            "[registry.names(kind) for kind in ('codec', 'detector', 'dataset')]",
            {"torch", "pandas", "matplotlib"},
        ),
    ],
)
def test_what_is_quick_to_use_imports_nothing_heavy(code: str, heavy: set[str]) -> None:
    code = f"{code}\nimport sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
