"""What scoring uses of a ground truth, as bytes that tell two of them apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def object_bytes(truth: Mapping[str, Any]) -> bytes:
    """Return what scoring uses of the ground truth as bytes that do not depend on order or further fields."""
    rows = {
        "annotations": sorted(
            (
                _scored(row, "id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")
                for row in truth["annotations"]
            ),
            key=lambda row: row["id"],
        ),
        "categories": sorted(
            (_scored(row, "id", "name") for row in truth["categories"]), key=lambda row: row["id"]
        ),
    }
    return json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()


def label_bytes(truth: Mapping[str, Any]) -> bytes:
    """Return what is known of whole images as bytes that do not depend on order."""
    rows = {
        row["id"]: [sorted(row["pos_category_ids"]), sorted(row["neg_category_ids"])]
        for row in truth["images"]
    }
    return json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()


def void_bytes(truth: Mapping[str, Any]) -> bytes:
    """Return which pixels of the images count for nothing, as bytes that do not depend on order."""
    rows = {row["id"]: row.get("void") for row in truth["images"]}
    return json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()


def _scored(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: row[key] for key in keys if key in row}
