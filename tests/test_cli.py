"""The command line: what people type, and what they are told."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image as Pillow

from icm_bench import cli, doctor, registry
from icm_bench.curves.comparison import fixed_accuracies
from icm_bench.curves.result import find
from icm_bench.error import ResultError
from icm_bench.testing import photograph
from tests.helpers.edited import edited

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("plugins")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, command_line: Run, tmp_path: Path) -> Run:
    """Run the command line in this process and a folder of the test's."""
    monkeypatch.chdir(tmp_path)
    return command_line


@pytest.fixture
def on_blobs(blob_files: tuple[Path, Path]) -> list[object]:
    folder, file = blob_files
    return ["--images", folder, "--annotations", file, "--limit", 4, "--detector", "fake", "--workers", 1]


RESULTS = Path(__file__).parents[1] / "results"
LADDER = ("--codecs", "fake,jpeg", "--qualities", "jpeg=5,20,60")


def one_line(text: str) -> bool:
    return text.startswith("icm-bench: ") and text.count("\n") == 1 and "Traceback" not in text


def output_of(run: Run, *arguments: object) -> str:
    code, output, error = run(*arguments)
    assert code == 0, error
    return output


def refusal_of(run: Run, *arguments: object, code: int = 1) -> str:
    """Return the one line of error that a command ends with."""
    found, _, error = run(*arguments)
    assert (found, one_line(error)) == (code, True), error
    return error


@pytest.mark.slow
def test_a_run_ends_with_tables_and_a_plot_and_the_other_commands_read_its_results(
    run: Run, on_blobs: list[object], tmp_path: Path
) -> None:
    output = output_of(run, "run", *LADDER, *on_blobs, "--bootstrap", 20)
    assert "dataset blobs-4: 4 images" in output
    assert "| uncompressed |" in output
    assert "encoded 32 and looked at 36 images" in output
    plot = tmp_path / "results/blobs-4/detection/fake/map-log.png"
    assert f"plot: {plot.relative_to(tmp_path)}" in output
    assert plot.read_bytes().startswith(b"\x89PNG")

    output = output_of(run, "run", *LADDER, *on_blobs, "--bootstrap", 20)
    assert "nothing was left to measure" in output

    (record,) = json.loads(output_of(run, "bdrate", "results/", "--anchor", "jpeg", "--format", "json"))
    keys = "dataset task detector metric anchor codec method bd_rate_percent low high overlap reason"
    assert set(keys.split()) <= set(record)
    assert (record["anchor"], record["codec"], record["method"]) == ("jpeg", "fake", "pchip")

    output = output_of(run, "bdrate", "results/", "--anchor", "jpeg", "--format", "csv", "--at=-5,1")
    (row,) = csv.DictReader(io.StringIO(output))
    figures = fixed_accuracies(list(find(Path("results"))), [-5.0, 1.0])
    rates = {(item.codec, item.target): item.rate for item in figures}
    for target in (-5.0, 1.0):
        for codec, column in (("fake", f"bpp_at_{target:g}"), ("jpeg", f"anchor_bpp_at_{target:g}")):
            rate = rates[codec, target]
            for figure, ending in ((rate.value, ""), (rate.low, "_low"), (rate.high, "_high")):
                assert (float(row[column + ending]) if row[column + ending] else None) == figure
            assert row[f"{column}_reason"] == (rate.reason or "")
            assert (rate.value is None) <= bool(rate.reason)

    starts = {"table": "BD-rate", "markdown": "**BD-rate", "csv": "dataset,", "latex": "% BD-rate"}
    for format_, start in starts.items():
        output = output_of(run, "bdrate", "results/", "--anchor", "jpeg", "--format", format_)
        assert output.lstrip().startswith(start), format_

    chosen = ("--metric", "psnr-rgb", "--formats", "png,svg,pdf", "--scale", "linear")
    output_of(run, "plot", "results/", *chosen)
    assert sorted(path.suffix for path in plot.parent.glob("psnr-rgb-linear.*")) == [".pdf", ".png", ".svg"]

    before = sorted(tmp_path.rglob("*.png"))
    for folder in ("results/blobs-4", "results/blobs-4/detection", "results/blobs-4/detection/fake"):
        assert Path(output_of(run, "plot", folder).strip()) == plot.relative_to(tmp_path), folder
    assert sorted(tmp_path.rglob("*.png")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codecs", "jepg"], "unknown codec 'jepg'; did you mean 'jpeg'?"),
        (["--codecs", "jpeg:subsampling=421"], "jpeg:subsampling=421: no such value; known: "),
        (["--codecs", "jpeg:quality=3"], "unknown option of jpeg 'quality'"),
        (["--codecs", "jpeg", "--detector", "yolo"], "unknown detector 'yolo'; did you mean 'yolox'?"),
        (
            ["--codecs", "jpeg", "--detector-weights", "absent.onnx"],
            "--detector-weights absent.onnx: no such file",
        ),
        (["--codecs", " , "], "--codecs: names nothing; write --codecs icm,vvc,jpeg"),
        (["--codecs", "jpeg", "--limit", "0"], "a limit of 0 images does not fit a set of 20"),
        (["--codecs", "jpeg", "--qualities", "jpeg"], "--qualities: 'jpeg' is not codec=quality,quality..."),
        (["--codecs", "jpeg", "--qualities", "jpeg=500"], "500 is not a whole number"),
    ],
)
def test_a_wrong_request_is_one_line_that_says_what_would_be_right(
    run: Run, blob_files: tuple[Path, Path], arguments: list[str], message: str
) -> None:
    folder, file = blob_files
    detector = [] if "--detector" in arguments else ["--detector", "fake"]
    given = ["run", *arguments, *detector, "--images", folder, "--annotations", file]
    assert message in refusal_of(run, *given, code=2)


