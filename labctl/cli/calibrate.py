"""``labctl calibrate`` and ``labctl plan``: measure nodes, keep what holds, and say what is applied and what is due."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli.handler import RUNS, BudgetOption, RunsOption, SetOption, WaitOption, command
from labctl.errors import UsageError
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.engine.budget import Budget
    from labctl.engine.plan import Plan, PlannedNode
    from labctl.engine.status import BenchStatus
    from labctl.nodes.node import Node
    from labctl.station.loading import LoadedStation

MAINTAIN, STATUS, NIGHTLY = "maintain", "status", "nightly"
LONG_S = 600.0
"""Products that take longer are worth a word before the table [s]."""
AS_BEFORE = " (time as before)"
"""Beside a time that is from earlier runs."""

WhatArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NODE… | maintain [NODE…] | status",
        help="Nodes to measure with what they rest on; everything if left out. labctl plan lists them.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the top of the command line."""
    for function in (calibrate, plan):
        command(app, function.__name__)(function)


def calibrate(
    lab: Lab,
    what: WhatArgument = None,
    workload: Annotated[
        Path | None, typer.Option("--workload", help="Products to validate and export with; for those two nodes.")
    ] = None,
    wait: WaitOption = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    runs: RunsOption = RUNS,
) -> int:
    """Calibrate the bench and keep the data.

    All nodes are measured; with names, these and of what they rest on only what is due. `maintain` measures what is
    due, gives what is merely old a quick check, and keeps the rest. `status` says which calibration each bench uses
    and whether it still holds, and touches no device. Only validated products export a calibration: labctl measure
    WORKLOAD, or `maintain export --workload WORKLOAD`.
    """
    from labctl.durations import wait_s_of
    from labctl.engine.budget import budget_of

    words = what or []
    if words == [STATUS]:
        return _status(lab, lab.station(set_), runs)
    if STATUS in words:
        raise UsageError("status stands alone", seen=" ".join(words), hint="labctl calibrate status")
    wait_s, time = wait_s_of(wait), budget_of(budget)
    return _calibrate(lab, lab.station(set_), runs, words, workload, wait_s, time)


def _calibrate(
    lab: Lab,
    loaded: LoadedStation,
    runs: Path,
    words: list[str],
    workload: Path | None,
    wait_s: float,
    budget: Budget | None,
) -> int:
    from labctl.cli.jobs import JOBS, finish
    from labctl.engine import policy
    from labctl.engine.session import open_session
    from labctl.engine.walk import Way
    from labctl.nodes.registry import node_named, shows_products, without_products
    from labctl.workload import read_workload

    maintain = words[:1] == [MAINTAIN]
    targets = [node_named(word) for word in words[maintain:]] or without_products()
    if shows_products(targets) != (workload is not None):
        raise UsageError(
            "only nodes that show products take a workload, and they need one",
            seen=f"{', '.join(node.name for node in targets)}; workload: {workload or 'none'}",
            hint="labctl calibrate maintain export --workload products.h5",
        )
    if workload is not None:
        read_workload(workload)
    if maintain:
        legs = policy.maintained(runs, loaded, targets)
    else:
        legs = policy.needed(runs, loaded, targets) if words else policy.measured(targets)
    if all(leg.way is Way.KEEP for leg in legs):
        lab.console.result({"nodes": policy.as_json(legs)}, "nothing is due   ·   no device was opened")
        return 0
    job: dict[str, object] = {"legs": policy.as_json(legs)}
    work = JOBS["calibrate"](job)
    with open_session(lab, loaded, runs, "calibrate", job, workload=workload, wait_s=wait_s, budget=budget) as session:
        return finish(lab, session, work)


def _status(lab: Lab, loaded: LoadedStation, runs: Path) -> int:
    from labctl.engine.status import bench_status

    found = bench_status(runs, loaded)
    if not lab.console.json_mode:
        for bench in found:
            _show(lab, bench)
    lab.console.result({"benches": [{**vars(bench), "good": bench.good} for bench in found]})
    return 0


def plan(
    lab: Lab,
    what: Annotated[
        str,
        typer.Argument(
            metavar="measure | maintain | nightly",
            help="Everything anew; what is due, as calibrate maintain does; or what a night would do.",
        ),
    ] = MAINTAIN,
    workload: Annotated[
        Path | None, typer.Option("--workload", help="Products to count, with validation and export.")
    ] = None,
    set_: SetOption = None,
    runs: RunsOption = RUNS,
) -> None:
    """Say what a run would measure, why, and its cost. Opens no device."""
    from groundwork.nearest import did_you_mean
    from labctl.engine import policy
    from labctl.engine.plan import plan as make_plan
    from labctl.nodes.canary import CANARY_END
    from labctl.nodes.registry import EXPORT, without_products
    from labctl.workload import read_workload

    kinds = ("measure", MAINTAIN, NIGHTLY)
    if what not in kinds:
        hint = did_you_mean(what, kinds, "labctl plan")
        raise UsageError(f"no plan for {what!r}", expected=f"one of {', '.join(kinds)}", seen=what, hint=hint)
    loaded = lab.station(set_)
    if workload is None and what == NIGHTLY:
        workload = _of_nights(loaded, runs)
    products = read_workload(workload) if workload is not None else None
    targets: list[Node[Any]] = list(without_products()) if products is None else [EXPORT]
    if products is not None and what == NIGHTLY:
        targets.append(CANARY_END)
    ahead_h = loaded.station.calibration.valid_hours if what == NIGHTLY else 0.0
    legs = policy.measured(targets) if what == "measure" else policy.maintained(runs, loaded, targets, ahead_h)
    found = make_plan(runs, loaded, legs, products, ahead_h)
    if products is None and what != MAINTAIN:
        words = "products and canaries: known after the first night" if what == NIGHTLY else "products"
        found = replace(found, unknown=[*found.unknown, f"{words}; count them with --workload products.h5"])
    if not lab.console.json_mode:
        show_plan(lab, found, is_night=what == NIGHTLY)
    lab.console.result(found)


