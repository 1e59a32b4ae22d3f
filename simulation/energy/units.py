"""Units of a table of constants, checked in every product: a memory constant multiplied in twice is found here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from calibration.errors import OutOfDomain

COUNTED = frozenset({"bit", "sample", "symbol", "MAC", "op", "photon", "pixel"})
DERIVED: dict[str, dict[str, int]] = {"W": {"J": 1, "s": -1}, "Hz": {"s": -1}}


@dataclass(frozen=True)
class Unit:
    """A product of powers of J, s, m and of counted things (bit, sample, symbol, MAC, op, photon, pixel).

    Attributes
    ----------
    powers
        Sorted (symbol, power) pairs without zeros; empty for a pure number.
    """

    powers: tuple[tuple[str, int], ...]

    @classmethod
    def parse(cls, text: str) -> Unit:
        """From ``"J/sample"``, ``"W/pixel"``, ``"Hz"``, ``"1"``: factors joined by ``*``, one ``/`` at most.

        Raises
        ------
        OutOfDomain
            For a symbol that is not known.
        """
        return _parsed(text)

    def __mul__(self, other: Unit) -> Unit:
        return _product(self, other)

    def __pow__(self, exponent: int) -> Unit:
        return _power(self, exponent)

    def __str__(self) -> str:
        over = "*".join(name if power == 1 else f"{name}^{power}" for name, power in self.powers if power > 0)
        under = "*".join(name if power == -1 else f"{name}^{-power}" for name, power in self.powers if power < 0)
        return (over or "1") + (f"/{under}" if under else "")


def _of(total: dict[str, int]) -> Unit:
    return Unit(tuple(sorted((name, power) for name, power in total.items() if power)))


# A bill has hundreds of lines of a handful of units, and a table of machines hundreds of bills.


@lru_cache(1024)
def _parsed(text: str) -> Unit:
    total: dict[str, int] = {}
    parts = text.split("/")
    for part, sign in zip(parts, (1, -1), strict=False):
        for symbol in part.strip().split("*"):
            if symbol == "1":
                continue
            base = DERIVED.get(symbol) or ({symbol: 1} if symbol in COUNTED | {"J", "s", "m"} else None)
            if base is None or len(parts) > 2:
                raise OutOfDomain(
                    "no such unit",
                    action="reading constants",
                    expected=f"J, W, s, Hz, m, {', '.join(sorted(COUNTED))}, joined by * and one /",
                    seen=repr(text),
                )
            for name, power in base.items():
                total[name] = total.get(name, 0) + sign * power
    return _of(total)


@lru_cache(1024)
def _product(one: Unit, other: Unit) -> Unit:
    total = dict(one.powers)
    for name, power in other.powers:
        total[name] = total.get(name, 0) + power
    return _of(total)


@lru_cache(1024)
def _power(unit: Unit, exponent: int) -> Unit:
    return _of({name: power * exponent for name, power in unit.powers})


JOULE = Unit.parse("J")