@pytest.mark.slow
def test_categories_of_other_ids_are_measured_by_their_names(
    run: Run, on_blobs: list[object], blob_files: tuple[Path, Path], tmp_path: Path
) -> None:
    file = Path(shutil.copy(blob_files[1], tmp_path))
    with edited(file) as content:
        for row in content["categories"]:
            row.update(id=row["id"] + 10, name=row["name"].upper())
        for row in content["annotations"]:
            row["category_id"] += 10
    measured = ["run", "--codecs", "png", *on_blobs, "--bootstrap", 0]
    output_of(run, *measured)
    (wanted,) = find(Path("results"))
    measured[measured.index(blob_files[1])] = file
    measured += ["--results", "other", "--runs", "other-runs"]
    said = "category 11 is 'RED' in dataset 'blobs-4' and 'absent' to the detector; give --category-map name"
    assert said in refusal_of(run, *measured, code=2)
    output_of(run, *measured, "--category-map", "name")
    (found,) = find(Path("other"))
    assert found.results["map"] == wanted.results["map"]


@pytest.mark.parametrize(
    ("annotations", "why"), [([], "it has none"), ([1], "its 1 annotations are crowds, which do not count")]
)
def test_a_set_without_an_object_that_counts_is_not_measured_as_if_it_had(
    run: Run, blob_files: tuple[Path, Path], tmp_path: Path, annotations: list[int], why: str
) -> None:
    file = Path(shutil.copy(blob_files[1], tmp_path))
    with edited(file) as content:
        content["annotations"] = [{**content["annotations"][0], "iscrowd": 1} for _ in annotations]
    chosen = ("--codecs", "png", "--detector", "fake", "--images", blob_files[0], "--annotations", file)
    error = refusal_of(run, "run", *chosen)
    assert f"dataset 'blobs': has no object to measure detection on: {why}; annotate objects" in error
    assert not Path("results").exists()


