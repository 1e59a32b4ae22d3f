"""``labctl station``: the station file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.cli.handler import SetOption, command
from labctl.lab import Lab

app = typer.Typer(help="The station file: make it, show every key with its origin, check it.", no_args_is_help=True)


@command(app)
def init(
    lab: Lab,
    path: Annotated[Path, typer.Argument(help="The file to make.")] = Path("station.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented station file to start from: the mock bench."""
    from labctl.archive.atomic import atomic_write_text
    from labctl.errors import UsageError
    from labctl.resources import data_path

    if path.exists() and not force:
        raise UsageError(
            "the file exists already",
            device=str(path),
            safe="nothing was changed",
            hint="another name, or --force to replace it",
        )
    atomic_write_text(path, data_path("stations/mock.toml").read_text(encoding="utf-8"))
    lab.console.result({"path": str(path)}, f"{path} written   ·   next: labctl station check --bench {path}")


@command(app)
def show(
    lab: Lab,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    set_: SetOption = None,
) -> None:
    """Print the effective station, defaults included."""
    loaded = lab.station(set_)
    values = loaded.values()
    document = {
        "path": str(loaded.path),
        "keys": {key: {"value": value, "origin": loaded.origins[key]} for key, value in values.items()},
    }
    if origin and not lab.console.json_mode:
        lab.console.table(
            ("key", "value", "origin"), [(key, repr(v), loaded.origins[key]) for key, v in values.items()]
        )
    lab.console.result(document, None if origin else loaded.to_toml().rstrip())


@command(app)
def check(lab: Lab, set_: SetOption = None) -> int:
    """Check the file, that its backends are installed, and the options that it gives them; opens no device."""
    from drivers import DeviceError, check_options
    from labctl.bench.bench import open_context

    loaded = lab.station(set_)
    context = open_context(loaded.station)
    rows: list[dict[str, str]] = [{"check": "station file", "state": "PASS", "detail": str(loaded.path), "fix": ""}]
    for name, device in loaded.station.devices.root.items():
        row = {"check": f"devices.{name}", "state": "PASS", "detail": device.backend, "fix": ""}
        try:
            check_options(device.backend, device.role, device.options, context, name)
        except DeviceError as error:
            facts = f" (expected {error.expected}, seen {error.seen})" if error.expected else ""
            row |= {"state": "FAIL", "detail": f"{error.code} {error.what}{facts}", "fix": error.hint}
        rows.append(row)
    failed = sum(row["state"] == "FAIL" for row in rows)
    if not lab.console.json_mode:
        for row in rows:
            fix = f"   ·   try: {row['fix']}" if row["fix"] else ""
            lab.console.say(f"{row['state']}  {row['check']}: {row['detail']}{fix}")
    lab.console.result({"checks": rows, "failed": failed})
    return 2 if failed else 0
