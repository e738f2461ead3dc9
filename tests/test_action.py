"""The action and the workflows around it: their own steps, run in a scratch repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.helpers.forge import (
    COMMENT,
    PROGRAMS,
    ROOT,
    WORKFLOWS,
    Forge,
    Runner,
    git,
    is_taken,
    load,
    steps_of,
)
from tests.helpers.padded import install_padded
from tests.helpers.plugin import install

COMMAND = Path(sys.executable).with_name("icm-bench")

pytestmark = [
    pytest.mark.usefixtures("one_core"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine"),
    pytest.mark.skipif(not (ROOT / "action.yml").is_file(), reason="not in a checkout"),
]


@pytest.fixture
def action(
    plugins: Path, blob_files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Runner:
    """The action's steps, in a repository that keeps no results yet."""
    if not COMMAND.exists():
        pytest.skip("icm-bench is not installed beside this Python")
    monkeypatch.setenv("PATH", os.pathsep.join([str(COMMAND.parent), os.environ["PATH"]]))
    monkeypatch.setenv("PADDED_SHARE", "0.1")
    install_padded(plugins)
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / ".gitignore").write_text("runs/\nsummary.md\noutput.txt\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return Runner(ROOT / "action.yml", folder)


@pytest.fixture
def measure(action: Runner, blob_files: tuple[Path, Path]) -> Callable[..., subprocess.CompletedProcess[str]]:
    folder, file = blob_files

    def call(has_stores: str = "") -> subprocess.CompletedProcess[str]:
        return action(
            "Measure",
            TASK="detection",
            CODECS="padded,jpeg",
            QUALITIES="jpeg=10,40\n\npadded=1,3,5\n",
            DATASET="scenes",
            DATA_ROOT="",
            IMAGES=str(folder),
            ANNOTATIONS=str(file),
            DETECTOR="fake",
            LIMIT="4",
            HAS_STORES=has_stores,
        )

    return call


@pytest.mark.slow
def test_a_pull_request_that_loses_is_told_so_and_fails(
    action: Runner,
    measure: Callable[..., subprocess.CompletedProcess[str]],
    blob_files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "repository"
    settings = {"RESULTS": "results", "TOLERANCE": "0.5", "IS_OWN_BASE": "false", "DATA_ROOT": ""}
    settings |= {"IMAGES": str(blob_files[0]), "ANNOTATIONS": str(blob_files[1])}

    # The base: measured, and committed.
    done = measure()
    assert done.returncode == 0, done.stderr
    shutil.copytree(folder / "runs/report/head", folder / "results")
    (folder / "results/other").mkdir()
    git(folder, "add", "results")
    git(folder, "commit", "-q", "-m", "results")
    base = git(folder, "rev-parse", "HEAD")
    (folder / "README.md").write_text("a change that changes nothing\n")
    git(folder, "add", "README.md")
    git(folder, "commit", "-q", "-m", "words")
    shutil.copytree(folder / "runs/report/head", tmp_path / "measured")

    # A change without effect, what is kept from the cache.
    done = measure("true")
    assert "nothing was left to measure" in done.stdout
    done = action("Compare", BASE=base, **settings)
    assert done.returncode == 0, done.stderr
    assert action.output.read_text() == "status=0\n"
    assert "2 identical" in action.summary.read_text()
    assert action("Judge", STATUS="0", FAILS="true").returncode == 0

    # A change for the worse: the kept bitstreams are of another version of the codec.
    monkeypatch.setenv("PADDED_SHARE", "0.3")
    assert measure().returncode == 1
    done = measure("true")
    assert done.returncode == 0, done.stderr
    assert "::warning" in done.stdout
    action.output.unlink()
    action.summary.unlink()
    done = action("Compare", BASE=base, **settings)
    assert done.returncode == 0, done.stderr
    assert action.output.read_text() == "status=1\n"
    summary = action.summary.read_text()
    assert f"this change against results of {base[:12]}: 1 worse, 1 identical" in summary
    assert "negative BD-rate means fewer bits" in summary
    out = folder / "runs/report/out"
    assert sorted(path.name for path in out.iterdir()) == [
        "junit.xml",
        "report.html",
        "report.json",
        "report.md",
    ]
    assert json.loads((out / "report.json").read_text())["counts"] == {"worse": 1, "identical": 1}
    assert action("Judge", STATUS="1", FAILS="true").returncode == 1
    assert action("Judge", STATUS="1", FAILS="false").returncode == 0

    # The base branch's own measurement, where it was kept, goes before what is committed.
    shutil.copytree(tmp_path / "measured", folder / "runs/report/base")
    done = action("Compare", BASE="0" * 40, **settings)
    assert done.returncode == 0, done.stderr
    assert "this change against the base branch, measured" in (out / "report.md").read_text()
    shutil.rmtree(folder / "runs/report/base")

    # A new branch has no commit before: what is committed at its head is taken.
    done = action("Compare", BASE="0" * 40, **settings)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "report.json").read_text())["counts"] == {"worse": 1, "identical": 1}

    # A base that does not exist fails, and leaves no report behind.
    done = action("Compare", BASE="absent", **settings)
    assert done.returncode != 0
    assert not (out / "report.md").exists()


