"""``labctl calibrate``: calibrate the bench; beneath it, what is applied now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from labctl.cli.handler import RUNS, RunsOption, SetOption, command, group_command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.engine.status import BenchStatus
    from labctl.nodes.calibrate import Planned

app = typer.Typer()


@group_command(app)
def calibrate(lab: Lab, set_: SetOption = None, runs: RunsOption = RUNS) -> int:
    """Calibrate the bench and keep the data.

    Nothing is exported: that takes products to validate with (labctl measure).
    """
    from labctl.cli.bench import conclude
    from labctl.engine.session import open_session
    from labctl.studies.demo import report_in

    with open_session(lab, lab.station(set_), runs, "calibrate") as session:
        page = report_in(session, session.on_bench(), None)
        return conclude(lab, session.conclude(), page)


@command(app)
def status(lab: Lab, set_: SetOption = None, runs: RunsOption = RUNS) -> None:
    """Say which calibration each bench uses, and whether it still holds; touches no device."""
    from labctl.engine.status import bench_status

    found = bench_status(runs, lab.station(set_))
    if not lab.console.json_mode:
        for bench in found:
            _show(lab, bench)
    lab.console.result({"benches": [{**vars(bench), "good": bench.good} for bench in found]})


def plan(lab: Lab, set_: SetOption = None, runs: RunsOption = RUNS) -> None:
    """Say what a calibration would measure, why, and what it costs; opens no device."""
    from labctl.engine.plan import plan as make_plan

    found = make_plan(runs, lab.station(set_))
    if not lab.console.json_mode:
        lab.console.say(f"bench {found.bench}\n")
        rows = [
            (n.status.name, "due" if n.status.due else "valid", n.status.because, *_cost(n.cost)) for n in found.nodes
        ]
        rows.append(("total", "", "labctl calibrate measures all of them", *_cost(found.total)))
        lab.console.table(("node", "state", "because", "frames", "with settling", "on the bench"), rows)
        disk = f"at most {found.bytes / 1e6:,.0f} MB of " if found.bytes is not None else ""
        lab.console.say(f"\n{disk}{found.bytes_free / 1e9:,.1f} GB free   ·   no device was opened")
        for line in found.unknown:
            lab.console.say(f"unknown: {line}")
    lab.console.result(found)


def _cost(cost: Planned | None) -> tuple[str, str, str]:
    return (f"{cost.kept:,}", f"{cost.exposed:,}", minutes(cost.seconds)) if cost else ("–", "–", "–")


def _show(lab: Lab, bench: BenchStatus) -> None:
    say = lab.console.say
    if bench.applied is None:
        say(f"{bench.bench}: no calibration is applied   ·   make one: labctl measure WORKLOAD")
    else:
        say(f"{bench.bench}: {bench.applied.id}   {'good' if bench.good else 'NOT GOOD'}")
        if bench.age_h is not None:
            say(f"  acquired   {bench.acquired}, {hours(bench.age_h)} ago, by run {bench.applied.run_id}")
        if bench.left_h is not None:
            left = f"for another {hours(bench.left_h)}" if bench.left_h > 0 else f"EXPIRED {hours(-bench.left_h)} ago"
            say(f"  valid      until {bench.valid_until}, {left}")
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


def minutes(seconds: float) -> str:
    """``0:41``, ``12:03``"""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def hours(value: float) -> str:
    """``12 min``, ``3.4 h``, ``2.1 d``"""
    return f"{60 * value:.0f} min" if value < 1 else f"{value:.1f} h" if value < 48 else f"{value / 24:.1f} d"
