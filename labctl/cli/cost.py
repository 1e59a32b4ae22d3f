"""What it costs: joules of a model in light, against digital processors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.handler import MODELS, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.studies.energy import Cost


COLUMNS = "digital processor", "per MAC", "light is better by", "90 %"


def register(app: typer.Typer) -> None:
    """Add the command to the top of the command line."""
    command(app, energy.__name__)(energy)


@dataclass(frozen=True)
class OpticalMachine:
    """The options that describe the machine in light."""

    photons: Annotated[
        float, typer.Option("--photons-per-mac", min=0.0, help="At the weight plane, per MAC and pass, at --at-width.")
    ] = 1.0
    at_width: Annotated[float, typer.Option("--at-width", min=1, help="Length of sum that this holds for.")] = 12288
    exponent: Annotated[
        float, typer.Option("--exponent", help="Photons per MAC fall as length to minus this; 1 is the paper's claim.")
    ] = 1.0
    bits: Annotated[
        int | None, typer.Option("--bits", min=1, max=32, help="Of operands and results; the scenario's if left out.")
    ] = None
    array: Annotated[
        str, typer.Option("--array", metavar="ROWSxCOLUMNS", help="Macropixels at a time; or: unlimited.")
    ] = "1024x1024"
    reload: Annotated[
        bool, typer.Option("--reload", help="Write every matrix for every forward pass instead of holding it.")
    ] = False
    in_turn: Annotated[
        bool,
        typer.Option("--in-turn", help="Charge for held matrices while others compute, too: no pipeline."),
    ] = False


def energy(
    lab: Lab,
    *,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=MODELS)] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", help="A published shape instead, by name: gpt3-175b, future-1e15 …")
    ] = None,
    scenario: Annotated[
        str, typer.Option("--scenario", help="Of the components: today, scaled-optics, future.")
    ] = "today",
    machine: OpticalMachine,
    table: Annotated[Path | None, typer.Option("--table", help="Component table (TOML); the shipped one.")] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with figures and every published shape.")
    ] = None,
) -> None:
    """Price a model in joules, in light and on digital processors.

    Operations are counted by tracing the model; constants come from a table in which each has a source and a range.
    """
    from labctl.studies.energy import DIGITAL, claims_of, cost_of, document_of, operations_for, published_costs
    from labctl.studies.energy import scenario as components_of
    from simulation.energy.pricing import Machine, PhotonLaw, Schedule

    law = PhotonLaw(machine.photons, machine.at_width, machine.exponent)
    weights = "reloaded" if machine.reload else "held"
    components = components_of(table, scenario)
    bits = components.bits if machine.bits is None else machine.bits
    schedule: Schedule = "in turn" if machine.in_turn else "pipelined"
    priced = Machine(law, bits, _array(machine.array), weights, schedule, DIGITAL)
    cost = cost_of(operations_for(model, shape), priced, components)
    cost = replace(cost, claims=claims_of(shape or "", priced, table))
    document = document_of(cost)
    if report is not None:
        from labctl.report.energy import write_energy_page

        flat = replace(priced, photons=PhotonLaw(law(128)))
        write_energy_page(report, cost, published_costs(priced, components), published_costs(flat, components), law)
        document["report"] = str(report)
    if not lab.console.json_mode:
        _show(lab, cost)
    next_words = f"next: open {report}" if report else "next: labctl energy --report energy.html"
    table_words = lab.console.laid_out(COLUMNS, _against(cost))
    lab.console.result(document, table_words if lab.console.quiet else next_words)


def _show(lab: Lab, cost: Cost) -> None:
    from labctl.studies.quantities import area, joules, prefixed

    bill, console = cost.bill, lab.console
    console.say(
        f"{cost.model}: width {cost.width}, {cost.parameters:.3g} parameters in its blocks, "
        f"{bill.operations.tokens} tokens, {bill.operations.macs:.4g} MACs; components of {cost.scenario!r}"
    )
    rows = [
        (name, joules(value / bill.operations.tokens), f"{value / bill.total_j:.1%}")
        for name, value in bill.by(lambda row: row.component).items()
    ]
    console.table(("part", "per token", "share"), rows)
    low, high = (joules(end / bill.operations.macs) for end in cost.interval_j)
    each = joules(bill.per_mac_j)
    console.say(f"in light  {joules(bill.per_token_j)} per token, {each} per MAC (90 %: {low} … {high})")
    if bill.operations.uncounted:
        named = ", ".join(f"{layer} ({operation})" for layer, operation in bill.operations.uncounted)
        console.say(f"not counted, and so not priced: {named}")
    console.table(COLUMNS, _against(cost))
    width = cost.crossover_width
    console.say(f"light pays from width {width}" if width else "light does not pay at any width tried")
    limit = cost.limits
    console.say(
        f"the machine: {limit.macropixels:.3g} macropixels, {area(limit.area_m2)}; {limit.converters:,} converters "
        f"and {prefixed(limit.memory_bits_per_s / 8, 'B/s')} at its largest matrix; "
        f"{prefixed(limit.seconds, 's')} per forward pass"
    )
    _show_others(lab, cost)


def _against(cost: Cost) -> list[tuple[str, ...]]:
    from labctl.studies.quantities import joules, times

    macs = cost.bill.operations.macs
    return [
        (a.reference, joules(a.digital_j / macs), times(a.advantage), f"{times(a.low)} … {times(a.high)}")
        for a in cost.against
    ]


def _show_others(lab: Lab, cost: Cost) -> None:
    from labctl.studies.quantities import joules, prefixed, times

    tokens = cost.bill.operations.tokens
    lab.console.table(
        ("array", "held matrices", "per token", "against 300 fJ/MAC", "a forward pass"),
        [
            (
                "unlimited" if a.array is None else f"{a.array[0]:,} × {a.array[1]:,}",
                a.schedule,
                joules(a.total_j / tokens),
                times(a.advantage),
                prefixed(a.seconds, "s"),
            )
            for a in cost.alternatives
        ],
    )
    for claim in cost.claims:
        parts = ", ".join(f"{part} {share:.0%}" for part, share in claim.largest)
        lab.console.say(f"published: {claim.words}")
        lab.console.say(f"  here ({claim.scenario}): {times(claim.found)}, {claim.verdict}; most of it: {parts}")


def _array(text: str) -> tuple[int, int] | None:
    from labctl.errors import UsageError

    if text == "unlimited":
        return None
    parts = text.lower().split("x")
    if len(parts) == 2 and all(part.isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[1])
    raise UsageError("not a size of an array", expected="ROWSxCOLUMNS, like 128x128, or unlimited", seen=repr(text))
