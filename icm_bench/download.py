"""Files from the network: resumed, verified, and only then given their names.

``pooch`` would fetch and verify, but it starts over where a connection breaks, and lets two processes fetch one file
side by side. An archive of a gigabyte, over a poor connection and for many workers, needs a transfer that does neither.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from icm_bench.archive import extract_zip
from icm_bench.dataset import VAL2017_ANNOTATIONS, VAL2017_IMAGES
from icm_bench.error import DownloadError
from icm_bench.image import printable

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are done and, where known, the bytes in all."""

COCO_URL = "http://images.cocodataset.org"
"""Where COCO is published. The host has no certificate of its own; the checksums vouch for the files."""

COCO_URL_VARIABLE = "ICM_BENCH_COCO_URL"

MAX_BYTES = 8 * 2**30
"""A file of unknown size that is larger is not fetched."""

_CHUNK_BYTES = 2**18
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Archive:
    """A published archive: its path below the base URL, its size in bytes and its MD5."""

    path: str
    n_bytes: int
    md5: str


@dataclass(frozen=True)
class CocoRelease:
    """What a split of COCO consists of.

    Attributes:
        images: The archive of the images, which holds one folder named as the split.
        annotations: The archive of the annotations.
        split: The split.
        n_images: The images that it has.
        n_annotations: The annotated objects that it has.
    """

    images: Archive
    annotations: Archive
    split: str
    n_images: int
    n_annotations: int


VAL2017 = CocoRelease(
    images=Archive("zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80"),
    annotations=Archive(
        "annotations/annotations_trainval2017.zip", 252_907_541, "f4bbac642086de4f52a3fdda2de5fa2c"
    ),
    split="val2017",
    n_images=VAL2017_IMAGES,
    n_annotations=VAL2017_ANNOTATIONS,
)


@dataclass(frozen=True)
class Patience:
    """How long to keep trying over a network.

    Attributes:
        attempts: How often to try while the network or the server fails in passing.
        backoff_s: The wait before the second attempt, in seconds; doubled each time.
        timeout_s: How long the server may stay silent, in seconds.
    """

    attempts: int = 5
    backoff_s: float = 1.0
    timeout_s: float = 30.0


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
    patience: Patience = Patience(),
) -> None:
    """Fetch a file over HTTP unless it is there, and verify it before it gets its name.

    What an interrupted call has fetched stays beside the target as ``<name>.part``, and the next call goes on from
    there. Calls of several processes for one folder wait for each other.

    Args:
        url: Where the file is, ``http`` or ``https``.
        target: Its final name; the folder is made where it is missing.
        sha256: Its SHA-256 in hexadecimal, or the first digits of it.
        md5: Its MD5 in hexadecimal, or the first digits of it; at least one of the two digests is needed.
        size: Its size in bytes, where known.
        progress: What to tell of the bytes that arrive.
        patience: How long to keep trying over the network.

    Raises:
        DownloadError: There is no network, the server has no such file, the disk is full, or what came is not
            the file that was expected, which is then removed.
        ValueError: No digest was given, or the URL is of another scheme.
    """
    if not (sha256 or md5):
        raise ValueError("a download needs a digest")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is neither http nor https")
    transfer = _Transfer(url, target, sha256, md5, size, progress, patience)
    with _writing(target), _alone_in(target.parent):
        if not target.exists() or transfer.difference(target) is not None:
            transfer.run()


def fetch_coco(
    root: Path,
    *,
    base_url: str | None = None,
    release: CocoRelease = VAL2017,
    progress: Progress | None = None,
    patience: Patience = Patience(),
) -> Path:
    """Fetch a split of COCO unless it is there, and return the folder that holds it in the standard layout.

    For val2017, archives of 1.1 GB are fetched; they are kept beside the 0.8 GB that are unpacked from them.

    Args:
        root: Where ``val2017/`` and ``annotations/`` will lie.
        base_url: Another server with COCO's paths; by default the environment's ``ICM_BENCH_COCO_URL``, or else
            COCO's own.
        release: What to fetch.
        progress: What to tell of the bytes that arrive.
        patience: How long to keep trying over the network.

    Raises:
        DownloadError: As ``download`` and ``extract_zip``, or the counts of images and annotations are not those
            that were published.
    """
    published = (release.n_images, release.n_annotations)
    instances = f"annotations/instances_{release.split}.json"
    if _counts(root, release.split) == published:
        return root
    base = (base_url or os.environ.get(COCO_URL_VARIABLE) or COCO_URL).rstrip("/")
    for archive, members in ((release.annotations, [instances]), (release.images, None)):
        file = root / PurePosixPath(archive.path).name
        download(
            f"{base}/{archive.path}",
            file,
            md5=archive.md5,
            size=archive.n_bytes,
            progress=progress,
            patience=patience,
        )
        extract_zip(file, root, members=members)
    found = _counts(root, release.split)
    if found != published:
        raise DownloadError(
            f"{found[0]} images and {found[1]} annotations are not the published {published[0]} and {published[1]}",
            where=root,
            hint=f"remove {release.split}/ and {instances} there, then fetch them again",
        )
    return root


class _PassingError(Exception):
    """A failure of the network or the server that another attempt may not meet."""


