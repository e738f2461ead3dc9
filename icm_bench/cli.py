"""The command line: a thin layer over what the package offers in Python."""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from icm_bench.error import IcmBenchError, ResultError, UsageError, unknown

if TYPE_CHECKING:
    from icm_bench.curves.result import Result
    from icm_bench.dataset import Dataset
    from icm_bench.pipeline.runner import Summary

app = typer.Typer(
    name="icm-bench",
    help="Image coding for machines, measured: real bitstreams, frozen detectors, accuracy against rate.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(no_args_is_help=True, help="Fetch and verify public datasets.")
app.add_typer(data_app, name="data")


class TaskName(enum.StrEnum):
    """What is measured: boxes, instance masks, or the pixels themselves."""

    detection = "detection"
    segmentation = "segmentation"
    fidelity = "fidelity"


class DeviceName(enum.StrEnum):
    """Where learned codecs and detectors run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class FormatName(enum.StrEnum):
    """How tables are printed."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"
    json = "json"


class MethodName(enum.StrEnum):
    """How a curve runs between its points."""

    pchip = "pchip"
    akima = "akima"
    cubic = "cubic"
    cubic_spline = "cubic-spline"
    linear = "linear"
    monotone_cubic = "monotone-cubic"


class MonotoneName(enum.StrEnum):
    """What to do where accuracy does not rise with rate."""

    pareto = "pareto"
    error = "error"
    isotonic = "isotonic"


class DifferenceFormatName(enum.StrEnum):
    """How a comparison of two folders is written."""

    text = "text"
    markdown = "markdown"
    json = "json"
    junit = "junit"


class ScaleName(enum.StrEnum):
    """How the rate axis is divided."""

    log = "log"
    linear = "linear"


class PanelsName(enum.StrEnum):
    """What is drawn side by side."""

    one = "one"
    sizes = "sizes"
    categories = "categories"


class OriginName(enum.StrEnum):
    """Whose curves are read."""

    compressai = "compressai"
    compressai_vision = "compressai-vision"
    tidy = "tidy"


class TargetName(enum.StrEnum):
    """Whose format is written."""

    tidy = "tidy"
    compressai = "compressai"
    coco = "coco"
    codec_compare = "codec-compare"


_VTM_VARIABLE = "ICM_BENCH_VTM"

ResultsArgument = Annotated[Path, typer.Argument(help="Folder of result files.")]
ResultsOption = Annotated[
    Path, typer.Option("--results", envvar="ICM_BENCH_RESULTS", help="Folder for the curves.")
]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder for bitstreams and predictions.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    # Read by main(), which is where errors end.
    pass


@app.command()
def run(
    task: Annotated[
        TaskName, typer.Option(help="What is measured; fidelity needs no detector.")
    ] = TaskName.detection,
    codecs: Annotated[
        str, typer.Option(help="Codec specs, name[:option=value]..., separated by commas.")
    ] = "icm,vvc,jpeg",
    dataset: Annotated[str, typer.Option(help="A dataset's name; see icm-bench list.")] = "scenes",
    data_root: Annotated[Path | None, typer.Option(help="The dataset's folder.")] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of images of your own.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Their annotations in COCO format.")] = None,
    limit: Annotated[int | None, typer.Option(help="Take a stable subset of this many images.")] = None,
    detector: Annotated[
        str | None, typer.Option(help="A detector's name.", show_default="the dataset's own")
    ] = None,
    detector_weights: Annotated[
        Path | None, typer.Option(help="The detector's weights.", show_default="the published ones")
    ] = None,
    qualities: Annotated[
        list[str] | None, typer.Option(help="Another ladder: codec=quality,quality... May be repeated.")
    ] = None,
    device: Annotated[DeviceName, typer.Option(help="Where networks run.")] = DeviceName.auto,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes.", show_default="one a core; one on a GPU")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of the images for the intervals.")] = 1000,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is on disk.")] = False,
    vtm: Annotated[
        Path | None,
        typer.Option(envvar=_VTM_VARIABLE, help="Folder of VTM's executables.", show_default="PATH"),
    ] = None,
    results: ResultsOption = Path("results"),
    runs: RunsOption = Path("runs"),
) -> None:
    """Measure codecs: code, decode, detect, score. Resumes where an earlier run was cut off."""
    from icm_bench.curves.comparison import compare_with_anchor
    from icm_bench.curves.result import find, main_metric
    from icm_bench.dataset import default_detector, open_dataset
    from icm_bench.pipeline import runner
    from icm_bench.report import plot, table

    if vtm is not None:
        # Not an option of the codec's spec, which names curves: no folder of one machine belongs there.
        os.environ[_VTM_VARIABLE] = str(vtm.resolve())
    opened = open_dataset(dataset, data_root=data_root, images=images, annotations=annotations, limit=limit)
    chosen = detector or default_detector(opened, task.value)
    console = Console()
    console.print(
        _describe(opened, None if task is TaskName.fidelity else chosen), highlight=False, soft_wrap=True
    )
    with _Bar(console) as bar:
        summary = runner.run(
            opened,
            task=task.value,
            codecs=[text for text in codecs.split(",") if text.strip()],
            detector=chosen,
            weights=detector_weights,
            qualities=qualities or (),
            results=results,
            runs=runs,
            device=device.value,
            workers=workers,
            bootstrap=bootstrap,
            fresh=fresh,
            progress=bar,
        )
    table.show(table.of_run(summary.results), console)
    metric = main_metric(summary.results)
    if len(summary.results) > 1:
        table.show(table.of_comparison(compare_with_anchor(summary.results, metric=metric)), console)
    folder = summary.paths[0].parent
    drawn = plot.draw_group(
        [item for item in find(results) if item.group == summary.results[0].group], folder, metric=metric
    )
    console.print(_closing(summary), highlight=False, soft_wrap=True)
    console.print(f"plot: {drawn}", highlight=False, soft_wrap=True)


