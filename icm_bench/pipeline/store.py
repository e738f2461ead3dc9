"""The coded, the compared and the predicted store: a shard is a file, and a file is a finished shard.

::

    <root>/coded/<dataset>/<codec spec>/<quality>/<shard>.parquet
    <root>/compared/<dataset>/<codec spec>/<quality>/<shard>.parquet
    <root>/predicted/<dataset>/<codec spec>/<quality>/<detector spec>/<shard>.parquet

A shard is written under a temporary name, flushed to the disk and renamed, so a file that is there is whole, many
writers are safe, and a kill at any moment loses the shards in flight alone. Each file carries a header; what in it
must agree with a plan is its ``identity``, the rest says how it came to be. What is compared with the originals stands
apart from what is coded, so that another metric needs no other encoding.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from icm_bench.codec import Quality
from icm_bench.error import StoreError
from icm_bench.file import replacing

SCHEMA = 1
"""Version of the layout. 1: first."""

SHARD_IMAGES = 8
"""Images to a shard: what a kill can lose, times the seconds that one image takes."""

CODED = pa.schema(
    [
        ("image_id", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source_sha256", pa.string()),
        ("decoded_sha256", pa.string()),
        ("bitstream", pa.binary()),
        ("n_bytes", pa.int32()),
        ("header_bytes", pa.int32()),
        ("encode_s", pa.float64()),
        ("decode_s", pa.float64()),
        ("mse", pa.float64()),
    ]
)
COMPARED = pa.schema(
    [
        ("image_id", pa.int64()),
        ("mse_rgb", pa.float64()),
        ("mse_luma", pa.float64()),
        ("ms_ssim_rgb", pa.float64()),
        ("ms_ssim_luma", pa.float64()),
    ]
)
PREDICTED = pa.schema(
    [
        ("image_id", pa.int64()),
        ("detect_s", pa.float64()),
        (
            "predictions",
            pa.list_(
                pa.struct(
                    [
                        ("category_id", pa.int32()),
                        ("bbox", pa.list_(pa.float64())),
                        ("score", pa.float64()),
                        (
                            "segmentation",
                            pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())]),
                        ),
                    ]
                )
            ),
        ),
    ]
)

Identity: TypeAlias = Mapping[str, Any]
_HEADER = b"icm_bench"


@dataclass(frozen=True)
class Store:
    """Shards below one folder.

    Attributes:
        root: The folder; made when the first shard is written.
    """

    root: Path

    def coded(self, dataset: str, codec: str, quality: Quality, shard: int) -> Path:
        """Return where a coded shard stands, or will stand."""
        return self.root / "coded" / dataset / codec / quality_name(quality) / _shard_name(shard)

    def compared(self, dataset: str, codec: str, quality: Quality, shard: int) -> Path:
        """Return where the distortion of a coded shard stands, or will stand."""
        return self.root / "compared" / dataset / codec / quality_name(quality) / _shard_name(shard)

    def predicted(self, dataset: str, codec: str, quality: Quality | None, detector: str, shard: int) -> Path:
        """Return where a predicted shard stands, or will stand; no quality: the uncompressed images."""
        point = "original" if quality is None else quality_name(quality)
        return self.root / "predicted" / dataset / codec / point / detector / _shard_name(shard)


def quality_name(quality: Quality) -> str:
    """Return a quality as a folder's name: the shortest decimal that reads back as the same number."""
    return repr(quality)


def is_finished(path: Path, identity: Identity) -> bool:
    """Tell whether a shard is on disk and was made for this plan.

    Raises:
        StoreError: A shard is there, but made for another plan (the error says what differs), or cannot be read.
    """
    try:
        header = read_header(path)
    except FileNotFoundError:
        return False
    found = header.get("identity", {})
    if found == dict(identity):
        return True
    differing = sorted(key for key in {*found, *identity} if found.get(key) != identity.get(key))
    what = "; ".join(f"{key} was {found.get(key)!r} and is {identity.get(key)!r}" for key in differing)
    raise StoreError(
        f"was made under other conditions: {what}",
        where=path,
        hint="give --fresh to measure again, or another folder with --runs",
    )


def read_header(path: Path) -> dict[str, Any]:
    """Return a shard's header.

    Raises:
        FileNotFoundError: No such shard.
        StoreError: The file is not a shard.
    """
    with _reading(path):
        metadata = pq.read_schema(path).metadata or {}
        header: dict[str, Any] = json.loads(metadata[_HEADER])
        return header


def read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Return a shard's rows, or some columns of them.

    Raises:
        FileNotFoundError: No such shard.
        StoreError: The file is not a shard.
    """
    with _reading(path):
        return pq.ParquetFile(path).read(columns=columns)


def write(path: Path, table: pa.Table, header: Mapping[str, Any]) -> None:
    """Write a shard so that it is whole or not there.

    Raises:
        StoreError: The folder cannot be written, or the disk is full; nothing is left behind.
    """
    encoded = json.dumps(header, sort_keys=True, allow_nan=False).encode()
    table = table.replace_schema_metadata({_HEADER: encoded})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise StoreError(
            f"is not a readable shard ({error})", where=path, hint="remove the file, or give --fresh"
        ) from error


def _shard_name(shard: int) -> str:
    return f"{shard:05d}.parquet"
