"""Operations × constants = joules, row by row: nothing is priced anywhere else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from simulation.energy.constants import Components
from simulation.energy.operations import OPS_PER_ELEMENT, MatrixProduct, Operations, is_digital
from simulation.energy.units import JOULE, Unit

Float = NDArray[np.float64]

SIDES = 2
"""W⁺ and W⁻ of a matrix, held side by side: each vector that is shown meets both, on outputs of their own."""
Schedule = Literal["pipelined", "in turn"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
CONVERTERS = "dac.energy", "adc.energy", "modulator.energy"
"""Constants that hold for one number of bits."""


@dataclass(frozen=True)
class PhotonLaw:
    """Photons at the weight plane per MAC and pass, against the length k of the sum.

    ``photons(k) = per_mac (at_width / k)^exponent``: exponent 1 is the paper's claim, 0 what signed random operands
    need at a fixed relative error.

    Attributes
    ----------
    per_mac
        [photon/MAC] at ``at_width``.
    at_width, exponent
        Reference length and power law [1].
    """

    per_mac: float
    at_width: float = 1.0
    exponent: float = 0.0

    def __call__(self, k: int) -> float:
        """[photon/MAC] for a sum of k products."""
        return float(self.per_mac * (self.at_width / k) ** self.exponent)

    def with_receiver(self, k: int, readings: int, components: Components) -> float:
        """[photon/MAC] when every reading has the noise of its amplifier too, for the same relative variance.

        The law's light is N electrons in the sum and has the relative variance 1/N by shot noise alone. With r
        electrons of noise in each of ``readings`` partial sums, N' electrons have ``(N' + readings r²)/N'²``; equal for

            N' = N/2 (1 + √(1 + 4 readings r² / N))

        N is counted at full transmission: what really falls on a detector is less, and the noise of the receiver weighs
        more.
        """
        electrons = self(k) * k * components["detector.quantum_efficiency"].value
        if not electrons:
            return 0.0
        read = readings * components["receiver.noise"].value ** 2
        return self(k) * (1 + math.sqrt(1 + 4 * read / electrons)) / 2


@dataclass(frozen=True)
class Machine:
    """How the optical machine is used; the encoding of the bench and of the simulation.

    Attributes
    ----------
    photons
        `PhotonLaw`
    bits
        Of operands and results.
    array
        (M, K) macropixels at a time; None: as large as each matrix.
    weights
        ``"held"``: every matrix has its own modulators; ``"reloaded"``: one array is written anew for every matrix of
        every forward pass.
    schedule
        How long a held matrix is charged for. ``"pipelined"``: while its own vectors pass, because other forward passes
        keep all matrices busy at all times, which is the least that holding can cost; ``"in turn"``: the whole forward
        pass, of which it sees its own vectors only, as when one user's tokens are computed one after another.
    digital
        Shell patterns of layers that stay digital; the output head always does in the paper.
    """

    photons: PhotonLaw
    bits: int = 8
    array: tuple[int, int] | None = None
    weights: str = "held"
    schedule: Schedule = "pipelined"
    digital: tuple[str, ...] = ()

    def tiles(self, product: MatrixProduct) -> tuple[int, int]:
        """How many tiles the outputs of both signs, and the inputs, of a matrix need."""
        if self.array is None:
            return 1, 1
        return -(-SIDES * product.m // self.array[0]), -(-product.k // self.array[1])

    def slots(self, product: MatrixProduct) -> int:
        """Periods of the clock that a product takes: vectors, once for each sign that they have.

        Tiles of a held matrix have arrays of their own and see a vector at the same time; a matrix that is reloaded
        has one array for all of them.
        """
        vectors = product.batch * product.n * input_passes(product)
        reloads = self.weights == "reloaded" and product.kind != "attention"
        return vectors * math.prod(self.tiles(product)) if reloads else vectors


def input_passes(product: MatrixProduct) -> int:
    """Signs that the vectors of a product have."""
    return 1 if product.non_negative else 2


@dataclass(frozen=True)
class Row:
    """One line of the bill: ``energy = amount × Π constant^power``.

    Attributes
    ----------
    layer, kind, component
        The layer that needs the energy, its kind (``"linear"``, ``"attention"``, ``"digital"``), and the part of the
        machine that spends it: ``"DAC"``, ``"ADC"``, ``"light"`` …
    amount, unit
        Counted things.
    factors
        (name of the constant, ±1).
    """

    layer: str
    kind: str
    component: str
    amount: float
    unit: Unit
    factors: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Bill:
    """What one forward pass costs.

    Attributes
    ----------
    operations
        `Operations`
    components
        `Components`
    rows
        All lines; their sum is the total.
    """

    operations: Operations
    components: Components
    rows: tuple[Row, ...]

    def energy_j(self, row: Row) -> float:
        """Of one line [J]."""
        return row.amount * float(np.prod([self.components[name].value ** power for name, power in row.factors]))

    @property
    def total_j(self) -> float:
        """Of the forward pass [J]."""
        return sum(self.energy_j(row) for row in self.rows)

    @property
    def per_mac_j(self) -> float:
        """Total over all MACs of the model, digital ones too [J/MAC]."""
        return self.total_j / self.operations.macs

    @property
    def per_token_j(self) -> float:
        """[J/token]"""
        return self.total_j / self.operations.tokens

    def by(self, key: Callable[[Row], str]) -> dict[str, float]:
        """Sums [J] by what ``key`` says of a row, largest first."""
        sums: dict[str, float] = {}
        for row in self.rows:
            sums[key(row)] = sums.get(key(row), 0.0) + self.energy_j(row)
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    def samples_j(self, draws: int, seed: int) -> Float:
        """(draws,) totals with every constant log-uniform in its range [J].

        A constant is drawn alike for every bill of the same seed, so that the ratio of two bills is one of machines
        that are built of the same parts.
        """
        used = sorted({name for row in self.rows for name, _ in row.factors})
        drawn = {}
        for name in used:
            rng = np.random.default_rng([seed, *name.encode()])
            low, high = np.log(self.components[name].low), np.log(self.components[name].high)
            drawn[name] = np.exp(rng.uniform(low, high, draws))
        total = np.zeros(draws)
        for factors, amount in self._amounts().items():
            total += amount * np.prod([drawn[name] ** power for name, power in factors], axis=0)
        return total

    def sensitivity(self) -> list[tuple[str, float, float]]:
        """(constant, total at its low end, at its high end) [J], the widest first: a tornado."""
        amounts = self._amounts()
        found = []
        for name in sorted({name for factors in amounts for name, _ in factors}):
            ends = []
            for end in (self.components[name].low, self.components[name].high):
                ratio = end / self.components[name].value
                ends.append(
                    sum(
                        amount
                        * float(np.prod([self.components[n].value ** p for n, p in factors]))
                        * ratio ** sum(p for n, p in factors if n == name)
                        for factors, amount in amounts.items()
                    )
                )
            found.append((name, ends[0], ends[1]))
        return sorted(found, key=lambda item: -abs(item[2] - item[1]))

    def _amounts(self) -> dict[tuple[tuple[str, int], ...], float]:
        amounts: dict[tuple[tuple[str, int], ...], float] = {}
        for row in self.rows:
            amounts[row.factors] = amounts.get(row.factors, 0.0) + row.amount
        return amounts


def price_optical(
    operations: Operations, machine: Machine, components: Components, reference: str = "digital.mac"
) -> Bill:
    """The bill of the optical machine.

    Every vector is read, converted and modulated once for each of its signs (p), and meets W⁺ and W⁻ at the same time:
    `SIDES` p readings of each output are detected, converted and summed up, and one is stored. The light is 2 p n k m
    photons per MAC over the efficiencies, and the matrix is held (power × time) or written. Where both operands are
    new (attention) the matrix is written element by element in any case. Structure of the energy model of arXiv
    2302.10360.

    Parameters
    ----------
    reference
        Name of the energy per MAC of the digital chip beside the optics, which computes what stays digital.

    Raises
    ------
    OutOfDomain
        When a constant is missing or its unit does not make joules, and for words of other bits than the converters'.
    """
    _require_bits(machine, components)
    bill = _Writer(components)
    all_slots = sum(machine.slots(p) for p in operations.products if not is_digital(p, machine.digital))
    for product in operations.products:
        if is_digital(product, machine.digital):
            bill.add(product.layer, "digital", "digital MAC", product.macs, "MAC", reference)
        else:
            _optical(bill, product, machine, all_slots)
    _elementwise(bill, operations)
    return Bill(operations, components, tuple(bill.rows))


def _require_bits(machine: Machine, components: Components) -> None:
    """Converters are priced for one number of bits: what they cost doubles, at least, with each one more."""
    for name in CONVERTERS:
        stated = components[name].bits
        if stated is not None and stated != machine.bits:
            raise OutOfDomain(
                "words of other bits than the converters of the scenario",
                device=f"{name} of {components.scenario!r}",
                action="pricing operations",
                expected=f"{stated} bits",
                seen=f"{machine.bits} bits",
                hint="leave --bits out, or state converters of these bits in a table of your own: --table FILE",
            )


def price_digital(operations: Operations, components: Components, reference: str) -> Bill:
    """The same operations on a digital processor: ``reference`` names its energy per MAC."""
    bill = _Writer(components)
    for product in operations.products:
        bill.add(product.layer, "digital", "digital MAC", product.macs, "MAC", reference)
    _elementwise(bill, operations)
    return Bill(operations, components, tuple(bill.rows))


class _Writer:
    """Collects rows, and refuses one that is not in joules."""

    def __init__(self, components: Components) -> None:
        self.components, self.rows = components, list[Row]()

    def add(self, layer: str, kind: str, component: str, amount: float, unit: str, *factors: str) -> None:
        """A factor ``"/name"`` divides."""
        powers = tuple((name.removeprefix("/"), -1 if name.startswith("/") else 1) for name in factors)
        amount_unit = Unit.parse(unit)
        result = amount_unit
        for name, power in powers:
            result = result * self.components[name].unit ** power
        if result != JOULE:
            raise OutOfDomain(
                "amount and constants do not make joules",
                device=f"{component}: {', '.join(name for name, _ in powers)}",
                action="pricing operations",
                expected="J",
                seen=f"{unit} × constants = {result}",
                hint="a unit in the table of components is wrong",
            )
        self.rows.append(Row(layer, kind, component, float(amount), amount_unit, powers))


def _optical(bill: _Writer, p: MatrixProduct, machine: Machine, all_slots: int) -> None:
    rows, columns = machine.tiles(p)
    signs = input_passes(p)
    shown, read = p.batch * signs * p.n * p.k * rows, p.batch * SIDES * signs * p.n * p.m * columns
    elements = p.batch * SIDES * p.k * p.m

    def add(component: str, amount: float, unit: str, *factors: str) -> None:
        bill.add(p.layer, p.kind, component, amount, unit, *factors)

    add("memory", machine.bits * (shown + p.batch * p.n * p.m), "bit", "memory.sram")
    add("DAC", shown, "sample", "dac.energy")
    add("modulator", shown, "symbol", "modulator.energy")
    add("detector", read, "sample", "detector.energy")
    add("ADC", read, "sample", "adc.energy")
    add("digital sum", p.batch * p.n * p.m * (SIDES * signs * columns - 1), "op", "digital.op")
    photons = machine.photons.with_receiver(p.k, columns, bill.components)
    add(
        "light", SIDES * signs * p.macs * photons, "photon", "photon.energy", "/source.transmission", "/laser.wall_plug"
    )
    if p.kind == "attention" or machine.weights == "reloaded":
        source = "memory.sram" if p.kind == "attention" else "memory.dram"
        add("weight load", machine.bits * elements, "bit", source)
        add("weight load", elements, "sample", "dac.energy")
        add("weight load", elements, "symbol", "modulator.energy")
    if p.kind != "attention":
        in_turn = machine.schedule == "in turn" and machine.weights == "held"
        slots = all_slots if in_turn else signs * p.n
        add("weight hold", elements * slots, "pixel*sample", "weight.hold_power", "/clock.rate")


def _elementwise(bill: _Writer, operations: Operations) -> None:
    for (layer, kind), elements in operations.elementwise.items():
        bill.add(layer, "digital", kind, elements * OPS_PER_ELEMENT[kind], "op", "digital.op")


@dataclass(frozen=True)
class Limits:
    """What the machine must be for its bill to hold.

    Attributes
    ----------
    macropixels
        Modulators that hold all matrices at once [1]; with ``weights = "reloaded"`` those of the array, or of the
        largest matrix where it has no limit.
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
    """Area, converters, bandwidth and time behind a bill; W⁺ and W⁻ lie side by side, as in the bill."""
    optical = [p for p in operations.products if not is_digital(p, machine.digital)]
    if not optical:
        raise OutOfDomain("nothing is optical", action="pricing operations", seen=", ".join(machine.digital))
    held = [p for p in optical if p.kind == "linear"]
    largest = max(optical, key=lambda p: p.k * p.m)
    if machine.weights == "held":
        pixels = SIDES * sum(p.batch * p.k * p.m for p in held)
    else:
        pixels = math.prod(machine.array) if machine.array else SIDES * largest.k * largest.m
    rate = components["clock.rate"].value
    seconds = sum(machine.slots(p) for p in optical) / rate
    rows, columns = machine.tiles(largest)
    converters = largest.k * rows + SIDES * largest.m * columns
    pitch = components["weight.pitch"].value
    return Limits(float(pixels), pixels * pitch**2, converters, machine.bits * rate * converters, seconds)
