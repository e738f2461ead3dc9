"""How a codec is called and drawn: a short label, a colour, a marker and a line, the same in every plot."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from icm_bench.curves.comparison import USUAL_ANCHOR
from icm_bench.curves.result import Result
from icm_bench.error import UsageError, unknown
from icm_bench.file import packaged_table
from icm_bench.spec import Spec

COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F3C8D", "#4D4D4D")
"""Okabe and Ito's palette, which readers with any colour vision tell apart, and two more."""

MARKERS: Final = "osD^vP*X"

_COLOR_NAMES: Final = ("blue", "red", "green", "pink", "sky", "orange", "purple", "grey")

_CODECS: Final = {row["codec"]: row for row in packaged_table("icm_bench.report", "style.csv")}
"""Label, colour and marker of the codecs that most plots hold: no two alike, to readers who do not see green either.

Others are labelled by their names, and take colour and marker from a hash of it.
"""

_DRAWN: Final[Mapping[str, tuple[int, str]]] = {
    name: (_COLOR_NAMES.index(row["color"]), row["marker"]) for name, row in _CODECS.items() if row["color"]
}

_OPTIONS: Final = {row["option"]: row for row in packaged_table("icm_bench.report", "style_option.csv")}
"""Which line an option takes, of which several of one codec add up, and how it reads in a label."""

_GUIDE: Final = ("roi=", "weights=")
"""Options that name what guides an encoder."""

GUIDED_BY_JUDGE: Final = ", ROI by the judge"
"""What follows a codec's label, whatever it is, where the detector that judges it has guided its encoder."""


@dataclass(frozen=True)
class Style:
    """How one codec's curve is drawn.

    Attributes:
        color: One of :data:`COLORS`, by its index.
        marker: One of :data:`MARKERS`.
        line: 0 solid with full markers; 1 dashed, 2 dash-dotted and 3 dotted, with hollow ones.
    """

    color: int
    marker: str
    line: int


def style_of(codec: str) -> Style:
    """Return the style of a codec, a function of its spec alone."""
    name, options = _parsed(codec)
    color, marker = _DRAWN.get(name) or (_hash(name) % len(COLORS), MARKERS[_hash(name) // 8 % len(MARKERS)])
    # One encoder behind several guides keeps its marker; a guide's file counts by its name.
    guide = [PurePath(option.partition("=")[2]).name for option in options if option.startswith(_GUIDE)]
    if name.endswith("-roi") and guide not in ([], ["icm"]):
        color = (color + 1 + _hash(":".join(guide)) % (len(COLORS) - 1)) % len(COLORS)
        options = [option for option in options if not option.startswith(_GUIDE)] + [":".join(guide)]
    return Style(color, marker, sum(map(_variant, options)) % 4)


def labels_of(results: Sequence[Result], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a label for the spec of each curve of a group; the spec itself where two labels would be alike.

    Labels may be given by spec, or by the name of a codec that one curve alone has; those that none has are left out.

    Raises:
        UsageError: More than one curve answers to a label's codec.
    """
    labels = {result.codec: _label(result) for result in results}
    counted = Counter(labels.values())
    unique = {codec: label if counted[label] == 1 else codec for codec, label in labels.items()}
    present = {codec: label for codec, label in (given or {}).items() if matching(codec, list(labels))}
    unique |= {one_of(codec, list(labels)): label for codec, label in present.items()}
    judged = {result.codec for result in results if result.meta.get("guide", {}).get("is_judge")}
    return {codec: label + GUIDED_BY_JUDGE * (codec in judged) for codec, label in unique.items()}


def detector_label(spec: str) -> str:
    """Return a detector's short name: of one that is named by its file, that file's, without its hash."""
    name, options = _parsed(spec)
    models = [option.partition("=")[2] for option in options if option.startswith("model=")]
    return models[0].rpartition("-")[0] if models else ":".join([name, *options])


def check_labels(given: Mapping[str, str], results: Iterable[Result]) -> None:
    """Refuse labels of codecs that no group of curves has: each group leaves out those that it has not.

    Raises:
        UsageError: No curve answers to a label's codec.
    """
    codecs = sorted({result.codec for result in results})
    for codec in given:
        if not matching(codec, codecs):
            raise unknown("codec", codec, codecs)


def one_of(text: str, codecs: Sequence[str]) -> str:
    """Return the one spec that a text names, in full or by the codec's name alone.

    Raises:
        UsageError: It names none, or several.
    """
    named = matching(text, codecs)
    if not named:
        raise unknown("codec", text, sorted(codecs))
    if len(named) > 1:
        raise UsageError(f"'{text}' names several curves: {', '.join(named)}", hint="name one in full")
    return named[0]


def usual_anchor(results: Sequence[Result]) -> Result:
    """Return the curve that the others of a group are compared with where nobody names another."""
    named = matching(USUAL_ANCHOR, [result.codec for result in results])
    return next((result for result in results if result.codec in named), results[0])


def matching(text: str, codecs: Sequence[str]) -> list[str]:
    """Return the specs that a text names: that very one, or all of a codec's name."""
    wanted = text.strip()
    return [codec for codec in codecs if codec == wanted] or [
        codec for codec in codecs if _parsed(codec)[0] == wanted
    ]


def _label(result: Result) -> str:
    name, options = _parsed(result.codec)
    stored = result.meta.get("label")
    if isinstance(stored, str) and stored not in ("", name):
        return stored
    read = [_read(option) for option in options if option != f"objective={result.task}"]
    if name.endswith("-pareto"):
        read.append(", front")
    # Words belong to the name, and come before what follows a comma.
    return _CODECS.get(name, {"label": name})["label"] + "".join(
        sorted(read, key=lambda text: text.startswith(","))
    )


def _read(option: str) -> str:
    if option in _OPTIONS:
        return _OPTIONS[option]["label"]
    key, _, value = option.partition("=")
    # What weights were trained on shows in the dataset; two that differ in nothing else are called by their specs.
    read = {"preset": f" {value}", "domain": "", "scale": f", {value} %", "roi": f", ROI by {value}"}
    return read.get(key, f", {option}")


def _parsed(codec: str) -> tuple[str, list[str]]:
    """Return a spec's name and options; imported curves may be called by any name."""
    try:
        spec = Spec.parse(codec)
    except UsageError:
        return codec, []
    return spec.name, [f"{key}={value}" for key, value in spec.options]


def _variant(option: str) -> int:
    if option in _OPTIONS:
        return int(_OPTIONS[option]["line"])
    if option.startswith(("domain=", "objective=", "teachers=")):
        return 0
    return 1 if option.startswith("refine=") else 1 + _hash(option) % 3


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:4], "big")
