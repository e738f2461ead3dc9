"""Time the report of a large run, and weigh it: 5,000 images at three qualities, with pictures.

    python tests/benchmarks/report_speed.py [--images 5000] [--pictures 12] [--folder DIR]

Fifty photograph-like pictures of 640 x 480 are drawn and coded for real; every image of the dataset is one of them
under another name. What the detector saw is drawn at random: objects as often as in COCO, found less often the lower
the quality, and boxes that are nothing. All of it is laid out in the stores as a run lays it out, and scored by a
run. Where a Chromium is installed, it also times how long the page takes until its script has drawn everything.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image as Pillow

from icm_bench.dataset import Dataset, open_dataset
from icm_bench.datasets.scenes.form import FORMS
from icm_bench.image import Image, pixel_digest
from icm_bench.pipeline import store
from icm_bench.pipeline.plan import OperatingPoint, Plan, make_plan
from icm_bench.pipeline.provenance import machine
from icm_bench.pipeline.readback import stored_in
from icm_bench.pipeline.runner import run
from icm_bench.report.browser import Places
from icm_bench.report.page import Pictures, write
from icm_bench.testing import photograph
from tests.helpers import options

N_PICTURES = 50
WIDTH, HEIGHT = 640, 480
QUALITIES = (10, 30, 75)
FOUND: Mapping[float | None, float] = {None: 0.75, 10: 0.35, 30: 0.6, 75: 0.72}
"""The share of the objects that is found, by quality; None: on the uncompressed images."""
CATEGORIES = range(1, len(FORMS) + 1)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Coded:
    """One picture at one quality."""

    bitstream: bytes
    source_sha256: str
    decoded_sha256: str


def lay_out_images(folder: Path, n_images: int, rng: np.random.Generator) -> list[Image]:
    """Write the images, hard links to a few, and their annotations; return the pictures."""
    folder.mkdir(parents=True)
    pictures = [photograph(WIDTH, HEIGHT, seed) for seed in range(N_PICTURES)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(n_images):
        path = folder / f"{index + 1:06d}.png"
        if index < N_PICTURES:
            Pillow.fromarray(pictures[index]).save(path, compress_level=1)
        else:
            path.hardlink_to(folder / f"{index % N_PICTURES + 1:06d}.png")
        images.append({"id": index + 1, "file_name": path.name, "width": WIDTH, "height": HEIGHT})
        for box in boxes(rng, 1 + int(rng.poisson(6.4))):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": int(rng.choice(CATEGORIES)),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(FORMS, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return pictures


def boxes(rng: np.random.Generator, count: int) -> list[list[float]]:
    """Draw boxes, [x, y, width, height]."""
    sides = rng.uniform(10, 200, (count, 2))
    corners = rng.uniform(0, 1, (count, 2)) * ([WIDTH, HEIGHT] - sides)
    rows: list[list[float]] = np.column_stack([corners, sides]).round(2).tolist()
    return rows


def coded_pictures(pictures: list[Image], quality: int) -> list[Coded]:
    """Code the pictures for real."""
    from icm_baselines.jpeg import Jpeg

    codec = Jpeg(quality)
    made = []
    for picture in pictures:
        stream = codec.encode(picture)
        decoded = codec.decode(stream)
        made.append(Coded(stream, pixel_digest(picture), pixel_digest(decoded)))
    return made


def predictions(
    rng: np.random.Generator, objects: list[dict[str, Any]], share: float
) -> Iterator[dict[str, Any]]:
    """Draw what a detector sees of an image: some of its objects, displaced, and thirty boxes of low score."""
    for each in objects:
        if rng.random() < share:
            moved = np.array(each["bbox"]) + rng.normal(0, 2, 4)
            yield {
                "category_id": each["category_id"],
                "bbox": np.maximum(moved, 0.5).tolist(),
                "score": float(rng.uniform(0.3, 1)),
            }
    for box in boxes(rng, 30):
        category = int(rng.choice(CATEGORIES))
        yield {"category_id": category, "bbox": box, "score": float(0.05 + 0.5 * rng.random() ** 3)}


def lay_out_stores(plan: Plan, pictures: list[Image], rng: np.random.Generator) -> None:
    """Write every shard of the plan."""
    objects: dict[int, list[dict[str, Any]]] = {record.id: [] for record in plan.dataset.images}
    for annotation in (plan.dataset.ground_truth or {})["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    for point in plan.points:
        coded = [] if point.quality is None else coded_pictures(pictures, int(point.quality))
        for shard in range(plan.n_shards):
            records = plan.dataset.images[shard * store.SHARD_IMAGES : (shard + 1) * store.SHARD_IMAGES]
            if coded:
                _write_coded(
                    plan, point, shard, {record.id: coded[(record.id - 1) % N_PICTURES] for record in records}
                )
            rows = [
                {
                    "image_id": record.id,
                    "detect_s": 0.1,
                    "predictions": list(predictions(rng, objects[record.id], FOUND[point.quality])),
                }
                for record in records
            ]
            table = pa.Table.from_pylist(rows, schema=store.PREDICTED)
            store.write(
                plan.predicted_path(point, shard), table, {"identity": plan.predicted_identity(point)}
            )


def _write_coded(plan: Plan, point: OperatingPoint, shard: int, coded: dict[int, Coded]) -> None:
    rows = [
        {
            "image_id": image_id,
            "width": WIDTH,
            "height": HEIGHT,
            "source_sha256": each.source_sha256,
            "decoded_sha256": each.decoded_sha256,
            "bitstream": each.bitstream,
            "n_bytes": len(each.bitstream),
            "header_bytes": None,
            "encode_s": 0.01,
            "decode_s": 0.01,
        }
        for image_id, each in coded.items()
    ]
    header = {
        "identity": plan.coded_identity(point),
        "bitstreams": f"{point.quality}-{shard}",
        "machine": machine(),
    }
    store.write(plan.coded_path(point, shard), pa.Table.from_pylist(rows, schema=store.CODED), header)


def lay_out(folder: Path, n_images: int) -> Dataset:
    """Make a finished run below a folder."""
    rng = np.random.default_rng(1)
    images = folder / "images"
    pictures = lay_out_images(images, n_images, rng)
    dataset = open_dataset("coco-format", images=images, annotations=images / "instances.json")
    asked: dict[str, Any] = {
        "task": "detection",
        "codecs": ["jpeg"],
        "detector": "fasterrcnn_scenes",
        "qualities": [f"jpeg={','.join(map(str, QUALITIES))}"],
        "runs": folder / "runs",
        "device": "cpu",
    }
    lay_out_stores(make_plan(dataset, **asked), pictures, rng)
    run(dataset, **asked, results=folder / "results", bootstrap=20)
    return dataset


def browsed(path: Path, profile: Path) -> str | None:
    """Open a page; say how long it took until everything was drawn, and what the browser complained of."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return None
    timing = "document.documentElement.dataset.ms=String(Math.round(performance.now()));"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text(encoding="utf-8"))
    scripted = path.with_name("timed.html")
    scripted.write_text(text.replace("</body>", f"<script>{timing}</script></body>"), encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={profile}",
    ]
    done = subprocess.run(
        [browser, *flags, "--dump-dom", scripted.as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = re.search(r'data-ms="(\d+)"', done.stdout)
    log = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return f"{found[1] if found else 'never'} ms after it was opened; complaints: {len(log)}"


def main() -> None:
    """Print sizes and times."""
    parser = options.parser(__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--folder", type=Path, help="where the run is kept; a temporary folder by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if not (folder / "results").is_dir():
            lay_out(folder, given.images)
        images = folder / "images"
        output = Path(temporary) / "report.html"
        places = Places(images=images, annotations=images / "instances.json")
        started, busy = time.perf_counter(), time.process_time()
        write(
            folder / "results", output, pictures=Pictures(stored_in(folder / "runs"), places, given.pictures)
        )
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        beside = output.with_name("report_files")
        n_beside = sum(path.stat().st_size for path in beside.iterdir()) if beside.is_dir() else 0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"written in {seconds:.1f} s ({busy:.1f} s of CPU time), at most {peak:.0f} MiB of memory")
        print(f"page: {output.stat().st_size / 1e6:.2f} MB; folder beside it: {n_beside / 1e6:.2f} MB")
        shown = browsed(output, Path(temporary) / "profile")
        print("no Chromium here" if shown is None else f"drawn {shown}")


if __name__ == "__main__":
    main()
