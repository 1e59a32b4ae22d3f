"""The price of a model as one document."""

from __future__ import annotations

from typing import Any

from labctl.studies.energy import Cost, Elsewhere
from simulation.energy.constants import Constant
from simulation.energy.machine import Words


def document_of(cost: Cost) -> dict[str, Any]:
    """A cost as plain JSON types, with every constant that was used."""
    bill = cost.bill
    constants = {name: _constant(bill.components[name]) for name in bill.constants}
    rows = [
        {"layer": r.layer, "kind": r.kind, "component": r.component, "amount": r.amount, "unit": str(r.unit),
         "constants": dict(r.factors), "energy_j": bill.energy_j(r),
         "receiver": None if r.receiver is None else vars(r.receiver)}
        for r in bill.rows
    ]  # fmt: skip
    return {
        "schema": "labctl.energy/1",
        "model": cost.model,
        "scenario": cost.scenario,
        "tile": cost.tile,
        "bits": _bits(cost.bits),
        "bits_assumed": "; ".join(cost.scaled) or None,
        "macs": bill.operations.macs,
        "uncounted": [f"{layer}: {operation}" for layer, operation in bill.operations.uncounted],
        "tokens": bill.operations.tokens,
        "total_j": bill.total_j,
        "interval90_j": list(cost.interval_j),
        "per_token_j": bill.per_token_j,
        "per_mac_j": bill.per_mac_j,
        "by_component_j": bill.by(lambda row: row.component),
        "by_kind_j": bill.by(lambda row: row.kind),
        "by_layer_j": bill.by(lambda row: row.layer),
        "against": list(cost.against),
        "paying_widths": cost.paying_widths,
        "limits": cost.limits,
        "alternatives": list(cost.alternatives),
        "light": vars(cost.light),
        "advantage_at_claimed_light": cost.claimed,
        "conversation": None if cost.served is None else {**vars(cost.served), "total_j": cost.served.total_j},
        "elsewhere": [_elsewhere(each) for each in cost.elsewhere],
        "claims": [
            {
                **vars(claim),
                "verdict": claim.verdict,
                "kinder": [{"constant": c.name, "value": end, "factor": factor} for c, end, factor in claim.kinder],
            }
            for claim in cost.claims
        ],
        "sensitivity": [{"constant": n, "low_j": a, "high_j": b} for n, a, b in bill.sensitivity()],
        "constants": constants,
        "rows": rows,
    }


def _bits(words: Words) -> int | list[int]:
    """One number, or those of inputs, weights and outputs."""
    return words.inputs if words.is_one else list(words.each)


def _constant(c: Constant) -> dict[str, Any]:
    return {
        "value": c.value, "low": c.low, "high": c.high, "unit": str(c.unit), "source": c.source,
        "verified": c.verified, "bits": c.bits,
    }  # fmt: skip


def _elsewhere(each: Elsewhere) -> dict[str, Any]:
    constants = {c.name: _constant(c) for c in each.constants}
    return {**vars(each), "bits": _bits(each.bits), "constants": constants, "verdict": each.verdict}
