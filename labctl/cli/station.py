"""``labctl station``: the station file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.cli.handler import SetOption, command
from labctl.lab import Lab

app = typer.Typer(help="The station file: make it, show it, check it.", no_args_is_help=True)


@command(app)
def init(
    lab: Lab,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to make.")] = Path("station.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    from_probe: Annotated[
        bool, typer.Option("--from-probe", help="Look for connected devices, and write what is found.")
    ] = False,
) -> None:
    """Write a commented station file to start from. It describes the mock bench, or the devices that are connected."""
    from labctl.archive.atomic import atomic_write_text
    from labctl.archive.outputs import EDITED, require_output
    from labctl.resources import data_path

    require_output(path, EDITED, force=force)
    if from_probe:
        _init_from_probe(lab, path)
        return
    atomic_write_text(path, data_path("stations/mock.toml").read_text(encoding="utf-8"))
    lab.console.result({"path": str(path)}, f"{path} written   ·   next: labctl station check --bench {path}")


def _init_from_probe(lab: Lab, path: Path) -> None:
    """Write what answers into a station file, once that is known to load."""
    from labctl.archive.atomic import atomic_write_text
    from labctl.cli.device_tables import outcomes
    from labctl.cli.devices import look_for_devices, require_no_bench_in_use
    from labctl.instruments.stanzas import missing, rivals, stanzas, station_text

    require_no_bench_in_use()
    results = look_for_devices(lab)
    lab.console.show(outcomes(results, ()))
    made = stanzas(results)
    atomic_write_text(path, station_text(made, path))
    lab.console.say()
    for stanza in made:
        as_comment = "" if stanza.is_complete else "   ·   as a comment, to be completed"
        lab.console.say(f"{stanza.name}: {stanza.title}   ·   {stanza.backend}{as_comment}")
    for role, names in rivals(made).items():
        lab.console.say(f"{len(names)} devices fit the role {role}: {names[0]} is used, the others stand as comments")
    absent = missing(made)
    if absent:
        lab.console.say(f"not found: {', '.join(absent)}   ·   the mock bench fills in until you name them")
    document = {"path": str(path), "devices": {s.name: s.backend for s in made if s.is_complete}, "missing": absent}
    lab.console.result(document, f"{path} written   ·   next: labctl station check --bench {path}")


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
            ("key", "origin", "value"), [(key, Path(loaded.origins[key]).name, repr(v)) for key, v in values.items()]
        )
    lab.console.result(document, None if origin else loaded.to_toml().rstrip())


@command(app)
def check(lab: Lab, set_: SetOption = None) -> int:
    """Check the file, its backends and their options. Opens no device."""
    from labctl.bench.check import check_station

    rows = check_station(lab.station(set_))
    failed = sum(row.state == "FAIL" for row in rows)
    if not lab.console.json_mode:
        for row in rows:
            fix = f"   ·   try: {row.fix}" if row.fix else ""
            lab.console.say(f"{row.state}  {row.check}: {row.detail}{fix}")
        if not failed:
            lab.console.say("found, and not opened   ·   to try one: labctl devices test camera")
    lab.console.result({"checks": rows, "failed": failed})
    return 2 if failed else 0
