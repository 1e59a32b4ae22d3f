"""What a model would cost in light, against digital processors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.nearest import did_you_mean
from labctl.errors import UsageError
from labctl.resources import data_path
from labctl.studies.energy_claims import CLAIMS, Claim
from labctl.studies.light import CLAIMED, DARK, Light, LightSource, Stated
from labctl.studies.resolution import scaled_words, with_rule
from labctl.studies.serving import Conversation, Served, served
from labctl.studies.traced import DIGITAL, Traced, of_decoder
from simulation.energy.bill import Bill
from simulation.energy.constants import Components, Constant, load_components
from simulation.energy.decoders import Decoder, load_decoders
from simulation.energy.machine import SCHEDULES, Machine, Schedule, Words
from simulation.energy.machines import PricedMachine, load_machines
from simulation.energy.operations import Operations
from simulation.energy.pricing import Limits, limits, price_digital, price_optical
from simulation.energy.shapes import load_shapes, widths_that_pay
from simulation.models.gpt import GPTConfig

DRAWS = 4000
CROSSOVER_LIKE = GPTConfig(50257, 1024, 768, 12, 12)
HEAD, HEADS_MOST = 64, 1 << 14
"""Of the models that widths are tried of: the width of a head, and how many heads at most."""
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
class Elsewhere:
    """The same model on another machine of the table.

    Attributes
    ----------
    name, words, open
        As of `simulation.energy.machines.PricedMachine`.
    bits
        Of operands and results.
    total_j, advantage, seconds
        Of the same pass; over 300 fJ/MAC.
    source, constants
        Where it is published, and the constants of its own.
    claimed, claimed_j, found_j
        What its authors claim, and what this table has for the same work [J/MAC]; None without a claim.
    """

    name: str
    words: str
    open: str
    bits: Words
    total_j: float
    advantage: float
    seconds: float
    source: str
    constants: tuple[Constant, ...]
    claimed: str = ""
    claimed_j: float | None = None
    found_j: float | None = None

    @property
    def verdict(self) -> str:
        """Of the claim, in a word and a number."""
        if self.claimed_j is None or self.found_j is None:
            return "nothing claimed"
        ratio = self.found_j / self.claimed_j
        if 0.8 <= ratio <= 1.25:
            return "agrees"
        return f"differs: {ratio:.2g} × more" if ratio > 1 else f"differs: {1 / ratio:.2g} × less"


@dataclass(frozen=True)
class Cost:
    """The energy of one pass of one model: forward, or a step of a conversation.

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
    paying_widths
        Narrowest and widest 12-block decoder of which a forward pass in light costs less than at 300 fJ per MAC; None
        as the widest: light still pays at the widest that was tried; None for both: never.
    limits
        `Limits`
    alternatives
        Every size of `ARRAYS` with each schedule.
    light, claimed
        `Light` of the bill, and the advantage over 300 fJ/MAC with the paper's.
    bits
        Of operands and results in light.
    claims
        What is published of this model.
    served
        `Served`, of a conversation.
    elsewhere
        On other machines.
    tile
        Inputs that share a scale; None: all of a vector.
    """

    model: str
    width: int
    parameters: int
    scenario: str
    bill: Bill
    interval_j: tuple[float, float]
    against: tuple[Against, ...]
    paying_widths: tuple[int, int | None] | None
    limits: Limits
    alternatives: tuple[Alternative, ...]
    light: Light
    claimed: float
    bits: Words
    claims: tuple[Claim, ...] = ()
    served: Served | None = None
    elsewhere: tuple[Elsewhere, ...] = ()
    tile: int | None = None

    @property
    def scaled(self) -> tuple[str, ...]:
        """What is assumed of converters that are stated for other bits, in two lines; nothing where none is."""
        return scaled_words(self.bits, self.bill.components)

    @property
    def paying_words(self) -> str:
        """At which widths models of `CROSSOVER_LIKE` cost less in light than at 300 fJ/MAC: after "costs less"."""
        if self.paying_widths is None:
            return f"at no width tried, {HEAD} to {HEAD * HEADS_MOST:,}"
        low, high = self.paying_widths
        if high is None:
            return (
                f"from a width of {low:,} on"
                if low > HEAD
                else f"at every width tried, {HEAD} to {HEAD * HEADS_MOST:,}"
            )
        return f"from a width of {low:,} to {high:,}" if low > HEAD else f"up to a width of {high:,}"

    @property
    def built_of(self) -> str:
        """The scenario, and what is unusual about the machine, in words."""
        tiles = f", tiles of {self.tile} inputs with scales of their own" if self.tile else ""
        return f"components of {self.scenario!r}{tiles}"


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


def cost_of(
    traced: Traced, machine: Machine, components: Components, source: LightSource | None = None, seed: int = 0
) -> Cost:
    """Price what a model computes and compare it; the output head stays digital, as in the paper.

    Parameters
    ----------
    source
        Of the light; that of ``machine`` if None.
    """
    light = need_of(traced, machine, source)
    operations, machine = traced.operations, replace(light.on(machine), digital=traced.heads)
    plain, components = components, light.among(components)
    bills = {reference: price_optical(operations, machine, components, reference) for reference in REFERENCES}
    bill = bills[REFERENCES[0]]

    def crossing(config: GPTConfig) -> float:
        other = of_decoder(Decoder.of(config), config.context)
        there = replace(need_of(other, machine, source).on(machine), digital=DIGITAL if traced.heads else ())
        digital = price_digital(other.operations, plain, REFERENCES[0]).total_j
        return price_optical(other.operations, there, plain).total_j / digital

    low, high = np.quantile(bill.samples_j(DRAWS, seed), (0.05, 0.95))
    digital = price_digital(operations, components, REFERENCES[0]).total_j
    at_claim = replace(machine, photons=CLAIMED if machine.photons else None)
    return Cost(
        traced.name,
        traced.width,
        traced.parameters,
        components.scenario,
        bill,
        (float(low), float(high)),
        tuple(_against(bill, seed, reference) for reference, bill in bills.items()),
        widths_that_pay(crossing, CROSSOVER_LIKE, HEAD, HEADS_MOST),
        limits(operations, machine, components),
        tuple(_alternatives(operations, machine, components)),
        light,
        digital / price_optical(operations, at_claim, plain).total_j,
        tile=machine.tile,
        bits=machine.words,
    )


def need_of(traced: Traced, machine: Machine, source: LightSource | None) -> Light:
    """The light of a model.

    Raises
    ------
    UsageError
        Where the law needs a shape that the model does not state.
    """
    if machine.photons is None:
        return DARK
    if source is None:
        return Light(machine.photons, 1.0, 1.0, "that of the machine")
    recurrent = traced.decoder is not None and traced.decoder.recurrent is not None
    if recurrent and not traced.head_width and source.needs_shape:
        raise UsageError(
            "the measured law is one of models with attention, and this one has none", device=traced.name,
            expected="light that is stated", hint="--photons-per-mac 100 --exponent 0",
        )  # fmt: skip
    if not (traced.blocks and traced.head_width) and source.needs_shape:
        raise UsageError(
            "the measured law needs the depth of a model, and this one does not state it", device=traced.name,
            expected="num_hidden_layers and num_attention_heads in its configuration",
            hint="--photons-per-mac 100",
        )  # fmt: skip
    need = source.need(traced.width, traced.blocks, traced.head_width)
    return replace(need, outside=(*need.outside, "recurrent blocks")) if recurrent and source.needs_shape else need


def conversation_of(traced: Traced, cost: Cost, machine: Machine, conversation: Conversation) -> Cost:
    """The cost of a step, with all that the conversation costs; ``machine`` and light are those of the cost."""
    if traced.decoder is None:
        return cost
    there = replace(cost.light.on(machine), digital=traced.heads)
    found = served(traced.decoder, conversation, there, cost.bill.components, REFERENCES[0])
    return replace(cost, served=found)


def elsewhere(
    traced: Traced, source: LightSource, table: Path | None, usage: Mapping[str, Any] | None = None
) -> Iterator[Elsewhere]:
    """The same pass on every machine of the table, with the same light.

    Parameters
    ----------
    usage
        Fields of `Machine` that say how a machine is used, not how it is built; bits, if all are to have the same.
    """
    base = scenario(table, "today")
    for known in machines().values():
        machine = replace(known.machine, **(usage or {}), digital=traced.heads)
        machine = need_of(traced, machine, source).on(machine)
        components = known.components(base)
        total = price_optical(traced.operations, machine, components).total_j
        advantage = price_digital(traced.operations, components, REFERENCES[0]).total_j / total
        seconds = limits(traced.operations, machine, components).seconds
        own = tuple(known.constants.values())
        names = known.name, known.words, known.open
        each = Elsewhere(*names, machine.words, total, advantage, seconds, known.source, own)
        if known.claim is not None:
            found = known.at_claimed_work(CLAIMED, base)
            each = replace(each, claimed=known.claim.words, claimed_j=known.claim.joules_per_mac, found_j=found)
        yield each


def machines() -> dict[str, PricedMachine]:
    """Other machines of the table, by name."""
    return load_machines(data_path("energy/machines.toml"))


def machine_named(name: str, table: Path | None) -> tuple[Machine, Components]:
    """One of them, and its constants beside those of today.

    Raises
    ------
    UsageError
        When there is none of that name.
    """
    known = machines()
    if name not in known:
        hint = did_you_mean(name, known, "all of them beside each other: labctl energy")
        raise UsageError("no such machine", expected=", ".join(known), seen=repr(name), hint=hint)
    return known[name].machine, known[name].components(scenario(table, "today"))


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


def claims_of(shape: str, table: Path | None, source: LightSource) -> tuple[Claim, ...]:
    """What is published of a shape, each beside the same scenario by the table, as pipelined and large as can be.

    The published machine has no limit of size, holds its matrices, and has the light of the claim; beside it stands the
    light of ``source``. It is the same whatever machine is asked for.
    """
    found = []
    for name, words, low, high in CLAIMS.get(shape, ()):
        components = scenario(table, name)
        traced = of_decoder(Decoder.of(load_shapes(data_path("energy/models.toml"))[shape].config, shape))
        unlimited = Machine(CLAIMED, components.bits, digital=DIGITAL)
        bill = price_optical(traced.operations, unlimited, components)
        here = price_optical(traced.operations, need_of(traced, unlimited, source).on(unlimited), components)
        parts = bill.by(lambda row: row.component)
        largest = tuple((part, energy / bill.total_j) for part, energy in list(parts.items())[:4])
        digital = price_digital(traced.operations, components, REFERENCES[0])
        ratios = (digital.total_j / bill.total_j, digital.total_j / here.total_j)
        found.append(Claim(name, words, low, high, *ratios, largest, *_kinder(bill, digital)))
    return tuple(found)


def _kinder(light: Bill, digital: Bill) -> tuple[tuple[tuple[Constant, float, float], ...], float]:
    """The factor with one constant at a time at the end of its range that favours light in both bills; with all."""

    def factor(values: Mapping[str, float]) -> float:
        return digital.total_with(values) / light.total_with(values)

    found, kind = [], {}
    for name in {*light.constants, *digital.constants} - {REFERENCES[0]}:
        constant = light.components[name]
        best = max((constant.low, constant.high), key=lambda end: factor({name: end}))
        found.append((constant, best, factor({name: best})))
        kind[name] = best
    return tuple(sorted(found, key=lambda item: (-item[2], item[0].name))), factor(kind)


def published_costs(machine: Machine, components: Components, source: LightSource | None = None) -> list[Cost]:
    """All GPT-2-like shapes of the table, smallest first; with the light of ``machine`` if there is no source."""
    shapes = sorted(load_shapes(data_path("energy/models.toml")).values(), key=lambda s: s.parameters)
    traced = (of_decoder(Decoder.of(s.config, s.name)) for s in shapes)
    return [cost_of(each, machine, components, source) for each in traced]


@dataclass(frozen=True)
class Talk:
    """One generated token of an open decoder, among others [J].

    Attributes
    ----------
    name, parameters
        Of the decoder; parameters of its blocks.
    optical_j, claimed_j, digital_j
        With the light of the source, with that of the paper's claim, and at 300 fJ/MAC with fetches from memory.
    """

    name: str
    parameters: int
    optical_j: float
    claimed_j: float
    digital_j: float


@dataclass(frozen=True)
class Gallery:
    """Every shape of the tables on one machine.

    Attributes
    ----------
    published
        GPT-2-like shapes.
    talks
        Open decoders in the conversation `GALLERY_TALK`.
    """

    published: tuple[Cost, ...]
    talks: tuple[Talk, ...]


GALLERY_TALK = Conversation(1024, 256, 8)


def gallery(machine: Machine, components: Components, source: LightSource) -> Gallery:
    """All shapes, smallest first."""
    return Gallery(
        tuple(published_costs(machine, components, source)),
        tuple(_talks(machine, components, source)),
    )


def _talks(machine: Machine, components: Components, source: LightSource) -> Iterator[Talk]:
    sequences = GALLERY_TALK.sequences
    known = load_decoders(data_path("energy/decoders.toml")).values()
    for decoder in sorted((d for d in known if d.attending), key=lambda d: d.parameters):
        step = GALLERY_TALK.of(decoder)
        light = need_of(of_decoder(decoder), machine, source)
        here, claimed = (
            price_optical(step, replace(each.on(machine), digital=DIGITAL), components).total_j / sequences
            for each in (light, Stated(CLAIMED).need(1, 1, 1))
        )
        digital = price_digital(step, components, REFERENCES[0]).total_j / sequences
        yield Talk(decoder.name, decoder.parameters, here, claimed, digital)


def scenario(table: Path | None, name: str) -> Components:
    """The constants of a scenario; what a bit more costs is that of the shipped table where ``table`` has none."""
    return with_rule(load_components(table_path(table), name), load_components(table_path(None), "today"))
