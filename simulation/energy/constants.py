"""The table of components: every constant with value, unit, range and source, for each scenario."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.errors import OutOfDomain
from groundwork.errors import FileRefused
from groundwork.nearest import did_you_mean
from groundwork.opening.toml_text import read_toml
from simulation.energy.units import Unit

FIELDS = {"value", "unit", "low", "high", "source", "verified", "scope", "bits"}
SCENARIOS = "scenario"
"""Table of scenarios that are others but for some constants: ``[scenario.NAME]`` with ``like = "OTHER"``."""
MOST_BITS = 32
"""Of a word."""
DAC, ADC, MODULATOR = "dac.energy", "adc.energy", "modulator.energy"
OF_BITS = DAC, ADC, MODULATOR
"""Constants that hold for one number of bits, and are scaled to others."""


@dataclass(frozen=True)
class Constant:
    """One number of the table.

    Attributes
    ----------
    name
        ``"adc.energy"``
    value, low, high
        In ``unit``; ``low ≤ value ≤ high`` is the range that open sources span.
    unit
        `Unit`
    source
        Where the number is printed; never empty.
    verified
        Whether the primary source was read.
    scope
        Node, rate, resolution that the number belongs to.
    bits
        Of the words that it holds for; None where that does not matter.
    """

    name: str
    value: float
    low: float
    high: float
    unit: Unit
    source: str
    verified: bool = False
    scope: str = ""
    bits: int | None = None


@dataclass(frozen=True)
class Components:
    """The constants of one scenario.

    Attributes
    ----------
    scenario
        ``"today"``, ``"future"``, …
    constants
        By name.
    """

    scenario: str
    constants: Mapping[str, Constant]

    def __getitem__(self, name: str) -> Constant:
        if name not in self.constants:
            raise OutOfDomain(
                "a component constant is missing",
                device=name,
                action="pricing operations",
                expected=f"[{name}.{self.scenario}] or [{name}.any] in the table",
                seen=f"{len(self.constants)} other constants",
            )
        return self.constants[name]

    @property
    def bits(self) -> int:
        """Of the converters; 8 where the table does not say."""
        return bits_of(self.constants)

    def stated_bits(self, name: str) -> int:
        """Of the words that one of `OF_BITS` is stated for; those of the others where it does not say."""
        return self[name].bits or self.bits


def bits_of(constants: Mapping[str, Constant]) -> int:
    """The one number of bits that converters are stated for; 8 where none is."""
    return next(iter(_stated(constants).values()), 8)


def require_one_resolution(constants: Mapping[str, Constant], where: str) -> None:
    """Refuse converters that a table states for several numbers of bits.

    Raises
    ------
    OutOfDomain
        Naming each with its bits.
    """
    stated = _stated(constants)
    if len(set(stated.values())) > 1:
        raise OutOfDomain(
            "converters of one machine are stated for several numbers of bits",
            device=where,
            action="reading the table of components",
            expected=f"the same for {', '.join(stated)}",
            seen=", ".join(f"{name}: {bits}" for name, bits in stated.items()),
            hint="state them all for the same bits; --bits scales them to any other",
        )


def _stated(constants: Mapping[str, Constant]) -> dict[str, int]:
    found = ((name, constants[name].bits) for name in OF_BITS if name in constants)
    return {name: bits for name, bits in found if bits is not None}


def load_components(path: Path, scenario: str) -> Components:
    """The constants that ``path`` (TOML) gives for a scenario; a table ``any`` holds for all of them.

    A scenario that is ``like`` another one has its constants, but for those that name it.

    Raises
    ------
    OutOfDomain
        For a file that is not TOML, an unknown scenario, a constant without source, with an unknown key or unit, or
        with a value outside its own range, and converters of several numbers of bits.
    """
    try:
        table = read_toml(path)
    except FileRefused as error:
        raise OutOfDomain("the table of components is not TOML", device=str(path), seen=str(error)) from error
    like = {name: str(entry.get("like")) for name, entry in table.pop(SCENARIOS, {}).items()}
    scenarios = {name for entry in _leaves(table) for name in entry[1]} - {"any"}
    if scenario not in scenarios:
        raise OutOfDomain(
            "no such scenario", device=str(path), expected=" or ".join(sorted(scenarios)), seen=repr(scenario),
            hint=did_you_mean(scenario, sorted(scenarios)),
        )  # fmt: skip
    constants = {}
    for name, entry in _leaves(table):
        chosen = entry.get(scenario, entry.get(like.get(scenario, ""), entry.get("any")))
        if chosen is not None:
            constants[name] = constant_of(name, chosen, path)
    require_one_resolution(constants, f"{path.name}: {scenario}")
    return Components(scenario, constants)


def _leaves(table: dict[str, Any], prefix: str = "") -> list[tuple[str, dict[str, dict[str, Any]]]]:
    """(dotted name, scenario → entry) of every constant."""
    found = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        if not isinstance(value, dict):
            raise OutOfDomain("a constant stands outside of a scenario", device=name, expected=f"[{name}.today]")
        if any(isinstance(inner, dict) and "value" in inner for inner in value.values()):
            found.append((name, value))
        else:
            found += _leaves(value, f"{name}.")
    return found


def constant_of(name: str, entry: dict[str, Any], path: Path) -> Constant:
    """One constant of a table.

    Raises
    ------
    OutOfDomain
        Without source, with an unknown key or unit, or with a value outside its own range.
    """
    unknown, missing = set(entry) - FIELDS, {"value", "unit", "low", "high", "source"} - set(entry)
    if unknown or missing:
        raise OutOfDomain(
            "a constant has unknown or missing keys",
            device=f"{path.name}: {name}",
            expected=", ".join(sorted(FIELDS)),
            seen=f"unknown: {sorted(unknown)}, missing: {sorted(missing)}",
        )
    if wrong := [key for key in ("value", "low", "high") if type(entry[key]) not in (int, float)]:
        raise OutOfDomain(
            "a constant is no number",
            device=f"{path.name}: {name}",
            expected="numbers",
            seen=f"{wrong[0]} = {entry[wrong[0]]!r}",
        )
    value, low, high = (float(entry[key]) for key in ("value", "low", "high"))
    if not (0 < low <= value <= high < math.inf):
        raise OutOfDomain(
            "a constant lies outside its own range",
            device=f"{path.name}: {name}",
            expected="0 < low ≤ value ≤ high",
            seen=f"{low:g}, {value:g}, {high:g}",
        )
    source = str(entry["source"]).strip()
    if not source:
        raise OutOfDomain("a constant has no source", device=f"{path.name}: {name}", expected="a citation")
    verified, scope = bool(entry.get("verified", False)), str(entry.get("scope", ""))
    bits = entry.get("bits")
    if bits is not None and (type(bits) is not int or not 1 <= bits <= MOST_BITS):
        raise OutOfDomain(
            "not a number of bits", device=f"{path.name}: {name}", expected=f"1 … {MOST_BITS}", seen=repr(bits)
        )
    return Constant(name, value, low, high, Unit.parse(entry["unit"]), source, verified, scope, bits)
