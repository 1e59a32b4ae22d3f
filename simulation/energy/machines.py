"""Machines other than the one of the scenarios, priced alike: tables of what differs, and what their authors claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calibration.errors import OutOfDomain
from groundwork.errors import FileRefused
from groundwork.nearest import did_you_mean
from groundwork.opening.toml_text import read_toml
from simulation.energy.constants import Components, Constant, bits_of, constant_of, require_one_resolution
from simulation.energy.decoders import HEAD, Decoder
from simulation.energy.machine import CONVERSIONS, Machine, PhotonLaw
from simulation.energy.operations import MatrixProduct, Operations
from simulation.energy.pricing import price_optical

BERT_BASE = Decoder("bert-base", "Devlin et al., arXiv 1810.04805, section 3", 30522, 512, 768, 12, 12, gated=False)
VECTORS = 4096
"""Shown to one tile: so many that what is written once does not count."""
KEYS = {"words", "encoding", "array", "weights", "attention", "source"}
OPTIONAL = {"open", "claim", "constants", "like", "vectors_at_once", "has_light"}


@dataclass(frozen=True)
class Claimed:
    """What the authors of a machine say that it costs.

    Attributes
    ----------
    joules_per_mac
        [J/MAC]
    work
        ``"tile"``: vectors through one full array; ``"bert-base"``: its matrix products for 128 tokens.
    words, source
        Of the claim.
    parts
        Components that it counts; none: all.
    """

    joules_per_mac: float
    work: str
    words: str
    source: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class PricedMachine:
    """A machine of the table.

    Attributes
    ----------
    name, words, source
        What it is, in one line, and where it is published.
    open
        What is not published or not counted, in words.
    machine
        `Machine`, with one photon per MAC where it has light.
    constants
        Those of its own.
    claim
        `Claimed`, or None.
    """

    name: str
    words: str
    source: str
    open: str
    machine: Machine
    constants: Mapping[str, Constant]
    claim: Claimed | None = None

    def components(self, base: Components) -> Components:
        """The constants of a scenario but for its own."""
        return Components(self.name, {**base.constants, **self.constants})

    def with_light(self, law: PhotonLaw, digital: tuple[str, ...]) -> Machine:
        """The machine at a light level, with the layers that stay digital."""
        return replace(self.machine, photons=law if self.machine.photons else None, digital=digital)

    def at_claimed_work(self, law: PhotonLaw, base: Components) -> float:
        """[J/MAC] by this table for the work and the parts of the claim."""
        if self.claim is None:
            raise OutOfDomain("nothing is claimed of this machine", device=self.name, seen=self.source)
        bill = price_optical(self._work(), self.with_light(law, (HEAD,)), self.components(base))
        optical = [row for row in bill.rows if row.layer != HEAD]
        counted = [row for row in optical if not self.claim.parts or row.component in self.claim.parts]
        macs = sum(p.macs for p in bill.operations.products if p.layer != HEAD)
        return sum(bill.energy_j(row) for row in counted) / macs

    def _work(self) -> Operations:
        assert self.claim is not None
        assert self.machine.array is not None
        if self.claim.work == BERT_BASE.name:
            return BERT_BASE.forward(128)
        rows, columns = self.machine.array
        each = self.machine.conversions
        return Operations(VECTORS, (MatrixProduct("tile", "linear", VECTORS, columns, rows // each.pixels),))


def load_machines(path: Path) -> dict[str, PricedMachine]:
    """By name, from a TOML table with one table per machine.

    Raises
    ------
    OutOfDomain
        When the file is not TOML, or a machine has unknown or missing keys, no such encoding, or a bad constant.
    """
    try:
        table = read_toml(path)
    except FileRefused as error:
        raise OutOfDomain("the table of machines is not TOML", device=str(path), seen=str(error)) from error
    found: dict[str, PricedMachine] = {}
    for name, entry in table.items():
        found[name] = _machine(path, name, entry, found)
    return found


def _machine(path: Path, name: str, entry: Any, known: Mapping[str, PricedMachine]) -> PricedMachine:
    where = f"{path.name}: {name}"
    keys = set(entry) if isinstance(entry, dict) else set()
    if KEYS - keys or keys - KEYS - OPTIONAL or not str(entry["source"]).strip():
        raise OutOfDomain(
            "a machine has unknown or missing keys", device=where, expected=", ".join(sorted(KEYS | OPTIONAL)),
            seen=f"unknown: {sorted(keys - KEYS - OPTIONAL)}, missing: {sorted(KEYS - keys)}",
        )  # fmt: skip
    if entry["encoding"] not in CONVERSIONS:
        raise OutOfDomain(
            "no such encoding", device=where, expected=" or ".join(CONVERSIONS), seen=repr(entry["encoding"]),
            hint=did_you_mean(entry["encoding"], CONVERSIONS),
        )  # fmt: skip
    like = entry.get("like")
    constants = dict(known[like].constants) if like in known else {}
    constants |= {each: constant_of(each, value, path) for each, value in entry.get("constants", {}).items()}
    rows, columns = entry["array"]
    require_one_resolution(constants, where)
    machine = Machine(
        PhotonLaw(1.0) if entry.get("has_light", True) else None, bits_of(constants), (int(rows), int(columns)),
        entry["weights"], conversions=CONVERSIONS[entry["encoding"]], attention=entry["attention"],
        vectors_at_once=entry.get("vectors_at_once"),
    )  # fmt: skip
    words, source, left = (str(entry.get(key, "")) for key in ("words", "source", "open"))
    return PricedMachine(name, words, source, left, machine, constants, _claim(entry.get("claim")))


def _claim(entry: Mapping[str, Any] | None) -> Claimed | None:
    if entry is None:
        return None
    stated = {key: value for key, value in entry.items() if key != "fj_per_mac"} | {
        "parts": tuple(entry.get("parts", ()))
    }
    return Claimed(1e-15 * float(entry["fj_per_mac"]), **stated)
