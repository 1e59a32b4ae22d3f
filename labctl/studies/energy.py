"""What a model would cost in light, against digital processors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labctl.errors import UsageError
from labctl.resources import data_path, shipped_model
from simulation.conversion.convert import heads_of
from simulation.energy.constants import Components, load_components
from simulation.energy.operations import Operations, count_operations
from simulation.energy.pricing import (
    SCHEDULES,
    Bill,
    Limits,
    Machine,
    Schedule,
    limits,
    price_digital,
    price_optical,
)
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
    digital_j, optical_j
        Energy of a forward pass there, and in light with a processor of that kind for what stays digital [J].
    advantage, low, high
        Digital over optical energy, and its 90 % interval: every constant is log-uniform in its range, and the same in
        both [1].
    """

    reference: str
    source: str
    digital_j: float
    optical_j: float
    advantage: float
    low: float
    high: float


@dataclass(frozen=True)
class Claim:
    """What arXiv 2302.10360 says of a model, and what this table of constants says of the same scenario.

    Attributes
    ----------
    scenario, words
        Of the claim.
    low, high
        The published factor is at least ``low``, and no more than ``high`` where it is one of an order of magnitude.
    found
        Advantage over 300 fJ/MAC by this table.
    largest
        The parts that cost most in light, with their shares.
    """

    scenario: str
    words: str
    low: float
    high: float
    found: float
    largest: tuple[tuple[str, float], ...]

    @property
    def verdict(self) -> str:
        """In a word and a number."""
        if self.found < self.low:
            return f"differs: {self.low / self.found:.2g} × less than published"
        if self.found > self.high:
            return f"differs: {self.found / self.high:.2g} × more than published"
        return "agrees"


CLAIMS = {
    "mt-nlg-530b": (("today", "about 100 × for the largest models of 2023", 100 / 10**0.5, 100 * 10**0.5),),
    "future-1e15": (
        (
            "scaled-optics",
            "more than 8,000 × at 10¹⁵ parameters, scaled optics",
            8e3,
            float("inf"),
        ),
        ("future", "more than 100,000 × with memory 5 ×, converters 2 × better, 4 bits", 1e5, float("inf")),
    ),
}
"""By shape: scenario, words, and between which factors the claim holds."""
ARRAYS: tuple[tuple[int, int] | None, ...] = ((1024, 1024), (10_000, 10_000), None)
"""Sizes that a bill is given for: a modulator on sale, one of ten times as many lines, no limit."""


@dataclass(frozen=True)
class Alternative:
    """The same model on another machine: the size of its array, and how long a held matrix is charged for."""

    array: tuple[int, int] | None
    schedule: Schedule
    total_j: float
    advantage: float
    seconds: float


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
    alternatives
        Every size of `ARRAYS` with each schedule.
    claims
        What is published of this model.
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
    alternatives: tuple[Alternative, ...]
    claims: tuple[Claim, ...] = ()


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
        "alternatives": list(cost.alternatives),
        "claims": [{**vars(claim), "verdict": claim.verdict} for claim in cost.claims],
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
    bills = {reference: price_optical(operations, machine, components, reference) for reference in REFERENCES}
    bill = bills[REFERENCES[0]]

    def crossing(seen: Operations) -> float:
        light = price_optical(seen, replace(machine, digital=DIGITAL), components)
        return light.total_j / price_digital(seen, components, REFERENCES[0]).total_j

    low, high = np.quantile(bill.samples_j(DRAWS, seed), (0.05, 0.95))
    return Cost(
        traced.name,
        traced.width,
        traced.parameters,
        components.scenario,
        bill,
        (float(low), float(high)),
        tuple(_against(bill, seed, reference) for reference, bill in bills.items()),
        crossover_width(crossing, CROSSOVER_LIKE),
        limits(operations, machine, components),
        tuple(_alternatives(operations, machine, components)),
    )


def _against(bill: Bill, seed: int, reference: str) -> Against:
    digital = price_digital(bill.operations, bill.components, reference)
    low, high = np.quantile(digital.samples_j(DRAWS, seed) / bill.samples_j(DRAWS, seed), (0.05, 0.95))
    source, advantage = bill.components[reference].source, digital.total_j / bill.total_j
    return Against(reference, source, digital.total_j, bill.total_j, advantage, float(low), float(high))


def _alternatives(operations: Operations, machine: Machine, components: Components) -> Iterator[Alternative]:
    digital = price_digital(operations, components, REFERENCES[0]).total_j
    for array, schedule in product(dict.fromkeys((machine.array, *ARRAYS)), SCHEDULES):
        other = replace(machine, array=array, schedule=schedule)
        total = price_optical(operations, other, components).total_j
        seconds = limits(operations, other, components).seconds
        yield Alternative(array, schedule, total, digital / total, seconds)


def claims_of(shape: str, machine: Machine, table: Path | None) -> tuple[Claim, ...]:
    """What is published of a shape, each beside the same scenario by the table, as pipelined and large as can be.

    The published machine has no limit of size; its photons are those of ``machine``.
    """
    found = []
    for name, words, low, high in CLAIMS.get(shape, ()):
        components = scenario(table, name)
        operations = operations_of(load_shapes(data_path("energy/models.toml"))[shape].config)
        unlimited = replace(machine, array=None, schedule="pipelined", bits=components.bits)
        bill = price_optical(operations, unlimited, components)
        parts = bill.by(lambda row: row.component)
        largest = tuple((part, energy / bill.total_j) for part, energy in list(parts.items())[:4])
        advantage = price_digital(operations, components, REFERENCES[0]).total_j / bill.total_j
        found.append(Claim(name, words, low, high, advantage, largest))
    return tuple(found)


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
