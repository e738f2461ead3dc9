"""Damage stores and results of a finished run, each in one place, and see whether anything is silently wrong.

``python tests/campaigns/damage.py --count 500 --seed 1`` damages a copy of the run each time. Its curves are read, and
where a number differs something must be said. Then the run is done again: it must end with the bytes of the first, or
with an error of the package's own.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from campaign import parser, timed
from drawn_run import annotated, curve_files, prepare
from icm_bench.curves.result import Result, find
from icm_bench.dataset import open_dataset
from icm_bench.error import IcmBenchError
from icm_bench.pipeline.runner import run

Damage = Callable[[Path, np.random.Generator], None]


def flip(path: Path, random: np.random.Generator) -> None:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    data[int(random.integers(0, len(data)))] ^= 1 << int(random.integers(0, 8))
    path.write_bytes(data)


def cut(path: Path, random: np.random.Generator) -> None:
    """Leave out the end."""
    data = path.read_bytes()
    path.write_bytes(data[: int(random.integers(0, len(data)))])


def blank(path: Path, random: np.random.Generator) -> None:
    """Overwrite a part with zeros, as a disk does."""
    data = bytearray(path.read_bytes())
    start = int(random.integers(0, len(data)))
    data[start : start + 64] = bytes(len(data[start : start + 64]))
    path.write_bytes(data)


def take_another(path: Path, random: np.random.Generator) -> None:
    """Copy another file of the same kind over it, or swap the two, where there is another."""
    ending = "".join(path.suffixes[-2:])
    others = [each for each in sorted(_root(path).rglob(f"*{ending}")) if each != path]
    if not others:
        return
    other = others[int(random.integers(0, len(others)))]
    content, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    if random.integers(0, 2):
        other.write_bytes(content)


def change_a_value(path: Path, random: np.random.Generator) -> None:
    """Change one number as a hand does."""
    if path.suffix == ".json":
        text = path.read_text()
        places = list(re.finditer(r"(?<=[ \[])-?\d+(\.\d+)?", text))
        place = places[int(random.integers(0, len(places)))]
        path.write_text(text[: place.start()] + _other(place[0], random) + text[place.end() :])
        return
    table = pq.read_table(path)
    names = [
        name for name in table.column_names if pa.types.is_floating(table[name].type)
    ] or table.column_names
    name = names[int(random.integers(0, len(names)))]
    values = table[name].to_pylist()
    row = int(random.integers(0, len(values)))
    choices = [None, -1.0, 0.0, 1e30, float("nan")]
    if isinstance(values[row], float):
        values[row] = choices[int(random.integers(0, len(choices)))]
    else:
        values[row] = values[row - 1]
    column = pa.array(values, table[name].type)
    pq.write_table(table.set_column(table.column_names.index(name), name, column), path)


def change_the_rows(path: Path, random: np.random.Generator) -> None:
    """Drop, repeat or reorder rows or columns of a table; drop lines of a text."""
    if path.suffix == ".json":
        lines = path.read_text().splitlines(keepends=True)
        del lines[int(random.integers(0, len(lines)))]
        path.write_text("".join(lines))
        return
    table = pq.read_table(path)
    match int(random.integers(0, 4)):
        case 0:
            table = table.slice(0, max(1, table.num_rows - int(random.integers(1, 5))))
        case 1:
            table = pa.concat_tables([table, table.slice(0, 1)])
        case 2:
            table = table.take(list(random.permutation(table.num_rows)))
        case 3:
            table = table.drop_columns([table.column_names[int(random.integers(0, table.num_columns))]])
    pq.write_table(table, path)


def remove(path: Path, random: np.random.Generator) -> None:
    """Remove it."""
    path.unlink()


DAMAGES: tuple[Damage, ...] = (
    flip,
    flip,
    flip,
    cut,
    blank,
    take_another,
    change_a_value,
    change_the_rows,
    remove,
)


class Campaign:
    """A finished run, damaged and done again."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, np.random.default_rng(seed)
        environment = prepare(folder)
        sys.path.insert(0, str(folder / "site"))
        os.environ["PYTHONPATH"] = environment["PYTHONPATH"]
        places = annotated(folder)
        self.dataset = open_dataset("coco-format", images=places["images"], annotations=places["annotations"])
        self.measure(folder / "whole")
        self.reference = curve_files(folder / "whole")
        self.numbers = {result.codec: _numbers(result) for result in find(folder / "whole" / "results")}
        self.endings: Counter[str] = Counter()
        self.failures: list[str] = []

    def measure(self, folder: Path) -> None:
        """Do the run, or go on with it."""
        run(
            self.dataset,
            task="detection",
            detector="fake",
            codecs=["fake", "jpeg"],
            qualities=["fake=1,5", "jpeg=20"],
            bootstrap=50,
            workers=1,
            device="cpu",
            results=folder / "results",
            runs=folder / "runs",
        )

    def damage_once(self) -> None:
        """Damage one file, read what is there, and run again."""
        folder = self.folder / "damaged"
        shutil.copytree(self.folder / "whole", folder)
        kind = "results" if self.random.integers(0, 2) else "runs"
        files = [path for path in sorted((folder / kind).rglob("*")) if path.suffix in (".json", ".parquet")]
        path = files[int(self.random.integers(0, len(files)))]
        damage = DAMAGES[int(self.random.integers(0, len(DAMAGES)))]
        before = path.read_bytes()
        damage(path, self.random)
        what = f"{damage.__name__} of {path.relative_to(folder)}"
        if path.exists() and path.read_bytes() == before:
            self.endings["unchanged"] += 1
        else:
            if kind == "results":
                self._read(folder, what)
            self._run(folder, what)
        shutil.rmtree(folder)

    def _read(self, folder: Path, what: str) -> None:
        said: list[str] = []
        try:
            found = list(find(folder / "results", lambda error: said.append(str(error))))
            for result in found:
                said += [*result.warnings, *filter(None, [result.why_no_replicates])]
                if _numbers(result) != self.numbers.get(result.codec) and not said:
                    present = "absent files" if damaged_by_absence(what) else None
                    if present is None:
                        self.failures.append(f"{what}: read without a word, with other numbers")
        except IcmBenchError as error:
            said.append(str(error))
        except Exception as error:
            self.failures.append(f"{what}: reading raises {type(error).__name__}: {error}")
        self.endings["read: something is said" if said else "read: nothing is said, nothing is wrong"] += 1

    def _run(self, folder: Path, what: str) -> None:
        said = io.StringIO()
        handler = logging.StreamHandler(said)
        logging.getLogger("icm_bench").addHandler(handler)
        try:
            self.measure(folder)
        except IcmBenchError:
            self.endings["run: refused"] += 1
        except Exception as error:
            self.failures.append(f"{what}: the run raises {type(error).__name__}: {error}")
        else:
            if curve_files(folder) == self.reference:
                self.endings[
                    "run: the same bytes, with a line" if said.getvalue() else "run: the same bytes"
                ] += 1
            else:
                self.failures.append(f"{what}: the run ends with other curves")
        finally:
            logging.getLogger("icm_bench").removeHandler(handler)


