"""The report: one file that needs nothing else, read by a parser and by a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as Pillow

from icm_bench.curves.replicates import Replicates
from icm_bench.curves.result import save
from icm_bench.dataset import Dataset
from icm_bench.error import IcmBenchError, ResultError
from icm_bench.image import psnr
from icm_bench.metrics.coco_match import match
from icm_bench.metrics.coco_truth import GroundTruth
from icm_bench.pipeline import store
from icm_bench.pipeline.readback import stored_in
from icm_bench.report import page
from icm_bench.report.browser import Places, pair
from icm_bench.report.selection import Selection
from icm_bench.testing import FakeCodec, FakeDetector
from tests.helpers.edited import edited
from tests.helpers.made_up import made_up
from tests.helpers.small_run import run_in

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
]
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


def write_curve(
    root: Path, codec: str, rate: float, *, dataset: str = "blobs", with_replicates: bool = True
) -> Path:
    """Write a synthetic curve: four points, a rate that is a factor of jpeg's."""
    replicates = None
    accuracies = [10.0, 20.0, 26.0, 29.0]
    rates = [rate * bpp for bpp in (0.1, 0.2, 0.4, 0.8)]
    if with_replicates:
        rng = np.random.default_rng(3)
        wobble = rng.normal(0, 1, 200)
        replicates = Replicates(
            np.array(rates)[:, None] * (1 + 0.02 * wobble),
            {"map": np.array(accuracies)[:, None] + wobble},
            {"map": 30 + wobble},
        )
    result = made_up(
        codec,
        {"bpp": rates, "map": accuracies, "psnr-rgb": [22.0, 25.0, 28.0, None]},
        (dataset, "detection", "fake"),
        qualities=[5, 10, 20, 50],
        codec_version=["one"] * 4,
        dataset={"fingerprint": "f", "images": 20, "objects": 50},
        detector={"version": "fake 1"},
        uncompressed={"map": 30.0, "intervals": {"map": [28.0, 32.0]}},
        intervals={"map": [[a - 2, a + 2] for a in accuracies]},
        versions={"numpy": "1.26"},
        command=f"icm-bench run --codecs {codec}",
    )
    timings = {"results": {"encode_s": [0.1] * 4, "decode_s": [0.2] * 4}, "machine": {"cores": 2}}
    path = root / dataset / "detection" / "fake" / f"{re.sub('[^a-z0-9]', '', codec)}.json"
    save(replace(result, timings=timings), path, replicates)
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    write_curve(folder, "jpeg", 1.0)
    write_curve(folder, "icm", 0.5)
    write_curve(folder, "jpeg", 1.0, dataset="other")
    return folder


def write(results: Path, folder: Path, **options: Any) -> Path:
    path = folder / "report.html"
    assert page.write(results, path, **options) == []
    return path


def written(results: Path, folder: Path, **options: Any) -> str:
    return write(results, folder, **options).read_text()


