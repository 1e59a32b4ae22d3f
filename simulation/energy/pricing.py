"""Operations × constants = joules, row by row: nothing is priced anywhere else."""

from __future__ import annotations

import math
from dataclasses import dataclass

from calibration.errors import OutOfDomain
from simulation.benches.tiled import SCALE_BITS
from simulation.energy.bill import Bill, BillWriter, Factor
from simulation.energy.constants import ADC, DAC, MODULATOR, Components
from simulation.energy.machine import Machine, PhotonLaw
from simulation.energy.operations import OPS_PER_ELEMENT, MatrixProduct, Operations
from simulation.energy.receiver import EFFICIENCY, LAW, Receiver

PER_BIT = "converter.per_bit"
"""How many times as much a DAC or an ADC costs with one bit more [1]."""
DEAREST_BIT = 16.0
"""That it may be: the square of what thermal noise asks for."""
DIGITAL_BITS = 8
"""Of the words of the digital processors."""
WRITE_TIME = "weight.write_time"
"""Of one pattern on a modulator that holds a matrix [s]; where it is not stated, writing keeps pace with the clock."""
SCALINGS = 2
"""Multiplications of a tile's reading: by the scale of its inputs, and by that of the output's weights."""
CACHE = "cache"
"""The layer that stands for keys and values in memory."""
STATE, STATE_BITS = "state", 16
"""The layer that stands for the states of recurrent blocks in memory, and bits of their numbers, which add up."""


@dataclass(frozen=True)
class Pass:
    """How long one takes, one product after the other: periods of the clock, and patterns that are written."""

    slots: int
    patterns: int


def price_optical(
    operations: Operations, machine: Machine, components: Components, reference: str = "digital.mac"
) -> Bill:
    """The bill of the optical machine.

    Every vector is read, converted and modulated once for each of its signs (p); where W⁺ and W⁻ lie side by side it
    meets both, and 2 p readings of each output are detected, converted and summed up, and one is stored. The light is
    2 p n k m photons per MAC over the efficiencies, and the matrix is held (power × time) or written. Other ways to
    show signs have other counts: `simulation.energy.machine.Conversions`. Each converter has the bits of what it
    converts (inputs, weights, outputs), and so has each word in memory, keys and values those of weights; of other bits
    than the machine's, converters are scaled by `PER_BIT` for each bit, modulators in proportion to bits. Where both
    operands are new (attention) the matrix is written element by element in any case. Structure of the energy model of
    arXiv 2302.10360.

    Parameters
    ----------
    reference
        Name of the energy per MAC of the digital chip beside the optics, which computes what stays digital.

    Raises
    ------
    OutOfDomain
        When a constant is missing or its unit does not make joules, and for a rule of bits that is none.
    """
    bill = BillWriter(components)
    optical = [p for p in operations.products if not machine.is_digital(p)]
    whole = Pass(sum(map(machine.slots, optical)), sum(map(machine.patterns, optical)))
    for product in operations.products:
        if machine.is_digital(product):
            _digital(bill, operations, product, reference)
        else:
            _optical(bill, product, machine, whole)
    if not machine.holds_cache:
        _cache(bill, operations, machine.words.weights)
    _state(bill, operations)
    _elementwise(bill, operations)
    return Bill(operations, components, tuple(bill.rows))


def _converter(name: str, bits: int, components: Components) -> tuple[Factor, ...]:
    """Of a sample: what the table states, and the rule for each bit from there.

    Raises
    ------
    OutOfDomain
        For a rule by which more bits may cost less, or out of all proportion.
    """
    more = bits - components.stated_bits(name)
    if not more:
        return (name,)
    rule = components[PER_BIT]
    if not 1 <= rule.low <= rule.high <= DEAREST_BIT:
        raise OutOfDomain(
            "not a rule of what a bit more costs",
            device=PER_BIT,
            action="pricing operations",
            expected=f"1 … {DEAREST_BIT:g}: more bits never cost less",
            seen=f"{rule.low:g} … {rule.high:g}",
            hint=f"[{PER_BIT}.any] of the shipped table",
        )
    return name, (PER_BIT, more)


