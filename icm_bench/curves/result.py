"""Result files: one curve each, small, diffable, a superset of CompressAI's.

::

    <root>/<dataset>/<task>/<detector>/<codec>.json                 the curve and what it was measured under
    <root>/<dataset>/<task>/<detector>/<codec>.resamples.parquet    rate and accuracy on bootstrap replicates
    <root>/<dataset>/<task>/<detector>/<codec>.timings.json         seconds, and the machine that they are of

Timings stand in a file of their own, so that the curve's file is a function of what was measured: the same
bitstreams and predictions give the same bytes. The curve's file carries the digests of its own content and of the
replicates, and the timings that of the curve: what was changed by hand is refused, and a file beside a curve that is
another's is not used.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from icm_bench.curves import schema
from icm_bench.curves.curve import Curve, Point
from icm_bench.curves.replicates import Replicates, read_replicates, write_replicates
from icm_bench.detector import NO_DETECTOR
from icm_bench.error import ResultError
from icm_bench.file import below, file_digest, write_text
from icm_bench.metrics.metric import MAIN_METRICS

_RESAMPLES = ".resamples.parquet"
_TIMINGS = ".timings.json"

_log = logging.getLogger(__name__)


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
        warnings: What stands beside that file and was not used, with the reason; one sentence each.
        is_resampled: Whether the bootstrap replicates beside that file are used.
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
    warnings: tuple[str, ...] = ()
    is_resampled: bool = True

    def __repr__(self) -> str:
        title = titled(self.task, self.dataset, self.detector)
        return f"Result({self.codec}, {title}: {len(self.qualities)} points, {', '.join(self.results)})"

    @property
    def group(self) -> tuple[str, str, str]:
        """What must agree for two curves to be drawn together: dataset, task, detector."""
        return self.dataset, self.task, self.detector

    @property
    def qualities(self) -> list[float | None]:
        """The ladder."""
        return list(self.meta["qualities"])

    @property
    def stored_as(self) -> str:
        """What the stores of the run call the dataset: its name, without the mark of pseudo ground truth."""
        return str(self.meta["dataset"].get("stored_as", self.dataset))

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

    @property
    def replicates(self) -> Replicates | None:
        """Rates and accuracies on bootstrap replicates, or None where none that are this curve's can be read."""
        return self._replicates[0]

    @property
    def why_no_replicates(self) -> str | None:
        """Why the file of replicates beside the curve is not used; None where it is, or there is none."""
        return self._replicates[1]

    @cached_property
    def _replicates(self) -> tuple[Replicates | None, str | None]:
        path = None if self.source is None else _beside(self.source, _RESAMPLES)
        if path is None or not self.is_resampled or not path.is_file():
            return None, None
        if not _belongs(path, self.meta):
            return None, _foreign(path)
        try:
            found = read_replicates(path)
        except ResultError as error:
            return None, str(error)
        n_found, n_points = len(found.bpp), len(self.qualities)
        if n_found != n_points:
            return None, f"{path.name} is of {n_found} operating points, the curve of {n_points}"
        return found, None

    def _rates(self) -> list[float]:
        rates = list(self.results["bpp"])
        if any(rate is None for rate in rates):
            raise ResultError("an operating point has no rate", where=self.source or self.codec)
        return [float(rate) for rate in rates if rate is not None]


def main_metric(results: Sequence[Result], asked: str = MAIN_METRICS[0]) -> str:
    """Return the metric that curves of one dataset and task are compared on.

    Where AP was asked for, it stands for the dataset's own accuracy, where that is another, and where there is no
    detector for PSNR.
    """
    found = [metric for metric in MAIN_METRICS if any(metric in result.results for result in results)]
    return found[0] if found and asked == MAIN_METRICS[0] else asked


def path_of(root: Path, dataset: str, task: str, detector: str, codec_file_name: str) -> Path:
    """Return where a curve's JSON file stands.

    Raises:
        ResultError: A name would lead out of the root.
    """
    return below(root, dataset, task, detector, f"{codec_file_name}.json")


