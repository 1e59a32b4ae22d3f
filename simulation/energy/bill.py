"""A bill in joules: every line is a counted amount times constants, and says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from simulation.energy.constants import Components
from simulation.energy.operations import Operations
from simulation.energy.receiver import Receiver
from simulation.energy.units import JOULE, Unit

Float = NDArray[np.float64]


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
        (name of the constant, its power): ±1, and for what a bit costs the number of bits.
    receiver
        Of light: what makes the amount depend on further constants; None for what does not.
    """

    layer: str
    kind: str
    component: str
    amount: float
    unit: Unit
    factors: tuple[tuple[str, int], ...]
    receiver: Receiver | None = None

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of all that the energy depends on."""
        behind = () if self.receiver is None else self.receiver.constants
        return (*(name for name, _ in self.factors), *behind)


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
        return row.amount * math.prod(self.components[name].value ** power for name, power in row.factors)

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
        drawn = {}
        for name in self.constants:
            rng = np.random.default_rng([seed, *name.encode()])
            low, high = np.log(self.components[name].low), np.log(self.components[name].high)
            drawn[name] = np.exp(rng.uniform(low, high, draws))
        return np.asarray(np.broadcast_to(self._total(drawn), draws), np.float64)

    @property
    def constants(self) -> list[str]:
        """Names of all that the total depends on, sorted."""
        return sorted({name for row in self.rows for name in row.constants})

    def sensitivity(self) -> list[tuple[str, float, float]]:
        """(constant, total at its low end, at its high end) [J], the widest first: a tornado."""
        found = []
        for name in self.constants:
            low, high = (
                self.total_with({name: end}) for end in (self.components[name].low, self.components[name].high)
            )
            found.append((name, low, high))
        return sorted(found, key=lambda item: -abs(item[2] - item[1]))

    def total_with(self, values: Mapping[str, float]) -> float:
        """The total with some constants at other values [J]."""
        return float(self._total({**self._stated, **values}))

    @cached_property
    def _stated(self) -> dict[str, float]:
        return {name: self.components[name].value for name in self.constants}

    def _total(self, values: Mapping[str, Any]) -> Any:
        """With every constant at one value, or at an array of them."""
        total: Any = 0.0
        for (factors, receiver), amount in self._amounts.items():
            each = amount * np.prod([values[name] ** power for name, power in factors], axis=0)
            if receiver is not None:
                each = each * receiver.more(values) / receiver.more(self._stated)
            total = total + each
        return total

    @cached_property
    def _amounts(self) -> dict[tuple[tuple[tuple[str, int], ...], Receiver | None], float]:
        amounts: dict[tuple[tuple[tuple[str, int], ...], Receiver | None], float] = {}
        for row in self.rows:
            key = row.factors, row.receiver
            amounts[key] = amounts.get(key, 0.0) + row.amount
        return amounts


Factor = str | tuple[str, int]
"""A constant: by name, which multiplies; as ``"/name"``, which divides; with a power."""


class BillWriter:
    """Collects rows, and refuses one that is not in joules."""

    def __init__(self, components: Components) -> None:
        self.components, self.rows = components, list[Row]()

    def add(
        self, layer: str, kind: str, component: str, amount: float, unit: str, *factors: Factor,
        receiver: Receiver | None = None,
    ) -> None:  # fmt: skip
        """One line, of so much of a unit times constants."""
        powers = tuple(map(_power, factors))
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
        self.rows.append(Row(layer, kind, component, float(amount), amount_unit, powers, receiver))


def _power(factor: Factor) -> tuple[str, int]:
    if isinstance(factor, tuple):
        return factor
    return factor.removeprefix("/"), -1 if factor.startswith("/") else 1
