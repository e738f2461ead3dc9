"""Pictures of what coding did to a detector: originals and decoded images with what was found in each."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pycocotools import mask as rle

from icm_bench import registry
from icm_bench.codec import Quality
from icm_bench.curves.result import Result
from icm_bench.dataset import Dataset, ImageRecord, open_dataset
from icm_bench.detector import NO_DETECTOR, Task
from icm_bench.error import IcmBenchError, UsageError
from icm_bench.image import Image
from icm_bench.metrics.coco_match import MAX_DETECTIONS, match
from icm_bench.metrics.coco_truth import GroundTruth
from icm_bench.report.content import Group

IOU: Final = 0.5
"""A detection is true where it overlaps an object of its category at least so far."""

LEAST_SCORE: Final = 0.1
"""Detections below are left out of the page."""

RANKING_SCORE: Final = 0.3
"""From what score a detection counts when images are ranked by what they lose."""

LONGEST_SIDE: Final = 640
WEBP_QUALITY: Final = 85

_FALSE, _IGNORED = -1, -2


@dataclass(frozen=True)
class Places:
    """Where datasets lie, as in a run.

    Attributes:
        data_root: The folder of a dataset with a layout of its own, or None.
        images: A folder of images, or None.
        annotations: Their annotations in COCO's format, or None.
    """

    data_root: Path | None = None
    images: Path | None = None
    annotations: Path | None = None


class StoredImages(Protocol):
    """What is stored of one operating point; ``place`` says how many images of the dataset come before an image."""

    def decode(self, image_id: int, place: int) -> tuple[Image, int]:
        """Return an image as its stored bitstream decodes, and the bitstream's bytes."""
        ...

    def predictions(self, place: int | None = None, least_score: float = 0.0) -> list[dict[str, Any]]:
        """Return detections as COCO result rows: of the image and its neighbours, or of all images."""
        ...


Stores: TypeAlias = Callable[[Result, Quality | None], StoredImages]
"""Gives what is stored of an operating point of a curve, such as :func:`icm_bench.pipeline.readback.stored_in` does."""


@dataclass(frozen=True)
class Detection:
    """One detection, and what became of it.

    Attributes:
        box: [x, y, width, height] in pixels.
        category: The category's id.
        score: Its score, 0 to 1.
        object_: The index of the object that it found; -1 for none, -2 where it lies in a crowd and does not count.
    """

    box: list[float]
    category: int
    score: float
    object_: int

    def record(self) -> dict[str, Any]:
        """Return it as the page's script reads it."""
        box = [round(edge, 1) for edge in self.box]
        return {"box": box, "category": self.category, "score": round(self.score, 4), "object": self.object_}


@dataclass
class Album:
    """Pictures by name, and what the page's script needs to show them.

    Attributes:
        data: JSON types; ``source`` of every view is a picture's name.
        pictures: WebP files by name.
    """

    data: dict[str, Any]
    pictures: dict[str, bytes] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """The pictures' size."""
        return sum(map(len, self.pictures.values()))

    def views(self) -> Iterator[dict[str, Any]]:
        """Yield every view, original or decoded."""
        for image in self.data["images"]:
            yield image["original"]
            for views in image["decoded"].values():
                yield from views

    def embed(self) -> None:
        """Put the pictures into the data."""
        for view in self.views():
            encoded = base64.b64encode(self.pictures[view["source"]]).decode("ascii")
            view["source"] = f"data:image/webp;base64,{encoded}"

    def refer(self, folder: str) -> None:
        """Let the data refer to a folder beside the page."""
        for view in self.views():
            view["source"] = f"{folder}/{view['source']}"


