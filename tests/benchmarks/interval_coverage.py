"""Count how often the 95 % intervals hold the truth, on simulated detectors and codecs whose truth is known.

    python tests/benchmarks/interval_coverage.py [--datasets 300] [--images 200] [--resamples 1000]

A simulated dataset is drawn from an endless population of images, some hard for every detector. The truth is the same
figure on 40,000 images of that population. A codec is a detector whose skill grows with rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icm_bench.curves.bdrate import bd_rate, replicated_bd_rate
from icm_bench.curves.estimate import Settings
from icm_bench.curves.interval import interval
from icm_bench.curves.prepared import Prepared
from icm_bench.curves.replicates import Replicates
from icm_bench.metrics.bootstrap import pooled_bpp, resample_weights
from icm_bench.metrics.coco_ap import GroundTruth, Scorer, score
from tests.helpers import options

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

POPULATION = 40_000
SKILLS = (0.0, 0.15)
"""Of two detectors."""
LADDERS = ((-0.9, -0.3, 0.2, 0.5), (-0.75, -0.2, 0.25, 0.55))
"""Skills of two codecs' operating points, at the same rates."""
RATES = (0.1, 0.2, 0.4, 0.8)
N_CELLS = 16
CELL = 160.0


@dataclass(frozen=True)
class Images:
    """Images drawn from the population.

    Attributes:
        hardness: Of each image, how hard it is for every detector.
        image: Of each object, its image.
        boxes: Of each object, [x, y, width, height].
        category: Of each object, its category.
        luck: Of each object, how easy it is for every detector.
    """

    hardness: Floats
    image: Integers
    boxes: Floats
    category: Integers
    luck: Floats


