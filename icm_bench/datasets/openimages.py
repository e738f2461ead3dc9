"""Open Images: MPEG's subset for video coding for machines, and the validation split as it is published.

What a folder holds::

    images/ or validation/ or data/, or the folder itself        <ImageID>.jpg
    in the folder or in annotations/, of MPEG's subset for detection
        detection_validation_input_5k.lst                        the images
        detection_validation_5k_bbox.csv                         boxes, of classes under COCO's names
        detection_validation_labels_5k.csv                       what was looked for in each image
    or of MPEG's subset for segmentation
        segmentation_validation_input_5k.lst                     the images
        segmentation_validation_bbox_5k.csv                      boxes, of classes under COCO's names
        segmentation_validation_labels_5k.csv                    what was looked for in each image
        segmentation_validation_masks_5k.csv                     masks of some of the boxes, within the file
    or of the validation split
        validation-annotations-bbox.csv                          boxes
        validation-annotations-human-imagelabels-boxable.csv     what was looked for in each image
        class-descriptions-boxable.csv                           what the classes are called
        bbox_labels_600_hierarchy.json                           which class is a kind of which
        images.lst                                               the images, where not all of the split are wanted
        validation-annotations-object-segmentation.csv           masks of some of the boxes, where they are wanted
        masks/ in the folder                                     <MaskPath>, or <its first character>/<MaskPath>

Detectors that were trained on COCO are measured, so that ground truth is what COCO has a category for. Classes are
taken by their names; each is also every class that it is a kind of (a man is a person), as in the Open Images
Challenge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final

from icm_bench.dataset import Dataset, ImageRecord, need, refuse
from icm_bench.datasets.coco import Coco
from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.datasets.openimages_file import (
    FETCH_AGAIN,
    Classes,
    coordinate,
    lines_of,
    malformed,
    meaning_of,
    mpeg_classes,
    published_classes,
    rows_of,
)
from icm_bench.datasets.openimages_mask import read_masks
from icm_bench.detector import Task
from icm_bench.error import DatasetError
from icm_bench.image import image_size, printable, read_bytes

MPEG_IMAGES = 5_000
MPEG_BOXES = 12_641
MPEG_SEGMENTATION_BOXES = 15_365
VALIDATION_IMAGES = 41_620


_MPEG: Final[Mapping[str, tuple[str, int, str, str, str]]] = MappingProxyType(
    {
        "detection_validation_5k_bbox.csv": (
            "openimages-mpeg",
            MPEG_BOXES,
            "detection_validation_labels_5k.csv",
            "detection_validation_input_5k.lst",
            "",
        ),
        "segmentation_validation_bbox_5k.csv": (
            "openimages-mpeg-segmentation",
            MPEG_SEGMENTATION_BOXES,
            "segmentation_validation_labels_5k.csv",
            "segmentation_validation_input_5k.lst",
            "segmentation_validation_masks_5k.csv",
        ),
    }
)
"""MPEG's subsets by their files of boxes: name, boxes, and the files of labels, images and masks."""

_NEAR: Final = 1e-5
"""How far, in parts of the image's side, a mask's box may be from the same box in the file of boxes: one is rounded."""


class OpenImages:
    """Open Images V6, scored as the Open Images Challenge scores; see the module's description."""

    name: ClassVar[str] = "openimages"
    default_detectors: ClassVar[Mapping[Task, str]] = Coco.default_detectors

    @classmethod
    def open(
        cls, *, data_root: Path | None = None, images: Path | None = None, annotations: Path | None = None
    ) -> Dataset:
        """Return what lies under ``data_root``, the images numbered from 1 in the order of their ImageIDs.

        It is named ``openimages-mpeg``, ``openimages-mpeg-segmentation`` or ``openimages-validation`` where it is
        whole, else with ``-partial<n>`` by its number of images.

        Raises:
            UsageError: No folder was given, or more than a folder was.
            DatasetError: A file is missing, broken or of the wrong kind.
        """
        refuse(cls.name, images=images, annotations=annotations)
        root = need(cls.name, "data_root", data_root, "the folder of its images and CSV files")
        return _open(_source(root))


@dataclass(frozen=True)
class _Source:
    """Where a set's files and folders are, and what its classes mean."""

    name: str
    whole: tuple[int, int | None]  # images and, where known, boxes of the whole set
    folder: Path  # of the images
    boxes: Path
    labels: Path
    listing: Path | None  # None for all images that the labels and boxes name
    classes: Classes
    masks: Path | None = None
    mask_folder: Path = Path("masks")  # of masks that are files of their own


