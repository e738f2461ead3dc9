"""What one curve says of another, with how sure it is: BD-rate, BD-accuracy and the rate at an accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypedDict

from icm_bench.curves.curve import Monotone

Method: TypeAlias = Literal["pchip", "akima", "cubic", "cubic-spline", "linear", "monotone-cubic"]
"""How a curve runs between its points.

- ``pchip``: piecewise cubic, shape-preserving.
- ``akima``: piecewise cubic of Akima.
- ``cubic``: one cubic polynomial, by least squares where there are more than four points.
- ``cubic-spline``: piecewise cubic with continuous curvature.
- ``linear``: straight lines.
- ``monotone-cubic``: accuracies are first replaced by a rising cubic's, see
  :func:`icm_bench.curves.rising_cubic.rising_cubic`, fitted to all points whatever the policy; then as ``pchip``.
"""

LOW_OVERLAP: Final = 0.75
"""Below this share of the ranges a difference says little."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its bootstrap interval, or the reason why there is none.

    Attributes:
        value: In the unit of what is estimated: percent for a BD-rate (negative is fewer bits), the metric's unit for
            a BD-accuracy (positive is more accuracy), bits per pixel for the rate at an accuracy. None where it is
            not defined.
        low: Lower limit of the interval, in the same unit, or None.
        high: Upper limit of the interval, or None.
        method: How the curves run between their points.
        overlap: The range that both curves share over the range that either has, 0 to 1: of accuracy for a BD-rate,
            of log-rate for a BD-accuracy. None where a curve has no range, or there is only one curve.
        reason: Why there is no value or no interval; None where there are both, or no interval was asked for.
        n_resamples: Bootstrap replicates that the interval rests on; 0 where none was asked for.
        n_without: How many of them have no value.
        dips: What became of the points at which accuracy does not rise with rate, a line each.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str
    overlap: float | None = None
    reason: str | None = None
    n_resamples: int = 0
    n_without: int = 0
    dips: tuple[str, ...] = ()

    def __repr__(self) -> str:
        parts = ["none" if self.value is None else f"{self.value:.4g}"]
        if self.low is not None and self.high is not None:
            parts[0] += f" [{self.low:.4g}, {self.high:.4g}]"
        parts += [f"overlap {self.overlap:.2f}"] if self.overlap is not None else []
        return f"Estimate({', '.join([*parts, self.method])}{f'; {self.reason}' if self.reason else ''})"

    @property
    def is_low_overlap(self) -> bool:
        """Whether the value rests on less than three quarters of the curves' range."""
        return self.overlap is not None and self.overlap < LOW_OVERLAP


def dip_notes(estimates: Iterable[Estimate]) -> list[str]:
    """Return a line that says what became of the points at which accuracy does not rise with rate, if there are any."""
    lines = dict.fromkeys(line for estimate in estimates for line in estimate.dips)
    return [f"Accuracy does not rise with rate everywhere: {'; '.join(lines)}."] if lines else []


class Options(TypedDict, total=False):
    """How curves are compared, as keyword arguments; see :class:`Settings`."""

    metric: str
    method: Method
    monotone: Monotone


@dataclass(frozen=True)
class Settings:
    """How curves are compared.

    Attributes:
        metric: The name of the accuracy.
        method: How a curve runs between its points.
        monotone: What to do where accuracy does not rise with rate; replicates cannot be refused with ``error``,
            since they dip by chance.
    """

    metric: str = "map"
    method: Method = "pchip"
    monotone: Monotone = "pareto"
