"""Rows of the tables of `labctl energy`, alike on a terminal and on a page."""

from __future__ import annotations

from labctl.studies.energy import Cost
from labctl.studies.quantities import joules, prefixed, times

BILL = "part", "per token", "share"
AGAINST = "per token", "against 300 fJ/MAC", "a pass"
"""What an array and another machine have in common, at the end of their rows."""


def bill_rows(cost: Cost) -> list[tuple[str, str, str]]:
    """Of each part of the machine: its name, energy per token, and share; under `BILL`."""
    tokens, total = cost.bill.operations.tokens, cost.bill.total_j
    parts = cost.bill.by(lambda row: row.component)
    return [(name, joules(value / tokens), f"{value / total:.1%}") for name, value in parts.items()]


def processor_rows(cost: Cost) -> list[tuple[str, str, str, str]]:
    """Of each digital processor: its name, energy per MAC, by how much light is better, and the 90 % of that."""
    macs = cost.bill.operations.macs
    return [
        (a.reference, joules(a.digital_j / macs), times(a.advantage), f"{times(a.low)} … {times(a.high)}")
        for a in cost.against
    ]


def array_rows(cost: Cost) -> list[tuple[str, str, str, str, str]]:
    """Of each size and schedule: array, schedule, and `AGAINST`."""
    return [
        (
            "unlimited" if a.array is None else f"{a.array[0]:,} × {a.array[1]:,}", a.schedule,
            *_against(cost, a.total_j, a.advantage, a.seconds),
        )
        for a in cost.alternatives
    ]  # fmt: skip


def machine_rows(cost: Cost) -> list[tuple[str, str, str, str, str]]:
    """Of each other machine: name, bits, and `AGAINST`."""
    return [
        (each.name, str(each.bits), *_against(cost, each.total_j, each.advantage, each.seconds))
        for each in cost.elsewhere
    ]


def _against(cost: Cost, total_j: float, advantage: float, seconds: float) -> tuple[str, str, str]:
    return joules(total_j / cost.bill.operations.tokens), times(advantage), prefixed(seconds, "s")
