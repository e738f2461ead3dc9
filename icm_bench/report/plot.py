"""Plots of accuracy against rate."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from icm_bench.curves.curve import on_front
from icm_bench.curves.rate_convention import differing
from icm_bench.curves.result import main_metric
from icm_bench.detector import NO_DETECTOR
from icm_bench.error import ResultError, UsageError
from icm_bench.file import replacing
from icm_bench.metrics.metric import metric_of
from icm_bench.report.look import SIZES, Limits, Look, Panels, Scale, Size, Strip, name_rates, plain, styled
from icm_bench.report.style import COLORS, detector_label, labels_of, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from icm_bench.curves.result import Result

FORMATS: Final = ("png", "svg", "pdf")

MOST_WITH_BANDS: Final = 8
"""More curves go without their intervals, which would hide one another."""

MOST_NAMED_WITHIN: Final = 4
"""More names would lie on the curves of a plot as wide as one column of a paper; they stand above it."""

LINES: Final = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1.2, 1.2)))


def plot(
    results: Sequence[Result],
    *,
    metric: str = "map",
    scale: Scale = "log",
    bands: bool = True,
    axes: Axes | None = None,
    look: Look | None = None,
) -> Axes:
    """Draw curves of one dataset, task and detector.

    Args:
        results: The curves.
        metric: A column of the results; AP stands for what curves that have none are compared on.
        scale: Of the rate axis.
        bands: Draw the 95 % intervals where the results carry them, of eight curves at most.
        axes: Where to draw; new axes by default.
        look: Labels, limits and size; its ``bands`` must hold too.

    Raises:
        ResultError: There is nothing to draw, or the curves are not of one dataset, task and detector.
        UsageError: A limit or a label does not fit the curves.
    """
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    look = look or Look()
    drawn, metric = drawn_of(results, metric)
    with styled(look.points):
        is_crowded = len(drawn) > MOST_WITH_BANDS
        is_own = axes is None
        if axes is None:
            width, height = SIZES[look.size]
            _, axes = plt.subplots(figsize=(width + 2 * is_crowded, height), layout="constrained")
        has_bands = bands and look.bands and not is_crowded
        for result in drawn:
            draw_curve(axes, result, metric, label=label_of(result, drawn, look), bands=has_bands)
        draw_original(axes, drawn[0], metric, bands=has_bands)
        hidden = set_limits(axes, drawn, metric, scale, look)
        axes.set_xlabel("rate / bits per pixel of the native image")
        axes.set_ylabel(plain(metric_of(metric).axis))
        figure = axes.get_figure()
        if is_own and isinstance(figure, Figure):
            if look.size == "column" and len(drawn) > MOST_NAMED_WITHIN:
                figure.set_figheight(height + (len(drawn) + 2) // 2 * 1.5 * look.points / 72)
            describe(figure, [(drawn, metric)], look, bands=has_bands, hidden=hidden)
        _add_legend(axes, drawn, metric, is_crowded=is_crowded, size=look.size)
    return axes


def draw_group(
    results: Sequence[Result],
    folder: Path,
    *,
    metric: str = "map",
    scale: Scale = "log",
    panels: Panels = "one",
    formats: Sequence[str] = ("png",),
    look: Look | None = None,
) -> Path:
    """Write the plot of a group of curves, once a format, and return the path of the first.

    Args:
        results: The curves.
        folder: Where the files go.
        metric: A column of the results; AP stands for what curves that have none are compared on. Panels by
            category show AP, whatever is asked for.
        scale: Of the rate axis.
        panels: One; one for each size of object, for each category, or for each detector of the curves.
        formats: Of ``png``, ``svg`` and ``pdf``.
        look: Labels, limits and size.

    Raises:
        ResultError: There is nothing to draw, or the folder cannot be written.
        UsageError: A limit or a label does not fit the curves.
    """
    import matplotlib.pyplot as plt

    look = look or Look()
    if panels == "one":
        metric = main_metric(results, metric)
    stem = f"{metric if panels == 'one' else panels}-{scale}"
    figure = _draw(results, metric, scale, panels, look)
    paths = [folder / f"{stem}.{ending}" for ending in formats]
    for path, ending in zip(paths, formats, strict=True):
        with replacing(path, ResultError) as temporary:
            save(figure, temporary, ending)
    plt.close(figure)
    return paths[0]


def to_svg(results: Sequence[Result], metric: str) -> bytes:
    """Return the plot of a group of curves as SVG.

    Raises:
        ResultError: There is nothing to draw.
    """
    import matplotlib.pyplot as plt

    figure = _draw(results, metric, "log", "one", Look())
    buffer = io.BytesIO()
    save(figure, buffer, "svg")
    plt.close(figure)
    return buffer.getvalue()


def _draw(results: Sequence[Result], metric: str, scale: Scale, panels: Panels, look: Look) -> Figure:
    import matplotlib

    matplotlib.use("Agg", force=False)
    from icm_bench.report import panel

    if panels != "one":
        return panel.draw_panels(results, panels, scale, look)
    if len(drawn_of(results, metric)[0]) > MOST_WITH_BANDS:
        return panel.draw_few_at_a_time(results, metric, scale, look)
    return cast("Figure", plot(results, metric=metric, scale=scale, look=look).get_figure())


def save(figure: Figure, target: Any, ending: str) -> None:
    """Write a figure to a file; the same curves give the same bytes."""
    undated: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with styled():
        figure.savefig(target, format=ending, dpi=160, metadata=undated.get(ending, {}))


def draw_curve(axes: Axes, result: Result, metric: str, *, label: str = "", bands: bool = False) -> None:
    """Draw one curve in its codec's style."""
    rates, accuracies, order = points_of(result, metric)
    style = style_of(result.codec)
    color = COLORS[style.color]
    axes.plot(
        rates,
        accuracies,
        color=color,
        linestyle="--" if result.is_published else LINES[style.line],
        marker=style.marker,
        markerfacecolor="white" if style.line or result.is_published else color,
        markersize=6 if style.marker in "*P" else 4.5,
        linewidth=1.5,
        label=label,
    )
    bounds = result.meta.get("intervals", {}).get(metric)
    if bands and bounds:
        low, high = np.array([bounds[item] for item in order], dtype=float).T
        axes.fill_between(rates, low, high, color=color, alpha=0.12, linewidth=0)


