"""How plots look: sizes, limits, fonts, and text that is drawn as it is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from icm_bench.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scale: TypeAlias = Literal["log", "linear"]
Panels: TypeAlias = Literal["one", "sizes", "categories", "detectors"]
Size: TypeAlias = Literal["screen", "column", "two-columns"]
Limits: TypeAlias = tuple[float, float]

SIZES: Final[Mapping[Size, tuple[float, float]]] = {
    "screen": (7.2, 4.8),
    "column": (3.5, 2.9),
    "two-columns": (7.16, 3.9),
}
"""Width and height in inches: for a screen, and for one and both columns of a paper."""

STYLE: Final[Mapping[str, Any]] = {
    # Type 42 keeps letters as letters: what checks submissions refuses Type 3.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "icm-bench",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Look:
    """How a plot looks, beyond what it shows.

    Attributes:
        labels: Codecs' labels by spec, or by name where one curve alone has it; short ones of our own where absent.
        xlim: Lowest and highest rate in bits per pixel; what the curves need where None.
        ylim: Lowest and highest accuracy in the metric's unit; where None, what matters of the curves: down to half of
            the uncompressed images' accuracy, or lower where half of the curves begin lower.
        size: What the plot is for.
        bare: Leave out the title and the line that says what was measured.
        bands: Draw the 95 % intervals where the results carry them, of eight curves at most.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    xlim: Limits | None = None
    ylim: Limits | None = None
    size: Size = "screen"
    bare: bool = False
    bands: bool = True

    @property
    def points(self) -> float:
        """The size of most text, in points."""
        return 9.0 if self.size == "screen" else 7.5


@contextmanager
def styled(points: float | None = None) -> Iterator[None]:
    """Draw, measure and write with our settings of matplotlib, and a size of text, for a while."""
    import matplotlib.pyplot as plt

    settings: Any = STYLE if points is None else {**STYLE, "font.size": points}
    with plt.rc_context(settings), warnings.catch_warnings():
        # Names from elsewhere may have letters that the font has not: a box stands for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def plain(text: str) -> str:
    """Return a text that matplotlib draws as it is: no mathematics between dollars, no control characters."""
    shown = printable(text).replace("$", r"\$")
    # A legend leaves out what begins with an underscore.
    return f"\u200b{shown}" if shown.startswith("_") else shown


class Strip:
    """A text at an edge of a figure, broken between its parts where it would leave the figure.

    Attributes:
        text: The lines, as matplotlib draws them.
        points: Their size.
        height: What they take of the figure's height, with a margin at either side.
        margin: That margin.
    """

    def __init__(self, figure: Figure, parts: Sequence[str], separator: str, points: float) -> None:
        probe = figure.text(0, 0, "", fontsize=points)
        lines: list[str] = []
        for part in map(plain, parts):
            longer = separator.join([*lines[-1:], part])
            probe.set_text(longer)
            if lines and probe.get_window_extent().width <= 0.96 * figure.bbox.width:
                lines[-1] = longer
            else:
                lines.append(part)
        probe.remove()
        em = points / 72 / figure.get_figheight()
        self.text = f"{separator.rstrip()}\n".join(lines)
        self.points = points
        self.height = (1.9 + 1.25 * (len(lines) - 1)) * em
        self.margin = 0.475 * em


def name_rates(axes: Axes) -> None:
    """Name the rates 1, 2 and 5 of each decade on a logarithmic axis."""
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
