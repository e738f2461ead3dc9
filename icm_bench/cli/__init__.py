"""The command line: a thin layer over what the package offers in Python."""

from __future__ import annotations

import logging
import signal
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from icm_bench.cli import curve, data, exchange, plugin, report, run, status, train
from icm_bench.cli.console import LineHandler, say, write_any_text
from icm_bench.error import IcmBenchError, UsageError, system_errors

_ANYWHERE = ("--debug", "--version")


class _Terminated(KeyboardInterrupt):
    """The system, or a scheduler, has asked the command to end."""


def _terminate(number: int, _: object) -> None:
    # Whoever asks again does not want to wait.
    signal.signal(number, signal.SIG_DFL)
    raise _Terminated


class _PlainFlags:
    """Options that take no value are shown without one."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False) and parameter.metavar is None:
                parameter.metavar = ""
        return parameters


class _Command(_PlainFlags, TyperCommand):
    pass


class _Group(_PlainFlags, TyperGroup):
    """A group whose options are understood behind the command's name too, where people type them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        options = [item for item in args[:end] if item in _ANYWHERE]
        rest = [item for item in args[:end] if item not in _ANYWHERE]
        return super().parse_args(ctx, [*options, *rest, *args[end:]])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            # Typer would end the process without a word.
            name, status = (
                ("ended by SIGTERM", 143) if isinstance(stop, _Terminated) else ("interrupted", 130)
            )
            say(f"icm-bench: {name}; what is finished is kept, run again to continue", error=True)
            raise typer.Exit(status) from None


app = typer.Typer(
    name="icm-bench",
    cls=_Group,
    help="Image coding for machines, measured: real bitstreams, frozen detectors, accuracy against rate.",
    epilog="Example: icm-bench run --codecs icm,vvc,jpeg --limit 8",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_data = typer.Typer(
    cls=_Group, no_args_is_help=True, help="Fetch public datasets, draw scenes, and label images."
)

for _name, _function, _example in (
    ("run", run.run, "run --codecs icm,vvc,jpeg --limit 8"),
    ("status", status.status, "status --runs runs/"),
    ("bdrate", curve.bdrate, "bdrate results/ --anchor vvc --format markdown"),
    ("plot", curve.plot, "plot results/ --formats png,pdf"),
    ("compare", report.compare, "compare main results/"),
    ("show", report.show, "show results/scenes/detection/fasterrcnn_scenes/jpeg.json"),
    ("report", report.report, "report results/ --output report.html"),
    ("import", exchange.import_, "import vtm.json --from compressai --dataset kodak --codec vtm"),
    ("published", exchange.published, "published gao2026 --results published"),
    ("export", exchange.export, "export curves.csv --to tidy"),
    ("list", plugin.list_, "list"),
    ("doctor", plugin.doctor, "doctor"),
    ("train", train.train, "train hyperprior --data photos/"),
):
    app.command(_name, cls=_Command, epilog=f"Example: icm-bench {_example}")(_function)
for _name, _data_function, _example in (
    ("coco", data.coco, "data coco --data-root data/coco"),
    ("scenes", data.scenes, "data scenes --count 1400"),
    ("kodak", data.kodak, "data kodak --data-root data/kodak"),
    ("objects", data.objects, "data objects --images photos/ --detectors yolox:weights=yolox.onnx"),
):
    _data.command(_name, cls=_Command, epilog=f"Example: icm-bench {_example}")(_data_function)
app.add_typer(_data, name="data")


def _print_version(*, asked: bool) -> None:
    if asked:
        say(f"icm-bench {version('icm-bench')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit."),
    ] = False,
) -> None:
    # --debug is read by main(), which is where errors end.
    pass


def main() -> None:
    """Run the command line; an error is one line, and the exit status 1, or 2 for wrong usage."""
    write_any_text()
    signal.signal(signal.SIGTERM, _terminate)
    logging.getLogger("icm_bench").addHandler(LineHandler())
    try:
        with system_errors(IcmBenchError, "the operating system refused"):
            app()
    except IcmBenchError as error:
        if "--debug" in sys.argv:
            raise
        say(f"icm-bench: {error}", error=True)
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from None
