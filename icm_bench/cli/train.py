"""The command that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icm_bench.cli import option
from icm_bench.cli.console import say


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name, or a TOML file.")],
    data: Annotated[
        list[Path],
        option.image("A folder of images (may be repeated), or what icm-bench data scenes drew.", "FOLDER"),
    ],
    annotations: Annotated[
        list[Path] | None,
        option.image("The objects in the images of --data, in COCO format; once for each --data.", "FILE"),
    ] = None,
    detector_weights: Annotated[
        Path | None, option.detector("The weights of the recipe's frozen detector, if not its own.", "FILE")
    ] = None,
    device: option.DeviceOption = "auto",
    max_steps: Annotated[int | None, option.machine("Stop here; run again to continue.", "N", min=1)] = None,
    start: Annotated[
        str | None, option.machine("Shipped weights, or a file, to start a new training from.", "WEIGHTS")
    ] = None,
    output: Annotated[Path, option.output("Folder for checkpoints, curves and weights.", "FOLDER")] = Path(
        "training"
    ),
    fresh: Annotated[bool, option.output("Start over instead of resuming.", None, "--fresh")] = False,
) -> None:
    """Train a learned codec by a recipe; resumes where an earlier training was cut off."""
    from icm_bench import registry

    training = registry.load("training", "lightning")
    path = training.train(
        training.find_recipe(recipe),
        data=data,
        output=output,
        device=device,
        resume=not fresh,
        max_steps=max_steps,
        start=None if start is None else training.find_weights(start),
        annotations=annotations or (),
        detector_weights=detector_weights,
    )
    say(f"weights: {path}")
