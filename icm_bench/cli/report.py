"""Commands that compare results with earlier ones and show all of them: compare, show and report."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from icm_bench.cli import option
from icm_bench.cli.console import say
from icm_bench.error import ResultError


def compare(
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE", help="The earlier results: a folder, or a git revision, REV[:FOLDER]."
        ),
    ],
    head: Annotated[str, typer.Argument(metavar="HEAD", help="The later results.")] = "results",
    metric: option.MetricOption = "map",
    tolerance: Annotated[
        float, option.comparison("The largest BD-rate that does not count as worse.", "PERCENT", min=0)
    ] = 0.5,
    method: option.MethodOption = "pchip",
    format_: Annotated[option.DifferenceFormat, option.output("How to print.", None, "--format")] = "text",
    base_name: option.BaseNameOption = None,
    head_name: Annotated[
        str | None, option.output("What to call the later results.", "NAME", show_default="as given")
    ] = None,
    output: Annotated[
        list[Path] | None,
        option.output("Write it to a file too: .txt, .md, .json or .xml (JUnit). May be repeated.", "FILE"),
    ] = None,
) -> None:
    """Compare every curve with its earlier self; exit status 1 where one is worse, beyond chance."""
    from icm_bench.file import write_text
    from icm_bench.report import difference, regression, revision

    folder = Path("results")
    with revision.opened(base, folder) as earlier, revision.opened(head, folder) as later:
        found = regression.compare(
            earlier,
            later,
            base_name=base_name or base,
            head_name=head_name or head,
            metric=metric,
            tolerance_percent=tolerance,
            method=method,
        )
    for path in output or ():
        ending = difference.ENDINGS.get(path.suffix, format_)
        write_text(path, difference.render(found, ending), ResultError, errors="backslashreplace")
    typer.echo(difference.render(found, format_), nl=False)
    if found.is_worse:
        raise typer.Exit(1)


def show(file: Annotated[Path, typer.Argument(metavar="FILE", help="A curve's JSON file.")]) -> None:
    """Print what a curve was measured on and the exact command that measures it."""
    from icm_bench.curves.result import load, titled

    result = load(file)
    say(f"{result.codec}: {titled(result.task, result.dataset, result.detector)}")
    if result.is_published:
        say(f"published: {result.meta['published']['source']}")
    if "command" not in result.meta:
        raise ResultError(
            "was not measured here and names no command",
            where=file,
            hint="give a file that icm-bench run wrote",
        )
    say(result.meta["command"])


def report(
    folder: option.ResultsArgument = Path("results"),
    metric: option.MetricOption = "map",
    codecs: option.CodecsFilter = "",
    datasets: option.DatasetsFilter = "",
    detectors: option.DetectorsFilter = "",
    labels: option.LabelsOption = None,
    output: Annotated[Path, option.output("The HTML file.", "FILE", "--output", "-o")] = Path("report.html"),
    base: Annotated[
        str | None,
        option.comparison(
            "Earlier results to compare with: a folder, or a git revision, REV[:FOLDER].", "BASE"
        ),
    ] = None,
    base_name: option.BaseNameOption = None,
    runs: Annotated[
        Path | None,
        option.image("Show images too, from this folder of bitstreams and predictions.", "FOLDER", "--runs"),
    ] = None,
    base_runs: Annotated[
        Path | None,
        option.image(
            "With --base: the earlier bitstreams and predictions, to show what became worse.", "FOLDER"
        ),
    ] = None,
    n_images: Annotated[int, option.image("How many images to show.", "N", "--image-count", min=1)] = 12,
    former_count: Annotated[int | None, option.image("", None, "--pictures", min=1, hidden=True)] = None,
    max_pixels: option.MaxPixelsOption = None,  # noqa: ARG001  (set by its callback)
    data_root: option.DataRootOption = None,
    images: option.ImagesOption = None,
    annotations: option.AnnotationsOption = None,
) -> None:
    """Write one HTML file of all curves: interactive plots, BD-rates, operating points, versions, images."""
    from icm_bench.pipeline.readback import stored_in
    from icm_bench.report import browser, page, revision
    from icm_bench.report.selection import Selection, parse_labels

    places = browser.Places(data_root, images, annotations)
    if former_count is not None:
        say("--pictures is called --image-count now", error=True)
        n_images = former_count
    earlier_stores = None if base_runs is None else stored_in(base_runs)
    pictures = None if runs is None else page.Pictures(stored_in(runs), places, n_images, earlier_stores)
    options: dict[str, Any] = {
        "metric": metric,
        "pictures": pictures,
        "base_name": base_name or base,
        "selection": Selection.parse(codecs, datasets, detectors),
        "labels": parse_labels(labels or ()),
    }
    with contextlib.ExitStack() as stack:
        earlier = None if base is None else stack.enter_context(revision.opened(base, Path("results")))
        missing = page.write(folder, output, base=earlier, **options)
    for missed in missing:
        say(missed)
    say(f"report: {output}")