def _of_nights(loaded: LoadedStation, runs: Path) -> Path | None:
    """The products of the bench's nights; None where the first night is still to sample them."""
    from labctl.studies.held_out import held_out_file

    if loaded.station.nightly.workload:
        return loaded.path.parent / loaded.station.nightly.workload
    sampled = held_out_file(runs, loaded.bench)
    return sampled if sampled.is_file() else None


def show_plan(lab: Lab, found: Plan, is_night: bool) -> None:
    """The plan as a table, with its sums."""
    from labctl.console import wrapped
    from labctl.durations import in_words

    rows: list[tuple[str, ...]] = [
        (n.name, n.state, *_cost(n), n.because + (AS_BEFORE if n.seconds and n.seconds_from == "history" else ""))
        for n in found.nodes
    ]
    rows.append(("total", "", *_cost(found), ""))
    lab.console.say(f"bench {found.bench}\n")
    for line in _warnings(found, is_night):
        lab.console.say(wrapped(line, lab.console.width, "  "))
    lab.console.table(("node", "state", "frames", "exposed", "MB", "time", "because"), rows)
    budget = f" of {in_words(3600 * found.budget_h)}" if is_night else ""
    time_ = "" if found.seconds is None else f"about {in_words(found.seconds)}{budget}   ·   "
    disk = "" if found.bytes is None else f"{found.bytes / 1e6:,.1f} MB of "
    lab.console.say(f"\n{time_}{disk}{found.bytes_free / 1e9:,.1f} GB free   ·   no device was opened")
    for line in found.unknown:
        lab.console.say(wrapped(f"not counted: {line}", lab.console.width, "  "))


def _warnings(found: Plan, is_night: bool) -> list[str]:
    """What is to be known before the table: a run that is longer than its time, and products that make it so."""
    from labctl.durations import in_words
    from labctl.nodes.registry import node_named

    if not found.seconds:
        return []
    lines = []
    if is_night and found.seconds > 3600 * found.budget_h:
        given = in_words(3600 * found.budget_h)
        lines.append(f"longer than the {given} of the night: it takes {in_words(found.seconds)}, and would end partial")
    shown = next((node for node in found.nodes if node.seconds and node_named(node.name).shows_products), None)
    if shown is not None and shown.frames and (shown.seconds or 0) > max(LONG_S, found.seconds / 2):
        where = "nightly.workload of the station names" if is_night else "--workload names"
        lines.append(
            f"most of it are the products of the validation: {shown.frames:,} frames, {in_words(shown.seconds or 0)}; "
            f"fewer are shown where {where} another file: labctl sample --per-layer 8 -o products.h5"
        )
    return [*lines, ""] if lines else []


def _cost(cost: PlannedNode | Plan) -> tuple[str, str, str, str]:
    """Frames, exposed frames, MB and time; dashes where nothing is shown, and question marks where nobody knows."""
    from labctl.durations import in_words

    if cost.frames is None or cost.exposed is None or cost.bytes is None:
        return ("?", "?", "?", "?" if cost.seconds is None else in_words(cost.seconds))
    time_ = in_words(cost.seconds) if cost.seconds else "–"
    if not cost.exposed:
        return ("–", "–", "–", time_)
    return (f"{cost.frames:,}", f"{cost.exposed:,}", f"{cost.bytes / 1e6:,.1f}", time_)


def _show(lab: Lab, bench: BenchStatus) -> None:
    say = lab.console.say
    if bench.applied is None:
        say(f"{bench.bench}: no calibration is applied   ·   make one: labctl measure WORKLOAD")
    else:
        say(f"{bench.bench}: {bench.applied.id}   {'good' if bench.good else 'NOT GOOD'}")
        if bench.age_h is not None:
            say(
                f"  acquired   {to_the_second(bench.acquired)}, {hours(bench.age_h)} ago, by run {bench.applied.run_id}"
            )
        if bench.left_h is not None:
            left = f"for another {hours(bench.left_h)}" if bench.left_h > 0 else f"EXPIRED {hours(-bench.left_h)} ago"
            until = to_the_second(bench.valid_until)
            say(f"  valid      until {until}, {left}")
        outside = f"OUTSIDE: {'; '.join(bench.outside)}" if bench.outside else "inside"
        say(f"  domain     {outside}")
        say(f"  because    {bench.applied.why}")
        if bench.chain:
            more = f" and {len(bench.chain) - 3} before" if len(bench.chain) > 3 else ""
            say(f"  replaced   {' ← '.join(bench.chain[:3])}{more}")
        if bench.refused is not None:
            say(f"  refused    {bench.refused.id}, {bench.refused.why}")
    if bench.nodes:
        say("")
        rows = [
            (n.name, "due" if n.due else "valid", "–" if n.age_h is None else hours(n.age_h), n.because)
            for n in bench.nodes
        ]
        lab.console.table(("node", "state", "age", "because"), rows)


def to_the_second(moment: str) -> str:
    """``2026-11-29 10:10:42 UTC`` for the same with microseconds, in ISO 8601."""
    return f"{moment[:19].replace('T', ' ')} UTC"


def hours(value: float) -> str:
    """``12 min``, ``3.4 h``, ``2.1 d``"""
    return f"{60 * value:.0f} min" if value < 1 else f"{value:.1f} h" if value < 48 else f"{value / 24:.1f} d"