def _symbols(symbols: float, bits: int, components: Components) -> float:
    """In symbols of as many bits as the modulator is stated for: its energy is stated in proportion to them."""
    return symbols * bits / components.stated_bits(MODULATOR)


def price_digital(operations: Operations, components: Components, reference: str) -> Bill:
    """The same operations on a digital processor: ``reference`` names its energy per MAC.

    For a user who waits (`Operations.is_served`) every matrix, and the cache, is fetched from memory once in addition.
    """
    bill = BillWriter(components)
    for product in operations.products:
        _digital(bill, operations, product, reference)
    _cache(bill, operations, DIGITAL_BITS)
    _state(bill, operations)
    _elementwise(bill, operations)
    return Bill(operations, components, tuple(bill.rows))


def _digital(bill: BillWriter, operations: Operations, p: MatrixProduct, reference: str) -> None:
    bill.add(p.layer, "digital", "digital MAC", p.macs, "MAC", reference)
    if operations.is_served and p.kind == "linear":
        bill.add(p.layer, "digital", "weight fetch", DIGITAL_BITS * p.batch * p.k * p.m, "bit", "memory.dram")


def _cache(bill: BillWriter, operations: Operations, bits: int) -> None:
    for words, elements in (("cache read", operations.cache_read), ("cache write", operations.cache_written)):
        if elements:
            bill.add(CACHE, "digital", words, bits * elements, "bit", "memory.dram")


def _state(bill: BillWriter, operations: Operations) -> None:
    for words, elements in (("state read", operations.state_read), ("state write", operations.state_written)):
        if elements:
            bill.add(STATE, "digital", words, STATE_BITS * elements, "bit", "memory.dram")


def _optical(bill: BillWriter, p: MatrixProduct, machine: Machine, whole: Pass) -> None:
    rows, columns = machine.tiles(p)
    signs, each = machine.signs(p), machine.conversions
    shown = p.batch * signs * each.shows * p.n * p.k * rows
    readings, words = signs * each.readings, machine.words
    read = p.batch * readings * p.n * p.m * columns

    def add(component: str, amount: float, unit: str, *factors: Factor) -> None:
        if amount:
            bill.add(p.layer, p.kind, component, amount, unit, *factors)

    add("memory", words.inputs * shown + words.outputs * p.batch * p.n * p.m, "bit", "memory.sram")
    add("DAC", shown, "sample", *_converter(DAC, words.inputs, bill.components))
    add("modulator", _symbols(shown, words.inputs, bill.components), "symbol", MODULATOR)
    if machine.photons is not None:
        add("detector", read, "sample", "detector.energy")
    add("ADC", read, "sample", *_converter(ADC, words.outputs, bill.components))
    sums = p.batch * p.n * (p.m * (readings * columns - 1 + each.corrections) + (p.k if each.corrections else 0))
    add("digital sum", sums, "op", "digital.op")
    scales = p.batch * p.n * machine.scales(p)
    add("scales", SCALE_BITS * scales * (1 + p.m), "bit", "memory.sram")
    add("scales", SCALINGS * scales * p.m, "op", "digital.op")
    if machine.photons is None:
        add("array", signs * p.macs, "MAC", "array.mac")
    elif machine.photons(p.k):
        _light(bill, p, machine.photons, columns, each.light * signs * p.macs)
    _matrix(bill, p, machine, whole)


def _light(bill: BillWriter, p: MatrixProduct, law: PhotonLaw, readings: int, passes: int) -> None:
    """Photons of all passes at the weight plane; electrons, where the law is that of a bench with its own detectors."""
    receiver = Receiver(law(p.k), p.k, readings, law.efficiency)
    more = receiver.more({name: bill.components[name].value for name in receiver.constants})
    factors: list[Factor] = ["photon.energy", "/source.transmission", "/laser.wall_plug"]
    if law.efficiency is not None:
        factors.append(f"/{EFFICIENCY}")
    if LAW in bill.components.constants:
        factors.append(LAW)
    amount = passes * law(p.k) * (law.efficiency or 1.0) * more
    bill.add(p.layer, p.kind, "light", amount, "photon", *factors, receiver=receiver)


