"""The coded, the compared and the predicted store: a shard is a file, and a file is a finished shard.

::

    <root>/coded/<dataset>/<codec spec>/<quality>/<shard>.parquet
    <root>/compared/<dataset>/<codec spec>/<quality>/<shard>.parquet
    <root>/predicted/<dataset>/<codec spec>/<quality>/<detector spec>/<shard>.parquet

A shard is written under a temporary name, flushed to the disk and renamed, so a file that is there is whole, many
writers are safe, and a kill at any moment loses the shards in flight alone. Each file carries a header; what in it
must agree with a plan is its ``identity``, the rest says how it came to be. What is compared with the originals stands
apart from what is coded, so that another metric needs no other encoding. Coded shards of before hold the squared error
as well, in a column ``mse``, which nothing reads.

Beside the header, a shard carries a seal: where it belongs, its image ids in order, and digests of its header and of
each column. The seal is checked whenever something is read. Shards from before there were seals are read without one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from icm_bench.codec import Quality
from icm_bench.error import DamageError, StoreError
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
    ]
)
CODED_ROUGHLY = CODED.append(pa.field("decoded_sample", pa.binary()))
"""What is stored of a codec that declares a tolerance: also some of the decoded values."""

_DISTORTIONS = ("mse_rgb", "mse_luma", "ms_ssim_rgb", "ms_ssim_luma")
COMPARED = pa.schema([("image_id", pa.int64()), *((name, pa.float64()) for name in _DISTORTIONS)])
_PREDICTION = pa.struct(
    [
        ("category_id", pa.int32()),
        ("bbox", pa.list_(pa.float64())),
        ("score", pa.float64()),
        ("segmentation", pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])),
    ]
)
PREDICTED = pa.schema(
    [("image_id", pa.int64()), ("detect_s", pa.float64()), ("predictions", pa.list_(_PREDICTION))]
)

Kind: TypeAlias = Literal["coded", "compared", "predicted"]
Identity: TypeAlias = Mapping[str, Any]
_HEADER, _SEAL = b"icm_bench", b"icm_bench_seal"
_DAMAGED_HINT = "remove the file: a run measures it again"
_UNREADABLE = (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError)
_PER_IMAGE = ["image_id", "width", "height", "n_bytes", "encode_s", "decode_s"]


@dataclass(frozen=True)
class Store:
    """Shards below one folder.

    Attributes:
        root: The folder; made when the first shard is written.
    """

    root: Path

    def folder(self, kind: Kind, dataset: str, codec: str, quality: Quality | None, *detector: str) -> Path:
        """Return where a point's shards of a kind stand, or will stand; no quality: the uncompressed images."""
        point = "original" if quality is None else quality_name(quality)
        return self.root.joinpath(kind, dataset, codec, point, *detector)


def quality_name(quality: Quality) -> str:
    """Return a quality as a folder's name: the shortest decimal that reads back as the same number."""
    return repr(quality)


def shard_name(shard: int) -> str:
    """Return the name of a shard's file in its folder."""
    return f"{shard:05d}.parquet"


def finished(path: Path, identity: Identity, image_ids: Sequence[int]) -> dict[str, Any] | None:
    """Return the header of a shard that is on disk and was made for this plan; None where there is no such file.

    Raises:
        DamageError: The file cannot be read as a shard, or is another shard.
        StoreError: The shard was made for another plan; the error says what differs.
    """
    try:
        header, seal = _opened(path)
        found_ids = seal["image_ids"] if seal else read(path, ["image_id"])["image_id"].to_pylist()
    except FileNotFoundError:
        return None
    found = header["identity"]
    differing = sorted(key for key in {*found, *identity} if found.get(key) != identity.get(key))
    if differing:
        what = "; ".join(f"{key} was {found.get(key)!r} and is {identity.get(key)!r}" for key in differing)
        raise StoreError(
            f"was made under other conditions: {what}",
            where=path,
            hint="give --fresh to measure again what has changed, or another folder with --runs",
        )
    if found_ids != list(image_ids):
        raise DamageError("holds other images than belong there", where=path, hint=_DAMAGED_HINT)
    return header


def read_header(path: Path) -> dict[str, Any]:
    """Return a shard's header.

    Raises:
        FileNotFoundError: No such shard.
        DamageError: The file is not a shard, is damaged, or belongs elsewhere.
    """
    return _opened(path)[0]