@app.command()
def bdrate(
    folder: ResultsArgument = Path("results"),
    anchor: Annotated[
        str | None, typer.Option(help="The codec to compare with.", show_default="vvc, or the first")
    ] = None,
    metric: Annotated[str, typer.Option(help="A column of the results: map, map50, psnr-rgb, ...")] = "map",
    method: Annotated[
        MethodName, typer.Option(help="How a curve runs between its points.")
    ] = MethodName.pchip,
    monotone: Annotated[
        MonotoneName, typer.Option(help="What to do where accuracy does not rise with rate.")
    ] = MonotoneName.pareto,
    at: Annotated[
        str,
        typer.Option(
            help="Accuracies whose rate to give; a negative one counts from the uncompressed images'."
        ),
    ] = "-1,-2,-5",
    matrix: Annotated[bool, typer.Option("--matrix", help="Every codec against every other.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Compare rates of different conventions, marked.")
    ] = False,
    format_: Annotated[FormatName, typer.Option("--format", help="How to print.")] = FormatName.table,
) -> None:
    """Compare every curve of a folder with the anchor of its dataset, task and detector."""
    from icm_bench.curves.comparison import compare_all, compare_with_anchor, fixed_accuracies, records
    from icm_bench.curves.result import main_metric
    from icm_bench.report import table

    compared, fixed = [], []
    groups = _groups(folder, metric, force=force)
    if anchor is not None and not matrix:
        groups = _with_anchor(groups, anchor)
    for group in groups:
        options: Any = {
            "metric": main_metric(group, metric),
            "method": method.value,
            "monotone": monotone.value,
        }
        compared.append(
            compare_all(group, **options) if matrix else compare_with_anchor(group, anchor=anchor, **options)
        )
        fixed.append([] if matrix else fixed_accuracies(group, _numbers(at), **options))
    if format_ in (FormatName.json, FormatName.csv):
        rows = [row for pair in zip(compared, fixed, strict=True) for row in records(*pair)]
        write = table.records_json if format_ is FormatName.json else table.records_csv
        typer.echo(write(rows), nl=False)
        return
    for comparisons, rates in zip(compared, fixed, strict=True):
        tables = [(table.of_matrix if matrix else table.of_comparison)(comparisons)] if comparisons else []
        tables += [table.of_fixed_accuracies(rates)] if rates else []
        for item in tables:
            if format_ is FormatName.table:
                table.show(item, Console())
            else:
                typer.echo(table.markdown(item) if format_ is FormatName.markdown else table.latex(item))


