"""Images of a change for the worse: what the detector found at base and misses at head, cut out of both sides."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from icm_bench.curves.result import Result
from icm_bench.dataset import Dataset, ImageRecord
from icm_bench.detector import NO_DETECTOR
from icm_bench.error import IcmBenchError
from icm_bench.image import Image
from icm_bench.metrics.coco_truth import GroundTruth
from icm_bench.report import browser
from icm_bench.report.browser import RANKING_SCORE, Detection, Places, Point, Stores
from icm_bench.report.regression import Regression

MOST_IMAGES: Final = 4
"""Images of each curve that became worse."""

_MARGIN, _SMALLEST = 16, 128
"""Pixels around the lost objects, and the least side of what is cut out."""


@dataclass(frozen=True)
class Sides:
    """Where bitstreams and predictions of both sides are.

    Attributes:
        base: The stores of the earlier results.
        head: The stores of the later ones.
        places: Where the datasets are.
    """

    base: Stores
    head: Stores
    places: Places


def worse_images(change: Regression, base: Iterable[Result], head: Iterable[Result], sides: Sides) -> str:
    """Return HTML with the images in which curves that became worse lose objects; empty where none became worse."""
    keyed = [{(*each.group, each.codec): each for each in results} for results in (base, head)]
    parts = []
    for row in change.rows:
        if row.verdict != "worse":
            continue
        key = (row.dataset, row.task, row.detector, row.codec)
        title = html.escape(f"{row.codec}: {row.task} on {row.dataset} by {row.detector}")
        try:
            shown = _of_curve(keyed[0][key], keyed[1][key], sides)
        except (IcmBenchError, KeyError) as error:
            shown = f"<p>No images: {html.escape(str(error))}.</p>"
        parts.append(f"<h4>{title}</h4>{shown}")
    if not parts:
        return ""
    return (
        '<h3>Images that became worse</h3><p class="caption">Cut out around objects that the detector finds at base '
        f"and not at head, from a score of {RANKING_SCORE} on, at the operating point where the image loses most. "
        "Solid: an object that was found; dotted: one that was missed; dashed: a false detection.</p>"
        f"{''.join(parts)}"
    )


def _of_curve(base: Result, head: Result, sides: Sides) -> str:
    if head.detector == NO_DETECTOR:
        return "<p>There is no detector whose view could be shown.</p>"
    dataset = browser.open_measured(head, sides.places)
    browser.check_dataset(dataset, (base, head))
    truth = GroundTruth.from_coco(dataset.ground_truth or {})
    ladder = [quality for quality in base.qualities if quality is not None and quality in head.qualities]
    both = ((sides.base, base), (sides.head, head))
    points = [tuple(Point(dataset, *side, quality) for side in both) for quality in ladder]
    lost = np.array([before.n_found(truth) - after.n_found(truth) for before, after in points])
    if not lost.size or lost.sum(axis=0).max() <= 0:
        return "<p>No image loses objects: what became worse are the bits.</p>"
    records = {record.id: record for record in dataset.images}
    order = np.argsort(-lost.sum(axis=0), kind="stable")[:MOST_IMAGES]
    chosen = [(records[int(truth.image_ids[index])], points[int(lost[:, index].argmax())]) for index in order]
    return "".join(_of_image(dataset, record, *pair) for record, pair in chosen)


def _of_image(dataset: Dataset, record: ImageRecord, base: Point, head: Point) -> str:
    truth = browser.truths(dataset, [record])[record.id]
    seen = (side.detections(record, truth) for side in (base, head))
    found = [[each for each in detections if each.score >= RANKING_SCORE] for detections in seen]
    objects = [{each.object_ for each in detections if each.object_ >= 0} for detections in found]
    lost = sorted(objects[0] - objects[1])
    if not lost:
        return ""
    boxes = truth.boxes[~truth.crowd]
    area = _around(boxes[lost], record)
    views = []
    for name, side, detections, own in zip(("base", "head"), (base, head), found, objects, strict=True):
        image, said = _decoded(side, record)
        missed = boxes[[index for index in lost if index not in own]].tolist()
        caption = f"{name}: {said}, {len(own)} of {len(boxes)} objects found"
        views.append(_view(caption, image, area, detections, missed))
    title = f"{record.title} at {head.quality:g}: {len(lost)} lost"
    return f'<p>{html.escape(title)}</p><div class="pair">{"".join(views)}</div>'


def _decoded(point: Point, record: ImageRecord) -> tuple[Image, str]:
    """Return an image as it was decoded; the original where today's decoder is another than the point's."""
    try:
        image, n_bytes = point.decode(record)
    except IcmBenchError:
        return record.read(), "shown on the original, since the decoder has changed"
    return image, f"{n_bytes:,} bytes"


def _around(boxes: NDArray[np.float64], record: ImageRecord) -> tuple[int, int, int, int]:
    """Return left, top, width and height of what holds the boxes, within the image."""
    low = boxes[:, :2].min(axis=0) - _MARGIN
    high = (boxes[:, :2] + boxes[:, 2:]).max(axis=0) + _MARGIN
    sides = np.array([record.width, record.height])
    grown = np.maximum(0, _SMALLEST - (high - low)) / 2
    low = np.clip(np.floor(low - grown), 0, sides - 1).astype(int)
    high = np.clip(np.ceil(high + grown), low + 1, sides).astype(int)
    left, top = low.tolist()
    width, height = (high - low).tolist()
    return left, top, width, height


def _view(
    caption: str,
    image: Image,
    area: tuple[int, int, int, int],
    detections: Sequence[Detection],
    missed: Iterable[Sequence[float]],
) -> str:
    left, top, width, height = area
    _, content = browser.as_webp(np.ascontiguousarray(image[top : top + height, left : left + width]))
    source = f"data:image/webp;base64,{base64.b64encode(content).decode('ascii')}"
    marked = [("missed", box) for box in missed]
    marked += [
        ("true" if each.object_ >= 0 else "false", each.box) for each in detections if each.object_ >= -1
    ]
    rects = "".join(
        f'<g class="{kind}"><rect x="{box[0]:.1f}" y="{box[1]:.1f}" width="{box[2]:.1f}" height="{box[3]:.1f}"/></g>'
        for kind, box in marked
    )
    said = html.escape(caption)
    return (
        f'<figure><figcaption>{said}</figcaption><div class="picture"><div class="zoomed">'
        f'<img src="{source}" alt="{said}" width="{width}" height="{height}">'
        f'<svg viewBox="{left} {top} {width} {height}" aria-hidden="true">{rects}</svg></div></div></figure>'
    )
