"""Commands that fetch and draw images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from icm_bench.cli import option
from icm_bench.cli.console import Bar, say


def coco(
    root: Annotated[
        Path, option.image("--data-root", metavar="FOLDER", help="Where val2017/ and annotations/ go.")
    ] = Path("data/coco"),
) -> None:
    """Download COCO val2017 (0.8 GB of images, 241 MB of annotations), over plain http, verified by checksums."""
    from icm_bench import download

    with Bar() as bar:
        download.fetch_coco(root, progress=bar.bytes)
    say(f"COCO val2017 is complete in {root}")


def scenes(
    folder: Annotated[
        Path, option.image("--data-root", metavar="FOLDER", help="Where the scenes go.")
    ] = Path("training/scenes"),
    count: Annotated[
        int, option.image(metavar="N", min=100, help="How many, in hundreds: 80 MB each hundred.")
    ] = 1400,
    seed: Annotated[int, option.image(metavar="N", help="The seed of the random numbers.")] = 1,
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
        Path, option.image("--data-root", metavar="FOLDER", help="Where kodim01.png to kodim24.png go.")
    ] = Path("data/kodak"),
) -> None:
    """Download the 24 images of the Kodak set (15 MB), over plain http, verified by checksums."""
    from icm_bench.datasets import kodak

    with Bar() as bar:
        kodak.fetch_kodak(root, progress=bar.bytes)
    say(f"the Kodak set is complete in {root}")
