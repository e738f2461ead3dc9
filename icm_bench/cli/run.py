"""The command that measures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from icm_bench.cli import option
from icm_bench.cli.config import read_config, recorded
from icm_bench.cli.console import Bar, say
from icm_bench.cli.status import show
from icm_bench.detector import Task
from icm_bench.error import ResultError, UsageError

if TYPE_CHECKING:
    from icm_bench.dataset import Dataset
    from icm_bench.pipeline.runner import Summary


def run(
    context: typer.Context,
    task: Annotated[Task, option.coding(help="What is measured; fidelity needs no detector.")] = "detection",
    codecs: Annotated[
        str, option.coding(metavar="SPEC,...", help="Codecs, each name:option=value:...; see icm-bench list.")
    ] = "icm,vvc,jpeg",
    qualities: Annotated[
        list[str] | None,
        option.coding(
            metavar="SPEC=Q,...", help="Another ladder of rate points for a codec. May be repeated."
        ),
    ] = None,
    bootstrap: Annotated[
        int, option.coding(metavar="N", min=0, help="Bootstrap replicates for the intervals; 0 for none.")
    ] = 1000,
    metrics: Annotated[
        str,
        option.coding(
            metavar="NAME,...", help="Metrics of other packages to measure too; see icm-bench list."
        ),
    ] = "",
    dataset: Annotated[str, option.image(metavar="NAME", help="A dataset; see icm-bench list.")] = "scenes",
    data_root: option.DataRootOption = None,
    images: option.ImagesOption = None,
    annotations: option.AnnotationsOption = None,
    category_map: Annotated[
        str | None,
        option.image(
            metavar="name|FILE",
            help="Take the dataset's categories for the detector's: by their names, or by a JSON file.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        option.image(
            metavar="NAME", help="What results call your own images.", show_default="the annotations' name"
        ),
    ] = None,
    truth: Annotated[
        option.Truth,
        option.image(
            help="Score against annotations, or against the detector's findings on uncompressed images."
        ),
    ] = "annotations",
    truth_score: Annotated[
        float, option.image(metavar="S", help="From which score on a finding of --truth pseudo counts.")
    ] = 0.5,
    limit: Annotated[
        int | None, option.image(metavar="N", help="Take this many images, always the same ones.")
    ] = None,
    detector: Annotated[
        str | None,
        option.detector(
            metavar="NAME", help="A detector; see icm-bench list.", show_default="the dataset's own"
        ),
    ] = None,
    detector_weights: Annotated[
        Path | None,
        option.detector(metavar="FILE", help="Its weights.", show_default="the published ones"),
    ] = None,
    device: Annotated[
        str, option.machine(metavar="NAME", help="Where networks run: auto, cpu, cuda, or cuda:1 and so on.")
    ] = "auto",
    workers: Annotated[
        int | None,
        option.machine(metavar="N", min=1, help="Processes that code.", show_default="one a core"),
    ] = None,
    gpus: Annotated[
        int | None,
        option.machine(
            metavar="N", min=0, help="Processes that detect, one a GPU.", show_default="one for each GPU"
        ),
    ] = None,
    dask: Annotated[
        str | None,
        option.machine(metavar="ADDRESS", help="A Dask scheduler whose workers do the work, or local."),
    ] = None,
    batch: Annotated[
        int,
        option.machine(
            metavar="N", min=1, help="Images that a detector gets at once, where it takes batches."
        ),
    ] = 1,
    vtm: Annotated[
        Path | None,
        option.machine(
            metavar="FOLDER",
            help="Folder of VTM's executables, on every machine of the run.",
            show_default="ICM_BENCH_VTM, else PATH",
        ),
    ] = None,
    fresh: Annotated[
        bool, option.output("--fresh", help="Measure again what was made under other conditions.")
    ] = False,
    again: Annotated[
        str, option.output(metavar="SPEC,...", help="Codecs to measure again, all of them that is on disk.")
    ] = "",
    part: Annotated[
        str | None,
        option.output(metavar="I/N", help="Measure the I-th of N parts alone, and write no curves."),
    ] = None,
    dry_run: Annotated[
        bool, option.output("--dry-run", help="Show what is left to measure and what it takes, and end.")
    ] = False,
    config: Annotated[  # noqa: ARG001  (read before the others, by its callback)
        Path | None,
        option.output(
            metavar="FILE", is_eager=True, callback=read_config, help="Take options from a TOML file."
        ),
    ] = None,
    results: option.ResultsOption = Path("results"),
    runs: option.RunsOption = Path("runs"),
) -> None:
    """Measure codecs: code, decode, detect, score. Resumes where an earlier run was cut off."""
    from icm_bench import registry
    from icm_bench.codec import Programs
    from icm_bench.curves.comparison import compare_with_anchor
    from icm_bench.curves.result import find, main_metric
    from icm_bench.dataset import default_detector, open_dataset
    from icm_bench.datasets.category_map import map_categories
    from icm_bench.datasets.pseudo import with_pseudo_truth
    from icm_bench.pipeline import outlook, runner
    from icm_bench.pipeline.job import DetectorChoice
    from icm_bench.report import plot, table
    from icm_bench.spec import Spec

    chosen_codecs = option.listed(codecs, "--codecs", "icm,vvc,jpeg")
    opened = open_dataset(
        dataset, data_root=data_root, images=images, annotations=annotations, limit=limit, called=name
    )
    chosen = detector or default_detector(opened, task)
    if category_map is not None and task != "fidelity":
        judge = DetectorChoice(Spec.parse(chosen), detector_weights)
        # Of some detectors, the class knows its categories; of others, the weights do.
        known = registry.load("detector", judge.spec.name).categories or judge.create("cpu").categories
        opened = map_categories(opened, category_map, known)
    if truth == "pseudo" and task == "fidelity":
        raise UsageError("has no use for --truth", where="task 'fidelity'", hint="leave it out")
    if truth == "pseudo":
        opened = with_pseudo_truth(opened, chosen, weights=detector_weights, score=truth_score)
    console = Console()
    say(_describe(opened, None if task == "fidelity" else chosen))
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
        "fresh": fresh,
        "again": [text.strip() for text in again.split(",") if text.strip()],
        "metrics": [text.strip() for text in metrics.split(",") if text.strip()],
        "programs": Programs(vtm=None if vtm is None else vtm.resolve()),
    }
    if dry_run:
        show(outlook.record_of(runner.plan_of(opened, **asked)), runs)
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
    if task != "fidelity":
        version = summary.results[0].meta["detector"]["version"]
        console.print(f"detector: {version}", highlight=False, markup=False, soft_wrap=True)
    table.show(table.labelled(table.of_run(summary.results), summary.results), console)
    metric = main_metric(summary.results)
    if len(summary.results) > 1:
        compared = table.of_comparison(compare_with_anchor(summary.results, metric=metric))
        table.show(table.labelled(compared, summary.results), console)
    folder = summary.paths[0].parent
    group = [item for item in find(results, _leave_out) if item.group == summary.results[0].group]
    say(_closing(summary))
    try:
        say(f"plot: {plot.draw_group(group, folder, metric=metric)}")
    except ResultError as error:
        # What was measured is on the disk: that it cannot be drawn is no failure of the run.
        say(f"no plot: {error}", error=True)


def _leave_out(error: ResultError) -> None:
    say(f"left out: {error}", error=True)


def _describe(dataset: Dataset, detector: str | None) -> str:
    if detector is None:
        return f"dataset {dataset.name}: {len(dataset.images)} images"
    objects = len((dataset.ground_truth or {}).get("annotations", []))
    return f"dataset {dataset.name}: {len(dataset.images)} images, {objects} objects; detector {detector}"


def _closing(summary: Summary) -> str:
    if not summary.n_jobs:
        return f"nothing was left to measure ({summary.wall_s:.1f} s)"
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in sorted(summary.seconds.items()))
    return (
        f"encoded {summary.n_encoded} and looked at {summary.n_detected} images in {summary.wall_s:.1f} s "
        f"with {summary.workers} worker{'s' if summary.workers > 1 else ''} ({steps}; "
        f"all else {100 * summary.harness_share:.1f} %)"
    )
