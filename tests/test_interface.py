"""The public interface."""

from __future__ import annotations

import subprocess
import sys

import icm_bench


def test_all_is_sorted_and_is_what_can_be_imported() -> None:
    assert icm_bench.__all__ == sorted(icm_bench.__all__)
    assert set(icm_bench.__all__) <= set(dir(icm_bench))
    for name in icm_bench.__all__:
        assert getattr(icm_bench, name) is not None


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, icm_bench; assert not {'torch', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
