"""Rate and accuracy of a curve's operating points on bootstrap replicates of the dataset's images, and their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from icm_bench.curves.interpolant import Floats
from icm_bench.error import ResultError
from icm_bench.file import replacing
from icm_bench.metrics.fidelity import DERIVED, with_decibels

_UNCOMPRESSED = -1


@dataclass(frozen=True)
class Replicates:
    """Rate and accuracy on bootstrap replicates of a dataset's images, the same replicates for every codec.

    Attributes:
        bpp: Bits per pixel, points x replicates.
        metrics: Each metric in its unit, points x replicates; NaN where a replicate has no such value.
        uncompressed: The metrics that the uncompressed images have, one value a replicate.
    """

    bpp: Floats
    metrics: Mapping[str, Floats]
    uncompressed: Mapping[str, Floats] = field(default_factory=dict)

    def __repr__(self) -> str:
        n_points, n_replicates = self.bpp.shape
        return f"Replicates({n_replicates} of {n_points} points: bpp, {', '.join(self.metrics)})"

    def first(self, n: int) -> Replicates:
        """Return the first replicates; of one dataset, fewer are the beginning of more."""
        return Replicates(
            self.bpp[:, :n],
            {key: values[:, :n] for key, values in self.metrics.items()},
            {key: values[:n] for key, values in self.uncompressed.items()},
        )


def write_replicates(replicates: Replicates, path: Path) -> None:
    """Write replicates as a Parquet file, whole or not at all.

    Raises:
        ResultError: The folder cannot be written.
    """
    table = _table(replicates)
    # Near-random digits compress best with their bytes apart and no dictionary.
    values = [name for name in table.column_names if name != "point"]
    packing = {"compression": "zstd", "compression_level": 15, "use_dictionary": False}
    with replacing(path, ResultError) as temporary:
        pq.write_table(table, temporary, use_byte_stream_split=values, **packing)


def read_replicates(path: Path) -> Replicates:
    """Read what :func:`write_replicates` wrote.

    Raises:
        ResultError: The file is missing or is not such a file.
    """
    try:
        columns = _columns(pq.ParquetFile(path).read())
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise ResultError(f"cannot be read ({error})", where=path, hint="remove it, or run again") from error
    bpp = columns.pop("bpp")[1:]
    return Replicates(
        bpp,
        with_decibels({key: values[1:] for key, values in columns.items()}),
        {key: values[0] for key, values in columns.items() if not np.isnan(values[0]).all()},
    )


def _columns(table: pa.Table) -> dict[str, Floats]:
    """Return a file's columns, points x replicates, the uncompressed images first."""
    point = table["point"].to_numpy()
    n_points = int(point.max()) + 1
    if not np.array_equal(point, np.repeat(np.arange(_UNCOMPRESSED, n_points), len(point) // (n_points + 1))):
        raise ValueError("its rows are not the operating points in order")
    columns = {
        key: table[key].to_numpy().astype(np.float64).reshape(n_points + 1, -1)
        for key in table.column_names
        if key != "point"
    }
    if not (columns["bpp"][1:] > 0).all():
        raise ValueError("a rate is not above 0")
    return columns


def _table(replicates: Replicates) -> pa.Table:
    n_points, n_replicates = replicates.bpp.shape
    point = np.repeat(np.arange(_UNCOMPRESSED, n_points, dtype=np.int16), n_replicates)
    nothing = np.full(n_replicates, np.nan)
    columns = {"point": pa.array(point), "bpp": _column(np.concatenate([nothing, replicates.bpp.ravel()]))}
    for key, values in sorted(replicates.metrics.items()):
        if key in DERIVED:
            continue
        original = replicates.uncompressed.get(key, nothing)
        columns[key] = _column(np.concatenate([original, values.ravel()]))
    return pa.table(columns)


def _column(values: Floats) -> pa.Array:
    # Single precision: a replicate's rounding is four orders below its spread. What is not defined is null, not NaN.
    return pa.array(values.astype(np.float32), mask=np.isnan(values))
