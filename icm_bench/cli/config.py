"""Options from a file, for runs that are too long for a command line, and what results record of it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import typer

from icm_bench.cli.option import CODING, DETECTOR, IMAGE
from icm_bench.error import UsageError, unknown

_META = "icm_bench.config"


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take a command's options from a TOML file; the command line wins.

    Keys are the options' names (``detector-weights``); a list stands for what is separated by commas.

    Raises:
        UsageError: The file cannot be read, is not TOML, or names an option that there is not.
    """
    if path is None:
        return None
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot be read ({error})", where=f"--config {path}") from error
    known = {parameter.name: parameter for parameter in context.command.params if parameter.name != "config"}
    options: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in known:
            missing = unknown("option", key, sorted(str(other).replace("_", "-") for other in known))
            raise UsageError(missing.what, where=f"--config {path}", hint=missing.hint)
        if isinstance(value, list) and not getattr(known[name], "multiple", False):
            value = ",".join(map(str, value))
        options[name] = value
    context.default_map = {**(context.default_map or {}), **options}
    context.meta[_META] = {
        "file": path.name,
        "options": {
            key: value for key, value in content.items() if _is_recorded(known[key.replace("-", "_")])
        },
    }
    return path


def recorded(context: typer.Context) -> dict[str, Any] | None:
    """Return what results record of the file: its name, and the options that say what is measured; None with no file.

    Folders of one machine, and how it did the work, are no part of a result.
    """
    found: dict[str, Any] | None = context.meta.get(_META)
    return found


def _is_recorded(parameter: Any) -> bool:
    return parameter.rich_help_panel in (CODING, IMAGE, DETECTOR) and parameter.metavar not in (
        "FOLDER",
        "FILE",
    )
