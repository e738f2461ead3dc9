from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import multiprocessing
import os
import socket
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from icm_bench import download as module
from icm_bench.download import VAL2017, Archive, CocoRelease, Patience, download, fetch_coco
from icm_bench.error import DownloadError
from tests.helpers.site import listening

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
HASTY = Patience(attempts=3, backoff_s=0.01, timeout_s=2)


@dataclass
class Site:
    """A server on this machine: what it serves, how it misbehaves and what it was asked."""

    files: dict[str, bytes]
    url: str = ""
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    lie: Callable[[bytes], bytes] | None = None
    shift: int = 0
    says_length: bool = True
    claimed_length: str | None = None
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def asked(self) -> list[str | None]:
        return [asked_range for _, asked_range in self.requests]

    def fetch(self, folder: Path, **options: Any) -> Path:
        """Fetch the file, by its SHA-256 and in haste unless told otherwise; return where it now lies."""
        target = folder / "file.bin"
        download(f"{self.url}/file.bin", target, **{"sha256": SHA256, "patience": HASTY, **options})
        return target


class Handler(http.server.BaseHTTPRequestHandler):
    site: ClassVar[Site]

    def do_GET(self) -> None:
        site, asked = self.site, self.headers.get("Range")
        site.requests.append((self.path, asked))
        if site.statuses:
            return self.send_error(site.statuses.pop(0))
        if self.path not in site.files:
            return self.send_error(404)
        body = site.files[self.path]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and site.ranges else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            first = start + site.shift
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        if site.says_length:
            self.send_header("Content-Length", site.claimed_length or str(len(body) - start))
        self.end_headers()
        sent = (site.lie(body) if site.lie else body)[start:]
        if site.cut_after:
            sent = sent[: site.cut_after.pop(0)]
        with contextlib.suppress(OSError):
            self.wfile.write(sent)
        self.close_connection = True
        return None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site({"/file.bin": CONTENT})
    handler = type("BoundHandler", (Handler,), {"site": served})
    with listening(handler) as served.url:
        yield served


