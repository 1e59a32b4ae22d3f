"""``labctl nightly``: a bench's night, and how the last ones ended."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.handler import RUNS, RunsOption, SetOption, WaitOption, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from labctl.engine.budget import Budget
    from labctl.errors import LabError
    from labctl.night.ending import Ending
    from labctl.night.history import NightRow
    from labctl.station.loading import LoadedStation

app = typer.Typer(help="Nights: maintain, validate and watch a bench unattended.", no_args_is_help=True)


@command(app)
def run(
    lab: Lab,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="3h, 1h30m; nightly.budget_h of the station if left out."),
    ] = None,
    workload: Annotated[
        Path | None,
        typer.Option("--workload", help="Products to validate with; nightly.workload of the station if left out."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 11 where a control chart fires, as with nightly.strict.")
    ] = False,
    wait: WaitOption = None,
    set_: SetOption = None,
    runs: RunsOption = RUNS,
) -> int:
    """Calibrate what is due, validate, and watch for drift.

    Held-out products are validated, and the control charts see how the bench drifts.

    What is old, or would be before the next night, gets a quick check, the rest is kept. The same vectors are shown at
    the start, in the middle and at the end. Where no chart fires it ends as any measurement; where one does, with a
    warning. Needs nobody.
    """
    from labctl.bench.lock import hold_bench
    from labctl.durations import wait_s_of
    from labctl.engine import supervisor
    from labctl.engine.budget import budget_of
    from labctl.night.ending import ending_follows, unread_station_is_told
    from labctl.station.secrets import take_secrets

    with unread_station_is_told(lab, runs):
        loaded = lab.station(set_)
    take_secrets(loaded.bench, lab.console.warn)
    with ending_follows(lab, loaded, runs) as ending:
        _require_supervisor(loaded.bench)
        time, wait_s = budget_of(budget or f"{loaded.station.nightly.budget_h:f}h"), wait_s_of(wait)
        with hold_bench(
            loaded.bench, "labctl nightly", wait_s=wait_s, keeper=supervisor.keeper(), say=lab.console.say
        ) as held_by:  # before what takes long to import: of two nights one is to hear at once that it is too many
            ending.begins()
            strict = strict or loaded.station.nightly.strict
            _require_charts(lab, runs, loaded.bench, strict)
            return _night(lab, loaded, runs, workload, time, strict, held_by, ending)


def _night(
    lab: Lab,
    loaded: LoadedStation,
    runs: Path,
    workload: Path | None,
    budget: Budget | None,
    strict: bool,
    held_by: Callable[[str], None],
    ending: Ending,
) -> int:
    from labctl.cli.jobs import JOBS, finish
    from labctl.engine.session import open_session

    products = _named_products(loaded, workload) or _shipped_products(lab, runs, loaded.bench)
    job = {"legs": _legs(lab, loaded, runs, products, budget), "strict": strict}
    work = JOBS["nightly"](job)
    with open_session(lab, loaded, runs, "nightly", job, workload=products, budget=budget, held_by=held_by) as session:
        ending.is_owed(session.run.path)
        return finish(lab, session, work, strict=strict)


def _require_charts(lab: Lab, runs: Path, bench: str, strict: bool) -> None:
    """Before a device is opened: what people have decided about the charts can be read.

    A night whose verdict is to follow from the charts is refused without it; any other measures, and has no charts.
    """
    from labctl.errors import RunDamaged
    from labctl.night.decisions import decisions

    try:
        decisions(runs, bench)
    except RunDamaged as error:
        error.safe = "no device was opened"
        if strict:
            raise
        lab.console.warn(f"warning: {error}: this night has no control charts   ·   {error.hint}")


def _legs(lab: Lab, loaded: LoadedStation, runs: Path, products: Path, budget: Budget | None) -> list[list[str | None]]:
    """What the night is to do; the plan is shown."""
    from labctl.cli.calibrate import show_plan
    from labctl.engine import policy
    from labctl.engine.plan import plan
    from labctl.nodes.canary import CANARY_END
    from labctl.nodes.registry import EXPORT
    from labctl.workload import read_workload

    ahead_h = loaded.station.calibration.valid_hours  # that the calibration of this night is to hold
    legs = policy.maintained(runs, loaded, [EXPORT, CANARY_END], ahead_h)
    if not lab.console.json_mode:
        found = plan(runs, loaded, legs, read_workload(products), ahead_h)
        if budget is not None and budget.given_s is not None:
            found = replace(found, budget_h=budget.given_s / 3600)
        show_plan(lab, found, is_night=True)
    return policy.as_json(legs)


def _named_products(loaded: LoadedStation, workload: Path | None) -> Path | None:
    """The products that the command or the station names."""
    from labctl.workload import read_workload

    named = loaded.station.nightly.workload
    path = workload or (loaded.path.parent / named if named else None)
    if path is not None:
        read_workload(path)
    return path


def _shipped_products(lab: Lab, runs: Path, bench: str) -> Path:
    from labctl.studies.held_out import held_out_products

    lab.console.say("products: of the shipped model, the same in every night")
    return held_out_products(runs, bench)


def _require_supervisor(bench: str) -> None:
    from labctl.errors import UsageError
    from labctl.osal import can_supervise

    if not can_supervise():
        raise UsageError(
            "a night needs a process that watches it, which this operating system does not allow",
            device=bench,
            action="labctl nightly run",
            expected="Linux or macOS",
            safe="no device was opened",
            hint="watch it yourself: labctl measure WORKLOAD --maintain",
        )


@command(app)
def status(
    lab: Lab,
    count: Annotated[int, typer.Option("--nights", min=1, help="How many of them.")] = 14,
    runs: RunsOption = RUNS,
) -> None:
    """How the last nights ended, and the age of the last good one. Opens no device."""
    from labctl.cli.calibrate import hours
    from labctl.night.history import night_status

    found = night_status(runs, lab.station().bench, count)
    if not lab.console.json_mode:
        lab.console.say(f"bench {found.bench}\n")
        if found.nights:
            columns = ("run", "verdict", "time", "alarms", "nearest to its limit, or what ended it")
            lab.console.table(columns, [_row(night) for night in found.nights])
        if found.good_age_h is not None:
            lab.console.say(f"\nlast good night: {found.last_good}, {hours(found.good_age_h)} ago")
        else:
            lab.console.say("no good night so far   ·   labctl nightly run")
    lab.console.result(found)


def _row(night: NightRow) -> tuple[str, ...]:
    from labctl.durations import in_words

    time_ = in_words(night.duration_s) if night.duration_s else "–"
    return (night.run_id, night.verdict, time_, ", ".join(night.alarms) or "–", night.error or night.worst or "–")


@command(app, "test-notify")
def send_test(
    lab: Lab,
    success: Annotated[
        bool,
        typer.Option(
            "--success", help="Tell the dead man's switch of a night that went well: for one that does not know /log."
        ),
    ] = False,
    set_: SetOption = None,
) -> None:
    """Send a test message. It goes to the program and the addresses that the station names.

    A dead man's switch hears /log, which is neither a success nor a failure: it goes on waiting for the next night.
    """
    from labctl.errors import UsageError
    from labctl.night.notify import LOG, Message, ping_words, send_each
    from labctl.station.secrets import secrets_path, take_secrets

    loaded = lab.station(set_)
    nightly = loaded.station.nightly
    if not (nightly.notify or nightly.webhook_env or nightly.ping_env):
        raise UsageError(
            "the station names nobody to be told",
            device=loaded.bench,
            expected="nightly.notify, nightly.webhook_env or nightly.ping_env",
            hint="labctl station show",
        )
    take_secrets(loaded.bench, lab.console.warn)
    words = f"{loaded.bench}: test (nothing has happened)"
    told = send_each(nightly, Message(loaded.bench, "test", None, words, "sent by labctl nightly test-notify"))
    if nightly.ping_env:
        told[f"dead-man's switch {nightly.ping_env}"] = ping_words(nightly, "" if success else LOG)
    for way, failed in told.items():
        lab.console.say(f"{way}: {failed or 'told'}")
    if any(told.values()):
        unset = [name for name in (nightly.webhook_env, nightly.ping_env) if name and not os.environ.get(name)]
        raise _untold(list(told.values()), unset, secrets_path(loaded.bench), success)
    lab.console.result({"sent": True})


def _untold(told: Sequence[str], unset: Sequence[str], secrets: Path, success: bool) -> LabError:
    """What is to be set or mended; ``told`` says why each way did not take the test, and is empty where it did."""
    from labctl.errors import NotNotified, UsageError

    failed = [words for words in told if words]
    what = f"{len(failed)} of {len(told)} ways of telling people failed"
    facts = {"action": "sending a test", "seen": "; ".join(failed), "safe": "no run and no night was touched"}
    steps = [f"write {' and '.join(f'{name}=https://…' for name in unset)} into {secrets} (chmod 600)"] if unset else []
    if len(unset) == len(failed):
        return UsageError(what, hint=steps[0], **facts)
    steps.append("mend the program, the address or the network")
    steps += [] if success else ["a switch that does not know /log: labctl nightly test-notify --success"]
    return NotNotified(what, hint="   ·   ".join(steps), **facts)
