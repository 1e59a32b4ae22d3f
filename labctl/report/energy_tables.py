"""The tables of the page of `labctl energy`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from labctl.report.document import table
from labctl.studies.energy import Cost
from labctl.studies.energy_rows import AGAINST, BILL, array_rows, bill_rows, machine_rows, processor_rows
from labctl.studies.quantities import amount, area, joules, prefixed, times
from simulation.energy.constants import Constant

LIMITS = "value", "low … high", "unit", "read at its source", "source"


def energy_tables(cost: Cost) -> Iterator[str]:
    """All of them, the bill itself first and its constants last, each under its heading."""
    found = (_bill, _processors, _sizes, _claims, _machines, _machine_constants, _needs, _constants)
    return chain.from_iterable(part(cost) for part in found)


def _bill(cost: Cost) -> Iterator[str]:
    yield "<h2>The bill</h2>"
    yield table(BILL, bill_rows(cost))


def _processors(cost: Cost) -> Iterator[str]:
    yield "<h2>Digital processors</h2>"
    yield table(
        ("processor", "per MAC", "this is better by", "90 %", "source"),
        [(*row, a.source) for row, a in zip(processor_rows(cost), cost.against, strict=True)],
    )


def _sizes(cost: Cost) -> Iterator[str]:
    schedules = {"pipelined": "while their own vectors pass (pipelined)", "in turn": "all the time (in turn)"}
    yield "<h2>Other sizes and schedules</h2>"
    yield table(
        ("array", "held matrices are charged", *AGAINST),
        [(array, schedules[schedule], *rest) for array, schedule, *rest in array_rows(cost)],
    )


def _claims(cost: Cost) -> Iterator[str]:
    if not cost.claims:
        return
    yield "<h2>Beside what is published (arXiv 2302.10360)</h2>"
    yield table(
        ("published", "scenario", "by this table", "verdict", "with the light of this bill", "most of it"),
        [
            (
                c.words, c.scenario, times(c.found), c.verdict, times(c.measured),
                ", ".join(f"{part} {share:.0%}" for part, share in c.largest),
            )
            for c in cost.claims
        ],
    )  # fmt: skip
    yield "<p class=what>The same with one constant at a time at the end of its range that favours light:</p>"
    names = sorted({each.name for claim in cost.claims for each, _, _ in claim.kinder})
    ends = [{each.name: f"{times(f)} at {amount(end, each.unit)}" for each, end, f in c.kinder} for c in cost.claims]
    yield table(
        ("constant", *(f"{c.scenario}: {times(c.found)}" for c in cost.claims)),
        [
            *((name, *(end.get(name, "–") for end in ends)) for name in names),
            ("all of them", *(times(c.together) for c in cost.claims)),
        ],
    )


def _machines(cost: Cost) -> Iterator[str]:
    yield "<h2>Other machines</h2>"
    yield table(
        ("machine", "bits", *AGAINST, "published, its own work", "here", "verdict", "open"),
        [
            (
                f"{name}: {each.words}", *rest,
                "–" if each.claimed_j is None else f"{joules(each.claimed_j)} per MAC ({each.claimed})",
                "–" if each.found_j is None else joules(each.found_j), each.verdict, each.open,
            )
            for (name, *rest), each in zip(machine_rows(cost), cost.elsewhere, strict=True)
        ],
    )  # fmt: skip


def _machine_constants(cost: Cost) -> Iterator[str]:
    yield "<h2>Constants of the other machines</h2>"
    yield table(
        ("machine", "constant", *LIMITS),
        [(each.name, *cells) for each in cost.elsewhere for cells in _cells(each.constants)],
    )


def _needs(cost: Cost) -> Iterator[str]:
    limit = cost.limits
    yield "<h2>What the machine must be</h2>"
    yield table(
        ("", ""),
        [
            ("macropixels", f"{limit.macropixels:.3g}"),
            ("their area", area(limit.area_m2)),
            ("converters at the largest matrix", f"{limit.converters:,}"),
            ("memory traffic of the largest matrix", prefixed(limit.memory_bits_per_s / 8, "B/s")),
            ("time of one pass", prefixed(limit.seconds, "s")),
        ],
    )


def _constants(cost: Cost) -> Iterator[str]:
    yield "<h2>Constants</h2>"
    yield table(("constant", *LIMITS), _cells(cost.bill.components[name] for name in cost.bill.constants))


def _cells(constants: Iterable[Constant]) -> Iterator[tuple[str, ...]]:
    for c in constants:
        read = "yes" if c.verified else "no"
        yield c.name, f"{c.value:.3g}", f"{c.low:.3g} … {c.high:.3g}", str(c.unit), read, c.source
