"""The backends as a person asks for them: by role, by the name of an instrument, with the proof that each works."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from drivers.backend import Family, Proof
from drivers.registry import BackendInfo

STATES = "ok", "not installed", "broken"


def state(backend: BackendInfo) -> str:
    """One of `STATES`."""
    if backend.lacking:
        return "not installed"
    return "broken" if backend.broken else "ok"


def matching(backends: Iterable[BackendInfo], words: Iterable[str] = (), role: str | None = None) -> list[BackendInfo]:
    """Those that can fill the role, and have every word in their name or in that of a family, whatever the case."""
    wanted = [word.casefold() for word in words]
    return [
        backend
        for backend in backends
        if (role is None or role in backend.roles) and all(_named(backend, word) for word in wanted)
    ]


def families_named(backend: BackendInfo, words: Iterable[str]) -> tuple[Family, ...]:
    """Its families that have the words in their names; all, where the words are in the backend's own name."""
    wanted = [word.casefold() for word in words if word.casefold() not in backend.name.casefold()]
    return tuple(family for family in backend.families if all(word in family.name.casefold() for word in wanted))


def label(proof: Proof) -> str:
    """How a proof is written where people read it: one without a device in capitals."""
    return proof.value.upper() if proof is Proof.FAKE else proof.value


def as_json(backend: BackendInfo) -> dict[str, Any]:
    """All that is known of a backend."""
    return {**asdict(backend), "state": state(backend)}


def totals(backends: Iterable[BackendInfo]) -> str:
    """In one line: ``"21 backends: 15 ok, 6 not installed   ·   40 families: 3 live endpoint, 37 CONTRACT FAKE"``."""
    listed = list(backends)
    states = Counter(map(state, listed))
    proofs = Counter(family.proof for backend in listed for family in backend.families)
    text = f"{_many(len(listed), 'backend')}: " + ", ".join(f"{states[one]} {one}" for one in STATES if states[one])
    if proofs:
        how = ", ".join(f"{proofs[one]} {label(one)}" for one in Proof if proofs[one])
        text += f"   ·   {_many(proofs.total(), 'family', 'families')}: {how}"
    return text


def _named(backend: BackendInfo, word: str) -> bool:
    return any(word in name.casefold() for name in (backend.name, *(family.name for family in backend.families)))


def _many(count: int, one: str, many: str = "") -> str:
    return f"{count} {one}" if count == 1 else f"{count} {many or one + 's'}"
