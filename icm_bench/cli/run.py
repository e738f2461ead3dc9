"""The command that measures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from icm_bench.cli import by_detector, option
from icm_bench.cli.config import read_config, recorded
from icm_bench.cli.console import Bar, say
from icm_bench.cli.status import show
from icm_bench.detector import Task
from icm_bench.error import ResultError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icm_bench.dataset import Dataset
    from icm_bench.pipeline.runner import Summary


def run(
    context: typer.Context,
    task: Annotated[Task, option.coding("What is measured; fidelity needs no detector.")] = "detection",
    codecs: Annotated[
        str, option.coding("Codecs, each name:option=value:...; see icm-bench list.", "SPEC,...")
    ] = "icm,vvc,jpeg",
    qualities: Annotated[
        list[str] | None,
        option.coding("Another ladder of rate points for a codec. May be repeated.", "SPEC=Q,..."),
    ] = None,
    bootstrap: Annotated[
        int, option.coding("Bootstrap replicates for the intervals; 0 for none.", "N", min=0)
    ] = 1000,
    metrics: Annotated[
        str, option.coding("Metrics of other packages to measure too; see icm-bench list.", "NAME,...")
    ] = "",
    dataset: Annotated[str, option.image("A dataset; see icm-bench list.", "NAME")] = "scenes",
    data_root: option.DataRootOption = None,
    images: option.ImagesOption = None,
    annotations: option.AnnotationsOption = None,
    category_map: Annotated[
        str | None,
        option.image(
            "Take the dataset's categories for the detector's: by their names, or by a JSON file.",
            "name|FILE",
        ),
    ] = None,
    name: Annotated[
        str | None,
        option.image("What results call your own images.", "NAME", show_default="the annotations' name"),
    ] = None,
    truth: Annotated[
        option.Truth,
        option.image("Score against annotations, or against the detector's findings on uncompressed images."),
    ] = "annotations",
    truth_score: Annotated[
        float, option.image("From which score on a finding of --truth pseudo counts.", "S")
    ] = 0.5,
    max_pixels: option.MaxPixelsOption = None,  # noqa: ARG001  (set by its callback)
    limit: Annotated[int | None, option.image("Take this many images, always the same ones.", "N")] = None,
    detector: Annotated[
        str | None,
        option.detector(
            "Detectors, each name:option=value:...:weights=FILE; see icm-bench list.",
            "SPEC,...",
            show_default="the dataset's own",
        ),
    ] = None,
    detector_weights: Annotated[
        Path | None,
        option.detector("The weights of the one detector.", "FILE", show_default="the published ones"),
    ] = None,
    device: Annotated[
        str, option.machine("Where networks run: auto, cpu, cuda, or cuda:1 and so on.", "NAME")
    ] = "auto",
    workers: Annotated[
        int | None, option.machine("Processes that code.", "N", min=1, show_default="one a core")
    ] = None,
    gpus: Annotated[
        int | None,
        option.machine("Processes that detect, one a GPU.", "N", min=0, show_default="one for each GPU"),
    ] = None,
    dask: Annotated[
        str | None, option.machine("A Dask scheduler whose workers do the work, or local.", "ADDRESS")
    ] = None,
    batch: Annotated[
        int, option.machine("Images that a detector gets at once, where it takes batches.", "N", min=1)
    ] = 1,
    vtm: Annotated[
        Path | None,
        option.machine(
            "Folder of VTM's executables, on every machine of the run.",
            "FOLDER",
            show_default="ICM_BENCH_VTM, else PATH",
        ),
    ] = None,
    fresh: Annotated[
        bool, option.output("Measure again what was made under other conditions.", None, "--fresh")
    ] = False,
    again: Annotated[
        str, option.output("Codecs to measure again, all of them that is on disk.", "SPEC,...")
    ] = "",
    part: Annotated[
        str | None, option.output("Measure the I-th of N parts alone, and write no curves.", "I/N")
    ] = None,
    dry_run: Annotated[
        bool, option.output("Show what is left to measure and what it takes, and end.", None, "--dry-run")
    ] = False,
    config: Annotated[  # noqa: ARG001  (read before the others, by its callback)
        Path | None,
        option.output("Take options from a TOML file.", "FILE", is_eager=True, callback=read_config),
    ] = None,
    results: option.ResultsOption = Path("results"),
    runs: option.RunsOption = Path("runs"),
) -> None:
    """Measure codecs: code, decode, detect, score. Resumes where an earlier run was cut off."""
    from icm_bench.codec import Programs
    from icm_bench.curves.comparison import compare_with_anchor, grouped
    from icm_bench.curves.result import main_metric
    from icm_bench.dataset import default_detector, open_dataset
    from icm_bench.datasets.category_map import map_categories
    from icm_bench.pipeline import outlook, runner
    from icm_bench.pipeline.judge import choose_detector
    from icm_bench.pipeline.plan import make_plan
    from icm_bench.report import table

    chosen_codecs = option.listed(codecs, "--codecs", "icm,vvc,jpeg")
    opened = open_dataset(
        dataset, data_root=data_root, images=images, annotations=annotations, limit=limit, called=name
    )
    chosen = [default_detector(opened, task)] if detector is None else option.detectors(detector)
    if category_map is not None and task != "fidelity":
        judge, cls = choose_detector(chosen[0], detector_weights)
        # Of some detectors, the class knows its categories; of others, the weights do.
        opened = map_categories(opened, category_map, cls.categories or judge.create("cpu").categories)
    pseudo_score = truth_score if truth == "pseudo" else None
    console = Console()
    say(_describe(opened, () if task == "fidelity" else chosen, pseudo_score))
    number = None if part is None else outlook.parse_part(part)
    asked: dict[str, Any] = {
        "task": task,
        "codecs": chosen_codecs,
        "detector": chosen,
        "weights": detector_weights,
        "qualities": qualities or (),
        "runs": runs,
        "device": device,
        "gpus": gpus,
        "batch": batch,
        "truth_score": pseudo_score,
        "fresh": fresh,
        "again": [text.strip() for text in again.split(",") if text.strip()],
        "metrics": [text.strip() for text in metrics.split(",") if text.strip()],
        "programs": Programs(vtm=None if vtm is None else vtm.resolve()),
    }
    if dry_run:
        show(outlook.record_of(make_plan(opened, **asked)), runs)
        return
    with Bar() as bar:
        summary = runner.run(
            opened,
            **asked,
            results=results,
            workers=workers,
            dask=dask,
            bootstrap=bootstrap,
            part=number,
            config=recorded(context),
            progress=bar,
        )
    if number is not None:
        say(_closing(summary))
        say("run again without --part, once all parts are done, for the curves")
        return
    groups = list(grouped(summary.results).values())
    for group in groups:
        if task != "fidelity":
            version = group[0].meta["detector"]["version"]
            console.print(f"detector: {version}", highlight=False, markup=False, soft_wrap=True)
        table.show(table.labelled(table.of_run(group), group), console)
        if len(group) > 1 and len(groups) == 1:
            compared = table.of_comparison(compare_with_anchor(group, metric=main_metric(group)))
            table.show(table.labelled(compared, group), console)
    if len(groups) > 1 and len(groups[0]) > 1:
        table.show(by_detector.table_of(by_detector.compared(groups, None), groups), console)
    say(_closing(summary))
    _draw(summary, results)


def _draw(summary: Summary, results: Path) -> None:
    """Draw the curves beside what there is of their dataset and detector, and all detectors of the run together."""
    from icm_bench.curves.result import find, main_metric
    from icm_bench.report import plot

    found = list(find(results, _leave_out))
    home = {result.group: path.parent for result, path in zip(summary.results, summary.paths, strict=True)}
    groups = [[item for item in found if item.group == group] for group in home]
    try:
        for group in groups:
            say(f"plot: {plot.draw_group(group, home[group[0].group], metric=main_metric(group))}")
        if len(groups) > 1:
            say(f"plot: {by_detector.draw(groups, summary.paths[0].parent.parent)}")
    except ResultError as error:
        # What was measured is on the disk: that it cannot be drawn is no failure of the run.
        say(f"no plot: {error}", error=True)


def _leave_out(error: ResultError) -> None:
    say(f"left out: {error}", error=True)


def _describe(dataset: Dataset, detectors: Sequence[str], pseudo_score: float | None) -> str:
    said = f"dataset {dataset.name}: {len(dataset.images)} images"
    if not detectors:
        return said
    objects = f"{len((dataset.ground_truth or {}).get('annotations', []))} objects"
    truth = objects if pseudo_score is None else f"findings from score {pseudo_score:g} on as objects"
    return f"{said}, {truth}; detector{'s' if len(detectors) > 1 else ''} {', '.join(detectors)}"


def _closing(summary: Summary) -> str:
    if not summary.n_jobs:
        return f"nothing was left to measure ({summary.wall_s:.1f} s)"
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in sorted(summary.seconds.items()))
    return (
        f"encoded {summary.n_encoded} and looked at {summary.n_detected} images in {summary.wall_s:.1f} s "
        f"with {summary.workers} worker{'s' if summary.workers > 1 else ''} ({steps}; "
        f"all else {100 * summary.harness_share:.1f} %)"
    )