@app.command()
def plot(
    folder: ResultsArgument = Path("results"),
    metric: Annotated[str, typer.Option(help="A column of the results: map, map50, psnr-rgb, ...")] = "map",
    scale: Annotated[ScaleName, typer.Option(help="Of the rate axis.")] = ScaleName.log,
    panels: Annotated[
        PanelsName, typer.Option(help="One panel, one for each size of object, or one for each category.")
    ] = PanelsName.one,
    formats: Annotated[str, typer.Option("--formats", help="png, svg, pdf, separated by commas.")] = "png",
    output: Annotated[
        Path | None, typer.Option(help="Folder for the plots.", show_default="beside the curves")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Draw rates of different conventions together.")
    ] = False,
) -> None:
    """Draw accuracy over rate, one plot for each dataset, task and detector."""
    from icm_bench.curves.result import main_metric
    from icm_bench.detector import NO_DETECTOR
    from icm_bench.report import plot

    endings = [ending.strip() for ending in formats.split(",")]
    for ending in endings:
        if ending not in plot.FORMATS:
            raise unknown("format", ending, list(plot.FORMATS))
    groups = _groups(folder, metric, force=force)
    if panels is not PanelsName.one:
        plain = [curves for curves in groups if curves[0].detector == NO_DETECTOR]
        groups = [curves for curves in groups if curves not in plain] or plain
        _say_left_out([curves for curves in plain if curves not in groups], f"without {panels.value}")
    for curves in groups:
        group = curves[0].group
        home = _folder_of(group, folder) if output is None else output.joinpath(*group)
        drawn = plot.draw_group(
            curves,
            home,
            metric=main_metric(curves, metric),
            scale=scale.value,
            panels=panels.value,
            formats=endings,
        )
        Console().print(str(drawn), highlight=False, soft_wrap=True)


def _folder_of(group: tuple[str, str, str], folder: Path) -> Path:
    """Return where a group's curves lie, which were found in a folder of results or in a folder within one."""
    whole = folder.joinpath(*group)
    if whole.is_dir():
        return whole
    parts = folder.resolve().parts
    depth = next((n for n in (1, 2, 3) if parts[-n:] == group[:n]), 0)
    return folder.joinpath(*group[depth:])


@app.command()
def compare(
    base: Annotated[
        str, typer.Argument(help="The earlier results: a folder, or a git revision, REV[:FOLDER].")
    ],
    head: Annotated[str, typer.Argument(help="The later ones.")] = "results",
    metric: Annotated[str, typer.Option(help="A column of the results: map, map50, psnr-rgb, ...")] = "map",
    tolerance: Annotated[float, typer.Option(min=0, help="The BD-rate that is let pass, percent.")] = 0.5,
    method: Annotated[
        MethodName, typer.Option(help="How a curve runs between its points.")
    ] = MethodName.pchip,
    format_: Annotated[
        DifferenceFormatName, typer.Option("--format", help="How to print.")
    ] = DifferenceFormatName.text,
    base_name: Annotated[
        str | None, typer.Option(help="What to call the earlier results.", show_default="as they are given")
    ] = None,
    head_name: Annotated[
        str | None, typer.Option(help="What to call the later ones.", show_default="as they are given")
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(help="Write it to a file too: .txt, .md, .json or .xml (JUnit). May be repeated."),
    ] = None,
) -> None:
    """Compare every curve with its earlier self; exit status 1 where one is worse, beyond chance."""
    from icm_bench.file import replacing
    from icm_bench.report import difference, regression, revision

    folder = Path("results")
    with revision.opened(base, folder) as earlier, revision.opened(head, folder) as later:
        found = regression.compare(
            earlier,
            later,
            base_name=base_name or base,
            head_name=head_name or head,
            metric=metric,
            tolerance_percent=tolerance,
            method=method.value,
        )
    for path in output or ():
        ending = difference.ENDINGS.get(path.suffix, format_.value)
        with replacing(path, ResultError) as temporary:
            temporary.write_text(difference.render(found, ending), encoding="utf-8")
    typer.echo(difference.render(found, format_.value), nl=False)
    if found.is_worse:
        raise typer.Exit(1)