def draw_original(axes: Axes, result: Result, metric: str, *, bands: bool) -> None:
    """Draw the uncompressed images' accuracy, where it is known."""
    original = result.meta.get("uncompressed") or {}
    value = original.get(metric)
    if value is None:
        return
    axes.axhline(value, color="0.35", linestyle=":", linewidth=1.0, label=f"uncompressed ({value:.1f})")
    bounds = original.get("intervals", {}).get(metric)
    if bands and bounds and None not in bounds:
        axes.axhspan(*bounds, color="0.35", alpha=0.06, linewidth=0)


def points_of(result: Result, metric: str) -> tuple[list[float], list[float], list[int]]:
    """Return a curve's rates, its accuracies and their places in the ladder, in order of rising rate."""
    points = sorted(
        (rate, value, order)
        for order, (rate, value) in enumerate(zip(result.results["bpp"], result.results[metric], strict=True))
        if rate is not None and value is not None
    )
    rates, accuracies, order = zip(*points, strict=True)
    return list(rates), list(accuracies), list(order)


def is_measured(results: Sequence[Result], metric: str) -> bool:
    """Tell whether any curve has a point with a metric."""
    return any(value is not None for result in results for value in result.results.get(metric, ()))


def lowest_that_matters(results: Sequence[Result], metric: str) -> float | None:
    """Return the accuracy from which curves are shown, or None for all of it.

    A detector that finds less than half of what it finds on the uncompressed images is of no use, and would take half
    of the plot. Where half of the curves begin lower the lower half is shown as well.
    """
    original = (results[0].meta.get("uncompressed") or {}).get(metric)
    lows = [min(points_of(result, metric)[1]) for result in results]
    low = math.inf if original is None else min(0.5 * original, float(np.median(lows)))
    return low if min(lows) < low < math.inf else None


def drawn_of(results: Sequence[Result], metric: str) -> tuple[list[Result], str]:
    """Return the curves that have a metric, and that metric.

    Raises:
        ResultError: There is nothing to draw, or the curves are not of one dataset, task and detector.
    """
    metric = main_metric(results, metric)
    drawn = [result for result in results if is_measured([result], metric)]
    if not drawn:
        raise ResultError(f"no curve has the metric '{metric}'", hint="choose another metric")
    if len({result.group for result in drawn}) > 1:
        raise ResultError(
            "curves of several datasets, tasks or detectors do not share axes",
            hint="plot them one group at a time",
        )
    return drawn, metric


def label_of(result: Result, drawn: Sequence[Result], look: Look) -> str:
    """Return what a curve is called in a legend."""
    # A dagger, as in the tables: these rates do not mean what the first curve's mean.
    is_mixed = result is not drawn[0] and bool(differing(drawn[0].meta, result.meta))
    return plain(labels_of(drawn, look.labels)[result.codec]) + (" †" if is_mixed else "")


def set_limits(axes: Axes, drawn: Sequence[Result], metric: str, scale: Scale, look: Look) -> int:
    """Set both axes, and return how many points lie outside."""
    points = [point for result in drawn for point in zip(*points_of(result, metric)[:2], strict=True)]
    lowest = lowest_that_matters(drawn, metric)
    if look.ylim is not None:
        _set(axes.set_ylim, look.ylim, "accuracy")
    elif lowest is not None:
        original = drawn[0].meta["uncompressed"][metric]
        highest = max(original, *(accuracy for _, accuracy in points))
        margin = 0.05 * (highest - lowest)
        axes.set_ylim(lowest - margin, max(axes.get_ylim()[1], highest + margin))
    low, high = axes.get_ylim()
    rates = [rate for rate, accuracy in points if low <= accuracy <= high] or [rate for rate, _ in points]
    axes.set_xscale(scale)
    if look.xlim is not None:
        if scale == "log" and look.xlim[0] <= 0:
            raise UsageError(
                "a logarithmic axis cannot begin at 0", where="rate axis", hint="name a higher rate"
            )
        _set(axes.set_xlim, look.xlim, "rate")
    elif scale == "log":
        axes.set_xlim(min(rates) / 1.15, max(rates) * 1.15)
    else:
        axes.set_xlim(0, max(rates) * 1.05)
    if scale == "log":
        name_rates(axes)
    return n_outside(axes, drawn, metric)


