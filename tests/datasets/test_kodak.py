"""The Kodak set: checked pixel by pixel, and fetched from a server on this machine."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from icm_bench.dataset import open_dataset
from icm_bench.datasets import kodak
from icm_bench.datasets.kodak import Kodak, KodakImage, fetch_kodak
from icm_bench.download import Patience
from icm_bench.error import DatasetError, DownloadError, UsageError
from icm_bench.image import Image, pixel_digest
from icm_bench.testing import photograph
from tests.helpers.site import serving

HASTY = Patience(attempts=2, backoff_s=0.01, timeout_s=5)


def png(image: Image, level: int = 6) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the 24 images, known by their digests as the published ones are."""
    folder = tmp_path / "drawn"
    folder.mkdir()
    published = []
    for number in range(1, 25):
        image = photograph(24 + number, 20, seed=number)
        data = png(image)
        (folder / f"kodim{number:02d}.png").write_bytes(data)
        published.append(
            KodakImage(len(data), 24 + number, 20, hashlib.sha256(data).hexdigest(), pixel_digest(image))
        )
    monkeypatch.setattr(kodak, "IMAGES", tuple(published))
    return folder


def test_there_are_24_pictures_of_the_known_sizes() -> None:
    assert len(kodak.IMAGES) == len({picture.pixels for picture in kodak.IMAGES}) == 24
    portraits = [index for index, picture in enumerate(kodak.IMAGES, 1) if picture.height > picture.width]
    assert portraits == [4, 9, 10, 17, 18, 19]
    assert {frozenset((picture.width, picture.height)) for picture in kodak.IMAGES} == {frozenset((768, 512))}


def test_the_published_pictures_are_known(shared_data: Callable[[str], Path]) -> None:
    dataset = open_dataset("kodak", data_root=shared_data("kodak"))
    assert (dataset.name, len(dataset.images), dataset.ground_truth) == ("kodak", 24, None)
    assert dataset.n_pixels == 24 * 768 * 512
    for record, picture in zip(dataset.images, kodak.IMAGES, strict=True):
        data = record.path.read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (picture.n_bytes, picture.sha256)


def test_pictures_are_known_by_their_pixels_whatever_their_file(drawn: Path) -> None:
    before = Kodak.open(data_root=drawn)
    path = drawn / "kodim07.png"
    path.write_bytes(png(np.array(Pillow.open(path)), level=1))
    after = Kodak.open(data_root=drawn)
    assert after.fingerprint == before.fingerprint
    assert [record.path.name for record in after.images][:2] == ["kodim01.png", "kodim02.png"]
    assert after.limit(3).name == "kodak-3"


def test_a_missing_picture_is_named(drawn: Path) -> None:
    for number in (5, 23):
        (drawn / f"kodim{number:02d}.png").unlink()
    complaint = "lacks 2 of the 24 images: kodim05.png, kodim23.png; fetch them with icm-bench data"
    with pytest.raises(DatasetError, match=complaint):
        Kodak.open(data_root=drawn)
    with pytest.raises(DatasetError, match="lacks 24 of the 24"):
        Kodak.open(data_root=drawn / "absent")


def test_another_picture_under_a_known_name_is_refused(drawn: Path) -> None:
    (drawn / "kodim11.png").write_bytes((drawn / "kodim12.png").read_bytes())
    with pytest.raises(DatasetError, match=r"kodim11.png: is not the image that was published"):
        Kodak.open(data_root=drawn)


def test_it_says_what_it_needs_and_what_it_does_not(drawn: Path) -> None:
    with pytest.raises(UsageError, match="needs the folder that holds kodim01.png.*give --data-root"):
        Kodak.open()
    with pytest.raises(UsageError, match="has no use for --images"):
        Kodak.open(data_root=drawn, images=drawn)


def test_the_pictures_are_fetched_once_and_only_those_that_are_missing(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "kodak"
    with serving(drawn) as (url, asked):
        monkeypatch.setenv(kodak.KODAK_URL_VARIABLE, url + "/")
        fetch_kodak(target, patience=HASTY)
        assert asked == [f"/kodim{number:02d}.png" for number in range(1, 25)]
        assert len(Kodak.open(data_root=target).images) == 24
        (target / "kodim09.png").unlink()
        (target / "kodim10.png.part").write_bytes(b"of no account")
        asked.clear()
        seen: list[str] = []
        fetch_kodak(target, patience=HASTY, progress=lambda name, done, total: seen.append(name))
        assert asked == ["/kodim09.png"]
        assert set(seen) == {"kodim09.png"}


def test_a_damaged_file_is_fetched_again_and_one_that_stays_wrong_is_refused(
    drawn: Path, tmp_path: Path
) -> None:
    target = tmp_path / "kodak"
    with serving(drawn) as (url, _):
        fetch_kodak(target, base_url=url, patience=HASTY)
        path = target / "kodim03.png"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + b"?")
        fetch_kodak(target, base_url=url, patience=HASTY)
        assert path.read_bytes() == whole
        path.unlink()
        (drawn / "kodim03.png").write_bytes(whole[:-1] + b"?")
        with pytest.raises(DownloadError, match="what came is not the expected file"):
            fetch_kodak(target, base_url=url, patience=HASTY)
        assert not path.exists()