def save(result: Result, path: Path, replicates: Replicates | None) -> None:
    """Write a curve's files; each is whole or not there, and the JSON, which makes the curve exist, comes last.

    What stands beside from an earlier curve is replaced, or removed where this curve has no such thing.

    Raises:
        ResultError: The folder cannot be written, or a field is not what its schema wants.
        ValueError: A value is NaN or infinite.
    """
    resamples, timings = _beside(path, _RESAMPLES), _beside(path, _TIMINGS)
    if replicates is not None:
        write_replicates(replicates, resamples)
    content = _content(result, {} if replicates is None else {"resamples": file_digest(resamples)})
    schema.check_result(content, path)
    if result.timings:
        timed = _rounded({**result.timings, "curve": content["meta"]["digest"]})
        write_text(timings, _text({**timed, "digest": schema.timings_digest(timed)}), ResultError)
    write_text(path, _text(content), ResultError)
    if replicates is None:
        resamples.unlink(missing_ok=True)
    if not result.timings:
        timings.unlink(missing_ok=True)


def is_as_written(result: Result) -> bool:
    """Tell whether a curve's JSON file is, byte for byte, what :func:`save` makes of the curve."""
    content = _content(result, result.meta.get("files", {}))
    return result.source is not None and result.source.read_bytes() == _text(content).encode()


def load(path: Path) -> Result:
    """Read a curve's JSON file, of this schema or an earlier one; log what stands beside it and is not used.

    Raises:
        ResultError: The file is missing, is not a result file, was changed by hand, or is of a later schema.
    """
    content = schema.read_json(path)
    schema.check_result(content, path)
    meta = content["meta"]
    timings, warnings = _timings(path, meta)
    replicates = _beside(path, _RESAMPLES)
    if replicates.is_file() and not _belongs(replicates, meta):
        warnings.append(_foreign(replicates))
    for warning in warnings:
        _log.warning("%s: %s", path, warning)
    return Result(
        dataset=meta["dataset"]["name"],
        task=meta["task"],
        detector=meta["detector"]["spec"],
        codec=content["name"],
        description=content.get("description", ""),
        results=content["results"],
        categories=content.get("categories", {}),
        meta=meta,
        timings=timings,
        source=path,
        warnings=tuple(warnings),
    )


def find(root: Path, broken: Callable[[ResultError], None] | None = None) -> Iterator[Result]:
    """Yield every result below a folder of results or one of the folders within it, in order of its path.

    ``broken`` is called with the error of each file that is no result file, which is then left out.

    Raises:
        ResultError: The folder does not exist, or a file in it is broken and nobody is to be called.
    """
    if not root.is_dir():
        raise ResultError("no such folder", where=root, hint="make results with icm-bench run")
    layouts = ("*/*/*/*.json", "*/*/*.json", "*/*.json", "*.json")
    found = next((paths for paths in (sorted(root.glob(layout)) for layout in layouts) if paths), [])
    for path in found:
        if path.name.endswith(_TIMINGS):
            continue
        try:
            result = load(path)
        except ResultError as error:
            if broken is None:
                raise
            broken(error)
        else:
            yield result


def titled(task: str, dataset: str, detector: str) -> str:
    """Say what curves are of: ``detection on coco by yolox``, ``fidelity on kodak``."""
    return f"{task} on {dataset}" + ("" if detector == NO_DETECTOR else f" by {detector}")


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name.removesuffix(".json") + ending)


def _belongs(path: Path, meta: Mapping[str, Any]) -> bool:
    """Tell whether replicates are those that were written with a curve; files of schema 1 do not say."""
    return bool(meta["schema"] == 1 or meta.get("files", {}).get("resamples") == file_digest(path))


def _foreign(path: Path) -> str:
    return f"{path.name} is not the file that was written with the curve, and is not used"


def _timings(path: Path, meta: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    timings = _beside(path, _TIMINGS)
    if not timings.is_file():
        return {}, []
    try:
        found = schema.read_json(timings)
        schema.check_timings(found, len(meta["qualities"]), timings)
    except ResultError as error:
        return {}, [f"{error.what}: {timings.name} is not used"]
    found.pop("digest", None)
    curve = found.pop("curve", None)
    return (found, []) if meta["schema"] == 1 or curve == meta["digest"] else ({}, [_foreign(timings)])


def _content(result: Result, files: Mapping[str, str]) -> dict[str, Any]:
    meta = {key: value for key, value in result.meta.items() if key != "digest"}
    content: dict[str, Any] = _rounded(
        {
            "name": result.codec,
            "description": result.description,
            "results": {key: list(values) for key, values in result.results.items()},
            "categories": {key: list(values) for key, values in result.categories.items()},
            "meta": {
                **meta,
                "schema": schema.SCHEMA,
                "dataset": {**meta["dataset"], "name": result.dataset},
                "detector": {**meta["detector"], "spec": result.detector},
                "task": result.task,
                "files": files,
            },
        }
    )
    content["meta"]["digest"] = schema.content_digest(content)
    return content


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


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