def make_album(group: Group, stores: Stores, places: Places, n_images: int) -> Album:
    """Return the images of a group that lose most, so many, as they were decoded at every operating point.

    Raises:
        IcmBenchError: The dataset is not at hand or is another, or the stores lack a shard or are of another run.
    """
    if group.results[0].detector == NO_DETECTOR:
        raise UsageError("images show what a detector saw, and there is none", where=group.title)
    dataset = open_measured(group.results[0], places)
    check_dataset(dataset, group.results)
    points = [
        Point(dataset, stores, result, quality) for result in group.results for quality in result.qualities
    ]
    original = Point(dataset, stores, group.results[0], None)
    chosen = _worst(dataset, original, points)[:n_images]
    objects = truths(dataset, chosen)
    data = {
        "categories": {str(key): name for key, name in dataset.categories.items()},
        "codecs": [
            {
                "name": result.codec,
                "label": group.labels[result.codec],
                "qualities": [f"{quality:g}" for quality in result.qualities if quality is not None],
            }
            for result in group.results
        ],
    }
    album = Album({**data, "images": []})
    for record in chosen:
        truth = objects[record.id]
        album.data["images"].append(
            {
                "id": record.id,
                "name": record.title,
                "width": record.width,
                "height": record.height,
                "objects": [
                    {"box": [round(edge, 1) for edge in box]} for box in truth.boxes[~truth.crowd].tolist()
                ],
                "original": _view(album, record.read(), original.detections(record, truth)),
                "decoded": {
                    result.codec: [
                        _view(album, *point.decode(record), point.detections(record, truth))
                        for point in points
                        if point.result is result
                    ]
                    for result in group.results
                },
            }
        )
    return album


@dataclass(frozen=True, eq=False)
class Point:
    """One operating point in the stores; no quality: the uncompressed images."""

    dataset: Dataset
    stores: Stores
    result: Result
    quality: Quality | None

    def n_found(self, truth: GroundTruth) -> NDArray[np.int64]:
        """Count the objects that were found in each image."""
        rows = self._stored.predictions(least_score=RANKING_SCORE)
        matches = match(truth, rows, cast("Task", self.result.task))
        is_true = (matches.true[0] & 1) > 0
        return np.bincount(matches.image[is_true], minlength=truth.n_images)

    def detections(self, record: ImageRecord, truth: GroundTruth) -> list[Detection]:
        """Return an image's detections, best first, each with the object that it found."""
        rows = self._stored.predictions(self.dataset.images.index(record), LEAST_SCORE)
        return pair(truth, [row for row in rows if row["image_id"] == record.id], self.result.task)

    def decode(self, record: ImageRecord) -> tuple[Image, int]:
        """Return an image as its stored bitstream decodes, and the bitstream's bytes."""
        return self._stored.decode(record.id, self.dataset.images.index(record))

    @cached_property
    def _stored(self) -> StoredImages:
        return self.stores(self.result, self.quality)


def pair(truth: GroundTruth, rows: Sequence[Mapping[str, Any]], task: str) -> list[Detection]:
    """Pair the COCO result rows of one image with its objects: greedily, best score first, at an IoU of 0.5.

    The task says whether boxes or masks are compared. The objects' indices count those that are not crowds.
    """
    ordered = sorted(rows, key=lambda row: -row["score"])
    number = np.cumsum(~truth.crowd) - 1
    detections = []
    for category in dict.fromkeys(row["category_id"] for row in ordered):
        own = [row for row in ordered if row["category_id"] == category][:MAX_DETECTIONS]
        objects = np.flatnonzero(truth.category_ids[truth.category] == category)
        overlaps = _overlaps(truth, own, objects, task)
        taken: set[int] = set()
        for row, overlap in zip(own, overlaps, strict=True):
            best = _best(objects, overlap, truth, taken)
            taken.add(best)
            index = int(number[best]) if best >= 0 else best
            detections.append(Detection(list(row["bbox"]), category, row["score"], index))
    return sorted(detections, key=lambda each: -each.score)


def _overlaps(truth: GroundTruth, rows: list[Mapping[str, Any]], objects: Any, task: str) -> Any:
    if not objects.size:
        return np.zeros((len(rows), 0))
    crowd = truth.crowd[objects].astype(np.uint8).tolist()
    if task == "segmentation":
        masks = [row["segmentation"] for row in rows]
        return rle.iou(masks, [truth.masks[index] for index in objects.tolist()], crowd)
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    return rle.iou(boxes, truth.boxes[objects], crowd)