def n_outside(axes: Axes, drawn: Sequence[Result], metric: str) -> int:
    """Count the points that lie outside the axes."""
    (first, last), (low, high) = axes.get_xlim(), axes.get_ylim()
    points = [point for result in drawn for point in zip(*points_of(result, metric)[:2], strict=True)]
    return sum(not (first <= rate <= last and low <= accuracy <= high) for rate, accuracy in points)


def _set(setter: Any, limits: Limits, name: str) -> None:
    low, high = limits
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        hint = "give a lower and a higher limit"
        raise UsageError(f"{low:g} to {high:g} is no range", where=f"{name} axis", hint=hint)
    setter(low, high)


def describe(
    figure: Figure,
    shown: Sequence[tuple[Sequence[Result], str]],
    look: Look,
    *,
    bands: bool,
    hidden: int,
    more: Sequence[str] = (),
) -> None:
    """Write above a plot what was measured, and below it what the plot shows of that; nothing where it is bare.

    ``shown`` holds each panel's curves with the metric that it shows of them.
    """
    if look.bare:
        return
    first, curves = shown[0][0][0], [(result, metric) for drawn, metric in shown for result in drawn]
    title = [f"{first.task} on {first.dataset}"]
    if "images" in first.meta["dataset"]:
        title.append(f"{first.meta['dataset']['images']} images")
    detectors = {result.detector for result, _ in curves} - {NO_DETECTOR}
    if len(detectors) == 1:
        title.append(detector_label(*detectors))
    parts = list(more)
    if any(metric in result.meta.get("intervals", {}) for result, metric in curves):
        parts.append("shaded: 95 % intervals" if bands else "intervals not drawn")
    n_dips = sum(_n_dips(result, metric) for result, metric in curves)
    if n_dips:
        parts.append(f"{n_dips} point{'s' if n_dips > 1 else ''} left out of BD-rates: no rise with rate")
    if hidden:
        parts.append(f"{hidden} point{'s' if hidden > 1 else ''} outside the axes")
    parts.append(made_by())
    # A strip of the figure's own at either edge: a plot of several panels names its axes there as well.
    top = Strip(figure, title, ", ", look.points + 1)
    bottom = Strip(figure, parts, "; ", look.points - 2)
    rect = (0, bottom.height, 1, 1 - top.height - bottom.height)
    figure.get_layout_engine().set(rect=rect)  # type: ignore[union-attr, call-arg]
    figure.text(0.01, 1 - top.margin, top.text, fontsize=top.points, va="top")
    figure.text(
        0.99, bottom.margin, bottom.text, fontsize=bottom.points, color="0.4", ha="right", va="bottom"
    )


def made_by() -> str:
    """Name this package with its version, where it is installed."""
    try:
        return f"icm-bench {version('icm-bench')}"
    except PackageNotFoundError:
        return "icm-bench"


def _n_dips(result: Result, metric: str) -> int:
    """Count the points that another of the curve beats in both rate and accuracy, or equals."""
    rates, accuracies, order = points_of(result, metric)
    return len(order) - len(on_front(np.array(rates), np.array(accuracies)))


def _add_legend(axes: Axes, drawn: Sequence[Result], metric: str, *, is_crowded: bool, size: Size) -> None:
    import matplotlib.pyplot as plt

    small = plt.rcParams["font.size"] - 0.5
    if size == "column" and len(drawn) > MOST_NAMED_WITHIN:
        axes.legend(fontsize=small, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return
    if not is_crowded:
        axes.legend(fontsize=small)
        return
    handles, labels = axes.get_legend_handles_labels()
    # From the best to the worst, as the curves lie; within the axes so many names would lie on them.
    ranked = sorted(range(len(drawn)), key=lambda index: -_height(drawn[index], drawn, metric))
    order = [*ranked, *range(len(drawn), len(handles))]
    axes.legend(
        [handles[index] for index in order],
        [labels[index] for index in order],
        fontsize=small,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
    )


def _height(result: Result, drawn: Sequence[Result], metric: str) -> float:
    """Return a curve's accuracy at the rate in the middle of all points."""
    middle = float(np.median([math.log(rate) for each in drawn for rate in points_of(each, metric)[0]]))
    rates, accuracies, _ = points_of(result, metric)
    return float(np.interp(middle, np.log(rates), accuracies))
