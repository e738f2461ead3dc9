"""The report: one file that needs nothing else, read by a parser and by a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from icm_bench.error import ResultError
from icm_bench.report import page
from icm_bench.result import Draws, Result, save

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
    root: Path, codec: str, rate: float, *, dataset: str = "blobs", with_draws: bool = True
) -> Path:
    """Write a synthetic curve: four points, a rate that is a factor of jpeg's."""
    rng_draws = None
    accuracies = [10.0, 20.0, 26.0, 29.0]
    rates = [rate * bpp for bpp in (0.1, 0.2, 0.4, 0.8)]
    if with_draws:
        import numpy as np

        rng = np.random.default_rng(3)
        wobble = rng.normal(0, 1, 200)
        rng_draws = Draws(
            np.array(rates)[:, None] * (1 + 0.02 * wobble),
            {"map": np.array(accuracies)[:, None] + wobble},
            {"map": 30 + wobble},
        )
    result = Result(
        dataset=dataset,
        task="detection",
        detector="fake",
        codec=codec,
        results={"bpp": rates, "map": accuracies, "psnr-rgb": [22.0, 25.0, 28.0, None]},
        meta={
            "qualities": [5, 10, 20, 50],
            "codec_version": ["one"] * 4,
            "dataset": {"fingerprint": "f", "images": 20, "objects": 50},
            "detector": {"version": "fake 1"},
            "uncompressed": {"map": 30.0, "intervals": {"map": [28.0, 32.0]}},
            "intervals": {"map": [[a - 2, a + 2] for a in accuracies]},
            "versions": {"numpy": "1.26"},
            "command": f"icm-bench run --codecs {codec}",
            "conventions": {"bpp": "pooled"},
        },
        timings={"results": {"encode_s": [0.1] * 4, "decode_s": [0.2] * 4}, "machine": {"cores": 2}},
    )
    path = root / dataset / "detection" / "fake" / f"{re.sub('[^a-z0-9]', '', codec)}.json"
    save(result, path, rng_draws)
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    write_curve(folder, "jpeg", 1.0)
    write_curve(folder, "icm", 0.5)
    write_curve(folder, "jpeg", 1.0, dataset="other")
    return folder


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
    text = page.write(results, tmp_path / "out" / "report.html").read_text()
    parsed = Parsed(text)
    assert parsed.open == []
    assert "link" not in parsed.tags
    assert all(reference.startswith("#") for reference in parsed.references)
    assert {reference[1:] for reference in parsed.references} <= set(parsed.ids)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert "default-src 'none'" in text
    data = json.loads(parsed.data)
    assert [group["title"] for group in data["groups"]] == [
        "detection on blobs by fake",
        "detection on other by fake",
    ]
    curve = data["groups"][0]["curves"][0]
    assert curve["codec"] == "icm"
    assert curve["points"][0] == {
        "quality": 5,
        "bpp": 0.05,
        "values": {"map": 10.0, "psnr-rgb": 22.0},
        "bands": {"map": [8.0, 12.0]},
    }


def test_the_matrix_has_both_directions_with_intervals(results: Path, tmp_path: Path) -> None:
    text = page.write(results, tmp_path / "report.html").read_text()
    matrix = text[text.index('class="matrix"') :]
    assert re.search(r'class="less">-50\.0 %<small>\[-50\.0, -50\.0\]<br>overlap 1\.00', matrix)
    assert re.search(r'class="more">\+100\.0 %<small>\[\+100\.0, \+100\.0\]', matrix)


def test_a_metric_that_is_not_there_for_all_leaves_reasons_in_the_matrix(
    results: Path, tmp_path: Path
) -> None:
    text = page.write(results, tmp_path / "report.html", metric="psnr-rgb").read_text()
    assert "psnr-rgb is not defined for" in text


def test_the_manifest_names_versions_commands_and_conventions(results: Path, tmp_path: Path) -> None:
    text = page.write(results, tmp_path / "report.html").read_text()
    for expected in ("icm-bench run --codecs icm", "numpy: 1.26", "bpp: pooled", "fake 1", "cores: 2"):
        assert expected in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = "x</script><script>alert(1)</script><img src=http://example.org/x.png>@@DATA@@"
    path = write_curve(tmp_path / "results", "jpeg", 1.0)
    content = json.loads(path.read_text())
    content["name"] = hostile
    content["meta"]["command"] = hostile
    path.write_text(json.dumps(content))
    text = page.write(tmp_path / "results", tmp_path / "report.html").read_text()
    parsed = Parsed(text)
    assert parsed.tags.count("script") == 2
    assert "img" not in parsed.tags
    assert json.loads(parsed.data)["groups"][0]["curves"][0]["codec"] == hostile


def test_curves_without_resamples_or_intervals_are_reported(tmp_path: Path) -> None:
    write_curve(tmp_path / "results", "jpeg", 1.0, with_draws=False)
    path = write_curve(tmp_path / "results", "icm", 0.5, with_draws=False)
    content = json.loads(path.read_text())
    for key in ("intervals", "uncompressed", "versions", "command", "conventions"):
        del content["meta"][key]
    path.write_text(json.dumps(content))
    text = page.write(tmp_path / "results", tmp_path / "report.html").read_text()
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


@needs_browser
def test_the_script_runs_under_its_own_policy_and_draws_every_point(
    results: Path, tmp_path: Path, browse: Browse
) -> None:
    document, log = browse(page.write(results, tmp_path / "report.html"))
    assert log == ""
    assert 'data-ready="yes"' in document
    assert document.count('class="point"') == 12
    assert 'aria-label="icm at 5, 0.0500 bpp, AP 10.00 %, 95 %: 8.00 to 12.00"' in document
    assert document.count("<polygon") == 3
    assert "uncompressed 30.0" in document


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
    document, log = browse(page.write(results, tmp_path / "report.html"), script)
    assert log == ""
    found = re.search(r'data-seen="([^"]*)"', document)
    assert found is not None
    seen = json.loads(found[1].replace("&quot;", '"'))
    assert seen["tip"] == "icm at 5\n0.0500 bpp, AP 10.00 %\n95 %: 8.00 to 12.00"
    assert seen["psnr"] == 6
    assert seen["shown"] == 4
    rising = ["0.0500", "0.1000", "0.1000", "0.2000", "0.2000", "0.4000", "0.4000", "0.8000"]
    assert seen["rising"] == [*rising, ""]
    assert seen["falling"] == [*reversed(rising), ""]
    assert seen["sort"] == "descending"