def _best(objects: Any, overlap: Any, truth: GroundTruth, taken: set[int]) -> int:
    """Return the free object that a detection overlaps most, or why there is none."""
    free = [
        (value, index)
        for index, value in zip(objects.tolist(), overlap.tolist(), strict=True)
        if value >= IOU and (index not in taken or truth.crowd[index])
    ]
    counted = [item for item in free if not truth.crowd[item[1]]]
    if counted:
        return int(max(counted)[1])
    return _IGNORED if free else _FALSE


def truths(dataset: Dataset, records: Sequence[ImageRecord]) -> dict[int, GroundTruth]:
    """Return the objects of some images, an image each."""
    truth = dataset.ground_truth or {}
    of_image: dict[int, list[Mapping[str, Any]]] = {record.id: [] for record in records}
    for annotation in truth["annotations"]:
        if annotation["image_id"] in of_image:
            of_image[annotation["image_id"]].append(annotation)
    images = {image["id"]: image for image in truth["images"]}
    return {
        identifier: GroundTruth.from_coco(
            {"images": [images[identifier]], "categories": truth["categories"], "annotations": annotations}
        )
        for identifier, annotations in of_image.items()
    }


def _worst(dataset: Dataset, original: Point, points: Sequence[Point]) -> list[ImageRecord]:
    """Return the images by how many objects are lost over all operating points, most first."""
    truth = GroundTruth.from_coco(dataset.ground_truth or {})
    before = original.n_found(truth)
    lost = np.sum([before - point.n_found(truth) for point in points], axis=0)
    losses = dict(zip(truth.image_ids.tolist(), lost.tolist(), strict=True))
    return sorted(dataset.images, key=lambda record: (-losses[record.id], record.id))


def _view(album: Album, image: Image, *rest: Any) -> dict[str, Any]:
    *n_bytes, detections = rest
    name, content = as_webp(image)
    album.pictures[name] = content
    view = {"source": name, "detections": [each.record() for each in detections]}
    return view | ({"bytes": n_bytes[0]} if n_bytes else {})


def as_webp(image: Image) -> tuple[str, bytes]:
    """Return a file's name and content for an image, reduced to what the page shows at most."""
    reduced = Pillow.fromarray(image)
    reduced.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Pillow.Resampling.LANCZOS)
    buffer = io.BytesIO()
    reduced.save(buffer, "WEBP", quality=WEBP_QUALITY)
    content = buffer.getvalue()
    return f"{hashlib.sha256(content).hexdigest()[:16]}.webp", content


def open_measured(result: Result, places: Places) -> Dataset:
    """Return the dataset that a result was measured on: what its provider opens, or the images that were named."""
    provider, limit = (result.meta["dataset"].get(key) for key in ("provider", "limit"))
    provider = provider or result.dataset
    if provider in registry.names("dataset") and places.images is None:
        try:
            # What the package carries has no place.
            return open_dataset(provider, limit=limit)
        except UsageError:
            return open_dataset(provider, data_root=places.data_root, limit=limit)
    if places.images is None or places.annotations is None:
        raise UsageError(
            "is not among the named datasets",
            where=f"dataset '{result.dataset}'",
            hint="give its --images and --annotations",
        )
    return open_dataset("coco-format", images=places.images, annotations=places.annotations, limit=limit)


def check_dataset(dataset: Dataset, results: Sequence[Result]) -> None:
    """Check that results were measured on a dataset.

    Raises:
        IcmBenchError: One was measured on another.
    """
    for result in results:
        if "truth" in result.meta["dataset"]:
            raise IcmBenchError(
                "was scored against the detector's own findings, which are not at hand",
                where=result.source or result.codec,
                hint="leave out --runs, or the pseudo ground truth's curves with --datasets",
            )
        if result.meta["dataset"].get("fingerprint") != dataset.fingerprint:
            raise IcmBenchError(
                f"was measured on other images or annotations than those of dataset '{dataset.name}' here",
                where=result.source,
                hint="name the place of those that it was measured on",
            )
