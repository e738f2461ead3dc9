"""Commands that read and write other tools' formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icm_bench.cli import option
from icm_bench.cli.console import say
from icm_bench.detector import Task
from icm_bench.error import UsageError
from icm_bench.file import below
from icm_bench.spec import file_name_of


def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A file, or a folder of CompressAI-Vision's summaries.")
    ],
    origin: Annotated[option.Origin, option.coding("Whose format it is.", None, "--from")],
    dataset: Annotated[str | None, option.coding("The dataset that it was measured on.", "NAME")] = None,
    task: Annotated[Task, option.coding("What was measured.")] = "fidelity",
    detector: Annotated[str, option.coding("The detector, none for fidelity.", "NAME")] = "none",
    codec: Annotated[str | None, option.coding("What to call the codec.", "NAME")] = None,
    metric: Annotated[
        str, option.coding("What the accuracy of CompressAI-Vision's files is: map, map50-oic, ...", "NAME")
    ] = "map",
    bpp: Annotated[
        str | None, option.convention("How bpp was averaged: pooled, mean or unknown.", "WORD")
    ] = None,
    bits: Annotated[
        str | None, option.convention("What was counted: bitstream, estimated or unknown.", "WORD")
    ] = None,
    pixels: Annotated[
        str | None, option.convention("Of which image: native, resized or unknown.", "WORD")
    ] = None,
    results: option.ResultsOption = Path("results"),
) -> None:
    """Read curves that were measured elsewhere, with what is known of their conventions."""
    from icm_bench.formats.compressai import import_compressai, import_compressai_vision
    from icm_bench.formats.foreign import Group
    from icm_bench.formats.importer import save_imported, with_conventions
    from icm_bench.formats.tidy import import_tidy

    group = None if dataset is None else Group(dataset, task, detector)
    if origin == "tidy":
        found = import_tidy(source, group)
    elif group is None:
        raise UsageError("does not say what it was measured on", where=source, hint="give --dataset")
    elif origin == "compressai":
        found = [import_compressai(source, group, codec=codec)]
    elif codec is None:
        raise UsageError("does not name its codec", where=source, hint="give --codec")
    else:
        found = [import_compressai_vision(source, group, codec=codec, metric=metric)]
    told = [with_conventions(result, bpp=bpp, bits=bits, pixels=pixels) for result in found]
    for path in save_imported(told, results):
        say(path)


def published(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="The publication whose curves to take.", show_default="list them"
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        option.coding("File them beside curves of this dataset.", "NAME", show_default="their own"),
    ] = None,
    detector: Annotated[
        str | None,
        option.coding("File them beside curves of this detector.", "NAME", show_default="their own"),
    ] = None,
    results: option.ResultsOption = Path("results"),
) -> None:
    """Take curves from publications, for plots and, with --force, comparisons; without a name, list what there is."""
    from icm_bench.formats.importer import save_imported
    from icm_bench.formats.published import PUBLICATIONS, published

    if name is None:
        for known, publication in PUBLICATIONS.items():
            say(f"{known}: {publication.holds}\n  {publication.source}\n  {publication.remark}")
        return
    for path in save_imported(published(name, dataset=dataset, detector=detector), results):
        say(path)


def export(
    destination: Annotated[
        Path,
        typer.Argument(metavar="DESTINATION", help="A file, or a folder for formats of one file a curve."),
    ],
    format_: Annotated[option.Target, option.output("Whose format.", None, "--to")],
    folder: option.ResultsOption = Path("results"),
    store: Annotated[
        Path | None,
        option.output("The point's or codec's folder in runs/, for coco and codec-compare.", "FOLDER"),
    ] = None,
) -> None:
    """Write curves, predictions or per-image values in other tools' formats."""
    from icm_bench.cli.curve import found
    from icm_bench.formats import exporter
    from icm_bench.pipeline.export import export_coco, export_codec_compare

    if format_ == "tidy":
        exporter.export_tidy(found(folder), destination)
    elif format_ == "compressai":
        for result in found(folder):
            name = result.source.stem if result.source else result.codec
            home = below(destination, *result.group[:2], file_name_of(result.detector))
            exporter.export_compressai(result, below(home, f"{name}.json"))
    elif store is None:
        raise UsageError("needs a folder of the stores", where=f"--to {format_}", hint="give --store")
    elif format_ == "coco":
        export_coco(store, destination)
    else:
        export_codec_compare(store, destination)
    say(destination)