def draw_images(rng: np.random.Generator, n_images: int) -> Images:
    """Draw images with one to N_CELLS objects, each in a cell of its own."""
    n_objects = np.minimum(1 + rng.poisson(2.0, n_images), N_CELLS)
    image = np.repeat(np.arange(n_images), n_objects)
    cells = rng.random((n_images, N_CELLS)).argsort(axis=1)
    cell = np.concatenate([row[:count] for row, count in zip(cells, n_objects, strict=True)])
    sizes = rng.uniform(20, 140, (len(image), 2))
    corners = np.column_stack([cell % 4, cell // 4]) * CELL + 5
    return Images(
        hardness=rng.normal(0, 0.7, n_images),
        image=image,
        boxes=np.column_stack([corners, sizes]),
        category=rng.integers(1, 4, len(image)),
        luck=rng.normal(0, 0.7, len(image)),
    )


def ground_truth(images: Images) -> GroundTruth:
    """Return the images' annotations."""
    rows = [
        {"id": index + 1, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
        for index, (image, category, box) in enumerate(
            zip(images.image.tolist(), images.category.tolist(), images.boxes.tolist(), strict=True)
        )
    ]
    return GroundTruth.from_coco(
        {
            "images": [{"id": image} for image in range(len(images.hardness))],
            "categories": [{"id": category} for category in (1, 2, 3)],
            "annotations": rows,
        }
    )


def detect(rng: np.random.Generator, images: Images, skill: float) -> list[dict[str, Any]]:
    """Return what a detector of a given skill sees: objects, missed or displaced, and things that are not there."""
    ease = skill - images.hardness[images.image] + images.luck
    seen = rng.random(len(ease)) < _logistic(1.5 + ease + rng.normal(0, 0.3, len(ease)))
    scores = _logistic(1.0 + ease + rng.normal(0, 0.8, len(ease)))
    spread = 0.08 * np.exp(-0.5 * ease)
    moved = images.boxes.copy()
    moved[:, :2] += rng.normal(0, 1, (len(ease), 2)) * (spread[:, np.newaxis] * moved[:, 2:])
    n_false = rng.poisson(1.2 * np.exp(images.hardness - skill))
    false_image = np.repeat(np.arange(len(n_false)), n_false)
    false_boxes = np.column_stack(
        [rng.uniform(0, 480, (len(false_image), 2)), rng.uniform(20, 140, (len(false_image), 2))]
    )
    false_scores = _logistic(-0.7 + rng.normal(0, 1, len(false_image)))
    columns = (
        np.concatenate([images.image[seen], false_image]).tolist(),
        np.concatenate([images.category[seen], rng.integers(1, 4, len(false_image))]).tolist(),
        np.concatenate([moved[seen], false_boxes]).tolist(),
        np.concatenate([scores[seen], false_scores]).tolist(),
    )
    return [
        {"image_id": image, "category_id": category, "bbox": box, "score": confidence}
        for image, category, box, confidence in zip(*columns, strict=True)
    ]


def _logistic(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def image_bits(rng: np.random.Generator, images: Images, bpp: float) -> Integers:
    """Return the bits that each image takes at a nominal rate: hard images take more."""
    noise = rng.normal(0, 0.1, len(images.hardness))
    bits: Floats = np.rint(bpp * 640 * 640 * np.exp(0.4 * images.hardness + noise))
    return bits.astype(np.int64)


def detector_coverage(n_datasets: int, n_images: int, n_resamples: int, metric: str = "map") -> float:
    """Return the share of datasets whose interval of the two detectors' difference in AP holds the true one."""
    rng = np.random.default_rng(1)
    first, second = _detectors(rng, POPULATION)
    truth = _metric(second, metric) - _metric(first, metric)
    n_held = 0
    for index in range(n_datasets):
        first, second = _detectors(rng, n_images)
        weights = resample_weights(n_images, f"dataset {index}", n_resamples)
        drawn = second.resampled(weights)[metric] - first.resampled(weights)[metric]
        n_held += _holds(drawn, truth)
    return n_held / n_datasets


def codec_coverage(n_datasets: int, n_images: int, n_resamples: int) -> float:
    """Return the share of datasets whose interval of the two codecs' BD-rate holds the true one."""
    rng = np.random.default_rng(2)
    bits, scorers = _codecs(rng, POPULATION)
    pixels = np.full(POPULATION, 640 * 640)
    whole = np.ones((1, POPULATION), dtype=np.int32)
    curves = [
        (
            [float(pooled_bpp(bits[codec][point], pixels, whole)[0]) for point in range(len(RATES))],
            [_metric(scorer, "map") for scorer in scorers[codec]],
        )
        for codec in (0, 1)
    ]
    truth = bd_rate(curves[0], curves[1]).value
    if truth is None:
        raise RuntimeError("the simulated codecs share no accuracy")
    n_held = 0
    pixels = np.full(n_images, 640 * 640)
    for index in range(n_datasets):
        bits, scorers = _codecs(rng, n_images)
        weights = resample_weights(n_images, f"dataset {index}", n_resamples)
        anchor, test = (
            Replicates(
                np.stack([pooled_bpp(point, pixels, weights) for point in bits[codec]]),
                {"map": np.stack([scorer.resampled(weights)["map"] for scorer in scorers[codec]])},
            )
            for codec in (0, 1)
        )
        prepared = (Prepared(curves[0], Settings(), each) for each in (anchor, test))
        n_held += _holds(replicated_bd_rate(*prepared), truth)
    return n_held / n_datasets


def _detectors(rng: np.random.Generator, n_images: int) -> list[Scorer]:
    images = draw_images(rng, n_images)
    annotated = ground_truth(images)
    return [score(annotated, detect(rng, images, skill), "detection") for skill in SKILLS]


def _codecs(rng: np.random.Generator, n_images: int) -> tuple[list[list[Integers]], list[list[Scorer]]]:
    images = draw_images(rng, n_images)
    annotated = ground_truth(images)
    bits = [[image_bits(rng, images, bpp) for bpp in RATES] for _ in LADDERS]
    scorers = [
        [score(annotated, detect(rng, images, skill), "detection") for skill in ladder] for ladder in LADDERS
    ]
    return bits, scorers


def _metric(scorer: Scorer, metric: str) -> float:
    figure = scorer.metrics()[metric]
    if figure is None:
        raise RuntimeError(f"the simulated images have no {metric}")
    return figure


def _holds(drawn: Floats, truth: float) -> bool:
    low, high = interval(drawn)
    return low is not None and high is not None and low <= truth <= high


def main() -> None:
    """Print the shares."""
    parser = options.parser(__doc__)
    parser.add_argument("--datasets", type=int, default=300)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=1000)
    given = parser.parse_args()
    sizes = (given.datasets, given.images, given.resamples)
    print(f"{given.datasets} datasets of {given.images} images, {given.resamples} resamples")
    for metric in ("map", "map50"):
        print(f"difference in {metric}: {100 * detector_coverage(*sizes, metric):.1f} %", flush=True)
    print(f"BD-rate: {100 * codec_coverage(*sizes):.1f} %")


if __name__ == "__main__":
    main()
