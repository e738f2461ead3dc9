"""Commands that fetch, draw and label images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from icm_bench.cli import option
from icm_bench.cli.console import Bar, say


def coco(
    root: Annotated[
        Path, option.image("Where val2017/ and annotations/ go.", "FOLDER", "--data-root")
    ] = Path("data/coco"),
) -> None:
    """Download COCO val2017 (0.8 GB of images, 241 MB of annotations), over plain http, verified by checksums."""
    from icm_bench import download

    _fetch("COCO val2017", root, download.fetch_coco)


def scenes(
    folder: Annotated[Path, option.image("Where the scenes go.", "FOLDER", "--data-root")] = Path(
        "training/scenes"
    ),
    count: Annotated[int, option.image("How many, in hundreds: 80 MB each hundred.", "N", min=100)] = 1400,
    seed: Annotated[int, option.image("The seed of the random numbers.", "N")] = 1,
) -> None:
    """Draw scenes to train on; those that are already there are kept."""
    from icm_bench.datasets.scenes.shard import N_SCENES, write_shard

    with Bar() as bar:
        for index in range(count // N_SCENES):
            bar(index * N_SCENES, count, "scenes")
            write_shard(folder, seed, index)
    say(f"{count // N_SCENES * N_SCENES} scenes are in {folder}")


def kodak(
    root: Annotated[
        Path, option.image("Where kodim01.png to kodim24.png go.", "FOLDER", "--data-root")
    ] = Path("data/kodak"),
) -> None:
    """Download the 24 images of the Kodak set (15 MB), over plain http, verified by checksums."""
    from icm_bench.datasets import kodak

    _fetch("the Kodak set", root, kodak.fetch_kodak)


def objects(
    images: Annotated[Path, option.image("Your own images.", "FOLDER")],
    detectors: Annotated[
        str,
        option.detector(
            "What looks; a spec may name its weights, yolox:weights=FILE.", "SPEC,...", "--detectors"
        ),
    ],
    annotations: option.AnnotationsOption = None,
    score: Annotated[
        float, option.detector("From which score on a finding is an object.", "S", min=0.01, max=1.0)
    ] = 0.3,
    output: Annotated[Path, option.output("The file to write.", "FILE")] = Path("objects.json"),
) -> None:
    """Write where objects are in images, in COCO's format: what detectors find, and annotations; to train with."""
    from icm_bench.dataset import open_dataset
    from icm_bench.file import write_text
    from icm_bench.pipeline.judge import choose_detector
    from icm_bench.pipeline.pseudo import joined_objects

    dataset = open_dataset("folder", images=images, annotations=annotations)
    specs = option.listed(detectors, "--detectors", "yolox:weights=FILE")
    chosen = [choose_detector(spec)[0].create("cpu") for spec in specs]
    found = joined_objects(dataset, chosen, score, images)
    write_text(output, json.dumps(found))
    say(f"{len(found['annotations'])} objects in {len(found['images'])} images: {output}")


def _fetch(what: str, root: Path, fetch: Callable[..., object]) -> None:
    with Bar() as bar:
        fetch(root, progress=bar.bytes)
    say(f"{what} is complete in {root}")
