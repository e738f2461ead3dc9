"""What several commands share: the choices, the options, and the panels that group them in the help."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from icm_bench import limit
from icm_bench.curves.curve import Monotone as Monotone
from icm_bench.curves.estimate import Method as Method
from icm_bench.error import UsageError
from icm_bench.report.look import Panels as Panels
from icm_bench.report.look import Scale as Scale
from icm_bench.report.look import Size as Size

Truth: TypeAlias = Literal["annotations", "pseudo"]
Device: TypeAlias = Literal["auto", "cpu", "cuda"]
TableFormat: TypeAlias = Literal["table", "markdown", "csv", "latex", "json"]
DifferenceFormat: TypeAlias = Literal["text", "markdown", "json", "junit"]
Across: TypeAlias = Literal["detectors"]
Origin: TypeAlias = Literal["compressai", "compressai-vision", "tidy"]
Target: TypeAlias = Literal["tidy", "compressai", "coco", "codec-compare"]

CODING, IMAGE, DETECTOR = "What is measured", "Images", "Detector"
"""The panels whose options say what is measured, not how or where."""


def _option(panel: str, text: str, metavar: str | None = None, *names: str, **rest: Any) -> Any:
    """Return an option in a panel of the help: its text, what stands for its value, and its names if not its own."""
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel=panel, **rest)


coding = partial(_option, CODING)
image = partial(_option, IMAGE)
detector = partial(_option, DETECTOR)
machine = partial(_option, "Machine")
comparison = partial(_option, "Comparison")
convention = partial(_option, "Conventions")
selection = partial(_option, "Selection")
output = partial(_option, "Output")

ResultsArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder of the curves.")]
ResultsOption: TypeAlias = Annotated[
    Path, output("Folder of the curves.", "FOLDER", "--results", envvar="ICM_BENCH_RESULTS")
]
RunsOption: TypeAlias = Annotated[Path, output("Folder of bitstreams and predictions.", "FOLDER", "--runs")]
MetricOption: TypeAlias = Annotated[
    str, comparison("A column of the results: map, map50, psnr-rgb, ...", "NAME")
]
BaseNameOption: TypeAlias = Annotated[
    str | None, output("What to call the earlier results.", "NAME", show_default="as given")
]
MethodOption: TypeAlias = Annotated[Method, comparison("How a curve is interpolated between its points.")]
ForceOption: TypeAlias = Annotated[
    bool, comparison("Take curves of different rate conventions together, marked.", None, "--force")
]
CodecsFilter: TypeAlias = Annotated[
    str, selection("These codecs alone; a name stands for all its options.", "SPEC,...", "--codecs")
]
DatasetsFilter: TypeAlias = Annotated[str, selection("These datasets alone.", "NAME,...", "--datasets")]
DetectorsFilter: TypeAlias = Annotated[str, selection("These detectors alone.", "SPEC,...", "--detectors")]
LabelsOption: TypeAlias = Annotated[
    list[str] | None, selection("What to call a codec. May be repeated.", "SPEC=LABEL", "--labels")
]
DataRootOption: TypeAlias = Annotated[Path | None, image("The dataset's folder.", "FOLDER")]
ImagesOption: TypeAlias = Annotated[Path | None, image("Your own images.", "FOLDER")]
AnnotationsOption: TypeAlias = Annotated[Path | None, image("Their annotations in COCO format.", "FILE")]


def _set_max_pixels(value: int | None) -> int | None:
    # Whatever reads an image asks the environment.
    if value is not None:
        os.environ[limit.VARIABLE] = str(value)
    return value


MaxPixelsOption: TypeAlias = Annotated[
    int | None,
    image(
        "The most pixels of an image; more are taken for an attack.",
        "N",
        min=1,
        envvar=limit.VARIABLE,
        show_default="80 million",
        callback=_set_max_pixels,
    ),
]
DeviceOption: TypeAlias = Annotated[Device, machine("Where networks run.")]


def detectors(text: str) -> list[str]:
    """Return the specs of an option's list of detectors: a comma before a letter begins the next one.

    Raises:
        UsageError: There is none.
    """
    items = [item.strip(" ,") for item in re.split(r",(?=\s*[A-Za-z])", text) if item.strip(" ,")]
    if not items:
        raise UsageError("names nothing", where="--detector", hint="write --detector yolox:weights=FILE")
    return items


def listed(text: str, option: str, example: str) -> list[str]:
    """Return the items of an option's list, without spaces around them.

    Raises:
        UsageError: There is none.
    """
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not items:
        raise UsageError("names nothing", where=option, hint=f"write {option} {example}")
    return items
