"""``labctl bench``: who has a bench, and making one safe on demand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from labctl.cli.handler import command
from labctl.lab import Lab

app = typer.Typer(help="Who has a bench, and making one safe.", no_args_is_help=True)

NameArgument = Annotated[
    str | None, typer.Argument(metavar="[BENCH]", help="Name of a bench, as its station file gives it.")
]


@command(app)
def who(lab: Lab, name: NameArgument = None) -> None:
    """Say who has a bench: user, process, command, run, since when.

    Without a name, every bench of this computer that was ever used. Opens no device.
    """
    from labctl.bench.marks import known_benches, look_at

    found = [look_at(one) for one in ([name] if name is not None else known_benches())]
    for one in found:
        lab.console.say(f"{one.bench}: {one.words}")
    if not found:
        lab.console.say("no bench was ever used on this computer by this user")
    lab.console.result({"benches": [{**asdict(one), "words": one.words} for one in found]})


@command(app)
def safe(
    lab: Lab,
    name: NameArgument = None,
    checked: Annotated[
        bool, typer.Option("--checked", help="Somebody has looked and it is safe: open no device, and believe that.")
    ] = False,
    left_open: Annotated[
        bool, typer.Option("--left-open", help="Only where a killed process has left it open; for services.")
    ] = False,
) -> None:
    """Make a bench safe: the light off first, then everything else.

    With a name, the bench that a killed process has left open. Otherwise the one of the station file.
    """
    from labctl.bench.marks import write_mark
    from labctl.engine.holding import holding, require_safe
    from labctl.errors import UsageError
    from labctl.locks import BenchFiles

    if left_open and not BenchFiles(name or lab.station().bench).mark.exists():
        lab.console.result({"bench": name, "safe": True, "checked_in_person": False}, "no bench was left open")
        return
    loaded = None if name is not None and BenchFiles(name).mark.exists() else lab.station()
    if loaded is not None and name not in (None, loaded.bench):
        raise UsageError(
            f"nothing is known of a bench {name!r} that was left open",
            expected=f"the name of such a bench, or {loaded.bench}, the one of the station file",
            seen=str(name),
            hint="labctl bench who   ·   any other bench: labctl bench safe --bench FILE",
        )
    bench = loaded.bench if loaded is not None else str(name)
    with holding(lab, bench, "labctl bench safe", makes_up=False):
        mark = BenchFiles(bench).mark
        if checked:
            mark.unlink(missing_ok=True)
        else:
            if loaded is not None and not mark.exists():
                write_mark(loaded.station)
            require_safe(lab, bench)
        if not left_open:  # the service tells of its night itself
            lab.made_up_for(lab, bench)
    words = f"{bench}: believed to be safe" if checked else f"{bench}: every device is safe"
    lab.console.result({"bench": name, "safe": True, "checked_in_person": checked}, words)
