"""How plots look: sizes, limits, fonts, and text that is drawn as it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from icm_bench.text import printable

if TYPE_CHECKING:
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


def styled(points: float | None = None) -> AbstractContextManager[None]:
    """Draw and write with our settings of matplotlib, and a size of text, for a while."""
    import matplotlib.pyplot as plt

    settings: Any = STYLE if points is None else {**STYLE, "font.size": points}
    return plt.rc_context(settings)


def plain(text: str) -> str:
    """Return a text that matplotlib draws as it is: no mathematics between dollars, no control characters."""
    shown = printable(text).replace("$", r"\$")
    # A legend leaves out what begins with an underscore.
    return f"\u200b{shown}" if shown.startswith("_") else shown


def strip_of(figure: Figure, points: float) -> float:
    """Return how much of a figure's height a line of text takes."""
    return 1.9 * points / 72 / figure.get_figheight()
