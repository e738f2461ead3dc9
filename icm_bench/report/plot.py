"""Plots of accuracy against rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from icm_bench.curves.comparison import METRIC_NAMES, unit
from icm_bench.curves.rate_convention import differing
from icm_bench.curves.result import main_metric
from icm_bench.detector import NO_DETECTOR
from icm_bench.error import ResultError
from icm_bench.file import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from icm_bench.curves.result import Result

FORMATS = ("png", "svg", "pdf")

SIZES = ("map_small", "map_medium", "map_large")

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F3C8D", "#4D4D4D")
"""Okabe and Ito's palette, which readers with any colour vision tell apart, and two more."""

_MARKERS = "osD^vP*X"

_LINES = ("-", "--", "-.")
"""The first eight curves' lines, those of the next eight, which have the same colours, and so on."""


def plot(
    results: Sequence[Result],
    *,
    metric: str = "map",
    scale: Literal["log", "linear"] = "log",
    bands: bool = True,
    axes: Axes | None = None,
) -> Axes:
    """Draw curves of one dataset, task and detector.

    Args:
        results: The curves, in the order of the legend.
        metric: A column of the results; AP stands for what curves that have none are compared on.
        scale: Of the rate axis.
        bands: Draw the 95 % intervals where the results carry them. More than eight curves go without: their bands
            would hide one another, and a ninth curve, dashed, has the colour of the first.
        axes: Where to draw; new axes by default.

    Raises:
        ResultError: There is nothing to draw, or the curves are not of one dataset, task and detector.
    """
    import matplotlib.pyplot as plt

    metric = main_metric(results, metric)
    drawn = [
        result for result in results if any(value is not None for value in result.results.get(metric, ()))
    ]
    if not drawn:
        raise ResultError(f"no curve has the metric '{metric}'", hint="choose another metric")
    if len({result.group for result in drawn}) > 1:
        raise ResultError(
            "curves of several datasets, tasks or detectors do not share axes",
            hint="plot them one group at a time",
        )
    is_crowded = len(drawn) > len(_COLORS)
    if axes is None:
        width = 9.2 if is_crowded else 7.2
        _, axes = plt.subplots(figsize=(width, 4.8), layout="constrained")
    for index, result in enumerate(drawn):
        # A dagger, as in the tables: these rates do not mean what the first curve's mean.
        is_mixed = result is not drawn[0] and bool(differing(drawn[0].meta, result.meta))
        label = f"{result.codec} †" if is_mixed else result.codec
        _draw_curve(axes, result, metric, index, label=label, bands=bands and not is_crowded)
    _draw_original(axes, drawn[0], metric, bands=bands)
    axes.set_xscale(scale)
    if scale == "log":
        _name_rates(axes)
    else:
        axes.set_xlim(left=0)
    first = drawn[0]
    dataset = first.meta["dataset"]
    n_images = f" ({dataset['images']} images)" if "images" in dataset else ""
    detector = "" if first.detector == NO_DETECTOR else f", {first.detector}"
    axes.set_title(f"{first.task} on {first.dataset}{n_images}{detector}", fontsize=10, loc="left")
    axes.set_xlabel("rate / bits per pixel of the native image")
    axes.set_ylabel(_axis_label(metric))
    axes.grid(visible=True, which="major", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if is_crowded:
        # Within the axes so many names would lie on the curves.
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    else:
        axes.legend(frameon=False, fontsize=9)
    return axes


def draw_group(
    results: Sequence[Result],
    folder: Path,
    *,
    metric: str = "map",
    scale: Literal["log", "linear"] = "log",
    panels: Literal["one", "sizes", "categories"] = "one",
    formats: Sequence[str] = ("png",),
) -> Path:
    """Write the plot of a group of curves, once a format, and return the path of the first.

    Args:
        results: The curves, in the order of the legend.
        folder: Where the files go.
        metric: A column of the results; AP stands for what curves that have none are compared on. Of no account for
            panels by category, which show AP.
        scale: Of the rate axis.
        panels: One; one for each size of object; or one for each category.
        formats: Of ``png``, ``svg`` and ``pdf``.

    Raises:
        ResultError: There is nothing to draw, or the folder cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    if panels == "one":
        metric = main_metric(results, metric)
        figure, stem = plot(results, metric=metric, scale=scale).get_figure(), f"{metric}-{scale}"
    else:
        figure, stem = _draw_panels(results, panels, scale), f"{panels}-{scale}"
    paths = []
    for ending in formats:
        path = folder / f"{stem}.{ending}"
        with replacing(path, ResultError) as temporary, plt.rc_context({"svg.hashsalt": "icm-bench"}):
            figure.savefig(temporary, format=ending, dpi=160, metadata=_undated(ending))  # type: ignore[union-attr]
        paths.append(path)
    plt.close(figure)  # type: ignore[arg-type]
    return paths[0]


def _draw_panels(
    results: Sequence[Result], panels: Literal["sizes", "categories"], scale: Literal["log", "linear"]
) -> Figure:
    import matplotlib.pyplot as plt

    if panels == "sizes":
        titled = {METRIC_NAMES[key]: list(results) for key in SIZES if _is_measured(results, key)}
        metrics = {METRIC_NAMES[key]: key for key in SIZES}
    else:
        names = sorted({name for result in results for name in result.categories})
        titled = {name: [_of_category(result, name) for result in results] for name in names}
        titled = {name: curves for name, curves in titled.items() if _is_measured(curves, "map")}
        metrics = dict.fromkeys(titled, "map")
    if not titled:
        raise ResultError(f"no curve has figures by {panels}", hint="choose one panel")
    n_columns = min(len(titled), 3 if len(titled) < 9 else 5)
    n_rows = -(-len(titled) // n_columns)
    figure, grid = plt.subplots(
        n_rows,
        n_columns,
        figsize=(3.3 * n_columns + 0.4, 2.7 * n_rows + 0.5),
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    for axes in grid.flat[len(titled) :]:
        axes.set_visible(False)
    for axes, (title, curves) in zip(grid.flat, titled.items(), strict=False):
        plot(curves, metric=metrics[title], scale=scale, axes=axes)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set(xlabel="", ylabel="")
        axes.tick_params(labelsize=7)
        axes.get_legend().remove()
    figure.supxlabel("rate / bits per pixel of the native image", fontsize=9)
    figure.supylabel("AP / %", fontsize=9)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    named = [label.partition(" (")[0] if label.startswith("uncompressed") else label for label in labels]
    figure.legend(
        handles, named, loc="outside upper center", ncols=min(len(named), 5), frameon=False, fontsize=8
    )
    return figure


def _of_category(result: Result, name: str) -> Result:
    return replace(
        result,
        results={"bpp": result.results["bpp"], "map": result.categories.get(name, ())},
        meta={key: value for key, value in result.meta.items() if key not in ("intervals", "uncompressed")},
    )


def _is_measured(results: Sequence[Result], metric: str) -> bool:
    return any(value is not None for result in results for value in result.results.get(metric, ()))


def _draw_curve(axes: Axes, result: Result, metric: str, index: int, *, label: str, bands: bool) -> None:
    color = _COLORS[index % len(_COLORS)]
    values = result.results[metric]
    points = [
        (rate, value, order)
        for order, (rate, value) in enumerate(zip(result.results["bpp"], values, strict=True))
        if rate is not None and value is not None
    ]
    points.sort()
    rates, accuracies, order = (list(column) for column in zip(*points, strict=True))
    group = index // len(_COLORS)
    axes.plot(
        rates,
        accuracies,
        color=color,
        linestyle=_LINES[group % len(_LINES)],
        markerfacecolor="white" if group else color,
        marker=_MARKERS[index % len(_MARKERS)],
        markersize=4.5,
        linewidth=1.6,
        label=label,
    )
    bounds = result.meta.get("intervals", {}).get(metric)
    if bands and bounds:
        low, high = np.array([bounds[item] for item in order], dtype=float).T
        axes.fill_between(rates, low, high, color=color, alpha=0.12, linewidth=0)


def _draw_original(axes: Axes, result: Result, metric: str, *, bands: bool) -> None:
    original = result.meta.get("uncompressed") or {}
    value = original.get(metric)
    if value is None:
        return
    axes.axhline(value, color="0.35", linestyle=":", linewidth=1.0, label=f"uncompressed ({value:.1f})")
    bounds = original.get("intervals", {}).get(metric)
    if bands and bounds and None not in bounds:
        axes.axhspan(*bounds, color="0.35", alpha=0.06, linewidth=0)


def _axis_label(metric: str) -> str:
    name = METRIC_NAMES.get(metric, metric).removesuffix(" (dB)")
    return f"{name} / {unit(metric)}" if unit(metric) else name


def _name_rates(axes: Axes) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    low, high = axes.get_xlim()
    ticks = [
        digit * 10.0**decade
        for decade in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digit in (1, 2, 5)
        if low <= digit * 10.0**decade <= high
    ]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _undated(ending: str) -> dict[str, str | None]:
    # The same curves give the same file.
    return {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending, {})  # type: ignore[return-value]