@app.command()
def report(
    folder: ResultsArgument = Path("results"),
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file.")] = Path("report.html"),
    metric: Annotated[str, typer.Option(help="What the BD-rates are on: map, map50, psnr-rgb, ...")] = "map",
    runs: Annotated[
        Path | None,
        typer.Option("--runs", help="Show pictures too, from this folder of bitstreams and predictions."),
    ] = None,
    n_images: Annotated[int, typer.Option("--pictures", min=1, help="How many images to show.")] = 12,
    data_root: Annotated[Path | None, typer.Option(help="The dataset's folder, for pictures.")] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of images of your own, for pictures.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Their annotations in COCO format.")] = None,
) -> None:
    """Write one HTML file of all curves: interactive plots, BD-rates, operating points, versions, pictures."""
    from icm_bench.report import browser, page

    places = browser.Places(data_root, images, annotations)
    pictures = None if runs is None else page.Pictures(runs, places, n_images)
    console = Console()
    for missed in page.write(folder, output, metric=metric, pictures=pictures):
        console.print(f"no pictures: {missed}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {output}", highlight=False, soft_wrap=True)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A file, or a folder of CompressAI-Vision's summaries.")],
    origin: Annotated[OriginName, typer.Option("--from", help="Whose format it is.")],
    dataset: Annotated[str | None, typer.Option(help="What it was measured on.")] = None,
    task: Annotated[str, typer.Option(help="detection, segmentation or fidelity.")] = "fidelity",
    detector: Annotated[str, typer.Option(help="The detector, none for fidelity.")] = "none",
    codec: Annotated[str | None, typer.Option(help="What to call the codec.")] = None,
    metric: Annotated[
        str, typer.Option(help="What the accuracy of CompressAI-Vision's files is: map, map50-oic, ...")
    ] = "map",
    bpp: Annotated[str | None, typer.Option(help="How bpp was taken: pooled, mean or unknown.")] = None,
    bits: Annotated[
        str | None, typer.Option(help="What was counted: bitstream, estimated or unknown.")
    ] = None,
    pixels: Annotated[str | None, typer.Option(help="Of which image: native, resized or unknown.")] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """Read curves that were measured elsewhere, with what is known of their conventions."""
    from icm_bench.formats import importer

    group = None if dataset is None else importer.Group(dataset, task, detector)
    if origin is OriginName.tidy:
        found = importer.import_tidy(source, group)
    elif group is None:
        raise UsageError("does not say what it was measured on", where=source, hint="give --dataset")
    elif origin is OriginName.compressai:
        found = [importer.import_compressai(source, group, codec=codec)]
    elif codec is None:
        raise UsageError("does not name its codec", where=source, hint="give --codec")
    else:
        found = [importer.import_compressai_vision(source, group, codec=codec, metric=metric)]
    for result in found:
        told = importer.with_conventions(result, bpp=bpp, bits=bits, pixels=pixels)
        Console().print(str(importer.save_imported(told, results)), highlight=False, soft_wrap=True)


@app.command()
def export(
    destination: Annotated[Path, typer.Argument(help="A file, or a folder for formats of one file a curve.")],
    format_: Annotated[TargetName, typer.Option("--to", help="Whose format.")],
    folder: ResultsOption = Path("results"),
    store: Annotated[
        Path | None, typer.Option(help="The point's or codec's folder in runs/, for coco and codec-compare.")
    ] = None,
) -> None:
    """Write curves, predictions or per-image figures in other tools' formats."""
    from icm_bench.curves.result import find
    from icm_bench.formats import exporter

    if format_ is TargetName.tidy:
        exporter.export_tidy(find(folder), destination)
    elif format_ is TargetName.compressai:
        for result in find(folder):
            name = result.source.stem if result.source else result.codec
            exporter.export_compressai(result, destination.joinpath(*result.group, f"{name}.json"))
    elif store is None:
        raise UsageError("needs a folder of the stores", where=f"--to {format_.value}", hint="give --store")
    elif format_ is TargetName.coco:
        exporter.export_coco(store, destination)
    else:
        exporter.export_codec_compare(store, destination)
    Console().print(str(destination), highlight=False, soft_wrap=True)


@app.command("list")
def list_() -> None:
    """Name the codecs, detectors and datasets that are installed."""
    from icm_bench import registry

    console = Console()
    for kind in ("codec", "detector", "dataset"):
        console.print(f"[bold]{kind}s[/bold]")
        for name in registry.names(kind):
            console.print(f"  {name}  [dim]({registry.provider(kind, name)})[/dim]", highlight=False)


@app.command()
def doctor() -> None:
    """Report what is usable here, and prove the colour conversion."""
    from icm_bench import doctor as examination
    from icm_bench.report import table

    console = Console()
    findings = examination.examine()
    table.show(table.of_findings(findings), console)
    if any(finding.is_failure for finding in findings):
        raise typer.Exit(1)


@data_app.command("coco")
def data_coco(
    root: Annotated[Path, typer.Option("--data-root", help="Where val2017/ and annotations/ go.")] = Path(
        "data/coco"
    ),
) -> None:
    """Download and verify COCO val2017 (1 GB of images, 241 MB of annotations)."""
    from icm_bench import download

    console = Console()
    with _Bar(console) as bar:
        download.fetch_coco(root, progress=bar.bytes)
    console.print(f"COCO val2017 is complete in {root}", highlight=False, soft_wrap=True)