@dataclass(frozen=True)
class _Transfer:
    """One file on its way, and what it has to be."""

    url: str
    target: Path
    sha256: str | None
    md5: str | None
    size: int | None
    progress: Progress | None
    patience: Patience

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    def difference(self, file: Path) -> str | None:
        """Return how a file is another one, or None."""
        n_bytes = file.stat().st_size
        if self.size is not None and n_bytes != self.size:
            return f"{n_bytes} bytes instead of {self.size}"
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                sha256.update(chunk)
                md5.update(chunk)
        for name, found, wanted in (("SHA-256", sha256, self.sha256), ("MD5", md5, self.md5)):
            if wanted is not None and not found.hexdigest().startswith(wanted.lower()):
                return f"{name} {found.hexdigest()} instead of {wanted}"
        return None

    def run(self) -> None:
        resumed = self._done() > 0
        self._fetch()
        difference = self.difference(self.part)
        if difference is not None and resumed:
            # What lay there may have been of another file: begin once more before giving up.
            self.part.unlink()
            self._fetch()
            difference = self.difference(self.part)
        if difference is not None:
            self.part.unlink()
            raise DownloadError(
                f"what came is not the expected file ({difference})",
                where=self.url,
                hint="try again; if it stays so, the source has changed or the connection alters files",
            )
        with self.part.open("rb+") as file:
            os.fsync(file.fileno())
        self.part.replace(self.target)

    def _fetch(self) -> None:
        furthest, failures = self._done(), 0
        while True:
            try:
                return self._attempt()
            except _PassingError as failure:
                # A long file over a poor line may break off often: only attempts that bring nothing count.
                failures = 1 if self._done() > furthest else failures + 1
                furthest = max(furthest, self._done())
                if failures >= self.patience.attempts:
                    raise DownloadError(
                        f"the download failed {failures} times in a row, the last time because {failure}",
                        where=self.url,
                        hint="check the network and run again: what has arrived is kept",
                    ) from failure
            time.sleep(self.patience.backoff_s * 2 ** (failures - 1))

    def _attempt(self) -> None:
        done = self._done()
        if self.size is not None and done >= self.size:
            return
        headers = {"User-Agent": "icm-bench", "Accept-Encoding": "identity"}
        if done:
            headers["Range"] = f"bytes={done}-"
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 - http or https, see download()
        try:
            response = urllib.request.urlopen(request, timeout=self.patience.timeout_s)  # noqa: S310 - as above
        except urllib.error.HTTPError as error:
            self._judge_status(error, done)
            return
        except (OSError, http.client.HTTPException) as error:
            raise _passing(error) from error
        with response:
            self._receive(response, done)

    def _receive(self, response: http.client.HTTPResponse, done: int) -> None:
        begins = _range_start(response) if response.status == http.client.PARTIAL_CONTENT else 0
        if begins not in (0, done):
            raise _PassingError(f"the server sent bytes from {begins} on instead of {done}")
        length = re.fullmatch("[0-9]{1,15}", response.headers.get("Content-Length", ""))
        total = begins + int(length[0]) if length else self.size
        most = MAX_BYTES if self.size is None else self.size
        if self.size is None and (total or 0) > most:
            raise self._endless()
        received = begins
        with self.part.open("ab" if begins else "wb") as file:
            for chunk in _chunks(response):
                received += len(chunk)
                if received > most:
                    if self.size is None:
                        raise self._endless()
                    break
                file.write(chunk)
                if self.progress is not None:
                    self.progress(self.target.name, received, total)
        if total is not None and received < total:
            raise _PassingError(f"the connection closed after {received} of {total} bytes")

    def _endless(self) -> DownloadError:
        self.part.unlink(missing_ok=True)
        return DownloadError(
            f"the server sends more than {MAX_BYTES / 2**30:.0f} GiB",
            where=self.url,
            hint="check the address, or fetch the file by hand",
        )

    def _judge_status(self, error: urllib.error.HTTPError, done: int) -> None:
        with error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and done:
                whole = error.headers.get("Content-Range", "").rpartition("/")[2]
                if whole == str(done):
                    return
                self.part.unlink()
                raise _PassingError("the server could not go on from what had arrived") from error
            if error.code in _PASSING_STATUS:
                raise _PassingError(f"the server answered {error.code} {error.reason}") from error
            raise DownloadError(
                f"the server answered {error.code} {error.reason}",
                where=self.url,
                hint="check the address, or fetch the file by hand",
            ) from error

    def _done(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield what arrives; failures of the network are told apart from those of the disk here."""
    while True:
        try:
            chunk = response.read(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _passing(error) from error
        if not chunk:
            return
        yield chunk


def _passing(error: Exception) -> _PassingError:
    reason = getattr(error, "reason", error)
    return _PassingError(printable(reason) or type(error).__name__)


def _range_start(response: http.client.HTTPResponse) -> int:
    match = re.fullmatch(
        r"bytes ([0-9]{1,15})-[0-9]+/(?:[0-9]+|\*)", response.headers.get("Content-Range", "")
    )
    if match is None:
        raise _PassingError("the server sent a part of the file without saying which")
    return int(match[1])


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Name the target in errors of the file system."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DownloadError(
            f"the file cannot be written ({error.strerror or error})",
            where=target,
            hint="free some space and run again" if full else "name a folder that you may write to",
        ) from error


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _counts(root: Path, split: str) -> tuple[int, int]:
    """Return how many images and annotations of a split lie in a folder; 0 where they cannot be read."""
    try:
        n_images = sum(1 for path in (root / split).iterdir() if path.suffix == ".jpg")
        content = json.loads((root / "annotations" / f"instances_{split}.json").read_bytes())
        return n_images, len(content["annotations"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0
