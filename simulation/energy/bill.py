"""A bill in joules: every line is a counted amount times constants, and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from simulation.energy.constants import Components
from simulation.energy.operations import Operations
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


class BillWriter:
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
