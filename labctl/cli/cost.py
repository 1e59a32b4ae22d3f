"""What it costs: joules of a model in light, against digital processors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli.handler import command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.studies.energy import Cost


def register(app: typer.Typer) -> None:
    """Add the command to the top of the command line."""
    command(app, energy.__name__)(energy)


def energy(
    lab: Lab,
    model: Annotated[Path | None, typer.Argument(help="A checkpoint; the shipped one if left out.")] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", help="A published shape instead, by name: gpt3-175b, future-1e15 …")
    ] = None,
    scenario: Annotated[str, typer.Option("--scenario", help="Of the components: today or future.")] = "today",
    photons: Annotated[
        float, typer.Option("--photons-per-mac", min=0.0, help="At the weight plane, per MAC and pass, at --at-width.")
    ] = 1.0,
    at_width: Annotated[float, typer.Option("--at-width", min=1, help="Length of sum that this holds for.")] = 12288,
    exponent: Annotated[
        float, typer.Option("--exponent", help="Photons per MAC fall as length to minus this; 1 is the paper's claim.")
    ] = 1.0,
    bits: Annotated[int, typer.Option("--bits", min=1, max=16, help="Of operands and results.")] = 8,
    array: Annotated[
        str | None, typer.Option("--array", metavar="ROWSxCOLUMNS", help="Macropixels at a time; no limit if left out.")
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Write every matrix for every forward pass instead of holding it.")
    ] = False,
    table: Annotated[Path | None, typer.Option("--table", help="Component table (TOML); the shipped one.")] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with figures and every published shape.")
    ] = None,
) -> None:
    """Price a model in joules, in light and on digital processors.

    Operations are counted by tracing the model; constants come from a table in which each has a source and a range.
    """
    from labctl.studies.energy import DIGITAL, cost_of, operations_for, published_costs
    from labctl.studies.energy import scenario as components_of
    from simulation.energy.pricing import Machine, PhotonLaw

    law = PhotonLaw(photons, at_width, exponent)
    machine = Machine(law, bits, _array(array), "reloaded" if reload else "held", DIGITAL)
    components = components_of(table, scenario)
    cost = cost_of(*operations_for(model, shape), machine, components)
    document = document_of(cost)
    if report is not None:
        from labctl.report.energy import write_energy_page

        costs = published_costs(machine, components)
        flat = Machine(PhotonLaw(law(128)), bits, machine.array, machine.weights, DIGITAL)
        write_energy_page(report, cost, costs, published_costs(flat, components), law)
        document["report"] = str(report)
    if not lab.console.json_mode:
        _show(lab, cost)
    lab.console.result(document, f"next: open {report}" if report else "next: labctl energy --report energy.html")


def document_of(cost: Cost) -> dict[str, Any]:
    """A cost as plain JSON types, with every constant that was used."""
    bill = cost.bill
    used = sorted({name for row in bill.rows for name, _ in row.factors})
    constants = {
        name: {
            "value": c.value, "low": c.low, "high": c.high, "unit": str(c.unit), "source": c.source,
            "verified": c.verified,
        }
        for name in used
        for c in [bill.components[name]]
    }  # fmt: skip
    rows = [
        {"layer": r.layer, "kind": r.kind, "component": r.component, "amount": r.amount, "unit": str(r.unit),
         "constants": dict(r.factors), "energy_j": bill.energy_j(r)}
        for r in bill.rows
    ]  # fmt: skip
    return {
        "schema": "labctl.energy/1",
        "model": cost.model,
        "scenario": cost.scenario,
        "macs": bill.operations.macs,
        "tokens": bill.operations.tokens,
        "total_j": bill.total_j,
        "interval90_j": list(cost.interval_j),
        "per_token_j": bill.per_token_j,
        "per_mac_j": bill.per_mac_j,
        "by_component_j": bill.by(lambda row: row.component),
        "by_layer_j": bill.by(lambda row: row.layer),
        "against": list(cost.against),
        "crossover_width": cost.crossover_width,
        "limits": cost.limits,
        "sensitivity": [{"constant": n, "low_j": a, "high_j": b} for n, a, b in bill.sensitivity()],
        "constants": constants,
        "rows": rows,
    }


PREFIXES = ((12, "T"), (9, "G"), (6, "M"), (3, "k"), (0, ""), (-3, "m"), (-6, "µ"), (-9, "n"), (-12, "p"), (-15, "f"),
            (-18, "a"))  # fmt: skip


def prefixed(value: float, unit: str) -> str:
    """``3.2 mJ``, ``6.4 TB/s``."""
    for power, prefix in PREFIXES:
        if value >= 10.0**power:
            return f"{value / 10.0**power:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def joules(value: float) -> str:
    """With a prefix."""
    return prefixed(value, "J")


def area(value_m2: float) -> str:
    """In mm² or m²."""
    return f"{1e6 * value_m2:.3g} mm²" if value_m2 < 0.01 else f"{value_m2:.3g} m²"


def _show(lab: Lab, cost: Cost) -> None:
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
    macs = bill.operations.macs
    console.table(
        ("digital processor", "per MAC", "light is better by", "90 %"),
        [
            (a.reference, joules(a.digital_j / macs), f"{a.advantage:.3g} ×", f"{a.low:.2g} … {a.high:.2g}")
            for a in cost.against
        ],
    )
    width = cost.crossover_width
    console.say(f"light pays from width {width}" if width else "light does not pay at any width tried")
    limit = cost.limits
    console.say(
        f"the machine: {limit.macropixels:.3g} macropixels, {area(limit.area_m2)}; {limit.converters:,} converters "
        f"and {prefixed(limit.memory_bits_per_s / 8, 'B/s')} at its largest matrix; "
        f"{prefixed(limit.seconds, 's')} per forward pass"
    )


def _array(text: str | None) -> tuple[int, int] | None:
    from labctl.errors import UsageError

    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) == 2 and all(part.isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[1])
    raise UsageError("not a size of an array", expected="ROWSxCOLUMNS, like 128x128", seen=repr(text))