def test_values_of_others_reach_scripts_through_variables_alone() -> None:
    for path in (ROOT / "action.yml", WORKFLOWS / "report.yml", COMMENT):
        for step in steps_of(path):
            assert "${{" not in step.get("run", ""), step.get("name")


def test_the_workflow_that_runs_foreign_code_may_only_read() -> None:
    content = load(WORKFLOWS / "report.yml")
    assert content["permissions"] == {"contents": "read"}
    # YAML reads the key "on" as a truth value.
    assert "pull_request_target" not in content[True]
    checkout = content["jobs"]["report"]["steps"][0]
    assert checkout["with"]["persist-credentials"] is False
    assert "secrets" not in (WORKFLOWS / "report.yml").read_text()


def test_the_workflow_that_may_write_runs_no_foreign_code() -> None:
    content = load(COMMENT)
    assert content[True] == {
        "workflow_run": {"workflows": [load(WORKFLOWS / "report.yml")["name"]], "types": ["completed"]}
    }
    used = [step["uses"].partition("@")[0] for step in steps_of(COMMENT) if "uses" in step]
    assert used == ["actions/download-artifact"]
    assert content["permissions"] == {"actions": "read", "pull-requests": "write"}


def test_every_input_is_used_and_every_used_or_documented_input_is_declared() -> None:
    declared = set(load(ROOT / "action.yml")["inputs"])
    assert set(re.findall(r"inputs\.([a-z-]+)", (ROOT / "action.yml").read_text())) == declared
    steps = documented()["jobs"]["report"]["steps"]
    (given,) = [step["with"] for step in steps if step["uses"].startswith("OWNER/icm-bench@")]
    assert set(given) <= declared


def documented() -> dict[Any, Any]:
    (example,) = re.findall(
        r"^```yaml\n(.*?)^```", (ROOT / "docs/regression.md").read_text(), flags=re.DOTALL | re.MULTILINE
    )
    content: dict[Any, Any] = yaml.safe_load(example)
    return content


def test_the_documented_workflow_is_the_one_that_comments_wait_for_and_runs_once_a_push() -> None:
    (waited_for,) = load(COMMENT)[True]["workflow_run"]["workflows"]
    own = load(WORKFLOWS / "report.yml")
    for content in (documented(), own):
        assert content["name"] == waited_for
        # A push to a pull request's branch is of the pull request alone.
        assert content[True] == {"push": {"branches": ["main"]}, "pull_request": None}
        assert content["permissions"] == {"contents": "read"}
    (checkout, _, upload), (own_checkout, own_action, own_upload) = (
        content["jobs"]["report"]["steps"] for content in (documented(), own)
    )
    assert (checkout, upload["uses"]) == (own_checkout, own_upload["uses"])
    assert own_action == {"uses": "./"}
    assert upload["if"] == own_upload["if"] == "always()"
    (download,) = [step for step in steps_of(COMMENT) if "uses" in step]
    assert {each["with"]["name"] for each in (upload, own_upload, download)} == {"icm-bench-report"}
    made = load(ROOT / "action.yml")["outputs"]["folder"]["value"]
    assert upload["with"]["path"] == own_upload["with"]["path"] == made