def shards(folder: Path) -> Iterator[Path]:
    """Yield an operating point's shards in order.

    Raises:
        StoreError: There are none, one is missing, or they were made under different conditions.
    """
    found = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not found:
        raise StoreError(
            "holds no shards", where=folder, hint="name an operating point's folder in the store"
        )
    if [shard.name for shard in found] != [shard_name(index) for index in range(len(found))]:
        raise StoreError("lacks a shard", where=folder, hint="finish the run first")
    first = read_header(found[0]).get("identity")
    for shard in found:
        if read_header(shard).get("identity") != first:
            raise StoreError(f"was made under other conditions than {found[0].name}", where=shard)
    yield from found


def read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Return a shard's rows, or some columns of them.

    Raises:
        FileNotFoundError: No such shard.
        DamageError: The file is not a shard, is damaged, or belongs elsewhere.
    """
    _, seal = _opened(path)
    with _reading(path):
        table = pq.ParquetFile(path).read(columns=columns)
        if seal and any(_digest(table[name]) != seal["columns"].get(name) for name in table.column_names):
            raise ValueError("its content has changed since it was written")
        if columns is None and seal and table.column_names != list(seal["columns"]):
            raise ValueError("a column is missing")
        return table


def per_image(coded: Path) -> pa.Table:
    """Return the rows of a coded shard without its bitstreams, and ``mse_rgb`` out of the compared shard beside it.

    Raises:
        DamageError: A shard is damaged, or belongs elsewhere.
        StoreError: The shard was not compared with the originals yet, or another encoding was.
    """
    table = read(coded, _PER_IMAGE)
    *root, _, dataset, codec, quality, name = coded.absolute().parts
    compared = Path(*root, "compared", dataset, codec, quality, name)
    try:
        distortion = read(compared, ["mse_rgb"])
    except FileNotFoundError:
        raise StoreError("no such shard", where=compared, hint="finish the run first") from None
    bitstreams = read_header(coded).get("bitstreams")
    if read_header(compared).get("bitstreams", bitstreams) != bitstreams:
        raise StoreError("is of other bitstreams than the coded shard", where=compared, hint="run again")
    return table.append_column("mse_rgb", distortion["mse_rgb"])


def write(path: Path, table: pa.Table, header: Mapping[str, Any]) -> None:
    """Write a shard so that it is whole or not there.

    Raises:
        StoreError: The folder cannot be written, or the disk is full; nothing is left behind.
    """
    encoded = json.dumps(header, sort_keys=True, allow_nan=False).encode()
    seal = {
        "position": _position(path),
        "image_ids": table["image_id"].to_pylist(),
        "header": hashlib.sha256(encoded).hexdigest(),
        "columns": {name: _digest(table[name]) for name in table.column_names},
    }
    table = table.replace_schema_metadata({_HEADER: encoded, _SEAL: json.dumps(seal).encode()})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _opened(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return a shard's header and seal, the one checked by the other."""
    with _reading(path):
        metadata = pq.read_schema(path).metadata or {}
        header = json.loads(metadata[_HEADER])
        if not isinstance(header, dict) or not isinstance(header.get("identity"), dict):
            raise ValueError("its header is not one of a shard")  # noqa: TRY004  (of the file's content)
        if metadata.keys() == {_HEADER}:
            return header, None
        seal = json.loads(metadata[_SEAL])
        if seal["header"] != hashlib.sha256(metadata[_HEADER]).hexdigest():
            raise ValueError("its header has changed since it was written")
        if seal["position"] != _position(path):
            raise ValueError(f"it belongs to {seal['position']}")
        return header, seal


def _position(path: Path) -> str:
    """Return where a shard belongs: its path below the root of the stores."""
    for depth, kinds in ((5, ("coded", "compared")), (6, ("predicted",))):
        if path.parts[-depth:][0] in kinds:
            return "/".join(path.parts[-depth:])
    return path.name


def _digest(column: pa.ChunkedArray) -> str:
    # Of the values alone: Parquet gives nested types other names than Arrow.
    digest = hashlib.sha256()
    for value in column.to_pylist():
        data = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(b"%d " % len(data))
        digest.update(data)
    return digest.hexdigest()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise StoreError(
                f"cannot be read ({error.strerror})", where=path, hint="see who may read it"
            ) from error
        raise DamageError(f"is not a readable shard ({error})", where=path, hint=_DAMAGED_HINT) from error
