"""What a model would cost in light, against digital processors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labctl.errors import UsageError
from labctl.resources import data_path, shipped_model
from simulation.conversion.convert import heads_of
from simulation.energy.constants import Components, load_components
from simulation.energy.operations import Operations, count_operations
from simulation.energy.pricing import Bill, Limits, Machine, limits, price_digital, price_optical
from simulation.energy.shapes import HEAD, crossover_width, load_shapes, operations_of
from simulation.models.checkpoint import load_checkpoint
from simulation.models.gpt import GPT, GPTConfig
from simulation.models.loading import load_language

DIGITAL = (HEAD, "lm_head")
"""What stays digital, as in the paper: the output head."""
DRAWS = 4000
CROSSOVER_LIKE = GPTConfig(50257, 1024, 768, 12, 12)
REFERENCES = ("digital.mac", "digital.h100", "digital.tpu_v4", "digital.research_5nm")


@dataclass(frozen=True)
class Against:
    """Light against one digital processor.

    Attributes
    ----------
    reference, source
        Name of the constant, and where it comes from.
    digital_j
        Energy of a forward pass there [J].
    advantage, low, high
        Digital over optical energy, and its 90 % interval with every constant of both log-uniform in its range [1].
    """

    reference: str
    source: str
    digital_j: float
    advantage: float
    low: float
    high: float


@dataclass(frozen=True)
class Cost:
    """The energy of one forward pass of one model.

    Attributes
    ----------
    model, width, parameters
        What was priced; parameters are those of its blocks.
    scenario
        Of the components.
    bill
        `Bill`
    interval_j
        90 % interval of the total, every constant log-uniform in its range [J].
    against
        By reference.
    crossover_width
        Smallest width of a 12-block decoder at which light beats 300 fJ per MAC; None: never.
    limits
        `Limits`
    """

    model: str
    width: int
    parameters: int
    scenario: str
    bill: Bill
    interval_j: tuple[float, float]
    against: tuple[Against, ...]
    crossover_width: int | None
    limits: Limits


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
        "uncounted": [f"{layer}: {operation}" for layer, operation in bill.operations.uncounted],
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


def table_path(table: Path | None) -> Path:
    """The component table: a file of one's own, or the shipped one.

    Raises
    ------
    UsageError
        When there is no such file.
    """
    if table is not None and not table.is_file():
        raise UsageError("no such component table", device=str(table), hint="copy data/energy/components.toml")
    return table or data_path("energy/components.toml")


@dataclass(frozen=True)
class Traced:
    """What a model computes.

    Attributes
    ----------
    operations
        Of one forward pass over a full context.
    name, width, parameters
        What was traced; parameters are those of its blocks.
    heads
        Names of the modules that give the logits.
    """

    operations: Operations
    name: str
    width: int
    parameters: int
    heads: tuple[str, ...] = DIGITAL


def cost_of(traced: Traced, machine: Machine, components: Components, seed: int = 0) -> Cost:
    """Price traced operations and compare them; the output head stays digital, as in the paper."""
    operations, machine = traced.operations, replace(machine, digital=traced.heads)
    bill = price_optical(operations, machine, components)
    drawn = bill.samples_j(DRAWS, seed)
    against = []
    for reference in REFERENCES:
        digital = price_digital(operations, components, reference)
        ratios = digital.samples_j(DRAWS, seed + 1) / drawn
        low, high = np.quantile(ratios, (0.05, 0.95))
        source = components[reference].source
        advantage = digital.total_j / bill.total_j
        against.append(Against(reference, source, digital.total_j, advantage, float(low), float(high)))

    def crossing(seen: Operations) -> float:
        light = price_optical(seen, replace(machine, digital=DIGITAL), components)
        return light.total_j / price_digital(seen, components, REFERENCES[0]).total_j

    low, high = np.quantile(drawn, (0.05, 0.95))
    return Cost(
        traced.name,
        traced.width,
        traced.parameters,
        components.scenario,
        bill,
        (float(low), float(high)),
        tuple(against),
        crossover_width(crossing, CROSSOVER_LIKE),
        limits(operations, machine, components),
    )


def operations_for(model: str | None, shape: str | None) -> Traced:
    """What a model computes: a checkpoint, whatever `load_language` takes, or a published shape.

    Raises
    ------
    UsageError
        When there is no such shape.
    ArtefactError
        When there is no such model.
    """
    if shape is not None:
        shapes = load_shapes(data_path("energy/models.toml"))
        if shape not in shapes:
            raise UsageError("no such model shape", expected=", ".join(shapes), seen=repr(shape), hint="labctl energy")
        found = shapes[shape]
        return Traced(operations_of(found.config), found.name, found.config.width, found.parameters)
    path = shipped_model() if model is None else Path(model)
    if path.suffix == ".safetensors":
        config = load_checkpoint(path).model.config
        with torch.device("meta"):
            bare, tokens = GPT(config), torch.zeros(1, config.context, dtype=torch.long)
        counted = count_operations(bare, tokens, tokens=config.context)
        return Traced(counted, path.stem, config.width, 12 * config.blocks * config.width**2)
    language = load_language(str(model))
    tokens = torch.zeros(1, language.context, dtype=torch.long)
    counted = count_operations(language.model, tokens, tokens=language.context)
    heads = tuple(heads_of(language.model))
    outside = {id(p) for name in heads for p in language.model.get_submodule(name).parameters()}
    outside |= {id(m.weight) for m in language.model.modules() if isinstance(m, torch.nn.Embedding)}
    parameters = sum(p.numel() for p in language.model.parameters() if id(p) not in outside)
    return Traced(counted, language.name, language.width, parameters, heads)


def published_costs(machine: Machine, components: Components) -> list[Cost]:
    """All shapes of the table, smallest first."""
    shapes = sorted(load_shapes(data_path("energy/models.toml")).values(), key=lambda s: s.parameters)
    traced = (Traced(operations_of(s.config), s.name, s.config.width, s.parameters) for s in shapes)
    return [cost_of(each, machine, components) for each in traced]


def scenario(table: Path | None, name: str) -> Components:
    """The constants of a scenario."""
    return load_components(table_path(table), name)