def test_every_foreign_action_is_pinned_by_its_commit_the_same_everywhere() -> None:
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))
    texts = [path.read_text() for path in (ROOT / "action.yml", *WORKFLOWS.glob("*.yml"), *pages)]
    used = [found for text in texts for found in re.findall(r"uses: (\S+)(?: # (\S+))?", text)]
    foreign = {each for each in used if not each[0].startswith(("./", "OWNER/"))}
    assert len(foreign) > 5
    for name, release in foreign:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name), name
        assert re.fullmatch(r"v\d+(\.\d+)+", release), name
    # Parts of one repository, such as those of the cache, are of one commit.
    commits = {
        ("/".join(name.partition("@")[0].split("/")[:2]), name.partition("@")[2]) for name, _ in foreign
    }
    assert len(commits) == len({name for name, _ in commits})


@pytest.mark.parametrize(
    ("path", "is_source"),
    [
        ("codec/model.pt", True),
        ("src/coder.cpp", True),
        ("src/lib.rs", True),
        ("weights.onnx", True),
        ("pyproject.toml", True),
        ("README.md", False),
        ("codec/notes.md", False),
        ("docs/plot.png", False),
        (".git/index", False),
        ("runs/report/stores/x.parquet", False),
    ],
)
def test_bitstreams_are_kept_while_nothing_but_documentation_changes(path: str, is_source: bool) -> None:
    assert is_taken(path, load(ROOT / "action.yml")["inputs"]["sources"]["default"]) is is_source


