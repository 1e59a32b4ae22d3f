"""Joules of published shapes in every scenario, on arrays that can be bought and on arrays without limit.

Bills are with the light that the article claims, so that like is compared with like; what is published of a model is
beside the light that was measured here, too.
"""

from __future__ import annotations

from typing import Any

from labctl.studies.energy import ARRAYS, cost_of, published_costs, scenario
from labctl.studies.energy_claims import CLAIMS
from labctl.studies.light import CLAIMED, LightSource, Measured, Stated
from labctl.studies.traced import DIGITAL, operations_for
from simulation.energy.machine import Machine

SCENARIOS = ("today", "scaled-optics", "future")
BUYABLE = ARRAYS[0]
LIGHTS: tuple[tuple[str, LightSource], ...] = (("claimed", Stated(CLAIMED)), ("measured", Measured()))
"""Photons per MAC as the article claims, one at a width of 12,288 and falling as 1/d; and by the law measured here."""


def prices() -> dict[str, Any]:
    """Bills by scenario, array and shape; and the published claims' shapes with 90 % intervals."""
    found: dict[str, Any] = {"bills": [], "claims": []}
    for name in SCENARIOS:
        components = scenario(None, name)
        for array in (None, BUYABLE):
            machine = Machine(CLAIMED, components.bits, array, digital=DIGITAL)
            for cost in published_costs(machine, components, Stated(CLAIMED)):
                bill, best = cost.bill, cost.against[0]
                found["bills"].append(
                    {
                        "scenario": name,
                        "array": "unlimited" if array is None else "{:,} × {:,}".format(*array),
                        "model": cost.model,
                        "width": cost.width,
                        "parameters": cost.parameters,
                        "macs": bill.operations.macs,
                        "per_mac_j": bill.per_mac_j,
                        "parts_j": bill.by(lambda row: row.component),
                        "advantage": best.advantage,
                        "low": best.low,
                        "high": best.high,
                    }
                )
    for shape, claims in CLAIMS.items():
        for name, words, low, high in claims:
            components = scenario(None, name)
            machine = Machine(CLAIMED, components.bits, None, digital=DIGITAL)
            for light, source in LIGHTS:
                best = cost_of(operations_for(None, shape), machine, components, source).against[0]
                found["claims"].append(
                    {
                        "shape": shape,
                        "scenario": name,
                        "light": light,
                        "words": words,
                        "published": [low, high if high < float("inf") else None],
                        "advantage": best.advantage,
                        "low": best.low,
                        "high": best.high,
                        "bits": components.bits,
                    }
                )
    return found
