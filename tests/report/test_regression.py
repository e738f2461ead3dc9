"""Folders of results against each other: real runs of a codec that changes, and verdicts under pure chance."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from icm_bench.curves.bdrate import bd_rate
from icm_bench.curves.curve import Curve, Point
from icm_bench.curves.replicates import Replicates
from icm_bench.curves.result import find, load, save
from icm_bench.dataset import Dataset
from icm_bench.error import ResultError, UsageError
from icm_bench.metrics.bootstrap import resample_weights
from icm_bench.report import difference, revision
from icm_bench.report.regression import DIRECTION, Regression, Row, compare
from icm_bench.report.verdict import judge
from tests.helpers.edited import edited
from tests.helpers.forge import git
from tests.helpers.padded import install_padded
from tests.helpers.small_run import changed, run_in

Measure = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Results folders by how they were made, each measured once."""
    return {}


@pytest.fixture
def measure(
    plugins: Path,
    blobs: Dataset,
    measured: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Measure:
    """Measure the codec in one of its forms, and return the folder of results."""
    install_padded(plugins)

    def call(share: float = 0.1, byte: str = "x", blank: bool = False, dataset: Dataset = blobs) -> Path:
        key = f"{share} {byte} {blank} {dataset.fingerprint}"
        if key in measured:
            return measured[key]
        monkeypatch.setenv("PADDED_SHARE", str(share))
        monkeypatch.setenv("PADDED_BYTE", byte)
        if blank:
            monkeypatch.setenv("PADDED_BLANK", "yes")
        folder = tmp_path_factory.mktemp("measured")
        with ThreadPoolExecutor(1) as executor:
            run_in(dataset, folder, codecs=["padded"], bootstrap=200, executor=executor)
        measured[key] = folder / "results"
        return measured[key]

    return call


def only(regression: Regression) -> Row:
    (row,) = regression.rows
    return row


def curve_in(folder: Path) -> Path:
    (path,) = folder.rglob("padded.json")
    return path


def test_no_change_is_identical(measure: Measure) -> None:
    found = compare(measure(), measure())
    row = only(found)
    assert (row.verdict, row.reason, row.changes) == ("identical", None, ())
    assert row.bd_rate is not None
    assert row.bd_rate.value == 0
    assert all(point.same_bitstreams for point in row.points)
    assert not found.is_worse


def test_an_identical_curve_shows_no_seconds_since_they_are_the_machines_noise(
    measure: Measure, tmp_path: Path
) -> None:
    head = shutil.copytree(measure(), tmp_path / "results")
    (timings,) = head.rglob("*.timings.json")
    timings.write_text(timings.read_text().replace("0.0", "0.3"))
    found = compare(measure(), head)
    assert only(found).verdict == "identical", only(found).reason
    for format_ in ("text", "markdown"):
        assert "->" not in difference.render(found, format_)
        assert "→" not in difference.render(found, format_)


@pytest.mark.slow
def test_other_bytes_of_the_same_length_and_quality_are_unchanged_with_an_interval(measure: Measure) -> None:
    row = only(compare(measure(), measure(byte="y")))
    assert row.verdict == "unchanged"
    assert row.bd_rate is not None
    assert (row.bd_rate.value, row.bd_rate.low, row.bd_rate.high) == (0, 0, 0)
    assert [point.same_bitstreams for point in row.points] == [False] * 5
    assert [change.name for change in row.changes] == ["codec_version"]


@pytest.mark.slow
def test_five_percent_more_bits_are_worse_and_the_way_back_is_better(measure: Measure) -> None:
    base, head = measure(), measure(share=0.155)
    found = compare(base, head)
    row = only(found)
    assert (row.verdict, found.is_worse) == ("worse", True)
    assert row.bd_rate is not None
    # 1.155 / 1.1, less the four bytes of the count.
    assert row.bd_rate.value == pytest.approx(5.0, abs=0.3)
    assert row.bd_rate.value == bd_rate(*(load(curve_in(folder)).curve for folder in (base, head))).value
    assert row.bits.percent == pytest.approx(5.0, abs=0.3)
    assert row.bd_rate.low is not None
    assert row.bd_rate.low > 0
    assert row.difference is not None
    assert row.difference.mean < 0
    assert only(compare(base, head, tolerance_percent=8)).verdict == "unchanged"

    back = compare(head, base)
    assert (only(back).verdict, back.is_worse) == ("better", False)


@pytest.mark.slow
def test_a_codec_that_forgets_the_image_is_worse_though_it_has_no_bd_rate(measure: Measure) -> None:
    row = only(compare(measure(), measure(blank=True)))
    assert row.bd_rate is not None
    assert row.bd_rate.value is None
    assert row.verdict == "worse"
    # Both are the same codec: the reason says which side it is of.
    assert (row.reason or "").startswith("head has 1 rising point")
    assert "by map at the same rates" in (row.reason or "")
    assert only(compare(measure(blank=True), measure())).verdict == "better"


@pytest.mark.slow
def test_another_dataset_of_the_same_name_is_not_comparable(
    measure: Measure, blob_files: tuple[Path, Path], tmp_path: Path
) -> None:
    found = compare(measure(), measure(dataset=changed(blob_files[0], tmp_path / "changed")))
    assert only(found).verdict == "not comparable"
    assert difference.headline(found).startswith("Not all comparable: ")
    assert "other images or annotations" in (only(found).reason or "")
    assert only(found).bd_rate is None
    assert not found.is_worse


@pytest.mark.slow
def test_another_detector_of_the_same_name_is_not_comparable_unless_it_sees_the_same(
    measure: Measure, tmp_path: Path
) -> None:
    head = shutil.copytree(measure(byte="y"), tmp_path / "results")
    with edited(curve_in(head), digest=True) as content:
        content["meta"]["detector"]["version"] = "fake 2"
    row = only(compare(measure(), head))
    assert row.verdict == "unchanged"
    assert "detector.version" in [change.name for change in row.changes]
    with edited(curve_in(head), digest=True) as content:
        content["meta"]["uncompressed"]["map"] = 1.0
    row = only(compare(measure(), head))
    assert (row.verdict, (row.reason or "")[:20]) == ("not comparable", "the detector changed")


def test_another_convention_of_rate_is_not_comparable(measure: Measure, tmp_path: Path) -> None:
    head = shutil.copytree(measure(), tmp_path / "results")
    with edited(curve_in(head), digest=True) as content:
        content["meta"]["conventions"]["bpp"] = "mean of images"
    assert "another convention of bpp" in (only(compare(measure(), head)).reason or "")


def test_without_resamples_a_change_is_not_called(measure: Measure, tmp_path: Path) -> None:
    head = shutil.copytree(measure(share=0.155), tmp_path / "results")
    next(head.rglob("*.resamples.parquet")).unlink()
    row = only(compare(measure(), head))
    assert row.verdict == "not comparable"
    assert "no bootstrap replicates are stored for head" in (row.reason or "")
    assert row.bd_rate is not None
    assert row.bd_rate.value == pytest.approx(5, abs=0.3)


def test_fewer_resamples_are_compared_with_the_beginning_of_more(measure: Measure, tmp_path: Path) -> None:
    head = tmp_path / "results"
    (result,) = find(measure(byte="y"))
    replicates = result.replicates
    assert replicates is not None
    fewer = Replicates(
        replicates.bpp[:, :50],
        {key: values[:, :50] for key, values in replicates.metrics.items()},
        {key: values[:50] for key, values in replicates.uncompressed.items()},
    )
    save(result, head / "blobs/detection/fake/padded.json", fewer)
    row = only(compare(measure(), head))
    assert row.bd_rate is not None
    assert (row.verdict, row.bd_rate.n_resamples) == ("unchanged", 50)
    assert (row.bd_rate.low, row.bd_rate.high) == (0, 0)


def test_new_and_removed_codecs_are_named(measure: Measure, tmp_path: Path) -> None:
    both = shutil.copytree(measure(), tmp_path / "both")
    path = curve_in(both)
    found = load(path)
    save(replace(found, codec="second"), path.with_name("second.json"), found.replicates)
    assert [row.verdict for row in compare(measure(), both).rows if row.codec == "second"] == ["new"]
    assert [row.verdict for row in compare(both, measure()).rows if row.codec == "second"] == ["removed"]


def test_a_side_without_curves_is_an_error(measure: Measure, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for sides in ((empty, measure()), (measure(), empty), (empty, empty)):
        with pytest.raises(ResultError, match="0 curves: there is nothing to compare with"):
            compare(*sides)


def test_a_metric_that_is_not_there_is_not_comparable(measure: Measure) -> None:
    row = only(compare(measure(), measure(byte="y"), metric="map51"))
    assert (row.verdict, "no map51" in (row.reason or "")) == ("not comparable", True)


def test_one_codec_twice_in_a_folder_is_refused(measure: Measure, tmp_path: Path) -> None:
    folder = shutil.copytree(measure(), tmp_path / "results")
    shutil.copy(curve_in(folder), curve_in(folder).with_name("copy.json"))
    with pytest.raises(ResultError, match="holds padded twice"):
        compare(folder, measure())


@pytest.mark.parametrize("tolerance", [-1.0, float("nan")])
def test_a_tolerance_below_zero_is_refused(tmp_path: Path, tolerance: float) -> None:
    with pytest.raises(UsageError, match="tolerance"):
        compare(tmp_path, tmp_path, tolerance_percent=tolerance)


@pytest.fixture
def repository(measure: Measure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose first commit holds the base's results and whose working tree those of head."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    shutil.copytree(measure(), folder / "results")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "base")
    shutil.rmtree(folder / "results")
    shutil.copytree(measure(share=0.155), folder / "results")
    monkeypatch.chdir(folder)
    return folder


def test_a_revision_is_compared_with_the_working_tree(repository: Path, command_line: CommandLine) -> None:
    code, output, _ = command_line("compare", "HEAD")
    assert code == 1
    assert output.startswith("Worse: results against HEAD: 1 worse.")
    assert "negative BD-rate means fewer bits for the same accuracy, which is better" in output
    assert command_line("compare", "results", "main:results")[0] == 0
    code, output, _ = command_line("compare", "HEAD", "HEAD")
    assert (code, "1 identical" in output) == (0, True)
    code, _, error = command_line("compare", "HEAD:elsewhere", "results")
    assert (code, "HEAD:elsewhere: 0 curves: there is nothing to compare with" in error) == (1, True)


def test_an_error_names_the_revision_and_not_the_folder_that_it_was_copied_to(
    repository: Path, command_line: CommandLine
) -> None:
    curve_in(repository / "results").write_text("{}")
    git(repository, "commit", "-qam", "broken")
    code, _, error = command_line("compare", "HEAD", "main~1")
    assert code == 1
    assert error.startswith("icm-bench: HEAD/")
    assert "/tmp" not in error
    assert "icm-bench-" not in error


def test_a_revision_whose_tree_leads_out_of_its_folder_is_refused(repository: Path) -> None:
    def made(*arguments: str, content: bytes) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=repository, input=content, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    blob = made("hash-object", "-w", "--stdin", content=b"evil")
    as_tree = ("hash-object", "-t", "tree", "-w", "--stdin", "--literally")
    tree = made(*as_tree, content=b"100644 evil\0" + bytes.fromhex(blob))
    for name in (b"..", b"results"):
        tree = made(*as_tree, content=b"40000 " + name + b"\0" + bytes.fromhex(tree))
    settings = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    commit = made(*settings, "commit-tree", tree, "-m", "evil", content=b"")
    with pytest.raises(ResultError, match="cannot be the name"), revision.opened(commit, Path("results")):
        pytest.fail("it was opened")


def test_every_format_is_written_and_says_the_same(repository: Path, command_line: CommandLine) -> None:
    files = [
        option for ending in ("txt", "md", "json", "xml") for option in ("--output", f"out/report.{ending}")
    ]
    code, printed, _ = command_line("compare", "HEAD", "results", "--format", "markdown", *files)
    assert code == 1
    assert printed == Path("out/report.md").read_text()
    assert printed.count("<details>") == printed.count("</details>") == 1
    assert "| padded | worse | +" in printed
    assert DIRECTION in printed

    content = json.loads(Path("out/report.json").read_text())
    (row,) = content["rows"]
    assert (content["is_worse"], content["counts"], row["verdict"]) == (True, {"worse": 1}, "worse")
    assert row["bd_rate"]["low"] > 0
    assert row["bits"]["percent"] == pytest.approx(5, abs=0.3)

    suites = ElementTree.parse("out/report.xml").getroot()
    (suite,) = suites
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("1", "1", "0")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "padded is worse: BD-rate +" in (failure.get("message") or "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["absent", "results"],
        ["--", "--output=evil", "results"],
        ["HEAD~99", "results"],
        ["HEAD:../..", "results"],
        ["", "results"],
    ],
)
def test_what_is_neither_folder_nor_revision_is_one_line(
    repository: Path, command_line: CommandLine, arguments: list[str]
) -> None:
    code, output, error = command_line("compare", *arguments)
    assert (code, output) == (2, "")
    assert error.startswith("icm-bench: ")
    assert error.count("\n") == 1
    assert not Path("evil").exists()


def test_a_link_in_a_revision_is_not_followed(repository: Path) -> None:
    (repository / "results" / "link.json").symlink_to("/etc/hostname")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "link")
    with revision.opened("HEAD", Path("results")) as folder:
        names = {path.name for path in folder.rglob("*")}
        kept = folder
    assert "padded.json" in names
    assert "link.json" not in names
    assert not kept.exists()


def test_names_from_result_files_do_not_become_markup(measure: Measure, tmp_path: Path) -> None:
    head = shutil.copytree(measure(byte="y"), tmp_path / "results")
    hostile = "](http://x) <img src=x> @someone | `\x01\n# title"
    with edited(curve_in(head), digest=True) as content:
        content["meta"]["codec_version"] = [hostile] * len(content["meta"]["qualities"])
    found = compare(measure(), head)
    written = difference.render(found, "markdown")
    assert "<img" not in written
    assert "@someone" not in written
    assert "](http" not in written.replace("\\]", "")
    assert "\n# title" not in written
    ElementTree.fromstring(difference.render(found, "junit").encode())


# Verdicts under chance. Per-image rates and scores, so that resampling images is what it is in a run.

Floats = NDArray[np.float64]
N_IMAGES, N_RESAMPLES = 120, 400
WEIGHTS = resample_weights(N_IMAGES, "any", N_RESAMPLES)


def made_up_pair(
    seed: int, *, loss: float, chance: float = 1.0
) -> tuple[Curve, Curve, Replicates, Replicates]:
    """Return a codec and its changed self, which needs more bits by a true factor of 1 + loss.

    At chance 1 the BD-rate of a pair is off by 2.5 % (one standard deviation).
    """
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(2e5, 4e5, N_IMAGES)
    bits = pixels * np.array([[0.1], [0.2], [0.4], [0.8]]) * rng.lognormal(0, 0.5, N_IMAGES)
    score = np.clip(np.array([[18.0], [25.0], [30.0], [33.0]]) + rng.normal(0, 20, N_IMAGES), 0, 100)
    spread = 0.15 * chance
    changed_bits = bits * (1 + loss) * rng.lognormal(-(spread**2) / 2, spread, bits.shape)
    changed_score = score + rng.normal(0, 3 * chance, score.shape)
    curves, replicates = [], []
    for n_bits, scores in ((bits, score), (changed_bits, changed_score)):
        bpp, accuracy = n_bits.sum(axis=1) / pixels.sum(), scores.mean(axis=1)
        curves.append(
            Curve(
                "any",
                tuple(Point(q, b, {"map": a}) for q, (b, a) in enumerate(zip(bpp, accuracy, strict=True))),
            )
        )
        drawn_bpp = (n_bits @ WEIGHTS.T) / (pixels @ WEIGHTS.T)
        replicates.append(
            Replicates(drawn_bpp, {"map": (scores @ WEIGHTS.T) / N_IMAGES}, {"map": np.zeros(N_RESAMPLES)})
        )
    return curves[0], curves[1], replicates[0], replicates[1]


@pytest.mark.slow
def test_of_200_changes_by_chance_alone_at_most_two_and_a_half_percent_are_called_worse() -> None:
    verdicts = [judge(*made_up_pair(seed, loss=0)).verdict for seed in range(200)]
    assert verdicts.count("worse") <= 5
    assert verdicts.count("better") <= 5
    assert set(verdicts) <= {"worse", "better", "unchanged"}


@pytest.mark.slow
def test_a_true_loss_of_five_percent_is_called() -> None:
    verdicts = [judge(*made_up_pair(1000 + seed, loss=0.05, chance=0.4)).verdict for seed in range(40)]
    assert verdicts.count("worse") >= 36
    assert "better" not in verdicts


@pytest.mark.parametrize(
    ("rate", "accuracy", "verdict"),
    [
        (1.0, -17.0, "worse"),  # no accuracy in common
        (1.0, 17.0, "better"),
        (1.0, -12.0, "worse"),  # little in common
        (20.0, -17.0, "worse"),  # no rate in common either
        (0.05, 17.0, "better"),
        (20.0, 17.0, "not comparable"),
        (0.05, -17.0, "not comparable"),
    ],
)
def test_a_collapse_is_called_though_the_curves_do_not_meet(
    rate: float, accuracy: float, verdict: str
) -> None:
    base, _, drawn, _ = made_up_pair(0, loss=0)
    points = tuple(
        replace(point, bpp=rate * point.bpp, metrics={"map": (point.metrics["map"] or 0) + accuracy})
        for point in base.points
    )
    moved = replace(drawn, bpp=rate * drawn.bpp, metrics={"map": drawn.metrics["map"] + accuracy})
    judged = judge(base, Curve(base.codec, points), drawn, moved)
    assert judged.verdict == verdict
    assert judged.reason


def test_a_curve_that_saturates_early_is_worse_though_its_lower_half_is_as_before() -> None:
    base, _, base_replicates, _ = made_up_pair(0, loss=0)
    cap = base.points[1].metrics["map"] or 0
    points = tuple(replace(p, metrics={"map": min(p.metrics["map"] or 0, cap)}) for p in base.points)
    capped = np.minimum(base_replicates.metrics["map"], base_replicates.metrics["map"][1])
    judged = judge(
        base, Curve("any", points), base_replicates, replace(base_replicates, metrics={"map": capped})
    )
    assert judged.bd_rate.is_low_overlap
    assert judged.verdict == "worse"


def test_a_ladder_that_grows_downwards_is_unchanged() -> None:
    head, _, head_replicates, _ = made_up_pair(0, loss=0)
    base = Curve("any", head.points[2:])
    base_replicates = Replicates(
        head_replicates.bpp[2:], {"map": head_replicates.metrics["map"][2:]}, head_replicates.uncompressed
    )
    assert judge(base, head, base_replicates, head_replicates).verdict == "unchanged"


def test_another_ladder_of_the_same_arc_is_unchanged_however_little_the_two_share() -> None:
    """Points of one bent line at other rates: between its points a curve must not seem lower than it is."""

    def ladder(*rates: float) -> tuple[Curve, Replicates]:
        accuracy = np.array([60.0 * (1.0 - np.exp(-4.0 * rate)) for rate in rates])
        points = tuple(
            Point(k, rate, {"map": float(a)}) for k, (rate, a) in enumerate(zip(rates, accuracy, strict=True))
        )
        noise = np.random.default_rng(1).normal(0, 0.5, 200)
        replicates = Replicates(
            np.repeat(np.array(rates)[:, None], 200, 1), {"map": accuracy[:, None] + noise}, {"map": noise}
        )
        return Curve("any", points), replicates

    (base, base_replicates), (head, head_replicates) = ladder(0.1, 0.22, 0.48), ladder(0.15, 0.33, 0.9)
    for judged in (
        judge(base, head, base_replicates, head_replicates),
        judge(head, base, head_replicates, base_replicates),
    ):
        assert judged.bd_rate.is_low_overlap
        assert judged.verdict == "unchanged", judged.reason
