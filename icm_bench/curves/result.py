"""Result files: one curve each, small, diffable, a superset of CompressAI's.

::

    <root>/<dataset>/<task>/<detector>/<codec>.json                 the curve and what it was measured under
    <root>/<dataset>/<task>/<detector>/<codec>.resamples.parquet    rate and accuracy on bootstrap replicates
    <root>/<dataset>/<task>/<detector>/<codec>.timings.json         seconds, and the machine that they are of

Timings stand in a file of their own, so that the curve's file is a function of what was measured: the same
bitstreams and predictions give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icm_bench.curves.curve import Curve, Point
from icm_bench.curves.replicates import Replicates, read_replicates, write_replicates
from icm_bench.detector import NO_DETECTOR
from icm_bench.error import ResultError
from icm_bench.file import replacing

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
"""Version of the result files. 1: first."""

MAIN_METRICS = ("map", "map50-oic", "psnr-rgb")
"""What curves are compared on where nobody asks for another: COCO's AP, the Open Images Challenge's, or PSNR."""

_RESAMPLES = ".resamples.parquet"
_TIMINGS = ".timings.json"


@dataclass(frozen=True)
class Result:
    """One measured or imported curve.

    Attributes:
        dataset: The dataset's name.
        task: ``detection``, ``segmentation`` or ``fidelity``.
        detector: The detector's spec; ``none`` for fidelity.
        codec: The codec's spec.
        results: Columns of equal length, one value an operating point in order of the ladder: ``bpp`` and metrics.
        meta: Everything else; see the module's description.
        categories: AP by category name, one value an operating point.
        timings: Seconds by operating point, and the machine.
        source: The JSON file that it was read from.
    """

    dataset: str
    task: str
    detector: str
    codec: str
    results: Mapping[str, Sequence[float | None]]
    meta: Mapping[str, Any]
    description: str = ""
    categories: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    timings: Mapping[str, Any] = field(default_factory=dict)
    source: Path | None = None

    @property
    def group(self) -> tuple[str, str, str]:
        """What must agree for two curves to be drawn together: dataset, task, detector."""
        return self.dataset, self.task, self.detector

    @property
    def qualities(self) -> list[float | None]:
        """The ladder."""
        return list(self.meta["qualities"])

    @property
    def is_published(self) -> bool:
        """Whether the curve was taken from a publication, not measured here or imported from a user's file."""
        return "published" in self.meta

    @cached_property
    def curve(self) -> Curve:
        """The operating points as a curve."""
        columns = {key: list(values) for key, values in self.results.items() if key != "bpp"}
        return Curve(
            self.codec,
            tuple(
                Point(quality, bpp, {key: values[index] for key, values in columns.items()})
                for index, (quality, bpp) in enumerate(zip(self.qualities, self._rates(), strict=True))
            ),
        )

    @cached_property
    def replicates(self) -> Replicates | None:
        """Rates and accuracies on bootstrap replicates, or None where none are stored beside the curve."""
        if self.source is None:
            return None
        path = _beside(self.source, _RESAMPLES)
        return read_replicates(path) if path.is_file() else None

    def _rates(self) -> list[float]:
        rates = list(self.results["bpp"])
        if any(rate is None for rate in rates):
            raise ResultError("an operating point has no rate", where=self.source or self.codec)
        return [float(rate) for rate in rates if rate is not None]


def main_metric(results: Sequence[Result], asked: str = MAIN_METRICS[0]) -> str:
    """Return the metric that curves of one dataset and task are compared on.

    Args:
        results: The curves.
        asked: What was asked for. AP stands for the dataset's own accuracy, where that is another, and where there is
            no detector for PSNR.
    """
    found = [metric for metric in MAIN_METRICS if any(metric in result.results for result in results)]
    return found[0] if found and asked == MAIN_METRICS[0] else asked


def path_of(root: Path, dataset: str, task: str, detector: str, codec_file_name: str) -> Path:
    """Return where a curve's JSON file stands."""
    return root / dataset / task / detector / f"{codec_file_name}.json"


