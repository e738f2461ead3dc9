from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icm_bench import archive as module
from icm_bench.archive import extract_zip
from icm_bench.error import DownloadError


def write_zip(path: Path, files: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return path


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_members_are_unpacked_with_their_folders(tmp_path: Path) -> None:
    files = {"a.txt": b"one", "x/y/b.bin": bytes(range(256)) * 9, "x/empty": b""}
    target = tmp_path / "out"
    places = extract_zip(write_zip(tmp_path / "a.zip", files | {"folder/": b""}), target)
    assert tree(target) == set(files)
    assert {place.relative_to(target).as_posix(): place.read_bytes() for place in places} == files


def test_only_the_members_that_are_named_are_unpacked(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a": b"1", "b": b"2"})
    extract_zip(archive, tmp_path / "out", members=["b"])
    assert tree(tmp_path / "out") == {"b"}
    with pytest.raises(DownloadError, match=r"a\.zip: the archive has no c"):
        extract_zip(archive, tmp_path / "out", members=["b", "c"])


def test_whole_files_are_left_alone_and_others_replaced(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"same": b"12345", "other": b"12345"})
    out = tmp_path / "out"
    out.mkdir()
    (out / "same").write_bytes(b"12345")
    (out / "other").write_bytes(b"1234x")
    os.utime(out / "same", (1, 1))
    extract_zip(archive, out)
    assert (out / "same").stat().st_mtime == 1
    assert (out / "other").read_bytes() == b"12345"


EVIL = ["/etc/x", "../x", "a/../../x", "..", "C:x", "c:/x", "\\\\host\\x", "..\\x", "a\\b", "//host/x"]


@pytest.mark.parametrize("name", EVIL)
def test_names_that_leave_the_folder_are_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    archive = write_zip(tmp_path / "a.zip", {"good": b"1", name: b"2"})
    with pytest.raises(DownloadError, match="would lie outside its folder|has no portable name"):
        extract_zip(archive, tmp_path / "in" / "out")
    assert tree(tmp_path) == {"a.zip"}


def test_null_bytes_in_names_are_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"goodXx": b"1"})
    archive.write_bytes(archive.read_bytes().replace(b"goodXx", b"good\0x"))
    with pytest.raises(DownloadError, match="has no portable name"):
        extract_zip(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    archive = write_zip(tmp_path / "a.zip", {"link": b"/etc/passwd"}, mode=kind | 0o777)
    with pytest.raises(DownloadError, match="is a link, a device or encrypted"):
        extract_zip(archive, tmp_path / "out")


def test_links_that_lie_in_the_folder_are_not_followed_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "x").symlink_to(tmp_path / "elsewhere")
    archive = write_zip(tmp_path / "a.zip", {"x/file": b"1"})
    with pytest.raises(DownloadError, match="would follow a link out of its folder"):
        extract_zip(archive, tmp_path / "out")
    assert tree(tmp_path / "elsewhere") == set()


def test_target_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    extract_zip(write_zip(tmp_path / "a.zip", {"x/file": b"1"}), tmp_path / "out")
    assert tree(tmp_path / "real") == {"x/file"}


def test_existing_link_at_a_members_name_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "out" / "file").symlink_to(tmp_path / "secret")
    extract_zip(write_zip(tmp_path / "a.zip", {"file": b"1"}), tmp_path / "out")
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert (tmp_path / "out" / "file").read_bytes() == b"1"


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"file": b"12345"})
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    archive.write_bytes(data)
    with pytest.raises(DownloadError, match="encrypted"):
        extract_zip(archive, tmp_path / "out")


def test_bomb_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"zeros": bytes(10_000_000)})
    with pytest.raises(DownloadError, match="unpack to 10000000 bytes, which looks like a bomb"):
        extract_zip(archive, tmp_path / "out")
    assert tree(tmp_path) == {"a.zip"}


def test_archive_of_too_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EXTRACTED_BYTES", 999)
    archive = write_zip(tmp_path / "a.zip", {"a": os.urandom(600), "b": os.urandom(400)})
    with pytest.raises(DownloadError, match="unpack to 1000 bytes"):
        extract_zip(archive, tmp_path / "out")
    extract_zip(archive, tmp_path / "out", members=["a"])


def test_member_that_is_larger_than_it_says_leaves_no_file(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"file": bytes(range(256)) * 20})
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = (100).to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(DownloadError, match="the archive is damaged"):
        extract_zip(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == set()


def test_members_of_the_same_name_are_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"aa": b"1", "ab": b"2"})
    archive.write_bytes(archive.read_bytes().replace(b"ab", b"aa"))
    with pytest.raises(DownloadError, match="same name"):
        extract_zip(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ["./a", "a/.", ".//a", "."])
def test_other_spellings_of_a_name_do_not_overwrite_a_member(tmp_path: Path, name: str) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a": b"1", name: b"2"})
    with pytest.raises(DownloadError, match="two members have the same name|would lie outside"):
        extract_zip(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"b": b"1", "x": b"2"})
    archive.write_bytes(archive.read_bytes().replace(b"\x01\0\0\0x", b"\0\0\0\0x"))
    data = bytearray(archive.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 28 : entry + 30] = (
        b"\0\0"  # the name's length in the directory: its letter becomes a comment
    )
    data[entry + 32 : entry + 34] = b"\1\0"
    archive.write_bytes(bytes(data))
    with pytest.raises(DownloadError, match="a member has no name"):
        extract_zip(archive, tmp_path / "out")


def test_absent_and_foreign_archives_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="cannot be unpacked .No such file"):
        extract_zip(tmp_path / "absent.zip", tmp_path / "out")
    (tmp_path / "a.zip").write_text("no zip")
    with pytest.raises(DownloadError, match=r"a\.zip: the archive is damaged"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out")


def test_file_where_a_folder_is_needed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("in the way")
    with pytest.raises(DownloadError, match="cannot be (written|unpacked)"):
        extract_zip(write_zip(tmp_path / "a.zip", {"x/file": b"1"}), tmp_path / "out")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_damaged_archives_are_unpacked_whole_or_refused(tmp_path: Path, draw: st.DataObject) -> None:
    archive = write_zip(tmp_path / "a.zip", {"in/a": b"abc" * 50, "b": bytes(range(40))})
    data = bytearray(archive.read_bytes())
    for _ in range(draw.draw(st.integers(1, 6))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    archive.write_bytes(data[: draw.draw(st.sampled_from([len(data), len(data) - 1, len(data) // 2]))])
    try:
        extract_zip(archive, tmp_path / "deep" / "out")
    except DownloadError as error:
        assert "a.zip" in str(error) or "out" in str(error)
    assert all(name == "a.zip" or name.startswith("deep/out/") for name in tree(tmp_path))
    assert not any(name.endswith(".tmp") for name in tree(tmp_path))
