"""Zip archives from elsewhere, unpacked with suspicion."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from icm_bench.error import DownloadError
from icm_bench.file import replacing
from icm_bench.image import printable

MAX_EXTRACTED_BYTES = 8 * 2**30
"""An archive that unpacks to more bytes is taken for a bomb."""

MAX_EXPANSION = 200
"""An archive that unpacks to more than this many times its own size is taken for a bomb."""

_CHUNK_BYTES = 2**20
_ENCRYPTED = 0x1


def extract_zip(archive: Path, target: Path, *, members: Collection[str] | None = None) -> list[Path]:
    """Unpack a zip archive below a folder, each file whole or not at all, and return the files' paths.

    A file that is there already with the archived contents is left as it is.

    Args:
        archive: The archive.
        target: The folder.
        members: The names to unpack; all where None.

    Raises:
        DownloadError: The archive is damaged or encrypted; a member is missing, is not a plain file or would lie
            outside the folder; it unpacks to more than ``MAX_EXTRACTED_BYTES`` or ``MAX_EXPANSION`` times its
            size; or the disk is full. Names and sizes are checked before anything is written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            chosen = _choose(opened.infolist(), archive, members)
            _check_expansion(chosen, archive)
            places = [_place(info, archive, target) for info in chosen]
            for info, place in zip(chosen, places, strict=True):
                _extract(opened, info, place)
    # zipfile raises NotImplementedError for a compression that it lacks, and RuntimeError for an encrypted member.
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, RuntimeError, zlib.error) as error:
        hint = "remove it and fetch it again"
        raise DownloadError(
            f"the archive is damaged ({printable(error)})", where=archive, hint=hint
        ) from error
    except OSError as error:
        raise DownloadError(
            f"the archive cannot be unpacked ({error.strerror or error})",
            where=archive,
            hint="check the archive, its folder and their permissions",
        ) from error
    return places


def _choose(
    infos: Sequence[zipfile.ZipInfo], archive: Path, members: Collection[str] | None
) -> list[zipfile.ZipInfo]:
    if not all(info.filename for info in infos):
        raise _refused("a member has no name", archive)
    files = [info for info in infos if not info.is_dir()]
    names = [info.filename for info in files]
    if len({PurePosixPath(name) for name in names}) < len(names):
        raise _refused("two members have the same name", archive)
    if members is None:
        return files
    missing = sorted(set(members) - set(names))
    if missing:
        raise _refused(f"the archive has no {', '.join(missing)}", archive)
    return [info for info in files if info.filename in members]


def _check_expansion(chosen: Sequence[zipfile.ZipInfo], archive: Path) -> None:
    n_bytes = sum(info.file_size for info in chosen)
    if n_bytes > min(MAX_EXTRACTED_BYTES, MAX_EXPANSION * archive.stat().st_size):
        raise _refused(f"the archive would unpack to {n_bytes} bytes, which looks like a bomb", archive)


def _place(info: zipfile.ZipInfo, archive: Path, target: Path) -> Path:
    """Return where a member goes, which is below the target whatever its name and the folders there say."""
    name = info.filename
    # orig_filename is what the archive says; zipfile cuts filename at a null byte.
    if "\\" in info.orig_filename or "\0" in info.orig_filename or re.match(r"[A-Za-z]:", name):
        raise _refused(f"the member {info.orig_filename!r} has no portable name", archive)
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise _refused(f"the member {name!r} would lie outside its folder", archive)
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG) or info.flag_bits & _ENCRYPTED:
        raise _refused(f"the member {name!r} is a link, a device or encrypted", archive)
    place = target / path
    if not place.parent.resolve().is_relative_to(target.resolve()):
        raise _refused(f"the member {name!r} would follow a link out of its folder", archive)
    return place


def _extract(opened: zipfile.ZipFile, info: zipfile.ZipInfo, place: Path) -> None:
    if _holds(place, info):
        return
    with replacing(place, DownloadError) as temporary:
        with opened.open(info) as source, temporary.open("wb") as sink:
            while chunk := source.read(_CHUNK_BYTES):
                sink.write(chunk)
        if temporary.stat().st_size != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename} is shorter than the archive says")


def _holds(place: Path, info: zipfile.ZipInfo) -> bool:
    if not place.is_file() or place.stat().st_size != info.file_size:
        return False
    checksum = 0
    with place.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum == info.CRC


def _refused(what: str, archive: Path) -> DownloadError:
    return DownloadError(what, where=archive, hint="do not use this archive; fetch the published one")