def damaged_by_absence(what: str) -> bool:
    """Tell whether a file was removed: a curve without replicates or timings is a whole curve."""
    return what.startswith("remove of")


def _other(number: str, random: np.random.Generator) -> str:
    return str((float(number) if "." in number else int(number)) * 2 + int(random.integers(1, 9)))


def _numbers(result: Result) -> Any:
    replicates = result.replicates
    shown = (
        None
        if replicates is None
        else (replicates.bpp.tolist(), {k: v.tolist() for k, v in replicates.metrics.items()})
    )
    meta = {key: result.meta.get(key) for key in ("qualities", "uncompressed", "intervals")}
    return result.results, result.categories, meta, shown, result.timings.get("results")


def _root(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.name in ("results", "runs"))


def main() -> int:
    """Damage so often and print what was found."""
    options = parser(__doc__, 500).parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        campaign = Campaign(Path(folder), options.seed)
        n_damages = 0
        while n_damages < options.count and time.monotonic() - began < 60 * options.minutes:
            campaign.damage_once()
            n_damages += 1
    endings = "; ".join(f"{name}: {n}" for name, n in sorted(campaign.endings.items()))
    timed(f"{n_damages} damages", f"{endings}; {len(campaign.failures)} failures", began)
    for failure in campaign.failures:
        print(failure)
    return int(bool(campaign.failures))


if __name__ == "__main__":
    sys.exit(main())
