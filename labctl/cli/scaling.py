"""``labctl scaling``: perplexity against light for a family of widths."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.cli.handler import TextOption, command
from labctl.lab import Lab


def register(app: typer.Typer) -> None:
    """Add the command to the top of the command line."""
    command(app)(scaling)


def scaling(
    lab: Lab,
    machine: Annotated[
        str, typer.Argument(metavar="CALIB", help="*.calib.h5 or *.calib.safetensors; or a preset: ideal, paper.")
    ],
    model: Annotated[
        list[Path] | None, typer.Argument(help="Checkpoints, one of each width; the shipped family if left out.")
    ] = None,
    text: TextOption = None,
    photons: Annotated[
        list[float] | None,
        typer.Option("--photons-per-mac", help="A light level, at the weight plane per MAC and pass; repeatable."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Noise seeds at every level.")] = 3,
    tokens: Annotated[int, typer.Option("--tokens", min=2, help="Tokens of the text to score.")] = 4096,
    tolerance: Annotated[
        list[float] | None,
        typer.Option("--tolerance", help="Perplexity above the 8-bit model's; repeatable; 0.01 and 0.05 if left out."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of points, numbers and report.")] = Path(
        "scaling"
    ),
    report: Annotated[bool, typer.Option("--report", help="Write report.html and its numbers as CSV.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes of one thread each.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="tcp://HOST:PORT", help="Use the workers of a Dask scheduler.")
    ] = None,
) -> None:
    """Perplexity against photons per MAC for each width, the photons that each needs, and the power law.

    Points that an earlier sweep computed are not computed again.
    """
    from labctl.archive.atomic import atomic_write_json
    from labctl.pipeline.scaling import Plan, light_levels, load_members, scale, shipped_family, tolerated
    from labctl.pipeline.simulate import machine_of
    from labctl.pipeline.sweep import in_this_process, on_cluster, on_processes
    from labctl.report.scaling import write_scaling_report
    from labctl.summary import number
    from simulation.scaling.points import PointStore

    bench = machine_of(machine)
    levels, tolerances = light_levels(photons), tolerated(tolerance)
    members = load_members(model or shipped_family(), text, tokens)
    plan = Plan(members, bench, levels, tuple(range(seeds)), tokens, tolerances)
    compute = in_this_process if jobs == 1 else on_processes(jobs)
    if scheduler is not None:
        compute = on_cluster(scheduler)
    with lab.console.progress("sweeping", sum(len(list(plan.points(member))) for member in members)) as bar:
        found = scale(plan, PointStore(output / "points"), compute, bar.advance)
    document = found.document()
    numbers = output / "scaling.json"
    atomic_write_json(numbers, document)
    if report:
        write_scaling_report(output / "report.html", found)
    if not lab.console.json_mode:
        lab.console.say(f"{found.computed} points computed, {found.reused} from {output / 'points'}")
        lab.console.say("photons at the weight plane per MAC and pass, needed to stay near the 8-bit perplexity:")
        headers = ("d", "8 bit", *(f"within {t:.0%}" for t in tolerances))
        rows = [
            (
                s.width,
                f"{s.reference():.2f}",
                *(_need(r.photons, r.low, r.high) for r in found.requirements if r.width == s.width),
            )
            for s in found.sweeps
        ]
        lab.console.table(headers, rows)
        for law in found.laws:
            if law.law is not None:
                low, high = law.law.scatter or law.law.bootstrap or (None, None)
                limits = f"  (95 %: {number(low, '+.2f')} … {number(high, '+.2f')})" if low is not None else ""
                lab.console.say(f"within {law.tolerance:.0%}: photons ∝ d^({law.law.exponent:+.2f}){limits}")
            if law.reason:
                lab.console.say(f"within {law.tolerance:.0%}: {law.reason}")
    where = output / "report.html" if report else numbers
    lab.console.result(document, f"{where}")


def _need(photons: float | None, low: float | None, high: float | None) -> str:
    if photons is None:
        return "–"
    return f"{photons:.3g} ({'…' if low is None else f'{low:.3g}'}–{'…' if high is None else f'{high:.3g}'})"
