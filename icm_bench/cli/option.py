"""What several commands share: the choices, the options, and the panels that group them in the help."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

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

coding = partial(typer.Option, rich_help_panel=CODING)
image = partial(typer.Option, rich_help_panel=IMAGE)
detector = partial(typer.Option, rich_help_panel=DETECTOR)
machine = partial(typer.Option, rich_help_panel="Machine")
comparison = partial(typer.Option, rich_help_panel="Comparison")
convention = partial(typer.Option, rich_help_panel="Conventions")
selection = partial(typer.Option, rich_help_panel="Selection")
output = partial(typer.Option, rich_help_panel="Output")

ResultsArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder of the curves.")]
ResultsOption: TypeAlias = Annotated[
    Path, output("--results", metavar="FOLDER", envvar="ICM_BENCH_RESULTS", help="Folder of the curves.")
]
RunsOption: TypeAlias = Annotated[
    Path, output("--runs", metavar="FOLDER", help="Folder of bitstreams and predictions.")
]
MetricOption: TypeAlias = Annotated[
    str, comparison(metavar="NAME", help="A column of the results: map, map50, psnr-rgb, ...")
]
BaseNameOption: TypeAlias = Annotated[
    str | None,
    output(metavar="NAME", help="What to call the earlier results.", show_default="as given"),
]
MethodOption: TypeAlias = Annotated[
    Method, comparison(help="How a curve is interpolated between its points.")
]
ForceOption: TypeAlias = Annotated[
    bool, comparison("--force", help="Take curves of different rate conventions together, marked.")
]
CodecsFilter: TypeAlias = Annotated[
    str,
    selection("--codecs", metavar="SPEC,...", help="These codecs alone; a name stands for all its options."),
]
DatasetsFilter: TypeAlias = Annotated[
    str, selection("--datasets", metavar="NAME,...", help="These datasets alone.")
]
DetectorsFilter: TypeAlias = Annotated[
    str, selection("--detectors", metavar="SPEC,...", help="These detectors alone.")
]
LabelsOption: TypeAlias = Annotated[
    list[str] | None,
    selection("--labels", metavar="SPEC=LABEL", help="What to call a codec. May be repeated."),
]
DataRootOption: TypeAlias = Annotated[Path | None, image(metavar="FOLDER", help="The dataset's folder.")]
ImagesOption: TypeAlias = Annotated[Path | None, image(metavar="FOLDER", help="Your own images.")]
AnnotationsOption: TypeAlias = Annotated[
    Path | None, image(metavar="FILE", help="Their annotations in COCO format.")
]


def _set_max_pixels(value: int | None) -> int | None:
    # Whatever reads an image asks the environment.
    if value is not None:
        os.environ[limit.VARIABLE] = str(value)
    return value


MaxPixelsOption: TypeAlias = Annotated[
    int | None,
    image(
        metavar="N",
        min=1,
        envvar=limit.VARIABLE,
        help="The most pixels of an image; more are taken for an attack.",
        show_default="80 million",
        callback=_set_max_pixels,
    ),
]
DeviceOption: TypeAlias = Annotated[Device, machine(help="Where networks run.")]


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
