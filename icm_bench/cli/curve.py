"""Commands that read curves: BD-rates and plots."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from icm_bench.cli import by_detector, option
from icm_bench.cli.console import say
from icm_bench.error import ResultError, UsageError, unknown
from icm_bench.file import below
from icm_bench.spec import file_name_of

if TYPE_CHECKING:
    from icm_bench.curves.result import Result
    from icm_bench.report.selection import Selection
    from icm_bench.report.table import Table


def bdrate(
    folder: option.ResultsArgument = Path("results"),
    anchor: Annotated[
        str | None, option.comparison("The codec to compare with.", "SPEC", show_default="vvc, or the first")
    ] = None,
    metric: option.MetricOption = "map",
    method: option.MethodOption = "pchip",
    monotone: Annotated[
        option.Monotone, option.comparison("What to do where accuracy does not rise with rate.")
    ] = "pareto",
    at: Annotated[
        str,
        option.comparison(
            "Accuracies at which to give the rate; a negative one counts from the uncompressed images'.",
            "X,...",
        ),
    ] = "-1,-2,-5",
    matrix: Annotated[bool, option.comparison("Every codec against every other.", None, "--matrix")] = False,
    across: Annotated[
        option.Across | None,
        option.comparison("One table of all detectors of a dataset and task, with the mean over them."),
    ] = None,
    no_intervals: Annotated[
        bool, option.comparison("Leave out intervals, which take most of the time.", None, "--no-intervals")
    ] = False,
    force: option.ForceOption = False,
    codecs: option.CodecsFilter = "",
    datasets: option.DatasetsFilter = "",
    detectors: option.DetectorsFilter = "",
    labels: option.LabelsOption = None,
    points: Annotated[
        bool, option.output("Print the operating points in place of BD-rates.", None, "--points")
    ] = False,
    format_: Annotated[option.TableFormat, option.output("How to print.", None, "--format")] = "table",
) -> None:
    """Compare every curve of a folder with the anchor of its dataset, task and detector."""
    from icm_bench.curves.comparison import compare_all, compare_with_anchor, fixed_accuracies, records
    from icm_bench.curves.result import main_metric
    from icm_bench.report import record, table
    from icm_bench.report.selection import Selection, parse_labels
    from icm_bench.report.style import check_labels

    named = parse_labels(labels or ())
    options: Any
    selection = Selection.parse(codecs, datasets, detectors)
    groups = _groups(folder, metric, selection, force=force or points)
    if no_intervals:
        groups = [[replace(curve, is_resampled=False) for curve in group] for group in groups]
    check_labels(named, itertools.chain(*groups))
    if points:
        rows = (row for group in groups for row in record.of_points(group, named))
        _print(rows, (table.labelled(table.of_run(group), group, named) for group in groups), format_)
        return
    if anchor is not None and not matrix:
        groups = _with_anchor(groups, anchor)
    if across is not None:
        options = {"anchor": anchor, "metric": metric, "method": method, "monotone": monotone}
        pairs = [(by_detector.compared(each, **options), each) for each in by_detector.judged(groups)]
        rows = (row for compared, _ in pairs for item in compared for row in item.records())
        _print(rows, (by_detector.table_of(compared, each, named) for compared, each in pairs), format_)
        return
    made = []
    for group in groups:
        options = {"metric": main_metric(group, metric), "method": method, "monotone": monotone}
        compared = (
            compare_all(group, **options) if matrix else compare_with_anchor(group, anchor=anchor, **options)
        )
        made.append((compared, [] if matrix else fixed_accuracies(group, _numbers(at), **options)))
    of_group = table.of_matrix if matrix else table.of_comparison
    tables = (
        table.labelled(item, group, named)
        for group, (compared, rates) in zip(groups, made, strict=True)
        for item in (
            *([of_group(compared)] if compared else []),
            *([table.of_fixed_accuracies(rates)] if rates else []),
        )
    )
    _print((row for pair in made for row in records(*pair)), tables, format_)


def _print(rows: Iterable[dict[str, Any]], tables: Iterable[Table], format_: option.TableFormat) -> None:
    """Print records in a format for programs, or else tables."""
    from icm_bench.report import record, table

    if format_ in ("json", "csv"):
        write = record.to_json if format_ == "json" else record.to_csv
        typer.echo(write(list(rows)), nl=False)
        return
    for item in tables:
        if format_ == "table":
            table.show(item, Console())
        else:
            typer.echo(table.markdown(item) if format_ == "markdown" else table.latex(item))


def plot(
    folder: option.ResultsArgument = Path("results"),
    metric: option.MetricOption = "map",
    force: option.ForceOption = False,
    codecs: option.CodecsFilter = "",
    datasets: option.DatasetsFilter = "",
    detectors: option.DetectorsFilter = "",
    labels: option.LabelsOption = None,
    scale: Annotated[option.Scale, option.output("Scale of the rate axis.")] = "log",
    panels: Annotated[
        option.Panels, option.output("One panel, or one for each size of object, category or detector.")
    ] = "one",
    formats: Annotated[
        str, option.output("png, svg, pdf, separated by commas.", "ENDING,...", "--formats")
    ] = "png",
    output: Annotated[
        Path | None, option.output("Folder for the plots.", "FOLDER", show_default="beside the curves")
    ] = None,
    xlim: Annotated[str, option.output("Lowest and highest rate, bits per pixel.", "LOW,HIGH")] = "",
    ylim: Annotated[str, option.output("Lowest and highest accuracy.", "LOW,HIGH")] = "",
    size: Annotated[
        option.Size, option.output("For a screen, or for one or both columns of a paper.")
    ] = "screen",
    bare: Annotated[
        bool, option.output("Leave out the title and the line that says what was measured.", None, "--bare")
    ] = False,
) -> None:
    """Draw accuracy over rate, one plot for each dataset, task and detector."""
    from icm_bench.curves.result import main_metric
    from icm_bench.detector import NO_DETECTOR
    from icm_bench.report import plot
    from icm_bench.report.look import Look
    from icm_bench.report.selection import Selection, parse_labels
    from icm_bench.report.style import check_labels

    endings = option.listed(formats, "--formats", "png,pdf")
    for ending in endings:
        if ending not in plot.FORMATS:
            raise unknown("format", ending, list(plot.FORMATS))
    look = Look(parse_labels(labels or ()), _limits(xlim, "--xlim"), _limits(ylim, "--ylim"), size, bare)
    groups = _groups(folder, metric, Selection.parse(codecs, datasets, detectors), force=force)
    check_labels(look.labels, itertools.chain(*groups))
    if panels != "one":
        plain = [curves for curves in groups if curves[0].detector == NO_DETECTOR]
        groups = [curves for curves in groups if curves not in plain] or plain
        for curves in plain if groups is not plain else ():
            say(f"left out, without {panels}: {_title(curves)}", error=True)
    if panels == "detectors":
        for members in by_detector.judged(groups):
            place = members[0][0].group[:2]
            names = (*place, file_name_of(members[0][0].detector))
            home = _folder_of(names, folder).parent if output is None else below(output, *place)
            say(by_detector.draw(members, home, scale=scale, formats=endings, look=look))
        return
    for curves in groups:
        group = curves[0].group
        names = (*group[:2], file_name_of(group[2]))
        home = _folder_of(names, folder) if output is None else below(output, *names)
        drawn = plot.draw_group(
            curves,
            home,
            metric=main_metric(curves, metric),
            scale=scale,
            panels=panels,
            formats=endings,
            look=look,
        )
        say(drawn)


def _folder_of(names: tuple[str, str, str], folder: Path) -> Path:
    """Return where a group's curves lie, which were found in a folder of results or in a folder within one."""
    whole = below(folder, *names)
    if whole.is_dir():
        return whole
    parts = folder.resolve().parts
    depth = next((n for n in (1, 2, 3) if parts[-n:] == names[:n]), 0)
    return below(folder, *names[depth:])


