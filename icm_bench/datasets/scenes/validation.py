"""The validation set: drawn, written as lossless images, annotated in COCO's format."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from pycocotools import mask as run_lengths

from icm_bench.datasets.scenes.form import FORMS
from icm_bench.datasets.scenes.scene import HEIGHT, WIDTH, Scene, draw_scene

SEED = 0
"""The seed of the validation set; training sets take others."""

N_SCENES = 70

ANNOTATIONS = "instances.json"
"""The name of the annotation file, beside the images."""


def write_validation_set(folder: Path, *, n_scenes: int = N_SCENES, seed: int = SEED) -> Path:
    """Draw scenes, and write each as a lossless WebP and all their objects as one annotation file.

    Returns:
        The annotation file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scenes = []
    for index in range(n_scenes):
        scene = draw_scene((seed, index))
        opened = PilImage.fromarray(scene.image)
        opened.save(folder / _file_name(index), lossless=True, quality=100, method=5)
        scenes.append(scene)
    path = folder / ANNOTATIONS
    path.write_text(
        json.dumps(annotate(scenes), separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8"
    )
    return path


def annotate(scenes: list[Scene]) -> dict[str, list[dict[str, Any]]]:
    """Return the scenes' objects in COCO's format: the mask is all that shows of an object, the box holds it.

    Image ids are 1, 2, ... in the order of the scenes, category ids 1 to 10 in the order of ``FORMS``.
    """
    images = []
    annotations: list[dict[str, Any]] = []
    for index, scene in enumerate(scenes):
        images.append({"id": index + 1, "file_name": _file_name(index), "width": WIDTH, "height": HEIGHT})
        for number, category_id in enumerate(scene.categories, start=1):
            row = {
                "id": len(annotations) + 1,
                "image_id": index + 1,
                "category_id": category_id,
                "iscrowd": 0,
            }
            annotations.append(row | _extent(scene.instances == number))
    categories = [{"id": number, "name": name} for number, name in enumerate(FORMS, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _extent(mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = run_lengths.encode(np.asfortranarray(mask, np.uint8))
    return {
        "area": int(mask.sum()),
        "bbox": run_lengths.toBbox(encoded).tolist(),
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode("ascii")},
    }


def _file_name(index: int) -> str:
    return f"{index + 1:06d}.webp"


def main() -> None:
    """Write the validation set."""
    parser = argparse.ArgumentParser(
        prog="python -m icm_bench.datasets.scenes.validation", description=__doc__
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent / "val")
    write_validation_set(parser.parse_args().folder)


if __name__ == "__main__":
    main()
