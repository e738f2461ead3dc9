"""A small annotated set of images, in which the fake detector finds coloured rectangles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from icm_bench.testing import photograph

COLORS = {1: (230, 30, 30), 2: (30, 210, 30), 3: (40, 40, 240)}


def draw_blobs(folder: Path, sides: tuple[int, int] = (90, 130)) -> tuple[Path, Path]:
    """Draw 20 photograph-like images with coloured rectangles, annotated in COCO format; return folder and file."""
    rng = np.random.default_rng(7)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for identifier in range(1, 21):
        width, height = (int(side) for side in rng.integers(*sides, 2))
        picture = photograph(width, height, seed=identifier) // 2 + 60
        for _ in range(int(rng.integers(1, 5))):
            category = int(rng.integers(1, 4))
            w, h = (int(side) for side in rng.integers(6, 40, 2))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            strength = rng.uniform(0.25, 1.0)
            patch = picture[y : y + h, x : x + w]
            picture[y : y + h, x : x + w] = (1 - strength) * patch + strength * np.array(COLORS[category])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": identifier,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
        Pillow.fromarray(picture).save(folder / f"{identifier:04d}.png")
        images.append(
            {"id": identifier, "file_name": f"{identifier:04d}.png", "width": width, "height": height}
        )
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}, {"id": 3, "name": "blue"}]
    file = folder / "blobs.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return folder, file
