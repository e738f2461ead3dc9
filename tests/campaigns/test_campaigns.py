"""A short form of each campaign; the scripts say how the long one is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(FOLDER / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_mutated_streams_of_every_codec_are_refused_or_decoded_in_little_time_and_memory() -> None:
    said = run("mutations.py", "--count", "20")
    assert said.count(" refused, ") >= 17  # 9 learned, 8 of the package's own installation


@pytest.mark.slow
def test_a_store_or_result_damaged_anywhere_is_never_silently_wrong() -> None:
    assert "0 failures" in run("damage.py", "--count", "10")


@pytest.mark.slow
def test_a_run_killed_anywhere_leaves_no_process_and_ends_with_the_same_bytes() -> None:
    assert run("kills.py", "--count", "3").startswith("3 kills")


@pytest.mark.slow
def test_hostile_checkpoints_are_read_or_refused_at_once() -> None:
    assert run("pickles.py", "--count", "100").startswith("100 pickles")
