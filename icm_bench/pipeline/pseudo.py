"""Pseudo ground truth: what a detector finds on the uncompressed images stands for the objects that nobody annotated.

Accuracy then measures how far coding changes what the detector finds, on any images. Published work finds BD-rates
within 0.7 points of those on annotations, at medium rates (arXiv 2205.06519). No table holds both: the results have a
dataset's name of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pycocotools.mask

from icm_bench.dataset import Dataset, GroundTruth
from icm_bench.detector import Detector, Prediction
from icm_bench.error import DatasetError, UsageError
from icm_bench.pipeline.judge import Judge

SCORE = 0.5
"""From which score on a finding counts as an object where nobody says otherwise; our choice."""


def check_score(score: float) -> None:
    """Refuse a score that no finding has, or all have.

    Raises:
        UsageError: It is not above 0 and up to 1.
    """
    if not 0 < score <= 1:
        raise UsageError(f"{score:g} is not above 0 and up to 1", where="--truth-score", hint="write 0.5")


def pseudo_name(dataset: str, score: float) -> str:
    """Return what a dataset is called in results where findings from a score on are its objects."""
    return f"{dataset}-pseudo" + (f"-{score:g}" if score != SCORE else "")


def with_pseudo_truth(
    dataset: Dataset, judge: Judge, found: Iterable[tuple[int, Prediction]], score: float
) -> Dataset:
    """Return a dataset whose objects are what a detector finds on its images.

    The fingerprint stays, since the objects follow from the images, the detector's version and the score. So all
    detectors share the bootstrap replicates of the images, with the annotations as well, which are left out here.
    ``found`` has image ids with the findings on the uncompressed images; from the score on, in (0, 1], they count.

    Raises:
        DatasetError: The detector finds nothing.
    """
    spec = judge.choice.spec
    truth = pseudo_truth(dataset, found, judge.categories, score)
    if not truth["annotations"]:
        raise DatasetError(
            f"detector '{spec}' finds nothing from a score of {score:g} on",
            where=f"dataset '{dataset.name}'",
            hint="give a lower --truth-score, or another detector",
        )
    said = f"pseudo: findings of {spec} from score {score:g} on"
    name = pseudo_name(dataset.name, score)
    return replace(dataset, name=name, ground_truth=truth, evaluation="coco", truth=said)


def pseudo_truth(
    dataset: Dataset, found: Iterable[tuple[int, Prediction]], categories: Mapping[int, str], score: float
) -> GroundTruth:
    """Return findings, each with its image's id, from a score on as ground truth in COCO's object format."""
    counted = [(image_id, row) for image_id, row in found if row["score"] >= score]
    return {
        "images": [{"id": item.id, "width": item.width, "height": item.height} for item in dataset.images],
        "annotations": [_object(number, *each) for number, each in enumerate(counted, start=1)],
        "categories": [{"id": key, "name": name} for key, name in sorted(categories.items())],
    }


def joined_objects(
    dataset: Dataset, detectors: Sequence[Detector], score: float, folder: Path
) -> GroundTruth:
    """Return a dataset's annotations and what detectors find on its images, as a file in COCO's object format.

    A codec is trained with it: what matters there is where objects are, and one that is found twice is there once.

    Args:
        dataset: The images, with annotations or without.
        detectors: They look at every image.
        score: From which score on, in (0, 1], a finding counts as an object.
        folder: What the names of the images' files begin at.

    Raises:
        UsageError: Two of them call a category of one number by different names.
        DatasetError: There is no object, or an image cannot be read.
        DetectorError: A detector cannot run.
    """
    truth = dataset.ground_truth or {"annotations": (), "categories": ()}
    categories = {row["id"]: row["name"] for row in truth["categories"]}
    for detector in detectors:
        for key, name in detector.categories.items():
            if categories.setdefault(key, name) != name:
                what = f"calls category {key} '{name}', which is '{categories[key]}' elsewhere"
                hint = "take detectors of the same categories"
                raise UsageError(what, where=f"detector '{detector.name}'", hint=hint)
    found = (
        (record.id, row)
        for record in dataset.images
        for detector in detectors
        for row in detector.predict(record.read())
    )
    made = pseudo_truth(dataset, found, categories, score)
    objects = [*truth["annotations"], *made["annotations"]]
    if not objects:
        hint = "give a lower --score, or another detector"
        raise DatasetError(f"has no object from a score of {score:g} on", where=dataset.name, hint=hint)
    names = {record.id: record.path.relative_to(folder).as_posix() for record in dataset.images}
    images = [{**row, "file_name": names[row["id"]]} for row in made["images"]]
    objects = [{**row, "id": number} for number, row in enumerate(objects, start=1)]
    return {"images": images, "annotations": objects, "categories": made["categories"]}


def _object(number: int, image_id: int, row: Prediction) -> dict[str, Any]:
    width, height = row["bbox"][2:]
    mask = row.get("segmentation")
    return {
        "id": number,
        "image_id": image_id,
        "category_id": row["category_id"],
        "bbox": list(row["bbox"]),
        "area": float(pycocotools.mask.area(mask)) if mask else width * height,
        "iscrowd": 0,
        **({"segmentation": mask} if mask else {}),
    }
