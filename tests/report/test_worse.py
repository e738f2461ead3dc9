"""Images of a change for the worse, of real runs of a codec before and after it."""

from __future__ import annotations

import base64
import io
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from icm_bench import registry
from icm_bench.curves.result import find
from icm_bench.dataset import Dataset
from icm_bench.image import Image
from icm_bench.pipeline.readback import decoded, stored_in
from icm_bench.report import page
from icm_bench.report.browser import Places
from icm_bench.testing import FakeCodec
from tests.helpers.small_run import run_in

pytestmark = pytest.mark.slow


class Before(FakeCodec):
    name = "mine"
    qualities = (2, 4, 6, 8)

    def version(self) -> str:
        return type(self).__name__


class Faint(Before):
    """Encodes images whose colours are washed out."""

    def encode(self, image: Image) -> bytes:
        return super().encode((image // 2 + 60).astype(np.uint8))


class Dull(Before):
    """Decodes images with washed-out colours, also from the bitstreams of before."""

    def decode(self, data: bytes) -> Image:
        return (super().decode(data) // 2 + 60).astype(np.uint8)


class Long(Before):
    """Needs more bytes for the same pixels."""

    def encode(self, image: Image) -> bytes:
        return super().encode(image) + bytes(400)

    def decode(self, data: bytes) -> Image:
        return super().decode(data[:-400])


def measure(blobs: Dataset, folder: Path, codec: Any) -> None:
    with ThreadPoolExecutor(1) as executor:
        run_in(blobs, folder, codecs=[codec], bootstrap=100, executor=executor)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the codec before any change is measured into, once."""
    return tmp_path_factory.mktemp("before")


@pytest.fixture
def report(
    blobs: Dataset,
    blob_files: tuple[Path, Path],
    plugins: Path,
    before: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Measure a codec before and after a change; return the report's part on images."""
    monkeypatch.setattr(registry, "_given", {})

    def call(after: Any) -> str:
        if not (before / "results").exists():
            measure(blobs, before, Before)
        shutil.copytree(before, tmp_path / "base")
        measure(blobs, tmp_path / "head", after)
        places = Places(images=blob_files[0], annotations=blob_files[1])
        pictures = page.Pictures(
            stored_in(tmp_path / "head/runs"), places, 2, stored_in(tmp_path / "base/runs")
        )
        path = tmp_path / "report.html"
        page.write(tmp_path / "head/results", path, base=tmp_path / "base/results", pictures=pictures)
        changed = path.read_text().partition('id="change"')[2].partition("</section>")[0]
        assert ": 1 worse." in changed
        return changed.partition("Images that became worse")[2]

    return call


def test_lost_objects_are_cut_out_of_both_sides_as_they_were_decoded(
    report: Any, blobs: Dataset, tmp_path: Path
) -> None:
    shown = report(Faint)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", shown)
    assert 2 <= len(captions) <= 8
    counts = [
        re.fullmatch(r"(base|head): [\d,]+ bytes, (\d+) of (\d+) objects found", text) for text in captions
    ]
    assert all(counts)
    for before, after in zip(counts[::2], counts[1::2], strict=True):
        assert before is not None
        assert after is not None
        assert (before[1], after[1], before[3]) == ("base", "head", after[3])
        assert int(before[2]) > int(after[2])
    name, quality, lost = re.findall(r"<p>(\d+\.png) at (\d+): (\d+) lost</p>", shown)[0]
    (record,) = [record for record in blobs.images if record.title == name]
    for side, view in zip(("base", "head"), re.findall(r"<figure>.*?</figure>", shown)[:2], strict=True):
        left, top, width, height = map(int, re.findall(r'viewBox="(\d+) (\d+) (\d+) (\d+)"', view)[0])
        (result,) = find(tmp_path / side / "results")
        # The class of head decodes what either side coded.
        image = decoded(result, int(quality), record.id, runs=tmp_path / side / "runs")
        cut = Pillow.open(io.BytesIO(base64.b64decode(re.findall(r"base64,([^\"]+)", view)[0]))).convert(
            "RGB"
        )
        assert cut.size == (width, height)
        expected = image[top : top + height, left : left + width].astype(float)
        assert np.abs(np.asarray(cut, float) - expected).mean() < 12
        assert view.count('class="missed"') == (int(lost) if side == "head" else 0)


def test_what_todays_decoder_cannot_show_is_shown_on_the_original(report: Any) -> None:
    shown = report(Dull)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", shown)
    assert captions[0].startswith("base: shown on the original, since the decoder has changed, ")
    assert re.match(r"head: [\d,]+ bytes", captions[1])


def test_a_change_of_the_bits_alone_shows_no_image(report: Any) -> None:
    shown = report(Long)
    assert "<figure>" not in shown
    assert "No image loses objects: what became worse are the bits." in shown