class Parsed(HTMLParser):
    """What a page refers to, its embedded data, and whether its elements close."""

    VOID = frozenset({"meta", "br", "img", "input", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.data = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "poster", "srcset"):
                self.references.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"] and not self.data:
            self.data = data


def test_the_page_is_whole_in_itself_and_its_data_are_json(results: Path, tmp_path: Path) -> None:
    text = written(results, tmp_path)
    parsed = Parsed(text)
    assert parsed.open == []
    assert "link" not in parsed.tags
    images = [text for text in parsed.references if text.startswith("data:image/svg+xml;base64,")]
    assert len(images) == 2
    assert b"<text" in base64.b64decode(images[0].partition(",")[2])
    within = set(parsed.references) - set(images)
    assert all(reference.startswith("#") for reference in within)
    assert {reference[1:] for reference in within} <= set(parsed.ids)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert "default-src 'none'" in text
    data = json.loads(parsed.data)
    assert [group["title"] for group in data["groups"]] == [
        "detection on blobs by fake",
        "detection on other by fake",
    ]
    curve = data["groups"][0]["curves"][0]
    assert (curve["codec"], curve["label"]) == ("icm", "icm")
    assert curve["style"] == {"color": 1, "marker": "o", "line": 0}
    assert curve["points"][0] == {
        "quality": 5,
        "bpp": 0.05,
        "values": {"map": 10.0, "psnr-rgb": 22.0},
        "bands": {"map": [8.0, 12.0]},
    }


def test_the_matrix_has_both_directions_with_intervals_or_reasons(results: Path, tmp_path: Path) -> None:
    text = written(results, tmp_path)
    matrix = text[text.index('class="matrix"') :]
    assert re.search(r'class="less">-50\.0 %<small>\[-50\.0, -50\.0\]<br>overlap 1\.00', matrix)
    assert re.search(r'class="more">\+100\.0 %<small>\[\+100\.0, \+100\.0\]', matrix)
    assert "psnr-rgb is not defined for" in written(results, tmp_path, metric="psnr-rgb")


def test_the_manifest_names_versions_commands_and_conventions(results: Path, tmp_path: Path) -> None:
    text = written(results, tmp_path)
    for expected in ("icm-bench run --codecs icm", "numpy: 1.26", "bpp: pooled", "fake 1", "cores: 2"):
        assert expected in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = "jpeg:variant=x</script><script>alert(1)</script><img src=//example.org/x.png>@@DATA@@"
    path = write_curve(tmp_path / "results", "jpeg", 1.0)
    with edited(path, digest=True) as content:
        content["name"] = content["meta"]["command"] = hostile
    text = written(tmp_path / "results", tmp_path)
    parsed = Parsed(text)
    assert parsed.tags.count("script") == 2
    assert parsed.tags.count("img") == 1
    assert all(text.startswith(("#", "data:image/svg+xml;base64,")) for text in parsed.references)
    assert json.loads(parsed.data)["groups"][0]["curves"][0]["codec"] == hostile


def test_curves_without_resamples_or_intervals_are_reported(tmp_path: Path) -> None:
    write_curve(tmp_path / "results", "jpeg", 1.0, with_replicates=False)
    path = write_curve(tmp_path / "results", "icm", 0.5, with_replicates=False)
    with edited(path, digest=True) as content:
        for key in ("intervals", "uncompressed", "versions", "command"):
            del content["meta"][key]
    text = written(tmp_path / "results", tmp_path)
    assert re.search(r'class="open">-50\.0 %<small><br>', text)


def test_an_empty_folder_is_an_error_and_leaves_no_page(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(ResultError, match="holds no curves"):
        page.write(tmp_path / "results", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


Browse = Callable[..., tuple[str, str]]


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Open a page in a browser; return its document after its script has run, and the browser's log."""

    def call(path: Path, script: str = "") -> tuple[str, str]:
        if script:
            # A copy without the policy, which would refuse the test's own script.
            text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text())
            path = path.with_name("scripted.html")
            path.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
        assert BROWSER is not None
        done = subprocess.run(
            [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)

    return call


def seen_by(browse: Browse, page: Path, script: str) -> Any:
    """Return what a script left in the page's ``data-seen``."""
    document, log = browse(page, script)
    assert log == ""
    found = re.search(r'data-seen="([^"]*)"', document)
    assert found is not None
    return json.loads(found[1].replace("&quot;", '"'))


@pytest.mark.slow
@needs_browser
def test_the_script_runs_under_its_own_policy_and_draws_every_point(
    results: Path, tmp_path: Path, browse: Browse
) -> None:
    document, log = browse(write(results, tmp_path))
    assert log == ""
    assert 'data-ready="yes"' in document
    assert document.count('class="point"') == 12
    assert 'aria-label="icm at 5, 0.0500 bpp, AP 10.00 %, 95 %: 8.00 to 12.00"' in document
    assert document.count("<polygon") == 3
    assert "uncompressed 30.0" in document


@pytest.mark.slow
@needs_browser
def test_focus_shows_a_point_and_controls_change_the_plot(
    results: Path, tmp_path: Path, browse: Browse
) -> None:
    script = """
      const seen = {};
      document.querySelector(".point").dispatchEvent(new FocusEvent("focus"));
      seen.tip = document.querySelector(".tip").textContent;
      const plot = document.querySelector("[data-plot]");
      const [metric, scale] = plot.querySelectorAll("select");
      metric.value = "psnr-rgb"; metric.dispatchEvent(new Event("change"));
      seen.psnr = plot.querySelectorAll(".point").length;
      metric.value = "map"; metric.dispatchEvent(new Event("change"));
      scale.value = "linear"; scale.dispatchEvent(new Event("change"));
      plot.querySelector("fieldset input").click();
      seen.shown = plot.querySelectorAll(".point").length;
      const table = document.querySelector("table.sortable");
      const codecs = () => [...table.tBodies[0].rows].map((row) => row.cells[2].textContent);
      table.tHead.rows[0].cells[2].querySelector("button").click();
      seen.rising = codecs();
      table.tHead.rows[0].cells[2].querySelector("button").click();
      seen.falling = codecs();
      seen.sort = table.tHead.rows[0].cells[2].getAttribute("aria-sort");
      document.body.dataset.seen = JSON.stringify(seen);
    """
    seen = seen_by(browse, write(results, tmp_path), script)
    assert seen["tip"] == "icm at 5\n0.0500 bpp, AP 10.00 %\n95 %: 8.00 to 12.00"
    assert seen["psnr"] == 6
    assert seen["shown"] == 4
    rising = ["0.0500", "0.1000", "0.1000", "0.2000", "0.2000", "0.4000", "0.4000", "0.8000"]
    assert seen["rising"] == [*rising, ""]
    assert seen["falling"] == [*reversed(rising), ""]
    assert seen["sort"] == "descending"


@pytest.mark.slow
@needs_browser
def test_curves_are_shown_all_none_or_one_alone_and_bands_of_six_at_most(
    results: Path, tmp_path: Path, browse: Browse
) -> None:
    for index in range(15):
        write_curve(results, f"codec{index}", 1 + 0.1 * index)
    script = """
      const plot = document.querySelector("[data-plot]");
      const seen = { stops: plot.querySelectorAll(".point[tabindex='0']").length };
      const shown = () => plot.querySelectorAll(".point").length;
      const [all, none, ...solo] = plot.querySelectorAll("button");
      seen.bands = plot.querySelectorAll("polygon").length;
      none.click(); seen.none = shown();
      solo[2].click(); seen.solo = [shown(), plot.querySelectorAll(".legend input:checked").length];
      all.click(); seen.all = shown();
      const mark = plot.querySelector(".point").getBoundingClientRect();
      const at = { clientX: mark.x + mark.width / 2 + 9, clientY: mark.y + mark.height / 2 };
      plot.querySelector(".plot svg").dispatchEvent(new PointerEvent("pointermove", at));
      seen.tip = plot.querySelector(".tip").textContent.split(",")[0];
      seen.muted = plot.querySelectorAll(".plot .muted").length;
      plot.querySelector(".plot svg").dispatchEvent(new PointerEvent("pointerleave"));
      seen.muted_then = plot.querySelectorAll(".plot .muted").length;
      plot.querySelector(".point[tabindex='0']").focus();
      seen.walk = [document.activeElement.getAttribute("aria-label")];
      for (const key of ["ArrowLeft", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowUp", "Home"]) {
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key }));
        seen.walk.push(document.activeElement.getAttribute("aria-label"));
      }
      seen.stops_then = plot.querySelectorAll(".point[tabindex='0']").length;
      document.body.dataset.seen = JSON.stringify(seen);
    """
    seen = seen_by(browse, write(results, tmp_path), script)
    assert seen["bands"] == 0
    assert (seen["none"], seen["solo"], seen["all"]) == (0, [4, 1], 17 * 4)
    assert seen["tip"].endswith("bpp")
    # Near a point the line and the four points of every other curve step back.
    assert (seen["muted"], seen["muted_then"]) == (16 * (1 + 4), 0)
    # The tab key passes a plot in one step; arrows go along a curve and from curve to curve, around.
    assert (seen["stops"], seen["stops_then"]) == (1, 1)
    walk = [label.partition(" bpp")[0] for label in seen["walk"]]
    assert walk == [
        "codec0 at 5, 0.1000",
        "codec0 at 5, 0.1000",
        "codec0 at 10, 0.2000",
        "codec1 at 10, 0.2200",
        "codec0 at 10, 0.2000",
        "JPEG at 10, 0.2000",
        "JPEG at 10, 0.2000",
    ]


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("sandbox", ["allow-scripts allow-same-origin", "allow-same-origin"])
def test_nothing_overflows_a_page_of_400_pixels_with_and_without_scripts(
    results: Path, tmp_path: Path, browse: Browse, sandbox: str
) -> None:
    for index in range(15):
        write_curve(results, f"a-codec-of-a-very-long-name-{index}:option=of-a-long-value", 1 + 0.1 * index)
    script = """
      const frame = document.createElement("iframe");
      frame.style.width = "400px";
      frame.sandbox = SANDBOX;
      frame.srcdoc = "<!doctype html>" + document.documentElement.outerHTML.replaceAll("scripted", "");
      if (window === window.top) document.body.append(frame);
      frame.addEventListener("load", () => {
        const root = frame.contentDocument.documentElement;
        const stills = root.querySelectorAll("img.still").length;
        document.body.dataset.seen = `${root.clientWidth} ${root.scrollWidth} ${stills}`;
      });
    """
    document, _ = browse(write(results, tmp_path), script.replace("SANDBOX", repr(sandbox)))
    found = re.search(r'data-seen="(\d+) (\d+) (\d+)"', document)
    assert found is not None
    assert int(found[2]) <= int(found[1]) <= 400
    assert int(found[3]) == (0 if "scripts" in sandbox else 2)


def test_a_curve_with_a_name_that_is_no_text_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_curve(tmp_path / "results", "jpeg", 1.0)
    path.write_text(path.read_text().replace("icm-bench run", "icm-bench \\udcff run"))
    with pytest.raises(ResultError, match=r"jpeg\.json: "):
        written(tmp_path / "results", tmp_path)


def test_a_selection_and_labels_hold_in_the_whole_report(results: Path, tmp_path: Path) -> None:
    chosen = Selection(codecs=("icm", "jpeg"), datasets=("blobs",))
    text = written(results, tmp_path, selection=chosen, labels={"icm": "Ours"})
    (group,) = json.loads(Parsed(text).data)["groups"]
    assert [curve["label"] for curve in group["curves"]] == ["Ours", "JPEG"]
    assert text.count(">Ours</th>") == 2
    assert "<td>Ours</td>" in text


def test_a_report_of_a_change_says_what_became_worse_and_draws_both_curves(
    results: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(results, tmp_path / "base")
    write_curve(results, "icm", 0.6)
    text = written(results, tmp_path, base=base, base_name="main")
    assert Parsed(text).open == []
    changed = text[text.index('id="change"') :].partition("</section>")[0]
    assert "Worse: these results against main: 1 worse, 2 unchanged." in changed
    assert re.search(
        r'<tr class="worse"><th scope="row">icm</th><td>worse</td><td class="number">\+20.00 %', changed
    )
    heads = re.findall(r'<th scope="col">([^<]*)</th>', changed)
    assert heads[-4:] == ["bits", "remark", "enc s", "dec s"]
    curves = json.loads(Parsed(text).data)["groups"][0]["curves"]
    assert [curve["label"] for curve in curves] == ["icm", "icm, base", "JPEG"]
    assert [curve["rivals"] for curve in curves] == [[1], [0], []]
    assert [curve["points"][0]["bpp"] for curve in curves[:2]] == [0.06, 0.05]


def test_many_curves_are_compared_with_the_anchor_alone(tmp_path: Path) -> None:
    for index in range(30):
        write_curve(tmp_path / "results", f"codec{index}", 1 + 0.1 * index, with_replicates=False)
    write_curve(tmp_path / "results", "vvc", 1.0, with_replicates=False)
    text = written(tmp_path / "results", tmp_path)
    table = text[text.index('class="matrix"') :].partition("</table>")[0]
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)', table) == ["VVC"]
    assert table.count('scope="row"') == 31
    assert table.count("+") >= 30


CODECS = ("fake", "jpeg")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run, made once."""
    return {}


@pytest.fixture
def finished(
    plugins: Path, blobs: Dataset, measured: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a finished run of two codecs on ten images."""
    if not measured:
        folder = tmp_path_factory.mktemp("finished")
        with ThreadPoolExecutor(1) as executor:
            run_in(
                blobs.limit(10),
                folder,
                codecs=CODECS,
                task="segmentation",
                qualities=["fake=1,5", "jpeg=5,60"],
                bootstrap=20,
                executor=executor,
            )
        measured["folder"] = folder
    return measured["folder"]


@pytest.fixture
def pictures(finished: Path, blob_files: tuple[Path, Path]) -> page.Pictures:
    folder, file = blob_files
    return page.Pictures(stored_in(finished / "runs"), Places(images=folder, annotations=file), 3)


def sets_of(text: str) -> list[dict[str, Any]]:
    sets: list[dict[str, Any]] = json.loads(Parsed(text).data)["browsers"]
    return sets


def test_images_are_those_that_were_stored_with_what_was_found_in_them(
    finished: Path, pictures: page.Pictures, blobs: Dataset, tmp_path: Path
) -> None:
    (shown,) = sets_of(written(finished / "results", tmp_path, pictures=pictures))
    assert shown["codecs"] == [
        {"name": "fake", "label": "fake", "qualities": ["1", "5"]},
        {"name": "jpeg", "label": "JPEG", "qualities": ["5", "60"]},
    ]
    assert len(shown["images"]) == 3
    dataset = blobs.limit(10)
    truth = GroundTruth.from_coco(dataset.ground_truth or {})
    detector = FakeDetector()
    for image in shown["images"]:
        original = dataset.read(image["id"])
        data = FakeCodec(5).encode(original)
        view = image["decoded"]["fake"][1]
        assert view["bytes"] == len(data)
        for decoded, found in ((original, image["original"]), (FakeCodec(5).decode(data), view)):
            rows = [
                {"image_id": image["id"], **row} for row in detector.predict(decoded) if row["score"] >= 0.1
            ]
            assert len(found["detections"]) == len(rows)
            matches = match(truth, rows, "segmentation")
            n_true = int((matches.true[0] & 1).sum())
            assert sum(each["object"] >= 0 for each in found["detections"]) == n_true
            picture = Pillow.open(io.BytesIO(base64.b64decode(found["source"].partition(",")[2])))
            assert picture.size == (image["width"], image["height"])
            likeness = psnr(np.asarray(picture.convert("RGB")), decoded)
            assert likeness is None or likeness > 30


def test_large_images_go_to_a_folder_beside_the_page(
    finished: Path, pictures: page.Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "LARGEST_FILE", 1000)
    (shown,) = sets_of(written(finished / "results", tmp_path, pictures=pictures))
    sources = [shown["images"][0]["original"]["source"], shown["images"][0]["decoded"]["jpeg"][0]["source"]]
    for source in sources:
        assert re.fullmatch(r"report_files/[0-9a-f]{16}\.webp", source)
        assert (tmp_path / source).read_bytes().startswith(b"RIFF")


def test_a_later_report_leaves_none_of_an_earlier_ones_images_and_all_of_others_files(
    finished: Path, pictures: page.Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "report_files"
    stale = folder / f"{'0123' * 4}.webp"
    folder.mkdir()
    stale.write_bytes(b"RIFF")
    (folder / "mine.webp").write_bytes(b"RIFF")
    monkeypatch.setattr(page, "LARGEST_FILE", 1000)
    (shown,) = sets_of(written(finished / "results", tmp_path, pictures=pictures))
    used = {
        Path(view["source"]).name
        for image in shown["images"]
        for view in [image["original"], *image["decoded"]["fake"], *image["decoded"]["jpeg"]]
    }
    assert {path.name for path in folder.iterdir()} == {"mine.webp", *used}
    (folder / "mine.webp").unlink()
    written(finished / "results", tmp_path)
    assert not folder.exists()


def test_curves_that_cannot_be_shown_are_named_and_the_others_are_shown(
    finished: Path, pictures: page.Pictures, tmp_path: Path
) -> None:
    results = shutil.copytree(finished / "results", tmp_path / "results")
    write_curve(results, "jpeg", 1.0, dataset="elsewhere")
    (missed,) = page.write(results, tmp_path / "report.html", pictures=pictures)
    assert "other images or annotations" in missed
    text = (tmp_path / "report.html").read_text()
    assert [shown is None for shown in sets_of(text)] == [False, True]
    assert "<p>None: " in text


@pytest.mark.parametrize("what", ["runs", "places", "bitstream"])
def test_images_that_cannot_be_shown_at_all_are_an_error(
    finished: Path, pictures: page.Pictures, tmp_path: Path, what: str
) -> None:
    runs = tmp_path / "runs"
    expected = {
        "runs": "no such shard",
        "places": "not among the named datasets",
        "bitstream": "no longer decodes",
    }
    if what == "bitstream":
        shutil.copytree(finished / "runs", runs)
        for path in (runs / "coded").glob("*/fake/5/*.parquet"):
            table = store.read(path)
            column = table.schema.get_field_index("decoded_sha256")
            changed = table.set_column(column, "decoded_sha256", pa.array(["0"] * table.num_rows))
            store.write(path, changed, store.read_header(path))
    places = Places() if what == "places" else pictures.places
    with pytest.raises(IcmBenchError, match=expected[what]):
        page.write(
            finished / "results", tmp_path / "report.html", pictures=page.Pictures(stored_in(runs), places)
        )
    assert not (tmp_path / "report.html").exists()


def test_a_detection_finds_the_object_that_it_overlaps_most_and_each_object_once() -> None:
    truth = GroundTruth.from_coco(
        {
            "images": [{"id": 1, "width": 100, "height": 100}],
            "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
            "annotations": [
                {"id": n, "image_id": 1, "category_id": c, "bbox": box, "area": 400, "iscrowd": crowd}
                for n, (c, box, crowd) in enumerate(
                    [(1, [0, 0, 20, 20], 0), (1, [50, 50, 40, 40], 1), (2, [0, 0, 20, 20], 0)], start=1
                )
            ],
        }
    )
    boxes = [
        (1, [1, 0, 20, 20], 0.5),
        (1, [0, 0, 20, 20], 0.9),
        (1, [55, 55, 9, 9], 0.8),
        (1, [70, 0, 9, 9], 0.7),
    ]
    rows = [{"category_id": c, "bbox": box, "score": score} for c, box, score in boxes]
    assert [(each.score, each.object_) for each in pair(truth, rows, "detection")] == [
        (0.9, 0),
        (0.8, -2),
        (0.7, -1),
        (0.5, -1),
    ]


@pytest.mark.slow
@needs_browser
def test_the_browser_of_images_draws_boxes_and_follows_its_controls(
    finished: Path, pictures: page.Pictures, tmp_path: Path, browse: Browse
) -> None:
    script = """
      const home = document.querySelector("[data-browser]");
      const [left, , codec, quality, image] = home.querySelectorAll("select");
      const captions = () => [...home.querySelectorAll("figcaption")].map((each) => each.textContent);
      const seen = { images: [...image.options].map((each) => each.text), before: captions() };
      codec.value = "1"; codec.dispatchEvent(new Event("change"));
      quality.selectedIndex = 1; quality.dispatchEvent(new Event("change"));
      seen.after = captions();
      const level = home.querySelector("input[type=range]");
      level.value = 0.9; level.dispatchEvent(new Event("input"));
      seen.strict = captions();
      seen.boxes = home.querySelectorAll(".picture rect").length;
      left.value = "0"; left.dispatchEvent(new Event("change"));
      seen.two = captions();
      const [over, split, zoom] = ["[type=checkbox]", "[aria-label^=Where]", "[max='6']"]
        .map((each) => home.querySelector(each));
      over.click();
      split.value = 30; split.dispatchEvent(new Event("input"));
      zoom.value = 2; zoom.dispatchEvent(new Event("input"));
      seen.over = [...home.querySelectorAll(".picture")]
        .map((each) => [each.style.clipPath, each.firstChild.style.width]);
      const pictures = [...home.querySelectorAll("img")];
      Promise.all(pictures.map((each) => each.decode())).then(() => {
        seen.widths = pictures.map((each) => each.naturalWidth);
        document.body.dataset.seen = JSON.stringify(seen);
      });
    """
    path = write(finished / "results", tmp_path, pictures=pictures)
    document, log = browse(path)
    assert log == ""
    assert document.count('<div class="picture"') == 2
    seen = seen_by(browse, path, script)
    losses = [
        -1 if "gained" in text else int((re.findall(r": (\d+) lost", text) or ["0"])[0])
        for text in seen["images"]
    ]
    assert losses == sorted(losses, reverse=True)
    assert seen["before"][1].startswith("fake at 1")
    assert seen["after"][1].startswith("JPEG at 60")
    assert "bytes (" in seen["after"][1]
    assert "0 detections: 0 true, 0 false" in seen["strict"][0]
    assert seen["boxes"] > 0
    assert [text.partition("at")[0] for text in seen["two"]] == ["fake ", "JPEG "]
    assert seen["over"] == [["", "200%"], ["inset(0px 0px 0px 30%)", "200%"]]
    assert all(width > 80 for width in seen["widths"])


def test_rates_of_different_conventions_are_kept_out_of_one_report(results: Path, tmp_path: Path) -> None:
    with edited(next(results.rglob("icm.json")), digest=True) as content:
        content["meta"]["conventions"]["bits"] = "estimated from the entropy model, nothing coded"
    (missed,) = page.write(results, tmp_path / "report.html")
    assert re.search(
        r"left out: icm .* rates of different conventions cannot be compared with .*: bits is", missed
    )
    groups = json.loads(Parsed((tmp_path / "report.html").read_text()).data)["groups"]
    assert "icm" not in [curve["codec"] for group in groups for curve in group["curves"]]
