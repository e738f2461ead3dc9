"""Time scoring and resampling against the reference evaluation, and against a fast one where it is installed.

    OMP_NUM_THREADS=1 python tests/benchmarks/score_speed.py [--images 5000] [--resamples 1000]

The data are random, of the size of COCO val2017: 36,781 objects and 100 detections an image. Seconds are of the
processor, not of the clock, so that a busy machine changes little; all are taken in one run, and it is their
ratios that mean something.
"""

from __future__ import annotations

import contextlib
import io
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from icm_bench.metrics.bootstrap import resample_weights
from icm_bench.metrics.coco_ap import METRICS, GroundTruth, Scorer, score
from tests.helpers import options

N_CATEGORIES = 80
DETECTIONS = 100
OBJECTS_AN_IMAGE = 36_781 / 5_000
SIZE = np.array([640.0, 480.0])


def random_data(n_images: int, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draw objects, and detections near them and elsewhere."""
    rng = np.random.default_rng(seed)
    popularity = 0.75 / np.arange(1, N_CATEGORIES + 1) ** 1.1
    popularity *= 0.75 / popularity.sum()
    popularity[0] += 0.25
    per_image = rng.multinomial(round(OBJECTS_AN_IMAGE * n_images), rng.dirichlet(np.full(n_images, 1.2)))
    annotations: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for image, n_objects in enumerate(per_image.tolist(), start=1):
        present = rng.choice(N_CATEGORIES, size=min(1 + int(rng.geometric(0.35)), 6), p=popularity)
        found: list[dict[str, Any]] = []
        for _ in range(n_objects):
            box, category = _random_box(rng), int(rng.choice(present)) + 1
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": box.tolist(),
                    "area": float(0.6 * box[2] * box[3]),
                    "iscrowd": int(rng.random() < 0.012),
                }
            )
            for rank in range(int(rng.integers(0, 6))):
                moved = box + rng.normal(0, 0.04 if rank == 0 else 0.12, 4) * np.tile(box[2:], 2)
                moved[2:] = np.abs(moved[2:]) + 1
                found.append(_row(image, category, moved, rng.beta(2, 3) if rank == 0 else rng.beta(1, 8)))
        while len(found) < DETECTIONS:
            category = int(rng.choice(present)) if rng.random() < 0.7 else int(rng.integers(N_CATEGORIES))
            found.append(_row(image, category + 1, _random_box(rng), rng.beta(1, 20)))
        predictions += found[:DETECTIONS]
    truth = {
        "images": [{"id": image, "width": 640, "height": 480} for image in range(1, n_images + 1)],
        "categories": [{"id": category, "name": str(category)} for category in range(1, N_CATEGORIES + 1)],
        "annotations": annotations,
    }
    return truth, predictions


def _random_box(rng: np.random.Generator) -> Any:
    sides = np.exp(rng.normal(4, 1, 2)).clip(4, 470)
    return np.concatenate([rng.uniform(0, 1, 2) * (SIZE - sides).clip(0), sides]).round(2)


def _row(image: int, category: int, box: Any, confidence: float) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": category,
        "bbox": box.tolist(),
        "score": float(np.float32(confidence)),
    }


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start_s = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        made = work()
    return made, time.process_time() - start_s


def _score(truth: dict[str, Any], predictions: list[dict[str, Any]]) -> tuple[Scorer, list[float | None]]:
    scorer = score(GroundTruth.from_coco(truth), predictions, "detection")
    return scorer, list(scorer.metrics().values())


def _evaluate(
    coco: Any, evaluation: Any, truth: dict[str, Any], predictions: list[dict[str, Any]]
) -> list[float]:
    evaluated = evaluation(coco, coco.loadRes(predictions), "bbox")
    evaluated.evaluate()
    evaluated.accumulate()
    evaluated.summarize()
    return [100 * float(figure) for figure in evaluated.stats[: len(METRICS)]]


def _reference(truth: dict[str, Any], predictions: list[dict[str, Any]]) -> list[float]:
    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    return _evaluate(coco, COCOeval, truth, predictions)


def _fast(truth: dict[str, Any], predictions: list[dict[str, Any]]) -> list[float]:
    import faster_coco_eval

    return _evaluate(faster_coco_eval.COCO(truth), faster_coco_eval.COCOeval_faster, truth, predictions)


def _difference(figures: list[float | None], others: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(figures, others, strict=True) if a is not None)


def main() -> None:
    """Print the seconds and their ratios."""
    parser = options.parser(__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--resamples", type=int, default=1000)
    given = parser.parse_args()
    truth, predictions = random_data(given.images)
    print(f"{given.images} images, {len(truth['annotations'])} objects, {len(predictions)} detections")
    (scorer, figures), score_s = _timed(lambda: _score(truth, predictions))
    print(f"scoring: {score_s:.2f} s, AP {figures[0]:.2f}")
    weights = resample_weights(given.images, "benchmark", given.resamples)
    _, resampled_s = _timed(lambda: scorer.resampled(weights))
    print(f"{given.resamples} resamples of all twelve figures: {resampled_s:.2f} s")
    print(f"memory at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB", flush=True)
    try:
        fast, fast_s = _timed(lambda: _fast(truth, predictions))
        print(f"faster-coco-eval: {fast_s:.2f} s, differs by at most {_difference(figures, fast):.1e}")
        print(f"scoring / faster-coco-eval: {score_s / fast_s:.2f}", flush=True)
    except ImportError:
        print("faster-coco-eval is not installed")
    reference, reference_s = _timed(lambda: _reference(truth, predictions))
    print(f"pycocotools: {reference_s:.2f} s, differs by at most {_difference(figures, reference):.1e}")
    print(f"scoring / pycocotools: {score_s / reference_s:.3f}")
    print(f"{given.resamples} resamples / one pycocotools evaluation: {resampled_s / reference_s:.2f}")


if __name__ == "__main__":
    main()
