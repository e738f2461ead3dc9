"""A repository on a forge: its workflows run on its events by their own files, with caches, artifacts and comments."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "action.yml"
WORKFLOWS = ROOT / ".github" / "workflows"
COMMENT = WORKFLOWS / "report-comment.yml"

PULL_REQUEST = 5

GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in
  *"--method GET"*pulls*) cat "$PULLS" ;;
  *--paginate*) cat "$COMMENTS" ;;
esac
"""

PYTHON = """#!/bin/sh
printf '%s\\n' "$*" >> "$INSTALLED"
"""

PROGRAMS = {"gh": GH, "python": PYTHON}
"""Programs of a runner that reach beyond this machine: they record what they are told."""


def load(path: Path) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(path.read_text())
    return content


def steps_of(path: Path) -> list[dict[str, Any]]:
    content = load(path)
    if "runs" in content:
        return list(content["runs"]["steps"])
    (job,) = content["jobs"].values()
    return list(job["steps"])


class Runner:
    """Runs the shell steps of an action or a workflow in a folder."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._steps = {step["name"]: step for step in steps_of(path) if "run" in step}
        self._folder = folder
        self.summary, self.output = folder / "summary.md", folder / "output.txt"

    def __call__(self, name: str, **values: str) -> subprocess.CompletedProcess[str]:
        step = self._steps[name]
        assert set(values) == set(step.get("env", {})), "every variable of the step, and no other"
        files = {"GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_OUTPUT": str(self.output)}
        # As a runner calls it.
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=self._folder,
            env={**os.environ, **files, **values},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )


def is_taken(path: str, globs: str) -> bool:
    """Tell whether a file is among those that a runner's globs take: the last one that fits it decides."""
    taken = False
    for pattern in globs.split():
        # Two stars stand for any folders, one for a part of a name.
        parts = re.escape(pattern.removeprefix("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*")
        if re.fullmatch(parts.replace(r"\*", "[^/]*"), path):
            taken = not pattern.startswith("!")
    return taken


def git(folder: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *settings, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


class Forge:
    """Runs a workflow that uses the action, and the one that comments, on the events of a repository.

    Attributes:
        measured: What the last run's measurement printed.
        artifacts: The folder of the last run's artifacts, by name.
        comments: The comments on the one pull request.
    """

    def __init__(
        self, folder: Path, workflow: Mapping[Any, Any], inputs: Mapping[str, str], records: Path
    ) -> None:
        self._folder = folder
        self._workflow = workflow
        self._inputs = inputs
        self._records = records
        self._caches: dict[str, dict[str, Path]] = {}
        self.measured = ""
        self.artifacts: dict[str, Path] = {}
        self.comments: list[str] = []

    def push(self, branch: str, before: str) -> list[str]:
        """Run what a push to a branch starts, which has an open pull request unless it is main.

        Args:
            branch: The branch; its head is what is measured.
            before: The commit that the branch had before, and on which the pull request is based.

        Returns:
            The conclusion of each run of the workflow.
        """
        git(self._folder, "checkout", "-q", branch)
        head = git(self._folder, "rev-parse", "HEAD")
        events = {"push": {"github.event.before": before}}
        if branch != "main":
            events["pull_request"] = {"github.event.pull_request.base.sha": before}
        # YAML reads the key "on" as a truth value.
        triggers = self._workflow[True]
        conclusions = []
        for event, facts in events.items():
            if event not in triggers or (
                event == "push" and branch not in (triggers[event] or {}).get("branches", [branch])
            ):
                continue
            shutil.rmtree(self._folder / "runs", ignore_errors=True)
            self.artifacts = {}
            values = {"github.event_name": event, "github.sha": head, **facts}
            (job,) = self._workflow["jobs"].values()
            conclusions.append(self._take(job["steps"], None, values))
            self._complete(event, branch, head)
        return conclusions

    def _complete(self, event: str, branch: str, head: str) -> None:
        """Run the workflow that waits for another to end, in a folder of its own."""
        content = load(COMMENT)
        started_by = content[True]["workflow_run"]
        (job,) = content["jobs"].values()
        values = {
            "github.event.workflow_run.event": event,
            "github.event.workflow_run.id": "1",
            "github.event.workflow_run.html_url": "https://example.org/run/1",
            "github.event.workflow_run.head_repository.owner.login": "owner",
            "github.event.workflow_run.head_branch": branch,
            "github.event.workflow_run.head_sha": head,
            "github.repository": "owner/name",
            "github.token": "none",
        }
        if self._workflow["name"] not in started_by["workflows"] or not _holds(job["if"], values):
            return
        folder = self._records / "comment"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        calls = self._records / "CALLS"
        calls.unlink(missing_ok=True)
        (self._records / "PULLS").write_text(json.dumps([{"number": PULL_REQUEST, "head": {"sha": head}}]))
        there = [
            {"id": index, "user": {"type": "Bot"}, "body": body} for index, body in enumerate(self.comments)
        ]
        (self._records / "COMMENTS").write_text(json.dumps(there))
        assert self._take(job["steps"], Runner(COMMENT, folder), values) == "success"
        body = (folder / "comment.md").read_text()
        (posted,) = [line for line in calls.read_text().splitlines() if " POST " in line or " PATCH " in line]
        if f" POST repos/owner/name/issues/{PULL_REQUEST}/comments " in posted:
            self.comments.append(body)
        else:
            (index,) = re.findall(r" PATCH repos/owner/name/issues/comments/(\d+) ", posted)
            self.comments[int(index)] = body

    def _take(self, steps: Sequence[Mapping[str, Any]], runner: Runner | None, values: dict[str, str]) -> str:
        """Take steps one after another; after one that fails, those alone that always run."""
        conclusion = "success"
        for step in steps:
            condition = step.get("if", "")
            if condition != "always()" and (
                conclusion == "failure" or (condition and not _holds(condition, values))
            ):
                continue
            if "run" in step:
                assert runner is not None
                is_good = self._shell(step, runner, values)
            else:
                is_good = self._use(step, values)
            values[f"steps.{step.get('id')}.outcome"] = "success" if is_good else "failure"
            if not is_good and not step.get("continue-on-error"):
                conclusion = "failure"
        return conclusion

    def _shell(self, step: Mapping[str, Any], runner: Runner, values: dict[str, str]) -> bool:
        runner.output.unlink(missing_ok=True)
        done = runner(step["name"], **_filled(step.get("env", {}), values))
        if step["name"] == "Measure":
            self.measured = done.stdout
        if done.returncode == 0 and runner.output.exists():
            for line in runner.output.read_text().splitlines():
                name, _, value = line.partition("=")
                values[f"steps.{step['id']}.outputs.{name}"] = value
        return done.returncode == 0

    def _use(self, step: Mapping[str, Any], values: dict[str, str]) -> bool:
        name, given = step["uses"].partition("@")[0], _filled(step.get("with", {}), values)
        if name in ("./", "OWNER/icm-bench"):
            action = load(ACTION)
            inputs = {key: str(each.get("default", "")) for key, each in action["inputs"].items()}
            assert set(given) <= set(inputs)
            inputs.update({**given, **self._inputs})
            within = values | {f"inputs.{key}": value for key, value in inputs.items()}
            within |= {
                "github.action_path": str(ROOT),
                "hashFiles(inputs.sources)": self._digest(inputs["sources"]),
            }
            return self._take(action["runs"]["steps"], Runner(ACTION, self._folder), within) == "success"
        if name == "actions/upload-artifact":
            source, kept = self._folder / given["path"], self._records / "artifacts" / given["name"]
            shutil.rmtree(kept, ignore_errors=True)
            if source.exists():
                self.artifacts[given["name"]] = shutil.copytree(source, kept)
            return True
        if name == "actions/download-artifact":
            if given["name"] not in self.artifacts:
                return False
            shutil.copytree(self.artifacts[given["name"]], self._records / "comment" / given["path"])
            return True
        if name.startswith("actions/cache/"):
            self._cache(step, given, values)
            return True
        # The whole history is there, and this Python.
        assert name in ("actions/checkout", "actions/setup-python"), name
        return True

    def _cache(self, step: Mapping[str, Any], given: Mapping[str, str], values: dict[str, str]) -> None:
        paths, key = given["path"].split(), given["key"]
        if "restore" in step["uses"]:
            for path, copy in self._caches.get(key, {}).items():
                shutil.copytree(copy, self._folder / path)
            values[f"steps.{step.get('id')}.outputs.cache-hit"] = "true" if key in self._caches else ""
            values[f"steps.{step.get('id')}.outputs.cache-primary-key"] = key
            return
        kept = self._records / "caches" / str(len(self._caches))
        self._caches[key] = {
            path: shutil.copytree(self._folder / path, kept / Path(path).name) for path in paths
        }

    def _digest(self, sources: str) -> str:
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        names = sorted(str(path.relative_to(self._folder)) for path in files)
        # A real runner keeps its own files elsewhere.
        taken = [name for name in names if is_taken(name, sources) and not name.endswith(".txt")]
        return str([(name, (self._folder / name).read_bytes()) for name in taken])


def _filled(texts: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    """Return texts in which the value of each expression stands."""
    return {
        name: re.sub(r"\$\{\{(.*?)\}\}", lambda found: _value(found[1], values), str(text))
        for name, text in texts.items()
    }


def _value(expression: str, values: Mapping[str, str]) -> str:
    if "!=" in expression:
        return str(_holds(expression, values)).lower()
    known = [values.get(part.strip(), "") for part in expression.split("||")]
    return next(filter(None, known), "")


def _holds(expression: str, values: Mapping[str, str]) -> bool:
    name, operator, text = re.split(r"\s*(==|!=)\s*", expression.strip())
    return (values.get(name, "") == text.strip("'")) == (operator == "==")
