"""Data sets whose images are there several times, which is what a resample stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Rows = list[dict[str, Any]]


def repeated(
    truth: Mapping[str, Rows], predictions: Rows, weights: Sequence[int]
) -> tuple[dict[str, Rows], Rows]:
    """Return the data set with each image there so many times, copies of an image next to each other."""
    copies: dict[int, list[int]] = {}
    n_copies = 0
    for image, weight in zip(sorted(row["id"] for row in truth["images"]), weights, strict=True):
        copies[image] = list(range(n_copies + 1, n_copies + weight + 1))
        n_copies += weight
    annotations = [row | {"image_id": new} for row in truth["annotations"] for new in copies[row["image_id"]]]
    again = {
        "images": [row | {"id": new} for row in truth["images"] for new in copies[row["id"]]],
        "categories": truth["categories"],
        "annotations": [row | {"id": index + 1} for index, row in enumerate(annotations)],
    }
    return again, [row | {"image_id": new} for row in predictions for new in copies[row["image_id"]]]