def test_file_is_fetched_verified_and_reported(site: Site, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    target = site.fetch(tmp_path / "new", size=len(CONTENT), progress=lambda *args: seen.append(args))
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]
    assert seen[-1] == ("file.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_file_that_is_there_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    site.fetch(tmp_path, sha256=None, md5=MD5)
    assert site.requests == []


def test_file_of_other_content_is_replaced(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"old")
    assert site.fetch(tmp_path, sha256=SHA256[:8]).read_bytes() == CONTENT


def test_broken_connection_is_resumed_where_it_broke(site: Site, tmp_path: Path) -> None:
    site.cut_after = [300_000, 400_000]
    assert site.fetch(tmp_path).read_bytes() == CONTENT
    assert site.asked() == [None, "bytes=300000-", "bytes=700000-"]


def test_later_call_goes_on_from_what_an_earlier_one_left(site: Site, tmp_path: Path) -> None:
    site.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(
        DownloadError, match="connection closed after 300000 of 1024000 bytes; check the network"
    ):
        site.fetch(tmp_path)
    assert not (tmp_path / "file.bin").exists()
    assert (tmp_path / "file.bin.part").stat().st_size == 300_000
    site.requests.clear()
    site.cut_after.clear()
    site.fetch(tmp_path)
    assert site.asked() == ["bytes=300000-"]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_poor_line_that_brings_a_little_each_time_is_borne_with(site: Site, tmp_path: Path) -> None:
    site.cut_after = [110_000] * 9
    assert site.fetch(tmp_path, patience=replace(HASTY, attempts=2)).read_bytes() == CONTENT


def test_server_without_ranges_is_asked_again_from_the_start(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    site.cut_after = [300_000]
    assert site.fetch(tmp_path).read_bytes() == CONTENT


def test_server_that_sends_another_range_is_not_believed(site: Site, tmp_path: Path) -> None:
    site.shift = 5
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DownloadError, match="sent bytes from 1005 on instead of 1000"):
        site.fetch(tmp_path)


@pytest.mark.parametrize("left", [b"of another file", CONTENT + b"more", CONTENT[:-1] + b"x"])
def test_foreign_part_is_thrown_away_and_the_file_fetched_whole(
    site: Site, tmp_path: Path, left: bytes
) -> None:
    (tmp_path / "file.bin.part").write_bytes(left)
    assert site.fetch(tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_part_that_is_whole_is_used(site: Site, tmp_path: Path, size: int | None) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert site.fetch(tmp_path, size=size).read_bytes() == CONTENT
    assert len(site.requests) == (1 if size is None else 0)


@pytest.mark.parametrize(
    "digests",
    [{"sha256": "0" * 64}, {"sha256": "0" * 8}, {"md5": "0" * 32}, {"sha256": SHA256, "md5": "0" * 32}],
)
def test_other_content_is_refused_and_removed(site: Site, tmp_path: Path, digests: dict[str, str]) -> None:
    with pytest.raises(DownloadError, match=r"file\.bin: what came is not the expected file .(SHA-256|MD5) "):
        site.fetch(tmp_path, **{"sha256": None, **digests})
    assert list(tmp_path.iterdir()) == []


def test_damaged_content_and_another_size_are_refused(site: Site, tmp_path: Path) -> None:
    site.lie = lambda body: body[:-1] + b"?"
    with pytest.raises(DownloadError, match="not the expected file"):
        site.fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []
    site.lie, site.says_length = None, False
    with pytest.raises(DownloadError, match=r"\d+ bytes instead of 1000"):
        site.fetch(tmp_path, size=1000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [None, "9" * 5000, "-1", "x", "\u00b2"])
def test_a_length_that_is_not_said_or_none_is_not_needed(
    site: Site, tmp_path: Path, length: str | None
) -> None:
    site.says_length, site.claimed_length = length is not None, length
    assert site.fetch(tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_of_unknown_size_is_not_fetched_without_end(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says_length: bool
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 2**19)
    site.says_length = says_length
    with pytest.raises(DownloadError, match="the server sends more than 0 GiB; check the address"):
        site.fetch(tmp_path)
    assert not list(tmp_path.iterdir())
    assert len(site.requests) == 1


def test_missing_file_is_an_error_at_once(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="absent: the server answered 404"):
        download(f"{site.url}/absent", tmp_path / "file.bin", sha256=SHA256, patience=HASTY)
    assert len(site.requests) == 1


def test_passing_failure_of_the_server_is_tried_again(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 429]
    site.fetch(tmp_path)
    assert len(site.requests) == 3
    site.statuses = [500] * 3
    with pytest.raises(
        DownloadError, match="failed 3 times in a row, the last time because the server answered 500"
    ):
        site.fetch(tmp_path / "other")


def test_no_network_is_an_error(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(
        DownloadError, match="failed 3 times in a row, the last time because .*refused.*check the network"
    ):
        download(f"http://127.0.0.1:{port}/x", tmp_path / "x", sha256=SHA256, patience=HASTY)


def test_silent_server_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(DownloadError, match="timed out"):
            download(url, tmp_path / "x", sha256=SHA256, patience=Patience(1, 0.01, 0.2))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_full_disk_is_an_error_that_says_so(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"No space left on device.*; free some space and run again"):
        site.fetch(tmp_path)


def test_folder_that_cannot_be_made_is_an_error(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="cannot be written"):
        site.fetch(tmp_path / "file")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "x"])
def test_other_schemes_and_missing_digests_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="neither http nor https"):
        download(url, tmp_path / "x", sha256=SHA256)
    with pytest.raises(ValueError, match="needs a digest"):
        download("http://127.0.0.1/x", tmp_path / "x")


def _fetch_once(url: str, target: Path) -> None:
    download(url, target, sha256=SHA256, patience=HASTY)


@pytest.mark.slow
def test_processes_that_want_the_same_file_fetch_it_once(site: Site, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_fetch_once, args=(f"{site.url}/file.bin", tmp_path / "file.bin"))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(site.requests) == 1


def serve_coco(site: Site, folder: Path, n_images: int = 4) -> CocoRelease:
    with zipfile.ZipFile(folder / "i.zip", "w") as file:
        for index in range(n_images):
            file.writestr(f"val2017/{index:012d}.jpg", os.urandom(2000))
    truth: dict[str, list[object]] = {"images": [], "annotations": [{}] * 7, "categories": []}
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.writestr("annotations/instances_val2017.json", json.dumps(truth))
        file.writestr("annotations/captions_val2017.json", "{}")
    archives = []
    for path, name in ((VAL2017.images.path, "i.zip"), (VAL2017.annotations.path, "a.zip")):
        data = (folder / name).read_bytes()
        site.files[f"/{path}"] = data
        archives.append(Archive(path, len(data), hashlib.md5(data).hexdigest()))
        (folder / name).unlink()
    return CocoRelease(archives[0], archives[1], "val2017", 4, 7)


def test_coco_is_fetched_unpacked_and_counted(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = serve_coco(site, tmp_path)
    monkeypatch.setenv("ICM_BENCH_COCO_URL", site.url + "/")
    site.cut_after = [100, 1000]
    root = fetch_coco(tmp_path / "coco", release=release, patience=HASTY)
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert found == {
        "val2017.zip",
        "annotations_trainval2017.zip",
        "annotations/instances_val2017.json",
        *(f"val2017/{index:012d}.jpg" for index in range(4)),
    }


@pytest.mark.parametrize("absent", ["*.zip", "val2017/000000000002.jpg"])
def test_coco_that_is_there_or_lacks_an_image_needs_no_network(
    site: Site, tmp_path: Path, absent: str
) -> None:
    release = serve_coco(site, tmp_path)
    root = fetch_coco(tmp_path / "coco", base_url=site.url, release=release, patience=HASTY)
    for path in root.glob(absent):
        path.unlink()
    site.requests.clear()
    assert fetch_coco(root, base_url=site.url, release=release) == root
    assert (root / "val2017" / "000000000002.jpg").exists()
    assert site.requests == []


def test_coco_of_other_counts_is_an_error(site: Site, tmp_path: Path) -> None:
    release = serve_coco(site, tmp_path, n_images=3)
    with pytest.raises(
        DownloadError, match="3 images and 7 annotations are not the published 4 and 7; remove val2017/"
    ):
        fetch_coco(tmp_path / "coco", base_url=site.url, release=release, patience=HASTY)


def test_the_published_release_is_cocos() -> None:
    assert VAL2017.images == Archive("zips/val2017.zip", 815585330, "442b8da7639aecaf257c1dceb8ba8c80")
    assert VAL2017.annotations.md5 == "f4bbac642086de4f52a3fdda2de5fa2c"
    assert (VAL2017.n_images, VAL2017.n_annotations) == (5000, 36781)