@data_app.command("scenes")
def data_scenes(
    folder: Annotated[Path, typer.Option("--data-root", help="Where the scenes go.")] = Path(
        "training/scenes"
    ),
    count: Annotated[int, typer.Option(min=100, help="How many, in hundreds: 80 MB each hundred.")] = 1400,
    seed: Annotated[int, typer.Option(help="What they are drawn from.")] = 1,
) -> None:
    """Draw scenes to train on; those that are already there are kept."""
    from icm_bench.datasets.scenes.shard import N_SCENES, write_shard

    console = Console()
    with _Bar(console) as bar:
        for index in range(count // N_SCENES):
            bar(index * N_SCENES, count, "scenes")
            write_shard(folder, seed, index)
    console.print(f"{count // N_SCENES * N_SCENES} scenes are in {folder}", highlight=False, soft_wrap=True)


@data_app.command("kodak")
def data_kodak(
    root: Annotated[Path, typer.Option("--data-root", help="Where kodim01.png to kodim24.png go.")] = Path(
        "data/kodak"
    ),
) -> None:
    """Download and verify the 24 pictures of the Kodak set (15 MB)."""
    from icm_bench.datasets import kodak

    console = Console()
    with _Bar(console) as bar:
        kodak.fetch_kodak(root, progress=bar.bytes)
    console.print(f"the Kodak set is complete in {root}", highlight=False, soft_wrap=True)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a TOML file.")],
    data: Annotated[
        list[Path], typer.Option(help="A folder of pictures (may be repeated), or what `data scenes` drew.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for checkpoints, curves and weights.")] = Path(
        "training"
    ),
    device: Annotated[DeviceName, typer.Option(help="Where to train.")] = DeviceName.auto,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop here; run again to continue.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Shipped weights, or a file, that a new training starts from.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="The objects in the pictures of --data, in COCO's format.")
    ] = None,
    detector_weights: Annotated[
        Path | None, typer.Option(help="The weights of the recipe's frozen detector, if not its own.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over instead of resuming.")] = False,
) -> None:
    """Train a learned codec by a recipe; resumes where an earlier training was cut off."""
    from icm_codecs.training import train as training

    path = training.train(
        training.find_recipe(recipe),
        data=data,
        output=output,
        device=device.value,
        resume=not fresh,
        max_steps=max_steps,
        start=None if start is None else training.find_weights(start),
        annotations=annotations,
        detector_weights=detector_weights,
    )
    Console().print(f"weights: {path}", highlight=False, soft_wrap=True)


class _Bar:
    """A progress bar with an honest time left; silent where the output is not a terminal."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("planning", total=None)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int, what: str) -> None:
        self._progress.update(self._task, completed=done, total=total, description=what)

    def bytes(self, what: str, done: int, total: int | None) -> None:
        self(done, total or done, f"{what}, bytes")


def _groups(folder: Path, metric: str, *, force: bool) -> list[list[Result]]:
    """Return the groups whose curves have a metric, and say which are left out."""
    from icm_bench.curves.comparison import check_conventions, grouped
    from icm_bench.curves.result import find, main_metric

    groups = list(grouped(find(folder)).values())
    if not groups:
        raise ResultError("holds no curves", where=folder, hint="make some with icm-bench run")
    having = [group for group in groups if any(main_metric(group, metric) in item.results for item in group)]
    if not having:
        known = ", ".join(sorted({key for group in groups for item in group for key in item.results}))
        raise ResultError(f"no curve has the metric '{metric}'", where=folder, hint=f"known: {known}")
    for group in () if force else having:
        check_conventions(group)
    _say_left_out([group for group in groups if group not in having], f"without {metric}")
    return having


def _with_anchor(groups: list[list[Result]], anchor: str) -> list[list[Result]]:
    """Return the groups in which a curve answers to the anchor's name, and say which are left out; all if none."""
    from icm_bench.spec import Spec

    name = Spec.parse(anchor).name
    having = [group for group in groups if any(Spec.parse(item.codec).name == name for item in group)]
    if having:
        _say_left_out([group for group in groups if group not in having], f"without {name}")
    return having or groups


def _say_left_out(groups: Iterable[list[Result]], why: str) -> None:
    from icm_bench.curves.result import titled

    for group in groups:
        name = titled(group[0].task, group[0].dataset, group[0].detector)
        Console(stderr=True).print(f"left out, {why}: {name}", highlight=False, markup=False, soft_wrap=True)


def _numbers(text: str) -> list[float]:
    try:
        return [float(item) for item in text.split(",") if item.strip()]
    except ValueError as error:
        raise UsageError(f"'{text}' is not a list of numbers", where="--at", hint="write -1,-2,-5") from error


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


def main() -> None:
    """Run the command line; an error is one line, and the exit status 1, or 2 for wrong usage."""
    try:
        app()
    except IcmBenchError as error:
        if "--debug" in sys.argv:
            raise
        Console(stderr=True).print(f"icm-bench: {error}", highlight=False, markup=False, soft_wrap=True)
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("icm-bench: interrupted; what is finished is kept, run again to continue")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
