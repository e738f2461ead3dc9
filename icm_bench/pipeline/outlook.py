"""Where a run stands and what is left of it: shards, core-seconds and bytes by operating point; parts of equal cost."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icm_bench.error import StoreError, UsageError
from icm_bench.file import write_text
from icm_bench.pipeline import store
from icm_bench.pipeline.plan import OperatingPoint, Plan

_DETECT_S = 0.3
"""Seconds that a detector is taken to need for an image, until one was measured."""

_COMPARE_S = 0.15
"""Seconds of one core that comparing a megapixel with its original takes."""

_BITS_PER_PIXEL = 1.0
"""Rate that a codec is taken to have, until one was measured."""

_SAMPLE = 4
"""Finished shards of a point that are read to know its seconds."""

_CODING, _DETECTING = ("encode_s", "decode_s"), ("detect_s",)
"""The columns of the stores that hold the seconds of each stage."""

_FOLDER = "plans"


@dataclass(frozen=True)
class Standing:
    """What is done and what is left of one operating point.

    Attributes:
        codec: The codec's spec; ``uncompressed`` for the originals.
        quality: The operating point, None of the originals.
        n_done: Finished shards.
        n_shards: All of them.
        core_s: Seconds that the rest takes on one core.
        n_bytes: Bytes that the rest takes on the disk.
    """

    codec: str
    quality: float | None
    n_done: int
    n_shards: int
    core_s: float
    n_bytes: float


def record_of(plan: Plan) -> dict[str, Any]:
    """Return all of a plan that tells where it stands, without the dataset at hand."""
    points: dict[Path, dict[str, Any]] = {}
    for point in plan.points:
        folders = [path.parent for path in plan.paths(point, 0)]
        points.setdefault(
            folders[0],
            {
                "codec": "uncompressed" if point.codec is None else str(point.codec),
                "quality": point.quality,
                "s_per_megapixel": point.s_per_megapixel,
                "folders": [folder.relative_to(plan.store.root).as_posix() for folder in folders],
            },
        )
    return {
        "dataset": plan.dataset.name,
        "task": plan.task,
        "detector": ", ".join(str(judged.detector_spec) for judged in plan.apart),
        "shards": [
            {"images": len(images), "megapixels": sum(image.width * image.height for image in images) / 1e6}
            for images in plan.shards()
        ],
        "points": list(points.values()),
    }


def standings(record: Mapping[str, Any], root: Path) -> list[Standing]:
    """Return where each operating point of a recorded plan stands in the stores below a folder."""
    names = [store.shard_name(shard) for shard in range(len(record["shards"]))]
    present = {
        folder: {path.name for path in (root / folder).glob("*.parquet")}
        for point in record["points"]
        for folder in point["folders"]
    }
    coding = [
        _seconds(root, [folder for folder in point["folders"] if _kind(folder) == "coded"], _CODING)
        for point in record["points"]
    ]
    detect_s = _detecting(root, record["points"])
    found = []
    for point, code_s in zip(record["points"], _filled(record["points"], coding), strict=True):
        core_s = n_bytes = 0.0
        n_done = 0
        for name, shard in zip(names, record["shards"], strict=True):
            missing = [folder for folder in point["folders"] if name not in present[folder]]
            n_done += not missing
            for folder in missing:
                if (kind := _kind(folder)) == "predicted":
                    core_s += detect_s[_detector(folder)] * shard["images"]
                else:
                    core_s += (code_s if kind == "coded" else _COMPARE_S) * shard["megapixels"]
                    n_bytes += (kind == "coded") * shard["megapixels"] * 1e6 * _BITS_PER_PIXEL / 8
        found.append(Standing(point["codec"], point["quality"], n_done, len(names), core_s, n_bytes))
    return found


def _kind(folder: str) -> str:
    return folder.partition("/")[0]


def _detector(folder: str) -> str:
    return folder.rpartition("/")[2]


def _detecting(root: Path, points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the seconds of each detector for an image; of one that has not looked yet, the others' mean."""
    folders: dict[str, list[str]] = {}
    for point in points:
        for folder in point["folders"]:
            if _kind(folder) == "predicted":
                folders.setdefault(_detector(folder), []).append(folder)
    measured = {name: _seconds(root, own, _DETECTING) for name, own in folders.items()}
    known = [seconds for seconds in measured.values() if seconds is not None]
    usual = sum(known) / len(known) if known else _DETECT_S
    return {name: usual if seconds is None else seconds for name, seconds in measured.items()}


def _seconds(root: Path, folders: Sequence[str], columns: Sequence[str]) -> float | None:
    """Return the measured seconds of shards: of the code stage for a megapixel, of the predict stage for an image."""
    total = amount = 0.0
    for folder in folders:
        for path in sorted((root / folder).glob("*.parquet"))[:_SAMPLE]:
            with contextlib.suppress(StoreError, FileNotFoundError):
                sides = ["width", "height"] if columns == _CODING else []
                frame = store.read(path, [*columns, *sides]).to_pandas()
                total += float(sum(frame[column].sum() for column in columns))
                amount += float((frame["width"] * frame["height"]).sum() / 1e6) if sides else len(frame)
    return total / amount if amount else None


def _filled(points: Sequence[Mapping[str, Any]], seconds: Sequence[float | None]) -> list[float]:
    """Fill in for points of which nothing is measured: as their codec's others, or as the codec declares."""
    filled = []
    for point, measured in zip(points, seconds, strict=True):
        pairs = [
            (value, other["s_per_megapixel"])
            for other, value in zip(points, seconds, strict=True)
            if value is not None and other["codec"] == point["codec"]
        ]
        scale = sum(value for value, _ in pairs) / sum(declared for _, declared in pairs) if pairs else 1.0
        filled.append(scale * point["s_per_megapixel"] if measured is None else measured)
    return filled


