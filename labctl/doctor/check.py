"""What a check is: a name, a function that looks, and what it has found in words, with one fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from groundwork.errors import CodedError
from labctl.station.loading import LoadedStation


class State(StrEnum):
    """How bad it is."""

    PASS = "PASS"
    WARN = "WARN"
    """It works, and may cost you something."""
    FAIL = "FAIL"
    """It does not work, or nobody knows whether it is safe."""


@dataclass(frozen=True)
class Finding:
    """What a check has found: ``Finding(State.WARN, "41 GB free …", "free some space")``.

    Attributes
    ----------
    state
        How bad it is.
    detail
        What was seen.
    fix
        One thing to do or to type; empty where it is well.
    """

    state: State
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Surroundings:
    """What checks look at.

    Attributes
    ----------
    station
        What ``--bench`` names; None where that file is refused.
    refused
        Why it is.
    runs
        The folder that holds the runs.
    root
        Of the file system: where ``proc`` and ``sys`` are.
    """

    station: LoadedStation | None
    runs: Path
    refused: CodedError | None = None
    root: Path = Path("/")

    def backends(self, *roles: str) -> dict[str, str]:
        """Device → backend, of the station's devices that have one of these roles and are not of the mock bench."""
        if self.station is None:
            return {}
        devices = self.station.station.devices.root.items()
        return {name: one.backend for name, one in devices if one.role in roles and not one.is_mock}

    def read(self, path: str) -> str | None:
        """The text of a file below ``root``; None where there is none."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None


@dataclass(frozen=True)
class Check:
    """One thing that is looked at.

    Attributes
    ----------
    name
        In the list.
    look
        Finds what is to be said; nothing where it does not apply. It changes nothing and opens no device.
    """

    name: str
    look: Callable[[Surroundings], Iterable[Finding]]


@dataclass(frozen=True)
class Row:
    """One line of ``labctl doctor``."""

    check: str
    state: State
    detail: str
    fix: str


def examine(checks: Sequence[Check], around: Surroundings, done: Callable[[Row], None] = lambda row: None) -> list[Row]:
    """Look at everything; a check that fails itself is a warning and stops no other."""
    rows = []
    for check in checks:
        try:
            findings = list(check.look(around))
        except Exception as error:
            findings = [Finding(State.WARN, f"could not look: {type(error).__name__}: {error}", "report this")]
        for finding in findings:
            row = Row(check.name, finding.state, finding.detail, finding.fix)
            rows.append(row)
            done(row)
    return rows
