"""Shards on disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icm_bench.error import DamageError, ResultError, StoreError
from icm_bench.file import replacing, sweep
from icm_bench.pipeline import store

ROWS = pa.table({"image_id": [1, 2], "bitstream": [b"ab", os.urandom(100_000)]})
IDENTITY = {"codec": "jpeg", "quality": 30, "codec_version": "1"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "00000.parquet"
    store.write(path, ROWS, {"identity": IDENTITY, "machine": "here"})
    assert store.read(path).equals(ROWS)
    assert store.read(path, ["image_id"]).column_names == ["image_id"]
    assert store.read_header(path) == {"identity": IDENTITY, "machine": "here"}


def test_a_shard_of_another_plan_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "00000.parquet"
    assert not store.finished(path, IDENTITY, [1, 2])
    store.write(path, ROWS, {"identity": IDENTITY})
    assert store.finished(path, IDENTITY, [1, 2])
    with pytest.raises(StoreError, match="codec_version was '1' and is '2'; give --fresh to measure again"):
        store.finished(path, IDENTITY | {"codec_version": "2"}, [1, 2])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a shard at all", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_no_shard_is_refused_and_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "00000.parquet"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"00000.parquet: is not a readable shard .*; remove the file"):
        store.finished(path, IDENTITY, [1, 2])


def test_a_truncated_shard_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "00000.parquet"
    store.write(path, ROWS, {"identity": IDENTITY})
    whole = path.read_bytes()
    for length in range(0, len(whole), 9973):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError):
            store.finished(path, IDENTITY, [1, 2])


def shard(path: Path) -> bytes:
    store.write(path, ROWS, {"identity": IDENTITY})
    return path.read_bytes()


def test_a_shard_at_another_shards_place_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "coded" / "dataset" / "jpeg" / "30"
    shard(root / "00000.parquet")
    shutil.copy(root / "00000.parquet", root / "00001.parquet")
    with pytest.raises(DamageError, match=r"belongs to coded/dataset/jpeg/30/00000\.parquet"):
        store.read(root / "00001.parquet")
    moved = tmp_path / "runs"
    moved.mkdir()
    (tmp_path / "coded").rename(moved / "coded")
    assert store.read(moved / "coded" / "dataset" / "jpeg" / "30" / "00000.parquet").equals(ROWS)


def test_a_shard_of_other_images_is_refused(tmp_path: Path) -> None:
    shard(tmp_path / "00000.parquet")
    for ids in ([2, 1], [1], [1, 2, 3]):
        with pytest.raises(DamageError, match="holds other images than belong there; remove the file"):
            store.finished(tmp_path / "00000.parquet", IDENTITY, ids)


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_is_noticed_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped" / "00000.parquet"
    whole = bytearray(shard(path))
    whole[int(position * len(whole))] ^= 1 << bit
    path.write_bytes(whole)
    try:
        header, rows = store.finished(path, IDENTITY, [1, 2]), store.read(path)
    except DamageError:
        return
    assert header == {"identity": IDENTITY}
    assert rows.equals(ROWS)


@pytest.mark.parametrize(
    "header",
    [b"[]", b"{}", b'{"identity": 3}', b"\xff", b"[" * 100_000, b"null"],
    ids=["list", "empty", "number", "bytes", "deep", "null"],
)
def test_a_header_of_another_form_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "00000.parquet"
    pq.write_table(ROWS.replace_schema_metadata({b"icm_bench": header}), path)
    with pytest.raises(DamageError, match="is not a readable shard"):
        store.finished(path, IDENTITY, [1, 2])


def test_a_shard_from_before_there_were_seals_is_read(tmp_path: Path) -> None:
    path = tmp_path / "00000.parquet"
    pq.write_table(ROWS.replace_schema_metadata({b"icm_bench": json.dumps({"identity": IDENTITY})}), path)
    assert store.finished(path, IDENTITY, [1, 2]) == {"identity": IDENTITY}
    assert store.read(path).equals(ROWS)
    with pytest.raises(DamageError, match="holds other images"):
        store.finished(path, IDENTITY, [1, 2, 3])
    pq.write_table(ROWS.replace_schema_metadata({b"icm_bench": b"{}", b"icm_bench_sfal": b"{}"}), path)
    with pytest.raises(DamageError):
        store.read(path)


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(small_disk: Path) -> None:
    path = small_disk / "00000.parquet"
    with pytest.raises(StoreError, match=r"cannot be written .*; free some space and run again"):
        store.write(path, ROWS, {"identity": IDENTITY})
    assert list(small_disk.iterdir()) == []


def test_a_read_only_disk_is_one_clear_error(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(
        StoreError, match=r"cannot be written \(Read-only.*name a folder that you may write to"
    ):
        store.write(small_disk / "00000.parquet", ROWS, {"identity": IDENTITY})


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written .*; name a folder that you may write to"):
        store.write(tmp_path / "file" / "00000.parquet", ROWS, {"identity": IDENTITY})


def test_a_write_that_fails_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "curve.json"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), replacing(path, ResultError) as temporary:
        temporary.write_text("half of what was to co")
        raise ZeroDivisionError
    assert path.read_text() == "before"
    assert [item.name for item in tmp_path.iterdir()] == ["curve.json"]


def test_old_leftovers_are_swept_and_young_ones_left_to_their_writer(tmp_path: Path) -> None:
    old, young = tmp_path / ".00000.parquet.1-a.tmp", tmp_path / ".00001.parquet.2-b.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [young.name]


def test_a_quality_names_one_folder() -> None:
    assert store.quality_name(22) == "22"
    assert store.quality_name(0.1) == "0.1"
    assert len({store.quality_name(quality) for quality in (1, 10, 0.1, 0.01, 1e-5)}) == 5
