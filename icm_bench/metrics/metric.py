"""The metrics that curves have, in one table: what they are called, in which unit and to how many digits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from icm_bench import registry
from icm_bench.file import packaged_table

Direction: TypeAlias = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """One column of the results.

    Attributes:
        name: The column's name.
        label: What it is called where people read it.
        unit: ``%``, ``dB``, ``bpp`` or nothing; what follows its values.
        digits: How many digits after the point a table shows.
        better: Which values are better.
        is_main: Whether curves are compared on it where nobody asks for another metric; of several, the first.
    """

    name: str
    label: str
    unit: str
    digits: int
    better: Direction = "higher"
    is_main: bool = False

    @property
    def axis(self) -> str:
        """The label of an axis: name and unit."""
        label = self.label.removesuffix(f" ({self.unit})") if self.unit else self.label
        return f"{label} / {self.unit}" if self.unit else label


_TABLE: Final = tuple(
    Metric(
        row["name"],
        row["label"],
        row["unit"],
        int(row["digits"]),
        "lower" if row["better"] == "lower" else "higher",
        row["is_main"] == "yes",
    )
    for row in packaged_table("icm_bench.metrics", "metric.csv")
)

METRICS: Final[Mapping[str, Metric]] = MappingProxyType({metric.name: metric for metric in _TABLE})
"""Every known metric by name, in the order in which tables show them."""

MAIN_METRICS: Final = tuple(metric.name for metric in _TABLE if metric.is_main)
"""What curves are compared on where nobody asks for another metric: COCO's AP, the Open Images Challenge's, or PSNR."""

SIZES: Final = ("map_small", "map_medium", "map_large")
"""The accuracies by size of object."""

RATES: Final = tuple(metric.name for metric in _TABLE if metric.unit == "bpp")
"""The columns of the results that are rates."""


def metric_of(name: str) -> Metric:
    """Return a metric of the table, or one that another package provides.

    Of an unknown name, such as an imported column's, it is one that is called so and has no unit.
    """
    if name in METRICS:
        return METRICS[name]
    if name not in registry.names("metric"):
        return Metric(name, name, "", 4)
    provided = registry.load("metric", name)
    return Metric(name, provided.label, provided.unit, provided.digits)


def in_order(names: Iterable[str]) -> list[str]:
    """Return metrics in the table's order, unknown ones at the end by name; rates are left out."""
    present = set(names) - set(RATES)
    known = [name for name in METRICS if name in present]
    return known + sorted(present.difference(known))