def save(result: Result, path: Path, replicates: Replicates | None) -> None:
    """Write a curve's files; each is whole or not there, and the JSON, which makes the curve exist, comes last.

    Raises:
        ResultError: The folder cannot be written.
        ValueError: A value is NaN or infinite.
    """
    if replicates is not None:
        write_replicates(replicates, _beside(path, _RESAMPLES))
    if result.timings:
        _write_json(_beside(path, _TIMINGS), result.timings)
    content = {
        "name": result.codec,
        "description": result.description,
        "results": {key: list(values) for key, values in result.results.items()},
        "categories": {key: list(values) for key, values in result.categories.items()},
        "meta": {
            **result.meta,
            "schema": SCHEMA,
            "dataset": {**result.meta["dataset"], "name": result.dataset},
            "detector": {**result.meta["detector"], "spec": result.detector},
            "task": result.task,
        },
    }
    _write_json(path, content)


def load(path: Path) -> Result:
    """Read a curve's JSON file.

    Raises:
        ResultError: The file is missing, is not a result file, or is of a later schema.
    """
    content = _read_json(path)
    try:
        meta = content["meta"]
        if meta["schema"] > SCHEMA:
            raise ResultError(
                f"is of schema {meta['schema']}; this version reads up to {SCHEMA}",
                where=path,
                hint="upgrade icm-bench",
            )
        timings = _beside(path, _TIMINGS)
        result = Result(
            dataset=meta["dataset"]["name"],
            task=meta["task"],
            detector=meta["detector"]["spec"],
            codec=content["name"],
            description=content.get("description", ""),
            results=content["results"],
            categories=content.get("categories", {}),
            meta=meta,
            timings=_read_json(timings) if timings.is_file() else {},
            source=path,
        )
        lengths = {len(values) for values in result.results.values()} | {len(result.qualities)}
        rates = result.results["bpp"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultError(
            f"is not a result file ({error})", where=path, hint="remove it, or run again"
        ) from error
    if len(lengths) != 1 or not rates:
        raise ResultError(
            "its columns differ in length, or are empty", where=path, hint="remove it, or run again"
        )
    return result


def find(root: Path) -> Iterator[Result]:
    """Yield every result below a folder of results or one of the folders within it, in order of its path.

    Raises:
        ResultError: The folder does not exist, or a file in it is broken.
    """
    if not root.is_dir():
        raise ResultError("no such folder", where=root, hint="make results with icm-bench run")
    layouts = ("*/*/*/*.json", "*/*/*.json", "*/*.json", "*.json")
    found = next((paths for paths in (sorted(root.glob(layout)) for layout in layouts) if paths), [])
    for path in found:
        if not path.name.endswith(_TIMINGS):
            yield load(path)


def titled(task: str, dataset: str, detector: str) -> str:
    """Say what curves are of: ``detection on coco by yolox``, ``fidelity on kodak``."""
    return f"{task} on {dataset}" + ("" if detector == NO_DETECTOR else f" by {detector}")


def load_results(root: str | Path = "results") -> pd.DataFrame:
    """Return every operating point below a folder as a row.

    Returns:
        Columns dataset, task, detector, codec, quality, bpp, the metrics (AP in percent, PSNR in dB), ``encode_s`` and
        ``decode_s`` (mean seconds an image, where timings are stored), and ``uncompressed_map``.

    Raises:
        ResultError: The folder does not exist, or a file in it is broken.
    """
    import pandas as pd

    rows = []
    for result in find(Path(root)):
        timed = result.timings.get("results", {})
        uncompressed = result.meta.get("uncompressed") or {}
        for index, quality in enumerate(result.qualities):
            rows.append(
                dict(zip(("dataset", "task", "detector"), result.group, strict=True))
                | {"codec": result.codec, "quality": quality}
                | {key: values[index] for key, values in result.results.items()}
                | {key: values[index] for key, values in timed.items()}
                | {"uncompressed_map": uncompressed.get("map")}
            )
    return pd.DataFrame(rows)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name.removesuffix(".json") + ending)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(_rounded(content), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    with replacing(path, ResultError) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _rounded(value: Any) -> Any:
    # Ten digits are more than any value here is good for, and hide the last bits that summation order moves.
    if isinstance(value, float | np.floating):
        return float(f"{value:.10g}")
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ResultError("no such file", where=path) from error
    except (OSError, ValueError) as error:
        raise ResultError(f"cannot be read ({error})", where=path, hint="remove it, or run again") from error
    if not isinstance(content, dict):
        raise ResultError("is not a result file", where=path, hint="remove it, or run again")
    return content
