"""Count how often a comparison calls a real change worse: when it loses a known share of bits, and when it loses none.

    python tests/benchmarks/regression_power.py vvc vvc:preset=faster [--sizes 16,32,70] [--pairs 200] [--losses 0,5]

Two versions of a codec are measured for real, once, on all images; here two specs stand for them. Their bits and what
the detector found, image by image, are the population. The second one's bits are scaled by one factor, so that over
the population it needs exactly the given share of bits more (0: none) while every image keeps its own deviation. Then
images are drawn from the population with replacement, as many as a size says, each in all its poses, and each pair of
runs on such a draw is judged as ``icm-bench compare`` judges it.

It also prints the spread of the BD-rate over the draws, and how far apart the two versions are image by image.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from icm_bench.curves.bdrate import bd_rate
from icm_bench.curves.curve import Curve, Point
from icm_bench.curves.replicates import Replicates
from icm_bench.dataset import Dataset, open_dataset
from icm_bench.detector import Task
from icm_bench.metrics.bootstrap import pooled_bpp
from icm_bench.metrics.coco_ap import GroundTruth, Scorer, score
from icm_bench.pipeline import store
from icm_bench.pipeline.plan import OperatingPoint, Plan, make_plan
from icm_bench.pipeline.runner import run
from icm_bench.report.verdict import Judgement, judge
from tests.helpers import options

Floats = NDArray[np.float64]
Weights = NDArray[np.int32]


@dataclass(frozen=True)
class Version:
    """One codec on the population.

    Attributes:
        n_bits: Points x images.
        scorers: What the detector found, one a point.
        n_pixels: Of each image.
        sources: Which file each image is of.
    """

    n_bits: Floats
    scorers: Sequence[Scorer]
    n_pixels: Floats
    sources: NDArray[np.int64]

    def scaled(self, factor: float) -> Version:
        """Return the codec with its bits multiplied."""
        return dataclasses.replace(self, n_bits=factor * self.n_bits)

    def accuracies(self, weights: Weights) -> Floats:
        """Return the AP of each point, points x resamples."""
        return np.stack([scorer.resampled(weights)["map"] for scorer in self.scorers])

    def rates(self, weights: Weights) -> Floats:
        """Return the bits per pixel of each point, points x resamples."""
        return np.stack([pooled_bpp(bits, self.n_pixels, weights) for bits in self.n_bits])


def measured(
    dataset: Dataset, task: Task, specs: Sequence[str], ladders: Sequence[str], runs: Path
) -> list[Version]:
    """Measure the codecs on the whole dataset, or take what is in the stores."""
    run(dataset, task=task, codecs=specs, qualities=ladders, runs=runs, results=runs / "results", bootstrap=0)
    plan = make_plan(dataset, task=task, codecs=specs, qualities=ladders, runs=runs, device="cpu")
    return [_version(plan, plan.ladder(codec)) for codec in plan.codecs]


def _version(plan: Plan, points: Sequence[OperatingPoint]) -> Version:
    truth = GroundTruth.from_coco(plan.dataset.ground_truth or {})
    return Version(
        n_bits=np.array([8.0 * _column(plan, point, "n_bytes") for point in points]),
        scorers=[_scorer(plan, point, truth) for point in points],
        n_pixels=_column(plan, points[0], "width") * _column(plan, points[0], "height"),
        sources=plan.dataset.sources,
    )


def _column(plan: Plan, point: OperatingPoint, name: str) -> Floats:
    tables = [store.read(plan.coded_path(point, shard), [name]) for shard in range(plan.n_shards)]
    return np.concatenate([table[name].to_numpy().astype(np.float64) for table in tables])


def _scorer(plan: Plan, point: OperatingPoint, truth: GroundTruth) -> Scorer:
    rows = [
        {"image_id": row["image_id"], **found}
        for shard in range(plan.n_shards)
        for row in store.read(plan.predicted_path(point, shard)).to_pylist()
        for found in row["predictions"]
    ]
    matches = score(truth, rows, plan.task).matches
    # AP over all sizes is what is judged; the other sizes' takes most of the time.
    true, counted = matches.true.copy(), matches.counted.copy()
    true[1:], counted[1:] = 0, 0
    return Scorer(dataclasses.replace(matches, true=true, counted=counted))


def curve(rates: Floats, accuracies: Floats) -> Curve:
    """Return a curve of points whose quality is their place."""
    points = [Point(q, bpp, {"map": ap}) for q, (bpp, ap) in enumerate(zip(rates, accuracies, strict=True))]
    return Curve("any", tuple(points))


def losing(base: Version, head: Version, percent: float) -> Version:
    """Return head with its bits scaled so that its BD-rate against base on the population is the given one."""
    once = np.ones((1, len(base.n_pixels)), dtype=np.int32)
    found = bd_rate(*(curve(v.rates(once)[:, 0], v.accuracies(once)[:, 0]) for v in (base, head))).value
    if found is None:
        raise SystemExit("the two versions have no BD-rate")
    # The curves' log-rates move by one constant, and so does the mean of their difference.
    return head.scaled((1 + percent / 100) / (1 + found / 100))


def judged(
    versions: tuple[Version, Version], factors: Sequence[float], size: int, n_resamples: int, seed: int
) -> list[Judgement]:
    """Judge one draw of images, once for each factor on the bits of head."""
    rng = np.random.default_rng((seed, size))
    sources = versions[0].sources
    n_sources = int(sources.max()) + 1
    drawn = rng.multinomial(size, np.full(n_sources, 1 / n_sources))
    # A resample of the drawn images takes each as often as it was drawn, on average.
    weights = np.concatenate([drawn[np.newaxis], rng.multinomial(size, drawn / size, n_resamples)])
    weights = weights[:, sources].astype(np.int32)
    rates = [version.rates(weights) for version in versions]
    accuracies = [version.accuracies(weights) for version in versions]
    judgements = []
    for factor in factors:
        sides = [(rates[0], accuracies[0]), (factor * rates[1], accuracies[1])]
        curves = [curve(bpp[:, 0], ap[:, 0]) for bpp, ap in sides]
        draws = [Replicates(bpp[:, 1:], {"map": ap[:, 1:]}, {}) for bpp, ap in sides]
        judgements.append(judge(curves[0], curves[1], draws[0], draws[1]))
    return judgements


def main() -> None:
    """Print the shares."""
    parser = options.parser(__doc__)
    parser.add_argument("base")
    parser.add_argument("head")
    parser.add_argument("--dataset", default="scenes")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--task", choices=["detection", "segmentation"], default="detection")
    parser.add_argument(
        "--qualities", action="append", default=[], help="another ladder, as of icm-bench run"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--sizes", default="16,32,70")
    parser.add_argument("--losses", default="0,5", help="percent of bits")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=1000)
    given = parser.parse_args()
    dataset = open_dataset(given.dataset, data_root=given.data_root)
    task = cast("Task", given.task)
    base, head = measured(dataset, task, [given.base, given.head], given.qualities, given.runs)
    losses = [float(item) for item in given.losses.split(",")]
    level = losing(base, head, 0)
    spread = (
        np.log(level.n_bits / base.n_bits).std(axis=1).mean()
        if len(base.n_bits) == len(head.n_bits)
        else None
    )
    n_sources = 1 + base.sources.max()
    print(
        f"{given.head} in place of {given.base}: {len(dataset.images)} images of {n_sources} images, "
        f"{given.pairs} draws of a size"
    )
    if spread is not None:
        print(
            f"bits at the same setting, image by image: a spread of {100 * spread:.1f} % (standard deviation)"
        )
    for size in map(int, given.sizes.split(",")):
        rows = [
            judged((base, level), [1 + loss / 100 for loss in losses], size, given.resamples, seed)
            for seed in range(given.pairs)
        ]
        for index, loss in enumerate(losses):
            column = [row[index] for row in rows]
            counted = Counter(item.verdict for item in column)
            figures = np.array([item.bd_rate.value for item in column if item.bd_rate.value is not None])
            shares = ", ".join(
                f"{verdict} {100 * n / len(rows):.1f} %" for verdict, n in counted.most_common()
            )
            print(
                f"{size} images, {loss:g} % lost: {shares}; BD-rate {figures.mean():+.2f} % on average, "
                f"standard deviation {figures.std():.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