@dataclass(frozen=True)
class _Box:
    image: str
    label: str
    categories: frozenset[int]
    edges: tuple[float, float, float, float]
    is_group: bool
    mask: dict[str, Any] | None = None


def _open(source: _Source) -> Dataset:
    boxes = list(_read_boxes(source))
    labels = list(_read_labels(source))
    named = _listed(source.listing) if source.listing else _all_named(source)
    if not named:
        raise DatasetError(
            "names no images", where=printable(source.listing or source.boxes), hint=FETCH_AGAIN
        )
    records = {}
    for number, (image, file_name) in enumerate(sorted(named.items()), start=1):
        path = _image_file(source.folder / file_name)
        width, height = image_size(read_bytes(path), where=path)
        records[image] = ImageRecord(number, path, width, height)
    if source.masks:
        boxes = _with_masks(boxes, source, source.masks, records)
    truth = _ground_truth(records, boxes, labels)
    n_boxes = len(truth["annotations"])
    if not n_boxes:
        raise DatasetError(
            "no box of a category of COCO's belongs to these images", where=printable(source.boxes)
        )
    whole_images, whole_boxes = source.whole
    is_whole = len(records) == whole_images and whole_boxes in (None, n_boxes)
    name = source.name if is_whole else f"{source.name}-partial{len(records)}"
    return Dataset.measure(name, records.values(), truth, "open-images-challenge")


def _image_file(path: Path) -> Path:
    # MPEG's list for segmentation names PNG files, which users make of the published JPEG files or not.
    published = path.with_suffix(".jpg")
    return published if published.exists() and not path.exists() else path


def _source(root: Path) -> _Source:
    found = [path for name in (*_MPEG, "validation-annotations-bbox.csv") if (path := _find(root, name))]
    if len(found) > 1:
        raise DatasetError(
            f"holds {'two' if len(found) == 2 else 'three'} sets of boxes",
            where=printable(root),
            hint=f"keep {' or '.join(path.name for path in found)}",
        )
    places = (root / name for name in ("images", "validation", "data"))
    folder = next((place for place in places if place.is_dir()), root)
    if found and found[0].name in _MPEG:
        name, n_boxes, labels, listing, masks = _MPEG[found[0].name]
        return _Source(
            name=name,
            whole=(MPEG_IMAGES, n_boxes),
            folder=folder,
            boxes=found[0],
            labels=_need(root, labels),
            listing=_need(root, listing),
            classes=mpeg_classes(),
            masks=_need(root, masks) if masks else None,
        )
    descriptions = _need(root, "class-descriptions-boxable.csv", "oidv7-class-descriptions-boxable.csv")
    return _Source(
        name="openimages-validation",
        whole=(VALIDATION_IMAGES, None),
        folder=folder,
        boxes=_need(root, "validation-annotations-bbox.csv", "detection_validation_5k_bbox.csv"),
        labels=_need(root, "validation-annotations-human-imagelabels-boxable.csv"),
        listing=_find(root, "images.lst"),
        classes=published_classes(descriptions, _need(root, "bbox_labels_600_hierarchy.json")),
        masks=_find(root, "validation-annotations-object-segmentation.csv"),
        mask_folder=root / "masks",
    )


def _find(root: Path, name: str) -> Path | None:
    places = (root / name, root / "annotations" / name)
    return next((path for path in places if path.is_file()), None)


def _need(root: Path, name: str, other: str | None = None) -> Path:
    found = _find(root, name) or (_find(root, other) if other else None)
    if found is None:
        alternative = f", nor {other}" if other else ""
        raise DatasetError(
            f"there is no {name}{alternative}",
            where=printable(root),
            hint="put Open Images' annotation files there, or into annotations/",
        )
    return found


def _read_boxes(source: _Source) -> Iterator[_Box]:
    columns = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf")
    for line, (image, label, *edges, group) in rows_of(source.boxes, columns):
        left, right, top, bottom = (coordinate(source.boxes, line, text) for text in edges)
        if right < left or bottom < top:
            malformed(source.boxes, line, "has a box of negative size")
        if group not in ("0", "1"):
            malformed(source.boxes, line, f"has IsGroupOf {group!r}, not 0 or 1")
        categories = meaning_of(source.classes.present, label, source.boxes, line)
        yield _Box(image, label, categories, (left, top, right, bottom), group == "1")