def test_a_detector_that_finds_nothing_on_uncompressed_images_is_warned_of(
    run: Run,
    on_blobs: list[object],
    blob_files: tuple[Path, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = Path(shutil.copy(blob_files[1], tmp_path))
    with edited(file) as content:
        for row in content["annotations"]:
            row["category_id"] = 1 + row["category_id"] % 3
    on_blobs[on_blobs.index(blob_files[1])] = file
    output_of(run, "run", "--codecs", "png", *on_blobs, "--bootstrap", 0)
    (message,) = caplog.messages
    assert (
        "WARNING: detector 'fake' reaches 0.00 AP on the uncompressed images of blobs-4: its weights"
        in message
    )


def test_an_unknown_dataset_is_one_line(run: Run) -> None:
    assert "unknown dataset 'kitti'" in refusal_of(run, "run", "--dataset", "kitti", code=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "blobs.json"),
        ("", "blobs.json"),
        ("{", "blobs.json"),
        ('{"images": [], "annotations": [], "categories": []}', "images"),
        (
            '{"images": [{"id": 1, "file_name": "absent.png", "width": 4, "height": 4}],'
            ' "annotations": [], "categories": []}',
            "absent.png",
        ),
    ],
)
def test_a_broken_annotation_file_is_one_line(
    run: Run, blob_files: tuple[Path, Path], tmp_path: Path, content: str | None, message: str
) -> None:
    folder = shutil.copytree(blob_files[0], tmp_path / "set")
    file = folder / "blobs.json"
    file.unlink() if content is None else file.write_text(content)
    chosen = ("--codecs", "png", "--detector", "fake", "--images", folder, "--annotations", file)
    assert message in refusal_of(run, "run", *chosen)


