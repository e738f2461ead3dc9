"""The command line in processes whose imports are done, which otherwise take more time than most commands."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_IMPORTED = (
    "icm_bench.cli",
    "icm_bench.pipeline.runner",
    "icm_bench.report.page",
    "icm_codecs.training.train",
)


def call(folder: Path, arguments: Sequence[str], variables: Mapping[str, str], timeout_s: float = 600) -> str:
    """Run the command in a folder and a new process; return what it prints."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    printed = folder / "printed"
    process = context.Process(target=_main, args=(folder, arguments, variables, printed))
    process.start()
    process.join(timeout_s)
    ended = process.exitcode is not None
    process.kill()
    output = printed.read_text(encoding="utf-8")
    assert ended, f"the command goes on after {timeout_s:g} s: {output}"
    assert process.exitcode == 0, output
    return output


def _main(folder: Path, arguments: Sequence[str], variables: Mapping[str, str], printed: Path) -> None:
    os.chdir(folder)
    os.environ.update(variables)
    with printed.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["icm-bench", *arguments]
    from icm_bench.cli import main

    main()