def _with_masks(
    boxes: Sequence[_Box], source: _Source, path: Path, records: Mapping[str, ImageRecord]
) -> list[_Box]:
    """Return the boxes with their masks; a mask that no box fits is an object of its own, as in the challenge."""
    found = list(boxes)
    places: dict[tuple[str, str], list[int]] = {}
    for place, box in enumerate(boxes):
        places.setdefault((box.image, box.label), []).append(place)
    sizes = {image: (record.width, record.height) for image, record in records.items()}
    for mask in read_masks(path, source.mask_folder, sizes):
        near = [
            place
            for place in places.get((mask.image, mask.label), ())
            if found[place].mask is None and _are_near(found[place].edges, mask.edges)
        ]
        if near:
            found[near[0]] = replace(found[near[0]], mask=mask.run_lengths)
        else:
            categories = meaning_of(source.classes.present, mask.label, path, mask.line)
            found.append(_Box(mask.image, mask.label, categories, mask.edges, False, mask.run_lengths))
    return found


def _are_near(first: Sequence[float], second: Sequence[float]) -> bool:
    return all(abs(one - other) <= _NEAR for one, other in zip(first, second, strict=True))


def _read_labels(source: _Source) -> Iterator[tuple[str, bool, frozenset[int]]]:
    """Yield images with the categories that are verified in them, and whether as present or as absent."""
    for line, (image, label, confidence) in rows_of(source.labels, ("ImageID", "LabelName", "Confidence")):
        if confidence not in ("0", "1", "0.0", "1.0"):
            malformed(source.labels, line, f"has Confidence {confidence!r}: what people verified is 0 or 1")
        is_present = confidence.startswith("1")
        meanings = source.classes.present if is_present else source.classes.absent
        yield image, is_present, meaning_of(meanings, label, source.labels, line)


def _listed(path: Path) -> dict[str, str]:
    """Return the file name of each ImageID that a list names, one a line, with an ending or without."""
    named = {}
    for line, row in lines_of(path):
        text = row[0].strip()
        if len(row) != 1 or "/" in text or "\\" in text or text.startswith(".") or "\0" in text:
            malformed(path, line, "is not the name of an image")
        image, dot, _ = text.partition(".")
        if image in named:
            malformed(path, line, f"names image {image} again")
        named[image] = text if dot else f"{text}.jpg"
    return named


def _all_named(source: _Source) -> dict[str, str]:
    images = {row[0] for path in (source.boxes, source.labels) for _, row in rows_of(path, ("ImageID",))}
    for image in images:
        if not image.isalnum():
            raise DatasetError(
                f"'{image}' is not an ImageID", where=printable(source.boxes), hint=FETCH_AGAIN
            )
    return {image: f"{image}.jpg" for image in images}


def _ground_truth(
    records: Mapping[str, ImageRecord],
    boxes: Sequence[_Box],
    labels: Sequence[tuple[str, bool, frozenset[int]]],
) -> dict[str, Any]:
    """Return ground truth in COCO's format; a box that holds a group is a crowd."""
    known: dict[bool, dict[str, set[int]]] = {
        is_present: {image: set() for image in records} for is_present in (True, False)
    }
    for image, is_present, categories in labels:
        if image in records:
            known[is_present][image] |= categories
    annotations: list[dict[str, Any]] = []
    for box in boxes:
        if box.image not in records:
            continue
        known[True][box.image] |= box.categories
        for category in sorted(box.categories):
            row = _annotation(records[box.image], category, box)
            annotations.append({"id": len(annotations) + 1, **row})
    named = set().union(*known[True].values(), *known[False].values())
    return {
        "images": [
            {
                "id": record.id,
                "file_name": record.path.name,
                "width": record.width,
                "height": record.height,
                "pos_category_ids": sorted(known[True][image]),
                "neg_category_ids": sorted(known[False][image] - known[True][image]),
            }
            for image, record in records.items()
        ],
        "annotations": annotations,
        "categories": [{"id": key, "name": name} for key, name in CATEGORIES.items() if key in named],
    }


def _annotation(record: ImageRecord, category: int, box: _Box) -> dict[str, Any]:
    left, top, right, bottom = box.edges
    width, height = (right - left) * record.width, (bottom - top) * record.height
    return {
        "image_id": record.id,
        "category_id": category,
        "bbox": [left * record.width, top * record.height, width, height],
        "area": width * height,
        "iscrowd": int(box.is_group),
        **({"segmentation": box.mask} if box.mask else {}),
    }
