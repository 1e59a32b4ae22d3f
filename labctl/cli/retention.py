"""``labctl run gc | pin | unpin`` and ``labctl index rebuild``: what stays on the disk, and the index of it."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli.handler import RUNS, RunArgument, RunsOption, command
from labctl.lab import Lab

index = typer.Typer(help="The index of the runs; the folders are the truth.", no_args_is_help=True)

KeepOption = Annotated[
    int | None, typer.Option("--keep", min=1, metavar="DAYS", help="Instead of the station's nightly.keep_nights.")
]
DeleteOption = Annotated[bool, typer.Option("--delete", help="Remove the files; only look if left out.")]
TrustOption = Annotated[
    bool, typer.Option("--trust-clock", help="The clock is right, although it does not fit the nights in the archive.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for whoever finds the run next year.")]


def register(app: typer.Typer, runs: typer.Typer) -> None:
    """Add the commands to ``labctl run``, and ``labctl index``."""
    for function in (gc, pin, unpin):
        command(runs)(function)
    command(index)(rebuild)
    app.add_typer(index, name="index")


def gc(
    lab: Lab,
    delete: DeleteOption = False,
    keep: KeepOption = None,
    trust_clock: TrustOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Show which raw data may go, and why the rest stays. --delete removes them."""
    from labctl.archive.retention import collect
    from labctl.clock import utc_now

    days = keep or lab.station().station.nightly.keep_nights
    found = collect(runs, days, utc_now(), delete=delete, trust_clock=trust_clock)
    if not lab.console.json_mode:
        columns = [(r.run_id, "goes" if r.goes else "stays", f"{r.bytes / 1e6:.1f}", r.why) for r in found.runs]
        lab.console.table(("run", "raw data", "MB freed", "why"), columns)
    if found.doubt:
        lab.console.warn(f"warning: {found.doubt}   ·   where it is right: --trust-clock")
    done = "removed" if delete else "would go (--delete removes them)"
    lab.console.result(
        {"keep_days": days, "deleted": delete, "bytes": found.bytes, "runs": found.runs},
        f"raw data of {len(found.going)} of {len(found.runs)} runs {done}, {found.bytes / 1e6:.1f} MB",
    )


def pin(lab: Lab, run: RunArgument, reason: ReasonOption = "", runs: RunsOption = RUNS) -> None:
    """Keep the raw data of a run, however old it gets."""
    from labctl.archive import find_run
    from labctl.archive.retention import has_raw_data
    from labctl.archive.retention import pin as keep
    from labctl.errors import UsageError

    folder = find_run(runs, run)
    if not reason.strip():
        raise UsageError(
            "a pin needs a reason",
            device=folder.name,
            expected="words for whoever finds the run next year",
            safe="nothing was written",
            hint=f'labctl run pin {folder.name.rpartition("-")[2]} --reason "…"',
        )
    keep(folder, reason)
    has_raw = has_raw_data(folder)
    if not has_raw:
        lab.console.warn(f"warning: {folder.name} has no raw data (any more): the pin brings nothing back")
    document = {"run_id": folder.name, "pinned": True, "reason": reason, "raw_data": has_raw}
    lab.console.result(document, f"{folder.name}: pinned{'' if has_raw else ', without raw data'}")


def unpin(lab: Lab, run: RunArgument, runs: RunsOption = RUNS) -> None:
    """Let retention decide about a run again."""
    from labctl.archive import find_run
    from labctl.archive.retention import unpin as release

    folder = find_run(runs, run)
    text = "no longer pinned" if release(folder) else "was not pinned"
    lab.console.result({"run_id": folder.name, "pinned": False}, f"{folder.name}: {text}")


def rebuild(lab: Lab, runs: RunsOption = RUNS) -> None:
    """Make the index anew from the run folders."""
    from labctl.archive.index import rebuild_index

    count = rebuild_index(runs)
    lab.console.result({"runs": str(runs), "indexed": count}, f"{count} sealed runs in the index of {runs}")