def test_a_missing_encoder_is_one_line_that_says_how_to_get_it(
    run: Run, on_blobs: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICM_BENCH_FFMPEG", "/absent/ffmpeg")
    assert "/absent/ffmpeg" in refusal_of(run, "run", "--codecs", "vvc", *on_blobs)


def test_results_that_are_not_there_or_not_results_are_one_line(run: Run, tmp_path: Path) -> None:
    said = "absent: no such folder; make results with icm-bench run"
    assert said in refusal_of(run, "bdrate", "absent/")
    (tmp_path / "empty").mkdir()
    refusal_of(run, "bdrate", "empty/")
    broken = tmp_path / "results/a/detection/c/vvc.json"
    broken.parent.mkdir(parents=True)
    for content in ("", "[]", "{}", '{"name": "vvc", "results": {}, "meta": {}}', '{"meta": {"schema": 99}}'):
        broken.write_text(content)
        assert "vvc.json" in refusal_of(run, "bdrate", "results/")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_results_folder_that_cannot_be_written_is_one_line(
    run: Run, on_blobs: list[object], tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir(mode=0o500)
    refusal_of(run, "run", "--codecs", "png", *on_blobs)


def test_a_runs_folder_that_is_a_file_is_one_line(run: Run, on_blobs: list[object], tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    assert "runs" in refusal_of(run, "run", "--codecs", "png", *on_blobs)


@pytest.mark.parametrize("arguments", [["--debug", "bdrate", "absent/"], ["bdrate", "absent/", "--debug"]])
def test_debug_shows_the_traceback_before_and_behind_the_command(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["icm-bench", *arguments])
    with pytest.raises(ResultError, match="no such folder"):
        cli.main()


@pytest.mark.parametrize(
    "arguments", [["--version"], ["bdrate", "absent/", "--version"], ["data", "--version"]]
)
def test_the_version_is_shown_before_and_behind_the_command(run: Run, arguments: list[str]) -> None:
    assert run(*arguments) == (0, f"icm-bench {version('icm-bench')}\n", "")


def commands() -> list[tuple[str, Any]]:
    """Return every command with the words that call it."""
    found = []
    waiting = [("icm-bench", typer.main.get_command(cli.app))]
    while waiting:
        words, command = waiting.pop()
        inner: dict[str, Any] = getattr(command, "commands", {})
        waiting += [(f"{words} {name}", item) for name, item in inner.items()]
        if not inner:
            found.append((words, command))
    return found


@pytest.mark.parametrize(("words", "command"), commands())
def test_the_help_of_a_command_has_panels_words_for_values_and_an_example_that_parses(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: str, command: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = output_of(run, *words.split()[1:], "--help")
    assert not re.search(r"--[a-z-]+ +<(bool|str|path|int|float|list)", shown)
    options = [parameter for parameter in command.params if parameter.opts[0].startswith("--")]
    assert all(option.rich_help_panel and option.rich_help_panel in shown for option in options)
    example = command.epilog.removeprefix("Example: ")
    assert example in shown
    assert example.startswith(words)
    command.make_context(words, shlex.split(example)[len(words.split()) :])


@pytest.mark.slow
def test_help_and_messages_are_written_where_the_encoding_has_no_room_for_them(
    command: list[str], tmp_path: Path
) -> None:
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for arguments, code, shown in (
        (["run", "--help"], 0, "--codecs"),
        (["bdrate", "caf\u00e9"], 1, "caf\\xe9: no such folder"),
    ):
        done = subprocess.run(
            [*command, *arguments], capture_output=True, env=plain, cwd=tmp_path, timeout=60, check=False
        )
        assert done.returncode == code, done.stderr
        assert shown in (done.stdout + done.stderr).decode("ascii")


@pytest.mark.parametrize("name", ["[/b]", "[bold]set[/bold]", "[link=x]"])
def test_brackets_in_a_path_are_printed_as_they_are(run: Run, name: str) -> None:
    output = output_of(run, "export", f"{name}.csv", "--to", "tidy", "--results", RESULTS / "kodak")
    assert output == f"{name}.csv\n"


def test_control_characters_do_not_reach_the_terminal(run: Run) -> None:
    said = r"red\x1b[31m\r\u202e: no such folder"
    assert said in refusal_of(run, "bdrate", "red\x1b[31m\r\u202e")


@pytest.mark.slow
def test_an_interrupted_command_says_what_becomes_of_its_work(command: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [*command, "data", "kodak"],
            cwd=tmp_path,
            env={**os.environ, "ICM_BENCH_KODAK_URL": server},
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error == "icm-bench: interrupted; what is finished is kept, run again to continue\n"


def test_show_prints_the_command_of_a_measured_curve_and_has_none_of_a_published_one(
    run: Run, tmp_path: Path
) -> None:
    measured = next(RESULTS.glob("scenes/detection/*/jpeg.json"))
    shown = output_of(run, "show", measured)
    assert shown.splitlines()[-1] == json.loads(measured.read_text(encoding="utf-8"))["meta"]["command"]
    run("published", "gao2026", "--results", tmp_path / "published")
    status, shown, error = run("show", next((tmp_path / "published").rglob("*.json")))
    assert status == 1
    assert "Gao" in shown
    assert error.count("\n") == 1
    assert "names no command" in error


@pytest.mark.slow
def test_list_names_everything_and_help_is_quick(command: list[str]) -> None:
    for arguments in (["--help"], ["list"], ["run", "--help"]):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, timeout=60)
        assert done.stderr == ""
    listed = subprocess.run([*command, "list"], capture_output=True, text=True, check=True).stdout
    for name in ("icm", "jpeg", "jpeg2000", "png", "vvc", "yolox", "maskrcnn_resnet50_fpn", "coco", "scenes"):
        assert f"  {name}  " in listed


@pytest.mark.slow
def test_doctor_finds_the_shipped_encoders_and_a_sound_colour_conversion(run: Run) -> None:
    output = output_of(run, "doctor")
    lines = {line.split("|")[2].strip(): line for line in output.splitlines() if line.count("|") == 5}
    for codec in ("jpeg", "jpeg2000", "png"):
        assert "| ok" in next(line for name, line in lines.items() if name.split(":")[0] == codec)
    assert any(name.startswith("vvc:preset=") and "libvvenc" in line for name, line in lines.items())
    assert "| ok" in next(line for name, line in lines.items() if name.startswith("RGB to 10-bit"))


def test_doctor_names_each_detector_once_and_says_whether_its_weights_are_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path))
    found = {name: doctor.detector(name) for name in registry.names("detector")}
    assert found["fake"].state == "ok"
    for name in ("onnx", "yolox"):
        assert found[name].state == "absent"
        assert "yours to name: give --detector-weights" in found[name].detail
    assert found["detectron2"].state == ("ok" if find_spec("detectron2") else "absent")
    name = "fasterrcnn_resnet50_fpn"
    assert found[name].state == "absent"
    assert "its weights are fetched on first use" in found[name].detail
    registry.load("detector", name).cached_weights().touch()
    assert doctor.detector(name).state == "ok"


@pytest.mark.slow
def test_every_command_says_which_file_beside_a_curve_is_not_used(run: Run, on_blobs: list[object]) -> None:
    output_of(run, "run", *LADDER, "--qualities", "fake=1,4,8", *on_blobs, "--bootstrap", 20)
    folder = Path("results/blobs-4/detection/fake")
    shutil.copytree("results", "base")
    for ending in (".resamples.parquet", ".timings.json"):
        shutil.copy(folder / f"jpeg{ending}", folder / f"fake{ending}")
    for command in (
        ("bdrate", "results"),
        ("plot", "results"),
        ("report", "results"),
        ("compare", "base", "results"),
        ("export", "out.csv", "--to", "tidy"),
    ):
        code, _, error = run(*command)
        assert code == 0
        for ending in (".resamples.parquet", ".timings.json"):
            assert f"fake{ending} is not the file that was written with the curve, and is not used" in error


@pytest.mark.slow
def test_intervals_can_be_left_out(run: Run, on_blobs: list[object]) -> None:
    output_of(run, "run", *LADDER, *on_blobs, "--bootstrap", 20)
    whole, without = (
        list(csv.DictReader(io.StringIO(run("bdrate", "results", "--matrix", "--format", "csv", *given)[1])))
        for given in ((), ("--no-intervals",))
    )
    assert all(row["low"] for row in whole)
    assert not any(row["low"] or row["reason"] for row in without)
    key = "bd_rate_percent"
    assert [row[key] for row in without] == [row[key] for row in whole]


@pytest.mark.slow
def test_curves_go_out_and_come_back_and_conventions_are_not_mixed_unseen(
    run: Run, on_blobs: list[object], tmp_path: Path
) -> None:
    output_of(run, "run", *LADDER, *on_blobs, "--bootstrap", 0)
    output_of(run, "export", "curves.csv", "--to", "tidy")
    output_of(run, "import", "curves.csv", "--from", "tidy", "--results", "back")
    ours = output_of(run, "bdrate", "results", "--anchor", "jpeg", "--format", "csv")
    assert ours == output_of(run, "bdrate", "back", "--anchor", "jpeg", "--format", "csv")

    foreign = tmp_path / "foreign.json"
    foreign.write_text(
        json.dumps({"name": "elsewhere", "results": {"bpp": [0.5, 1.0, 2.0], "map": [10, 30, 50]}})
    )
    arguments = ["--dataset", "blobs-4", "--task", "detection", "--detector", "fake", "--codec", "elsewhere"]
    output_of(run, "import", foreign, "--from", "compressai", *arguments)
    for command in (["bdrate", "results", "--anchor", "jpeg"], ["plot", "results"], ["report", "results"]):
        code, output, error = run(*command)
        assert code == 0
        assert "left out: elsewhere" in output + error
        assert "rates of different conventions cannot be compared with" in output + error
        assert not any(line.startswith("| elsewhere") for line in output.splitlines())
    output = output_of(run, "bdrate", "results", "--anchor", "jpeg", "--force")
    assert "† rates of different conventions: bpp is" in output
    marked = [line for line in output.splitlines() if line.startswith("| elsewhere")]
    assert marked
    assert all("†" in line for line in marked)
    output_of(run, "plot", "results", "--force", "--formats", "svg")

    output_of(run, "export", "compressai", "--to", "compressai")
    assert json.loads((tmp_path / "compressai/blobs-4/detection/fake/jpeg.json").read_text())["results"][
        "bpp"
    ]
    point = "runs/predicted/blobs-4/jpeg/60/fake"
    output_of(run, "export", "seen.json", "--to", "coco", "--store", point)
    row = json.loads((tmp_path / "seen.json").read_text())[0]
    assert {"image_id", "category_id", "bbox", "score"} <= set(row)
    refusal_of(run, "export", "seen.json", "--to", "coco", code=2)


@pytest.mark.slow
def test_fidelity_is_measured_compared_drawn_and_reported_without_a_detector(
    run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        Pillow.fromarray(photograph(190, 170 + seed, seed)).save(folder / f"{seed}.png")
    measured = ["run", "--task", "fidelity", *LADDER]
    chosen = ["--dataset", "folder", "--images", folder, "--bootstrap", 20, "--workers", 1]
    output = output_of(run, *measured, *chosen)
    assert "dataset photos: 3 images\n" in output
    assert "fidelity on photos: 3 images" in output
    assert "BD-PSNR" in output
    assert "plot: results/photos/fidelity/none/psnr-rgb-log.png" in output
    assert run(*measured, *chosen, "--detector", "yolox")[0] == 2

    output = output_of(run, "bdrate", "results", "--anchor", "jpeg", "--format", "json")
    records = [record for record in json.loads(output) if record.get("codec") == "fake"]
    assert records[0]["metric"] == "psnr-rgb"
    assert records[0]["low"] <= records[0]["bd_rate_percent"] <= records[0]["high"]
    output = output_of(run, "bdrate", "results", "--anchor", "jpeg", "--metric", "ms-ssim-luma-db")
    assert "BD-MS-SSIM of luma (dB)" in output
    output_of(run, "plot", "results", "--metric", "ms-ssim-rgb", "--formats", "svg")
    drawn = (tmp_path / "results/photos/fidelity/none/ms-ssim-rgb-log.svg").read_text()
    assert "fidelity on photos, 3 images" in drawn
    code, _, error = run("report", "results", "--pictures", "4")
    assert (code, error) == (0, "--pictures is called --image-count now\n")
    page = (tmp_path / "report.html").read_text()
    assert "fidelity on photos" in page
    assert "by none" not in page
    output = output_of(run, "compare", "results", "results")
    assert "2 identical" in output
    assert "Worse: the BD-rate on PSNR is above 0.5 %" in output

    error = refusal_of(run, "report", "results", "--runs", "runs", code=2)
    assert "fidelity on photos: images show what a detector saw, and there is none" in error
    code, _, error = run("bdrate", "results", "--metric", "ar100")
    left_out, reason = error.splitlines(keepends=True)
    assert (code, left_out) == (1, "left out, without ar100: fidelity on photos\n")
    assert one_line(reason)
    assert "no curve has the metric 'ar100'; known: bpp" in error


@pytest.mark.slow
def test_groups_without_the_metric_are_left_out_and_named(
    run: Run, on_blobs: list[object], tmp_path: Path
) -> None:
    output_of(run, "run", *LADDER, "--bootstrap", 0, *on_blobs)
    fidelity = [option for option in on_blobs if option not in ("--detector", "fake")]
    output_of(run, "run", "--task", "fidelity", *LADDER, "--bootstrap", 0, *fidelity)
    code, output, error = run("bdrate", "results", "--metric", "map50", "--anchor", "jpeg", "--format", "csv")
    assert code == 0
    assert error == "left out, without map50: fidelity on blobs-4\n"
    assert {row["task"] for row in csv.DictReader(io.StringIO(output))} == {"detection"}
    code, _, error = run("plot", "results", "--panels", "sizes")
    assert (code, error) == (0, "left out, without sizes: fidelity on blobs-4\n")
    (tmp_path / "results/blobs-4/fidelity/none/jpeg.json").rename(tmp_path / "kept.json")
    code, output, error = run("bdrate", "results", "--anchor", "jpeg", "--format", "csv")
    assert (code, error) == (0, "left out: fidelity on blobs-4: unknown anchor 'jpeg'; known: fake\n")
    assert {row["task"] for row in csv.DictReader(io.StringIO(output))} == {"detection"}
    code, _, error = run("bdrate", "results", "--anchor", "jepg")
    assert (code, "unknown anchor 'jepg'; did you mean 'jpeg'?" in error) == (2, True)
    (tmp_path / "kept.json").rename(tmp_path / "results/blobs-4/fidelity/none/jpeg.json")
    code, output, error = run("bdrate", "results", "--anchor", "jpeg", "--format", "csv")
    assert (code, error) == (0, "")
    compared = {(row["task"], row["metric"]) for row in csv.DictReader(io.StringIO(output))}
    assert compared == {("detection", "map"), ("fidelity", "psnr-rgb")}


def test_points_and_bd_rates_are_printed_for_papers_by_the_codecs_labels(run: Run) -> None:
    chosen = ["--datasets", "scenes-poses", "--codecs", "vvc,icm", "--labels", "icm=Ours & theirs"]
    output = output_of(run, "bdrate", RESULTS, "--anchor", "vvc", *chosen, "--format", "latex")
    (row,) = [line for line in output.splitlines() if line.startswith("Ours") and "\\%" in line]
    assert row.startswith("Ours \\& theirs & -")
    assert row.endswith(r" \\")
    assert (
        "% Codecs: VVC fast: vvc:preset=fast; Ours & theirs: icm:domain=scenes:objective=detection." in output
    )
    output = output_of(run, "bdrate", RESULTS, "--points", *chosen, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(output)))
    assert [row["label"] for row in rows] == ["VVC fast"] * 6 + ["Ours & theirs"] * 10
    (point,) = [row for row in rows if (row["codec"], row["quality"]) == ("vvc:preset=fast", "37")]
    assert (float(point["bpp"]), float(point["map"])) == pytest.approx((0.2076, 39.8), abs=0.05)
    assert float(point["map_low"]) < float(point["map"]) < float(point["map_high"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codecs", "hyperpior"], "unknown codec 'hyperpior'; did you mean 'hyperprior'"),
        (["--datasets", "nowhere"], "unknown dataset 'nowhere'"),
        (["--detectors", "nobody"], "unknown detector 'nobody'"),
        (["--labels", "icm"], "--labels: 'icm' is not codec=label"),
        (["--xlim", "1"], "--xlim: '1' is not two numbers"),
        (["--datasets", "scenes-poses", "--ylim", "40,20"], "accuracy axis: 40 to 20 is no range"),
    ],
)
def test_a_wrong_selection_or_limit_is_one_line(run: Run, arguments: list[str], message: str) -> None:
    assert message in refusal_of(run, "plot", RESULTS, "--output", "plots", *arguments, code=2)
    assert not Path("plots").exists()


def test_plots_of_a_detector_with_options_stand_beside_its_curves(run: Run, tmp_path: Path) -> None:
    place = Path("coco-partial100", "segmentation", "onnx+layout=yolo+model=yolo11n_seg_coco80-c365669b")
    shutil.copytree(RESULTS / place, tmp_path / place)
    before = {path.name for path in (tmp_path / place).iterdir()} | {"map-log.png"}
    (tmp_path / place / "map-log.png").unlink(missing_ok=True)
    assert output_of(run, "plot", tmp_path).strip() == str(tmp_path / place / "map-log.png")
    assert {path.name for path in (tmp_path / place).iterdir()} == before
    assert len(list((tmp_path / place).parent.iterdir())) == 1


@pytest.mark.parametrize("name", ["..", "../../outside", "/outside", "", "a\\b"])
def test_no_name_in_a_result_file_leads_out_of_the_folder_that_is_written_to(
    run: Run, tmp_path: Path, name: str
) -> None:
    results = tmp_path / "results"
    shutil.copytree(RESULTS / "scenes-poses", results / "scenes-poses")
    for path in results.rglob("*.json"):
        with edited(path) as content:
            if "meta" in content:
                content["meta"]["dataset"]["name"] = name
    before = sorted(tmp_path.rglob("*"))
    for arguments in (
        ["plot", results, "--output", "a/b/plots"],
        ["plot", results],
        ["export", "a/b/exported", "--to", "compressai", "--results", results],
    ):
        code, _, error = run(*arguments)
        assert code in (1, 2)
        assert one_line(error)
    assert sorted(tmp_path.rglob("*")) == before
