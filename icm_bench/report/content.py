"""What a report says of its curves: data for the plots, and tables."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

from icm_bench.curves.bdrate import prepared_bd_rate
from icm_bench.curves.estimate import LOW_OVERLAP, Estimate, Method, Settings, dip_notes
from icm_bench.curves.prepared import Prepared, replicates_for
from icm_bench.curves.result import Result, main_metric, titled
from icm_bench.error import ResultError
from icm_bench.metrics.metric import in_order, metric_of
from icm_bench.report.plot import is_measured, lowest_that_matters
from icm_bench.report.style import labels_of, style_of, usual_anchor

MOST_IN_MATRIX = 24
"""More curves are compared with the anchor alone: no reader finds a number among 200 times 200."""

_SHOWN = ("map50", "map75", "psnr-rgb", "psnr-luma", "ms-ssim-rgb", "ms-ssim-luma")


@dataclass(frozen=True)
class Group:
    """The curves of one dataset, task and detector, with their BD-rates on one metric.

    Attributes:
        results: The curves.
        metric: What the BD-rates are on.
        matrix: The BD-rate of each codec (first) against each anchor (second).
        base: Earlier curves of these codecs, by spec, where the report is of a change.
        given_labels: Labels that go before the codecs' own.
    """

    results: tuple[Result, ...]
    metric: str
    matrix: Mapping[tuple[str, str], Estimate]
    base: Mapping[str, Result] = field(default_factory=dict)
    given_labels: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def labels(self) -> dict[str, str]:
        """The codecs' labels by spec."""
        return labels_of(self.results, self.given_labels)

    @property
    def anchors(self) -> list[str]:
        """The codecs that others are compared with: each, or one where there are many."""
        compared = {anchor for _, anchor in self.matrix}
        return [result.codec for result in self.results if result.codec in compared or len(self.results) == 1]

    @property
    def title(self) -> str:
        """What the curves have in common."""
        dataset, task, detector = self.results[0].group
        return titled(task, dataset, detector)

    @property
    def metrics(self) -> list[str]:
        """The metrics that any curve has, those of the tables first."""
        return in_order(key for result in self.results for key in result.results)


def make_group(
    results: Sequence[Result],
    metric: str,
    method: Method = "pchip",
    *,
    base: Iterable[Result] = (),
    labels: Mapping[str, str] | None = None,
) -> Group:
    """Compute the BD-rates of every codec of a group against every other, or the anchor where there are many.

    AP stands for the dataset's own accuracy, where that is another. Of the earlier curves in ``base``, those of the
    group's own codecs are drawn as well. Labels are by spec or name.
    """
    matrix = {}
    metric = main_metric(results, metric)
    settings = Settings(metric, method)
    prepared = {
        result.codec: Prepared(result.curve, settings, replicates_for(result, settings)) for result in results
    }
    is_matrix = len(results) <= MOST_IN_MATRIX
    usual = usual_anchor(results).codec
    pairs = (
        itertools.combinations(prepared, 2)
        if is_matrix
        else [(usual, each) for each in prepared if each != usual]
    )
    for anchor, test in pairs:
        estimate = _bd_rate(prepared[anchor], prepared[test])
        matrix[test, anchor] = estimate
        if is_matrix:
            matrix[anchor, test] = _mirrored(estimate)
    group = results[0].group
    earlier = {result.codec: result for result in base if result.group == group}
    return Group(tuple(results), metric, matrix, earlier, labels or {})


def plot_data(group: Group) -> dict[str, Any]:
    """Return what the plot of a group needs, as JSON types."""
    original = group.results[0].meta.get("uncompressed") or {}
    return {
        "title": group.title,
        "metric": group.metric if group.metric in group.metrics else group.metrics[0],
        "metrics": [
            {"key": key, "name": metric_of(key).label, "unit": metric_of(key).unit} for key in group.metrics
        ],
        "original": {key: original.get(key) for key in group.metrics if original.get(key) is not None},
        "lowest": {key: low for key in group.metrics if (low := _lowest(group, key)) is not None},
        "originalBands": original.get("intervals", {}),
        "curves": _curves_data(group),
    }


