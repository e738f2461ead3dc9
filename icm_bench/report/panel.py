"""Plots of several panels: by size of object, by category, by detector, and of more curves than one panel can show."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from icm_bench.curves.result import main_metric
from icm_bench.error import ResultError
from icm_bench.metrics.metric import metric_of
from icm_bench.report import plot
from icm_bench.report.look import SIZES, plain, styled
from icm_bench.report.style import detector_label, labels_of, usual_anchor

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from icm_bench.curves.result import Result
    from icm_bench.report.look import Look, Panels, Scale

OBJECT_SIZES: Final = ("map_small", "map_medium", "map_large")

MOST_IN_FOREGROUND: Final = 5
"""Curves that a panel shows in colour, of a group of many."""

MOST_PANELS: Final = 12
"""Panels of a group of many; where they do not suffice each shows more."""

MOST_IN_COLUMN: Final = 6
"""Panels that stand one below the other in one column of a paper; of more, two stand side by side."""

_ANCHOR_COLOR, _OTHERS_COLOR = "0.15", "0.82"


def draw_few_at_a_time(results: Sequence[Result], metric: str, scale: Scale, look: Look) -> Figure:
    """Draw many curves: a few in the colours of each panel, all the others in grey, the anchor in every panel.

    Raises:
        ResultError: There is nothing to draw, or the curves are not of one dataset, task and detector.
    """
    from matplotlib.collections import LineCollection

    drawn, metric = plot.drawn_of(results, metric)
    labels = labels_of(drawn, look.labels)
    foregrounds = _shared_out(sorted(drawn, key=lambda result: labels[result.codec].casefold()), labels)
    lines = {id(each): np.column_stack(plot.points_of(each, metric)[:2]) for each in drawn}
    anchor = usual_anchor(drawn)
    with styled(look.points):
        figure, cells = _grid(len(foregrounds), 2 if len(foregrounds) in (2, 4) else 3, look)
        hidden, tallest = 0, 0.0
        for axes, shown in zip(cells, foregrounds, strict=True):
            others = [lines[id(each)] for each in drawn if each not in shown]
            axes.add_collection(LineCollection(others, colors=_OTHERS_COLOR, linewidths=0.8, zorder=1.5))
            if anchor not in shown:
                axes.plot(*lines[id(anchor)].T, color=_ANCHOR_COLOR, linewidth=0.9, zorder=1.6)
            for result in shown:
                plot.draw_curve(axes, result, metric, label=plot.label_of(result, drawn, look))
            plot.draw_original(axes, drawn[0], metric, bands=False)
            hidden = plot.set_limits(axes, drawn, metric, scale, look)
            handles, names = axes.get_legend_handles_labels()
            # Above the panel: long names would hide the curves, of which grey ones lie everywhere.
            legend = axes.legend(
                handles[: len(shown)],
                names[: len(shown)],
                loc="lower left",
                bbox_to_anchor=(0.0, 1.0),
                fontsize=look.points - 1,
            )
            tallest = max(tallest, legend.get_window_extent().height / figure.dpi)
        grid: Any = cells[0].get_gridspec()
        figure.set_figheight(figure.get_figheight() + tallest * grid.nrows)
        _name_axes(figure, cells, plain(metric_of(metric).axis), look)
        note = [f"black: {labels[anchor.codec]}", "grey: the other curves"]
        if (drawn[0].meta.get("uncompressed") or {}).get(metric) is not None:
            note.append("dotted: the uncompressed images")
        plot.describe(figure, [(drawn, metric)], look, bands=False, hidden=hidden, more=note)
    return figure


def draw_panels(results: Sequence[Result], panels: Panels, scale: Scale, look: Look) -> Figure:
    """Draw a panel for each size of object, for each category, or for each detector.

    Raises:
        ResultError: No curve has an accuracy by size, or by category.
    """
    titled = _titled(results, panels)
    if not titled:
        raise ResultError(f"no curve has values by {panels}", hint="choose one panel")
    with styled(look.points):
        figure, cells = _grid(len(titled), 3 if len(titled) < 9 else 5, look, share_accuracy=False)
        legend: dict[str, Artist] = {}
        hidden = 0
        for axes, (title, (curves, metric)) in zip(cells, titled.items(), strict=True):
            plot.plot(curves, metric=metric, scale=scale, axes=axes, look=replace(look, bare=True))
            axes.set_title(plain(title), fontsize=look.points, loc="left")
            axes.set(xlabel="", ylabel="")
            axes.tick_params(labelsize=look.points - 2)
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                name = label.partition(" (")[0] if label.startswith("uncompressed") else label
                legend.setdefault(name, handle)
            axes.legend().remove()
            hidden += plot.n_outside(axes, plot.drawn_of(curves, metric)[0], metric)
        accuracy = plain(metric_of(next(iter(titled.values()))[1]).axis)
        _name_axes(figure, cells, accuracy if panels == "detectors" else "AP / %", look)
        columns = min(len(legend), 2 if look.size == "column" else 5)
        n_curves = max(len(curves) for curves, _ in titled.values())
        has_bands = panels != "categories" and look.bands and n_curves <= plot.MOST_WITH_BANDS
        # No BD-rate is of a category: what is left out is said of all of them.
        shown = [(results, "map")] if panels == "categories" else list(titled.values())
        small = look.points - 1
        names = figure.legend(legend.values(), legend, loc="upper center", ncols=columns, fontsize=small)
        inches = names.get_window_extent().height / figure.dpi
        figure.set_figheight(figure.get_figheight() + inches)
        plot.describe(figure, shown, look, bands=has_bands, hidden=hidden)
        # Between the title and the panels, both of which know nothing of it.
        layout: Any = figure.get_layout_engine()
        left, bottom, width, height = layout.get()["rect"]
        names.set_bbox_to_anchor((0.5, bottom + height))
        layout.set(rect=(left, bottom, width, height - inches / figure.get_figheight()))
    return figure


def _titled(results: Sequence[Result], panels: Panels) -> dict[str, tuple[Sequence[Result], str]]:
    """Return the curves of each panel and the metric that it shows, by its title."""
    if panels == "sizes":
        sizes = [key for key in OBJECT_SIZES if plot.is_measured(results, key)]
        return {metric_of(key).label: (results, key) for key in sizes}
    if panels == "detectors":
        detectors = dict.fromkeys(result.detector for result in results)
        judged = {name: [result for result in results if result.detector == name] for name in detectors}
        return {detector_label(name): (curves, main_metric(curves)) for name, curves in judged.items()}
    names = sorted({name for result in results for name in result.categories})
    by_category = {name: [_of_category(result, name) for result in results] for name in names}
    return {name: (curves, "map") for name, curves in by_category.items() if plot.is_measured(curves, "map")}


def _shared_out(ordered: Sequence[Result], labels: Mapping[str, str]) -> list[list[Result]]:
    """Return the curves of each panel's foreground, those whose labels begin with the same word together."""
    capacity = max(MOST_IN_FOREGROUND, -(-len(ordered) // MOST_PANELS))
    panels: list[list[Result]] = []
    for _, family in itertools.groupby(ordered, key=lambda result: labels[result.codec].split()[0]):
        members = list(family)
        for start in range(0, len(members), capacity):
            part = members[start : start + capacity]
            home = next((panel for panel in panels if len(panel) + len(part) <= capacity), None)
            if home is None:
                panels.append(part)
            else:
                home += part
    return panels


def _grid(
    n_panels: int, n_columns: int, look: Look, *, share_accuracy: bool = True
) -> tuple[Figure, list[Axes]]:
    import matplotlib.pyplot as plt

    # Panels of a third of a paper's column would hold no names.
    n_columns = min(n_panels, n_columns if look.size != "column" else 1 if n_panels <= MOST_IN_COLUMN else 2)
    n_rows = -(-n_panels // n_columns)
    width, _ = SIZES[look.size]
    width = max(width, 3.3 * n_columns + 0.4) if look.size == "screen" else width
    shape = {"screen": 0.82, "column": 0.5, "two-columns": 0.9}[look.size]
    height = shape * width / n_columns * n_rows + 0.5
    figure, grid = plt.subplots(
        n_rows,
        n_columns,
        figsize=(width, height),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey=share_accuracy,
    )
    for axes in grid.flat[n_panels:]:
        axes.set_visible(False)
    # A column whose last row is empty still needs the names of its rates.
    for axes in grid.flat[max(0, n_panels - n_columns) : n_panels]:
        axes.tick_params(labelbottom=True)
    return figure, list(grid.flat[:n_panels])


def _name_axes(figure: Figure, cells: Sequence[Axes], accuracy: str, look: Look) -> None:
    figure.supylabel(accuracy, fontsize=look.points)
    for axes in cells:
        if axes.xaxis.get_tick_params()["labelbottom"]:
            axes.set_xlabel("rate / bits per pixel")


def _of_category(result: Result, name: str) -> Result:
    return replace(
        result,
        results={"bpp": result.results["bpp"], "map": result.categories.get(name, ())},
        meta={key: value for key, value in result.meta.items() if key not in ("intervals", "uncompressed")},
    )
