"""The command line. Importing this package stays cheap: no numpy, torch, pydantic or h5py before a command runs.

A command is a thin function in one of the modules here, decorated with `labctl.cli.handler.command`; what it needs it
imports inside the function. A new group gets its module, and one line below.
"""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli import (
    adapt,
    align,
    bench,
    benches,
    calib,
    calibrate,
    cost,
    devices,
    doctor,
    drift,
    explain,
    imports,
    mock,
    model,
    nightly,
    reproduce,
    retention,
    run,
    scaling,
    serve,
    service,
    station,
    train,
)

app = typer.Typer(
    name="labctl",
    help="Measure how well a Transformer runs in light.",
    epilog="Begin with: labctl demo   ·   what a command takes: labctl help COMMAND",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(calib.app, name="calib")
app.add_typer(station.app, name="station")
app.add_typer(devices.app, name="devices")
app.add_typer(benches.app, name="bench")
app.add_typer(run.app, name="run")
app.add_typer(drift.app, name="drift")
app.add_typer(mock.app, name="mock")
app.add_typer(nightly.app, name="nightly")
app.add_typer(reproduce.app, name="reproduce")
app.add_typer(service.app, name="service")
align.register(app)
bench.register(app)
calibrate.register(app)
imports.register(app)
model.register(app)
cost.register(app)
train.register(app)
adapt.register(app)
scaling.register(app)
retention.register(app, run.app)
doctor.register(app)
explain.register(app)
serve.register(app)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"labctl {version('labctl')}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What stands before the name of a command."""


@app.command("help")
def _help(
    context: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]…", help="The command: run show, say.")] = None,
) -> None:
    """Show what a command does and takes: labctl help run show."""
    raise typer.Exit(app(args=[*(words or []), "--help"], prog_name="labctl", standalone_mode=False) or 0)