def matrix_table(group: Group) -> str:
    """Return the BD-rates as HTML: a row a codec, a column an anchor."""
    codecs = [result.codec for result in group.results]
    name = escape(metric_of(group.metric).label)
    head = "".join(
        f'<th scope="col" title="{escape(codec)}">{escape(group.labels[codec])}</th>'
        for codec in group.anchors
    )
    rows = "".join(
        f'<tr><th scope="row" title="{escape(codec)}">{escape(group.labels[codec])}</th>'
        + "".join(_matrix_cell(group.matrix.get((codec, anchor))) for anchor in group.anchors)
        + "</tr>"
        for codec in codecs
    )
    dropped = escape("".join(f" {line}" for line in dip_notes(group.matrix.values())))
    return (
        f'<p class="caption">BD-rate on {name}: codec (row) against anchor (column). Negative means fewer bits for the '
        f"same accuracy. In brackets the paired 95 % interval; ! marks an overlap below {LOW_OVERLAP}.{dropped}</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="BD-rates"><table class="matrix">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def points_table(group: Group) -> str:
    """Return every operating point as a sortable HTML table."""
    main = main_metric(group.results)
    shown = [key for key in dict.fromkeys((main, *_SHOWN)) if key in group.metrics]
    names = ["codec", "quality", "bpp", *(metric_of(key).label for key in shown)]
    names += [f"{metric_of(main).label} 95 %", "encode s", "decode s"]
    head = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in names)
    original = group.results[0].meta.get("uncompressed") or {}
    band = original.get("intervals", {}).get(main)
    rows = [["uncompressed", None, None, *map(original.get, shown), band, None, None]]
    for result in group.results:
        rows += _point_rows(result, group.labels[result.codec], shown, main)
    digits = [0, None, 4, *(metric_of(key).digits for key in shown), 1, 3, 3]
    body = "".join(
        "<tr>" + "".join(_cell(value, digit) for value, digit in zip(row, digits, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        '<p class="caption">bpp: length of the real bitstreams over the native pixels, pooled over the images. '
        "Seconds: mean an image, one thread.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Operating points"><table class="sortable">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def manifest(group: Group) -> str:
    """Return what the curves were measured under, as HTML."""
    return "".join(
        f"<details><summary>{escape(group.labels[result.codec])}: {escape(result.codec)}</summary>"
        f"{_definitions(_manifest_of(result))}</details>"
        for result in group.results
    )


def facts(group: Group) -> str:
    """Return what a reader must know of a group first, as one HTML paragraph."""
    dataset = group.results[0].meta.get("dataset", {})
    counted = [f"{dataset[key]:,} {key}" for key in ("images", "objects") if key in dataset]
    main = main_metric(group.results)
    original = (group.results[0].meta.get("uncompressed") or {}).get(main)
    if original is not None:
        counted.append(f"{metric_of(main).label} {original:.1f} on the uncompressed images")
    return f"<p>{escape('; '.join(counted))}.</p>" if counted else ""


def embedded_json(content: Any) -> str:
    """Return JSON that may stand within a script element."""
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _bd_rate(anchor: Prepared, test: Prepared) -> Estimate:
    try:
        return prepared_bd_rate(anchor, test)
    except ResultError as error:
        return Estimate(value=None, method=anchor.settings.method, reason=str(error))


def _mirrored(estimate: Estimate) -> Estimate:
    """Return the BD-rate of the anchor against the test: logarithms of rates change their sign."""

    def mirror(percent: float | None) -> float | None:
        return None if percent is None else 100 * (1 / (1 + percent / 100) - 1)

    return dataclasses.replace(
        estimate, value=mirror(estimate.value), low=mirror(estimate.high), high=mirror(estimate.low)
    )


def _lowest(group: Group, metric: str) -> float | None:
    measured = [result for result in group.results if is_measured([result], metric)]
    return lowest_that_matters(measured, metric) if measured else None


def _curves_data(group: Group) -> list[dict[str, Any]]:
    curves = []
    for result in group.results:
        data = {"label": group.labels[result.codec], "rivals": []} | _curve_data(result, group.metrics)
        curves.append(data)
        if result.codec in group.base and group.base[result.codec].results != result.results:
            # The earlier curve is the later one's rival: dotted, shown wherever that is shown alone.
            data["rivals"] = [len(curves)]
            earlier = _curve_data(group.base[result.codec], group.metrics)
            style = {**earlier["style"], "line": 3}
            label = f"{data['label']}, base"
            rivals = [len(curves) - 1]
            curves.append(earlier | {"label": label, "style": style, "rivals": rivals, "isBase": True})
    return curves


def _curve_data(result: Result, metrics: Iterable[str]) -> dict[str, Any]:
    bands = result.meta.get("intervals", {})
    points: list[dict[str, Any]] = [
        {
            "quality": quality,
            "bpp": bpp,
            "values": {key: result.results[key][index] for key in metrics if key in result.results},
            "bands": {key: bands[key][index] for key in metrics if key in bands},
        }
        for index, (quality, bpp) in enumerate(zip(result.qualities, result.results["bpp"], strict=True))
        if bpp is not None and bpp > 0
    ]
    points.sort(key=lambda point: point["bpp"])
    return {"codec": result.codec, "style": dataclasses.asdict(style_of(result.codec)), "points": points}


def _point_rows(result: Result, label: str, shown: Sequence[str], main: str) -> list[list[Any]]:
    timed = result.timings.get("results", {})
    bands = result.meta.get("intervals", {}).get(main)

    def at(columns: Mapping[str, Any], key: str, index: int) -> Any:
        return columns[key][index] if key in columns else None

    return [
        [
            label,
            quality,
            result.results["bpp"][index],
            *(at(result.results, key, index) for key in shown),
            bands[index] if bands else None,
            at(timed, "encode_s", index),
            at(timed, "decode_s", index),
        ]
        for index, quality in enumerate(result.qualities)
    ]


def _manifest_of(result: Result) -> dict[str, Any]:
    meta = result.meta
    return {
        "command": meta.get("command"),
        "codec": list(dict.fromkeys(meta.get("codec_version") or ())),
        "detector": meta.get("detector", {}).get("version"),
        "ladder": result.qualities,
        "dataset fingerprint": meta.get("dataset", {}).get("fingerprint"),
        "bitstreams": meta.get("bitstreams"),
        "conventions": meta.get("conventions"),
        "versions": meta.get("versions"),
        "machine of the timings": result.timings.get("machine"),
    }


def _definitions(content: Mapping[str, Any]) -> str:
    entries = (f"<dt>{escape(name)}</dt><dd>{_plain(value)}</dd>" for name, value in content.items() if value)
    return f"<dl>{''.join(entries)}</dl>"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return escape("; ".join(f"{key}: {item}" for key, item in value.items()))
    return escape(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _matrix_cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return '<td class="self">–</td>'
    if estimate.value is None:
        return f'<td class="none">none<small>{escape(estimate.reason or "")}</small></td>'
    sure = estimate.low is not None and estimate.high is not None and (estimate.high < 0 or estimate.low > 0)
    kind = ("less" if estimate.value < 0 else "more") if sure else "open"
    flag = " !" if estimate.is_low_overlap else ""
    limits = "" if estimate.low is None else f"[{estimate.low:+.1f}, {estimate.high:+.1f}]"
    overlap = "" if estimate.overlap is None else f"overlap {estimate.overlap:.2f}{flag}"
    return f'<td class="{kind}">{estimate.value:+.1f} %<small>{limits}<br>{overlap}</small></td>'


def _cell(value: Any, digits: int | None) -> str:
    if value is None or (isinstance(value, list) and None in value):
        return '<td data-value=""></td>'
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    if isinstance(value, list):
        return f'<td class="number" data-value="{value[0]}">[{value[0]:.1f}, {value[1]:.1f}]</td>'
    shown = f"{value:g}" if digits is None else f"{value:.{digits}f}"
    return f'<td class="number" data-value="{value}">{shown}</td>'