def _matrix(bill: BillWriter, p: MatrixProduct, machine: Machine, whole: Pass) -> None:
    """The matrix of a product: read from memory and written, or held."""
    modulators, elements, bits = machine.conversions.pixels, p.k * p.m, machine.words.weights
    stays = machine.stays(p)

    def add(component: str, amount: float, unit: str, *factors: Factor) -> None:
        bill.add(p.layer, p.kind, component, amount, unit, *factors)

    written = machine.written(p)
    if p.kind == "attention" or not stays:
        source = "memory.sram" if p.kind == "attention" else "memory.dram"
        writings = machine.writings(p)
        add("weight load", bits * p.batch * written, "bit", source)
        scales = SCALE_BITS * p.batch * p.m * machine.scales(p) * written / elements
        if scales:
            add("scales", scales, "bit", source)
        if writings > 1:
            add("weight load", bits * p.batch * written * (writings - 1), "bit", "memory.sram")
        shown = p.batch * modulators * written * writings
        add("weight load", shown, "sample", *_converter(DAC, bits, bill.components))
        add("weight load", _symbols(shown, bits, bill.components), "symbol", MODULATOR)
    if stays or p.kind != "attention":
        in_turn = machine.schedule == "in turn" and stays
        own = machine.signs(p) * machine.conversions.shows * max(p.n, p.stage if stays else 0)
        held = (p.batch + (p.idle if stays else 0)) * modulators * elements
        slots = whole.slots if in_turn else own
        add("weight hold", held * slots, "pixel*sample", "weight.hold_power", "/clock.rate")
        if in_turn and whole.patterns and WRITE_TIME in bill.components.constants:
            add("weight hold", held * whole.patterns, "pixel", "weight.hold_power", WRITE_TIME)


def _elementwise(bill: BillWriter, operations: Operations) -> None:
    for (layer, kind), elements in operations.elementwise.items():
        bill.add(layer, "digital", kind, elements * OPS_PER_ELEMENT[kind], "op", "digital.op")


@dataclass(frozen=True)
class Limits:
    """What the machine must be for its bill to hold.

    Attributes
    ----------
    macropixels
        Modulators that hold all matrices at once [1]; for those that are reloaded the array, or the largest matrix
        where it has no limit; for operands of attention that are written anew those of the largest.
    area_m2
        Their area [m²].
    converters
        Input and output converters of the largest matrix [1].
    memory_bits_per_s
        Traffic of the largest matrix at full rate [bit/s].
    seconds
        Of one forward pass, one product after the other [s].
    """

    macropixels: float
    area_m2: float
    converters: int
    memory_bits_per_s: float
    seconds: float


def limits(operations: Operations, machine: Machine, components: Components) -> Limits:
    """Area, converters, bandwidth and time behind a bill, in the layout of the bill."""
    optical = [p for p in operations.products if not machine.is_digital(p)]
    if not optical:
        raise OutOfDomain("nothing is optical", action="pricing operations", seen=", ".join(machine.digital))
    each = machine.conversions
    largest = max(optical, key=lambda p: p.k * p.m)
    pixels = each.pixels * sum((p.batch + p.idle) * p.k * p.m for p in optical if machine.stays(p))
    if any(p.kind == "linear" and not machine.stays(p) for p in optical):
        pixels += math.prod(machine.array) if machine.array else each.pixels * largest.k * largest.m
    pixels += each.pixels * max(
        (p.k * p.m for p in optical if p.kind == "attention" and not machine.stays(p)), default=0
    )
    rate = components["clock.rate"].value
    seconds = sum(machine.slots(p) for p in optical) / rate
    if WRITE_TIME in components.constants:
        seconds += sum(map(machine.patterns, optical)) * components[WRITE_TIME].value
    rows, columns = machine.tiles(largest)
    shown, read = largest.k * rows, each.readings * largest.m * columns
    traffic = rate * (machine.words.inputs * shown + machine.words.outputs * read)
    pitch = components["weight.pitch"].value
    return Limits(float(pixels), pixels * pitch**2, shown + read, traffic, seconds)