def _groups(folder: Path, metric: str, selection: Selection, *, force: bool) -> list[list[Result]]:
    """Return the groups of the selected curves that have a metric; say what is left out, and why."""
    from icm_bench.curves.comparison import comparable, grouped
    from icm_bench.curves.result import main_metric

    results = list(selection.of(found(folder)))
    groups = []
    for group in grouped(results).values():
        kept, left_out = (group, []) if force else comparable(group)
        for line in left_out:
            say(f"left out: {line}; bdrate and plot take it along with --force, marked", error=True)
        if any(main_metric(kept, metric) in item.results for item in kept):
            groups.append(kept)
        else:
            say(f"left out, without {metric}: {_title(group)}", error=True)
    if not groups:
        known = ", ".join(sorted({key for item in results for key in item.results}))
        raise ResultError(f"no curve has the metric '{metric}'", where=folder, hint=f"known: {known}")
    return groups


def found(folder: Path) -> list[Result]:
    """Return the curves of a folder; say which files are not read.

    Raises:
        ResultError: The folder does not exist, or no curve is left.
    """
    from icm_bench.curves.result import find

    errors: list[ResultError] = []
    results = list(find(folder, errors.append))
    if not results and errors:
        raise errors[0]
    if not results:
        raise ResultError("holds no curves", where=folder, hint="make some with icm-bench run")
    for error in errors:
        say(f"left out: {error}", error=True)
    return results


def _with_anchor(groups: list[list[Result]], anchor: str) -> list[list[Result]]:
    """Return the groups in which one curve answers to the anchor's name; say which are left out, and why.

    Raises:
        UsageError: There is no such group.
    """
    from icm_bench.curves.comparison import find_anchor

    having, without = [], []
    for group in groups:
        try:
            find_anchor(group, anchor)
            having.append(group)
        except UsageError as error:
            without.append((group, error))
    if not having:
        raise without[0][1]
    for group, reason in without:
        say(f"left out: {_title(group)}: {reason}", error=True)
    return having


def _title(group: list[Result]) -> str:
    from icm_bench.curves.result import titled

    return titled(group[0].task, group[0].dataset, group[0].detector)


def _numbers(text: str) -> list[float]:
    try:
        return [float(item) for item in text.split(",") if item.strip()]
    except ValueError as error:
        raise UsageError(f"'{text}' is not a list of numbers", where="--at", hint="write -1,-2,-5") from error


def _limits(text: str, option_: str) -> tuple[float, float] | None:
    if not text.strip():
        return None
    try:
        low, high = (float(item) for item in text.split(","))
    except ValueError as error:
        raise UsageError(f"'{text}' is not two numbers", where=option_, hint="write LOW,HIGH") from error
    return low, high