def test_a_base_that_looks_like_an_option_is_no_option(action: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    (folder / "runs/report/head").mkdir(parents=True)
    git(folder, "remote", "add", "origin", str(folder))
    evil = f"--upload-pack=touch {tmp_path}/evil;"
    places = dict.fromkeys(("DATA_ROOT", "IMAGES", "ANNOTATIONS"), "")
    done = action("Compare", BASE=evil, IS_OWN_BASE="true", RESULTS="results", TOLERANCE="0.5", **places)
    assert done.returncode != 0
    assert not (tmp_path / "evil").exists()


def test_actionlint_finds_no_fault() -> None:
    linter = shutil.which("actionlint")
    if linter is None:
        pytest.skip("no actionlint on this machine")
    done = subprocess.run([linter, "-no-color"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def comment(tmp_path: Path) -> Runner:
    folder = tmp_path / "comment"
    (folder / "downloaded").mkdir(parents=True)
    return Runner(COMMENT, folder)


NAMES = [
    "vvc:preset=medium",
    "@someone",
    "[x][r]",
    "[r]: //example.org",
    "![x](https://example.org/x.png)",
    "www.example.org",
    "<a\nhref=//example.org>y</a>",
    "<div><image src=//example.org></div>",
    "a@example.org",
    "<!<!---- icm-bench-report -->",
    "&#64;someone",
    "`` ` | `",
    "$(touch evil) `touch evil`",
    "a" * 5000,
    "\x1b[2J\udcff",
    "",
]


def filed(names: Sequence[str]) -> dict[str, Any]:
    row = {"dataset": "d", "task": "detection", "detector": "fake", "verdict": "worse", "reason": "@someone"}
    values = {
        "bd_rate": {"percent": 5.0, "low": 4.0, "high": 6.0},
        "bits": {"percent": 5.5},
        "difference": {"mean": -0.25},
    }
    return {"rows": [{**row, **values, "codec": name, "dataset": name} for name in names]}


def written(comment: Runner, content: bytes | str) -> str:
    """Return the comment on a report, after its first line; its last line links to the run."""
    folder = comment.output.parent
    report = folder / "downloaded" / "report.json"
    report.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = comment("Write the comment", RUN_URL="https://example.org/run/1")
    assert done.returncode == 0, done.stderr
    text = (folder / "comment.md").read_text(encoding="utf-8")
    first, *rest = text.splitlines()
    assert first == "<!-- icm-bench-report -->"
    assert rest[-1].endswith("[this run](https://example.org/run/1).")
    assert len(text) < 65_536
    assert comment.output.read_text().endswith("is_written=true\n")
    assert not (folder / "evil").exists()
    return "\n".join(rest[:-1])


def elements(text: str) -> set[str]:
    """Return what GitHub's Markdown makes of a text, beyond plain text."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    kinds = {each.type for token in tokens for each in (token, *(token.children or ()))}
    return {kind.removesuffix("_open").removesuffix("_close") for kind in kinds} - {"text", "inline"}


def test_a_comment_is_a_table_in_which_no_name_is_more_than_code(comment: Runner) -> None:
    body = written(comment, json.dumps(filed(NAMES)))
    assert elements(body) == {
        "heading",
        "paragraph",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "code_inline",
    }
    for forbidden in ("@", "](", "://", "<", "&", "someone]"):
        assert forbidden not in body, forbidden
    assert "### Worse: 16 worse" in body
    assert (
        "| `vvc:preset=medium` / `detection` / `fake` | `vvc:preset=medium` | worse "
        "| +5.00 % | [+4.00, +6.00] | -0.25 | +5.50 % |"
    ) in body
    assert len([line for line in body.splitlines() if line.startswith("|")]) == 2 + len(NAMES)


def test_a_comment_shows_fifty_rows_and_counts_the_rest(comment: Runner) -> None:
    body = written(comment, json.dumps(filed([f"codec-{index}" for index in range(70)])))
    assert "### Worse: 70 worse" in body
    assert body.count("| `codec-") == 2 * 50
    assert "20 more are in the report." in body


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"[" * 200_000,
        b"null",
        b'{"rows": 3}',
        b'{"rows": [3, {"codec": null, "verdict": {}, "bd_rate": "x", "bits": {"percent": 1e308}}]}',
        b'{"rows": [{"verdict": "@someone", "bd_rate": {"percent": NaN, "low": true}}]}',
    ],
    ids=["no text", "nested", "null", "no rows", "wrong types", "no numbers"],
)
def test_a_damaged_report_makes_a_comment_that_says_little(comment: Runner, content: bytes) -> None:
    body = written(comment, content)
    assert body.startswith("### No regression: ")
    assert "@" not in body
    assert "nan" not in body


def test_without_a_report_or_with_a_link_in_its_place_no_comment_is_written(
    comment: Runner, tmp_path: Path
) -> None:
    assert comment("Write the comment", RUN_URL="u").returncode == 0
    (tmp_path / "comment/downloaded/report.json").symlink_to("/etc/passwd")
    assert comment("Write the comment", RUN_URL="u").returncode == 0
    assert not comment.output.exists()
    assert not (tmp_path / "comment/comment.md").exists()


Posted = Callable[[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]], list[str]]


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a runner's programs in place; return the folder in which they record what they are told."""
    if shutil.which("jq") is None:
        pytest.skip("no jq on this machine")
    (tmp_path / "bin").mkdir()
    for name, content in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(content)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]))
    for name in ("CALLS", "PULLS", "COMMENTS", "INSTALLED"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


@pytest.fixture
def posted(comment: Runner, records: Path) -> Posted:
    """Run the posting step beside a forge that answers so; return what was written to it."""

    def call(pulls: Sequence[Mapping[str, Any]], comments: Sequence[Mapping[str, Any]]) -> list[str]:
        (records / "PULLS").write_text(json.dumps(pulls))
        (records / "COMMENTS").write_text(json.dumps(comments))
        done = comment(
            "Post or update it",
            GH_TOKEN="none",
            REPOSITORY="owner/name",
            HEAD_OWNER="stranger",
            HEAD_BRANCH="a branch; $(touch evil)",
            HEAD_SHA="abc",
        )
        assert done.returncode == 0, done.stderr
        assert not (records / "comment/evil").exists()
        calls = (records / "CALLS").read_text().splitlines()
        assert "head=stranger:a branch; $(touch evil)" in calls[0]
        return [line for line in calls if "POST" in line or "PATCH" in line]

    return call


MARKED = {"id": 7, "user": {"type": "Bot"}, "body": "<!-- icm-bench-report -->\nold"}
PULL = {"number": 5, "head": {"sha": "abc"}}


def test_the_first_report_is_posted(posted: Posted) -> None:
    others = [
        {"id": 1, "user": {"type": "User"}, "body": "<!-- icm-bench-report --> quoted"},
        {"id": 2, "user": {"type": "Bot"}, "body": "x"},
    ]
    assert posted([PULL], others) == [
        "api --silent --method POST repos/owner/name/issues/5/comments -F body=@comment.md"
    ]


def test_a_later_report_replaces_the_first(posted: Posted) -> None:
    assert posted([PULL], [MARKED]) == [
        "api --silent --method PATCH repos/owner/name/issues/comments/7 -F body=@comment.md"
    ]


def test_a_commit_that_is_no_longer_the_head_is_not_commented_on(posted: Posted) -> None:
    assert posted([{"number": 5, "head": {"sha": "newer"}}], [MARKED]) == []
    assert posted([], []) == []


OWN_CODEC = '''
from pathlib import Path
from icm_bench.testing import FakeCodec

class Own(FakeCodec):
    """Appends as many bytes as its weights and its compiled part say, and never changes its version."""

    name = "my-codec"
    qualities = (1, 2, 3, 4)

    def encode(self, image):
        share = float(Path("model.pt").read_text()) + float(Path("coder.cpp").read_text().split()[-1])
        data = super().encode(image)
        return data + bytes(round(share * len(data))) + len(data).to_bytes(4, "big")

    def decode(self, data):
        return super().decode(data[: int.from_bytes(data[-4:], "big")])
'''


@pytest.mark.slow
def test_the_documented_workflows_measure_compare_judge_and_comment_once_a_push(
    action: Runner, plugins: Path, blob_files: tuple[Path, Path], tmp_path: Path, records: Path
) -> None:
    folder = tmp_path / "repository"
    (plugins / "own_codec.py").write_text(OWN_CODEC)
    install(plugins, "codecs", **{"my-codec": "own_codec:Own"})
    # What is documented, on a few small images.
    inputs = {
        "detector": "fake",
        "limit": "4",
        "images": str(blob_files[0]),
        "annotations": str(blob_files[1]),
    }
    forge = Forge(folder, documented(), inputs, records)

    def commit(branch: str, start: str, **files: str) -> str:
        git(folder, "checkout", "-q", "-B", branch, start)
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_text(content)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", branch)
        return git(folder, "rev-parse", "HEAD")

    def verdicts() -> dict[str, str]:
        report = forge.artifacts["icm-bench-report"] / "report.json"
        return {row["codec"]: row["verdict"] for row in json.loads(report.read_text())["rows"]}

    base = commit("main", "main", model_pt="0.5", coder_cpp="// 0.1")
    assert forge.push("main", "0" * 40) == ["success"]
    assert verdicts() == {"my-codec": "identical", "jpeg": "identical"}
    said = (forge.artifacts["icm-bench-report"] / "report.md").read_text()
    assert "against itself, since nothing was measured before it: 2 identical" in said
    assert forge.comments == []
    installed = f"-m pip install --quiet --constraint {ROOT}/constraints.txt --editable {ROOT} .\n"
    assert (records / "INSTALLED").read_text() == installed

    # Weights that cost more: measured again, and refused, with a comment.
    heavier = commit("heavier", "main", model_pt="0.9")
    assert forge.push("heavier", base) == ["failure"]
    assert re.search(r"encoded [1-9]", forge.measured)
    assert verdicts() == {"my-codec": "worse", "jpeg": "identical"}
    page = (forge.artifacts["icm-bench-report"] / "report.html").read_text()
    assert "No image loses objects: what became worse are the bits." in page
    (comment,) = forge.comments
    assert "### Worse: 1 worse, 1 identical" in comment
    assert "`my-codec" in comment

    # A compiled part that costs less: measured again, and let pass; the comment is brought up to date.
    commit("lighter", "main", coder_cpp="// 0.01")
    assert forge.push("lighter", base) == ["success"]
    assert re.search(r"encoded [1-9]", forge.measured)
    assert verdicts() == {"my-codec": "better", "jpeg": "identical"}
    (comment,) = forge.comments
    assert "### No regression: 1 better, 1 identical" in comment

    # Words alone: nothing is measured again, and what was worse still is.
    commit("heavier", heavier, README_md="words")
    assert forge.push("heavier", base) == ["failure"]
    assert "nothing was left to measure" in forge.measured
    assert verdicts() == {"my-codec": "worse", "jpeg": "identical"}
