"""Fill the generated tables of README.md and docs/results.md with what the committed curves say.

A table stands between ``<!-- generated: SOURCE -->`` and ``<!-- end -->``. SOURCE is a command of icm-bench, run in the
repository's root, or the name of a function of this script.

    python docs/generate.py
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from icm_bench.cli import app
from icm_bench.curves.by_detector import compare_by_detector
from icm_bench.curves.comparison import compare_with_anchor
from icm_bench.curves.estimate import Estimate
from icm_bench.curves.result import find
from icm_bench.report.style import GUIDED_BY_JUDGE, labels_of
from icm_bench.report.table import Table, markdown, of_run

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/results.md")
_BLOCK = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", flags=re.DOTALL)

_ANCHOR = "vvc:preset=medium"
_SCENES = "results/scenes/detection/fasterrcnn_scenes"
_PHOTOGRAPHS = "results/coco-partial100/detection"
_COLUMNS = {
    "70 drawn scenes, the detector that icm was trained through": (_SCENES,),
    "100 photographs of COCO, YOLOX-Nano: icm was trained through it": (f"{_PHOTOGRAPHS}/yolox",),
    "the same, mean over three detectors that icm never saw": (
        f"{_PHOTOGRAPHS}/centernet_mobilenetv3",
        f"{_PHOTOGRAPHS}/nanodet_g",
        f"{_PHOTOGRAPHS}/onnx+layout=yolo+model=yolo11n_seg_coco80-c365669b",
    ),
}
"""What the README's summary shows: one or several folders of curves a column."""
_ROWS = (
    "icm",
    "icm, refined",
    "icm, for fidelity",
    "VVC medium, ROI by icm",
    "VVC fast, ROI by yolox_nano_coco80",
    "VVC medium, filtered",
    "JPEG 2000",
    "JPEG",
)
_POINTS = {
    "icm:domain=scenes:objective=detection": ("1", "3", "7"),
    "vvc:preset=fast": ("47", "37", "22"),
    "jpeg": ("5", "20", "95"),
}
"""What the README shows of the table that ``make demo`` prints."""


def filled(text: str) -> str:
    """Return a page with its tables made anew."""
    return _BLOCK.sub(lambda block: f"{block[1]}{_table(block[2])}\n{block[3]}", text)


def _table(source: str) -> str:
    if not source.startswith("icm-bench "):
        return {"operating_points": operating_points, "summary": summary}[source]()
    printed = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(printed):
        app([*shlex.split(source)[1:], "--format", "markdown"], standalone_mode=False)
    # Titles stand alone; notes become a list.
    text = re.sub(r"\n{3,}", "\n\n", printed.getvalue()).strip()
    text = re.sub(r"^(?=[^|*\n])", "- ", text, flags=re.MULTILINE)
    return text.replace("\n\n- ", "\n- ").replace("|\n- ", "|\n\n- ")


def operating_points() -> str:
    """Return some rows of what a run on ``scenes`` prints."""
    curves = {result.codec: result for result in find(ROOT / _SCENES)}
    labels = labels_of([curves[codec] for codec in _POINTS])
    whole = of_run([curves[codec] for codec in _POINTS])
    rows = [
        (labels.get(codec, codec), quality, *rest)
        for codec, quality, *rest in whole.rows
        if quality in _POINTS.get(codec, ("",))
    ]
    shown = [whole.header.index(name) for name in ("codec", "quality", "bpp", "AP", "AP 95 %", "PSNR dB")]
    return _body(Table("", whole.header, tuple(rows)), shown)


def _body(table: Table, columns: Sequence[int]) -> str:
    header, *rows = (tuple(row[column] for column in columns) for row in (table.header, *table.rows))
    return markdown(Table("", header, tuple(rows))).partition("\n\n")[2].strip()


def summary() -> str:
    """Return BD-rates in whole percents with their intervals, a column a dataset and its detectors."""
    rows = {name: [name] for name in _ROWS}
    for folders in _COLUMNS.values():
        groups = [list(find(ROOT / folder)) for folder in folders]
        labels = labels_of(groups[0])
        if len(groups) == 1:
            rates = {item.codec: item.bd_rate for item in compare_with_anchor(groups[0], anchor=_ANCHOR)}
        else:
            rates = {item.codec: item.mean for item in compare_by_detector(groups, anchor=_ANCHOR)}
        found = {labels[codec].removesuffix(GUIDED_BY_JUDGE): rate for codec, rate in rates.items()}
        for name, row in rows.items():
            row.append(_whole(found.get(name)))
    return _body(Table("", ("codec", *_COLUMNS), tuple(map(tuple, rows.values()))), range(1 + len(_COLUMNS)))


def _whole(estimate: Estimate | None) -> str:
    if estimate is None:
        return "not measured"
    if estimate.value is None:
        return "none"
    interval = "" if estimate.low is None else f" [{estimate.low:+.0f}, {estimate.high:+.0f}]"
    return f"{estimate.value:+.0f} %{interval}"


def main() -> None:
    """Rewrite the pages."""
    for name in PAGES:
        page = ROOT / name
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