@contextlib.contextmanager
def marked(plan: Plan) -> Iterator[Path]:
    """Record a plan beside its stores, and yield a mark that it is being run, to write to what was done last."""
    text = json.dumps(record_of(plan), sort_keys=True)
    path = plan.store.root / _FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    if not path.exists():
        write_text(path, text)
    mark = path.with_suffix(f".{platform.node()}-{os.getpid()}.running")
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def recorded(root: Path) -> list[tuple[dict[str, Any], list[tuple[str, str, float]]]]:
    """Return the plans that were run into a folder, each with who runs it, what it did last, and the seconds since.

    Raises:
        StoreError: Nothing was run into the folder, or a record cannot be read.
    """
    found = []
    for path in sorted((root / _FOLDER).glob("*.json")):
        running = []
        for mark in sorted(path.parent.glob(f"{path.stem}.*.running")):
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                who = mark.name.removeprefix(f"{path.stem}.").removesuffix(".running")
                running.append((who, mark.read_text(encoding="utf-8"), time.time() - mark.stat().st_mtime))
        try:
            found.append((json.loads(path.read_text(encoding="utf-8")), running))
        except ValueError as error:
            raise StoreError(
                f"is not a record of a plan ({error})", where=path, hint="remove the file"
            ) from error
    if not found:
        raise StoreError("no run has written here", where=root, hint="name the folder with --runs")
    return found


def parse_part(text: str) -> tuple[int, int]:
    """Return the number and the count of ``I/N``.

    Raises:
        UsageError: The text is not of that form, or I is not from 1 to N.
    """
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"'{text}' is not a part", where="--part", hint="write 3/40 for the third of forty")
    return int(number), int(count)


def parts(plan: Plan, count: int) -> dict[tuple[OperatingPoint, int], int]:
    """Return which part, from 1, measures which shard of which point, whatever is on disk already.

    Each part gets as many shards of a point as any other, or one more; those that are left over go, dearest first, to
    the part with the least expected cost. So parts are balanced also where a codec's cost is not known.
    """
    pixels = [sum(image.width * image.height for image in images) / 1e6 for images in plan.shards()]
    costs = [0.0] * count
    assigned: dict[tuple[OperatingPoint, int], int] = {}
    points = sorted(plan.distinct(plan.points), key=lambda point: -point.s_per_megapixel)
    for point in points:
        shares = [0] * count
        for shard in sorted(range(len(pixels)), key=lambda shard: -pixels[shard]):
            part = min(range(count), key=lambda part: (shares[part], costs[part], part))
            shares[part] += 1
            costs[part] += pixels[shard] * point.s_per_megapixel
            assigned[point, shard] = part + 1
    return assigned


class Forecast:
    """Foresees how long the rest of a run takes from what its points have cost so far.

    Args:
        jobs: The operating point and the megapixels of each job.
        workers: Processes at work.
        predictors: Those of them that predict alone; 0 where each does both stages.
    """

    def __init__(
        self, jobs: Sequence[tuple[OperatingPoint, float]], workers: int, predictors: int = 0
    ) -> None:
        self._jobs = jobs
        self._coders = workers - predictors
        self._predictors = predictors
        self._began = time.monotonic()
        # Of a job, and of a point: seconds to code, seconds to predict, and the megapixels that took them.
        self._begun: dict[int, NDArray[np.float64]] = defaultdict(lambda: np.zeros(3))
        self._spent: dict[OperatingPoint, NDArray[np.float64]] = defaultdict(lambda: np.zeros(3))
        self._left: dict[OperatingPoint, float] = defaultdict(float)
        for point, megapixels in jobs:
            self._left[point] += megapixels

    def spend(self, index: int, seconds: Mapping[str, float]) -> None:
        """Note what a stage of a job took, by step."""
        # Loading is done once a process: it says nothing about what is left.
        code_s = sum(value for step, value in seconds.items() if step not in ("load", "detect"))
        self._begun[index] += [code_s, seconds.get("detect", 0.0), 0.0]

    def done(self, index: int) -> None:
        """Note that a job is done."""
        point, megapixels = self._jobs[index]
        self._spent[point] += self._begun.pop(index, 0.0) + np.array([0.0, 0.0, megapixels])
        self._left[point] -= megapixels

    @property
    def left_s(self) -> float:
        """Wall time that is left in seconds, at the pace so far; a point that has not begun costs what is declared."""
        spent_s, predicted_s, spent_megapixels = sum(self._spent.values(), np.zeros(3)).tolist()
        declared_s = sum(point.s_per_megapixel * cost[2] for point, cost in self._spent.items())
        scale = spent_s / declared_s if declared_s else 1.0
        predict_s = predicted_s / spent_megapixels if spent_megapixels else 0.0
        code_left_s = predict_left_s = 0.0
        for point, megapixels in self._left.items():
            cost = self._spent.get(point, np.array([scale * point.s_per_megapixel, predict_s, 1.0]))
            share = max(megapixels, 0.0) / cost[2]
            code_left_s += share * cost[0]
            predict_left_s += share * cost[1]
        if self._predictors:  # both go on at once, and the slower stage tells
            return float(max(code_left_s / max(self._coders, 1), predict_left_s / self._predictors))
        elapsed_s, total_s = time.monotonic() - self._began, spent_s + predicted_s
        return float((code_left_s + predict_left_s) * (elapsed_s / total_s if total_s else 1 / self._coders))
