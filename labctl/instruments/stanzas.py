"""Tables of the station file for devices that a probe has found, ready to paste, and a whole file of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.backend import Found
from drivers.probe import INCOMPLETE, ProbeResult
from drivers.protocols import ROLES
from labctl.station import toml_text

ABSENT = {
    "source": 'the light has to be named by hand; for one that no program can switch: backend = "always-on"',
    "slm": "the panel that transmits",
    "display": "the panel that emits; another panel from above may be it; where one is both, see the backend region",
    "camera": "what reads the sums",
}
"""What a person is told of a role that nothing was found for."""


@dataclass(frozen=True)
class Stanza:
    """One device of a station file.

    Attributes
    ----------
    name
        In the file: the role, or the role and a number where several were found.
    backend
        That found it.
    device
        What it found.
    """

    name: str
    backend: str
    device: Found

    @property
    def title(self) -> str:
        """Who it is: ``"Basler acA1920-40um, serial 22344567"``."""
        identity = self.device.identity
        serial = f"serial {identity.serial}" if identity.serial else ""
        firmware = f"firmware {identity.firmware}" if identity.firmware else ""
        return ", ".join(filter(None, (f"{identity.vendor} {identity.model}".strip(), serial, firmware)))

    @property
    def is_complete(self) -> bool:
        """Whether its backend can open it without anything else."""
        return not self.device.note.startswith(INCOMPLETE)

    def toml(self) -> str:
        """Its table, with a comment that says which device it is; no line of it can be anything but TOML."""
        lines = [f"# {_one_line(self.title)}"]
        if self.device.note:
            lines.append(f"# note: {_one_line(self.device.note)}")
        lines.append(f"[devices.{self.name}]")
        if self.name != self.device.role:
            lines.append(toml_text.line("role", self.device.role))
        lines.append(toml_text.line("backend", self.backend))
        if self.device.options:
            lines.append(toml_text.line("options", self.device.options))
        return "\n".join(lines)


def stanzas(results: Iterable[ProbeResult]) -> list[Stanza]:
    """A stanza for each device, by role; devices that nothing is to be said against come first in their role."""
    found = [(device, result.backend) for result in results for device in result.devices]
    order = list(ROLES)
    found.sort(key=lambda pair: (order.index(pair[0].role), pair[0].note.startswith(INCOMPLETE), bool(pair[0].note)))
    made: list[Stanza] = []
    for device, backend in found:
        before = sum(stanza.device.role == device.role for stanza in made)
        made.append(Stanza(f"{device.role}{before + 1}" if before else device.role, backend, device))
    return made


def rivals(made: Sequence[Stanza]) -> dict[str, list[str]]:
    """Roles that one device fills and for which several were found: role → their names in the file."""
    complete = [stanza for stanza in made if stanza.is_complete]
    names = {role: [stanza.name for stanza in complete if stanza.device.role == role] for role in ROLES}
    return {role: named for role, named in names.items() if len(named) > 1 and not ROLES[role].many}


def missing(made: Sequence[Stanza]) -> list[str]:
    """Roles that a bench cannot do without and for which nothing was found."""
    found = {stanza.device.role for stanza in made if stanza.is_complete}
    return [role for role, about in ROLES.items() if not about.many and role not in found]


def station_text(made: Sequence[Stanza], path: Path) -> str:
    """A station file of what was found; whatever else fits a role stands there as a comment.

    The bench's mode is ``mock`` as long as the mock bench fills a role, or a note speaks against a device: emulators
    answer, too.
    """
    absent = missing(made)
    rival = {name for names in rivals(made).values() for name in names[1:]}
    doubtful = [
        stanza.name for stanza in made if stanza.device.note and stanza.name not in rival and stanza.is_complete
    ]
    mode = "mock" if absent or doubtful else "hardware"
    why = "every role has a device"
    if absent:
        why = f"the mock bench fills in for {', '.join(absent)}; then hardware"
    elif doubtful:
        why = f"hardware, once you have read the notes on {', '.join(doubtful)}"
    parts = [
        "# Written by labctl station init --from-probe from the devices that answered. Check it with\n"
        f"# `labctl station check --bench {path.name}`, and each device with `labctl devices test NAME --bench …`.",
        f"[bench]\n{toml_text.line('name', bench_name(path))}   # runs and locks go by this name\n"
        f"{toml_text.line('mode', mode)}   # {why}",
    ]
    for stanza in made:
        if stanza.name in rival or not stanza.is_complete:
            parts.append(_commented(stanza))
        else:
            parts.append(stanza.toml())
    parts += [_placeholder(role) for role in absent]
    parts.append(
        "# Everything else has its default: `labctl station show --origin` prints each key. Look first at [layout],\n"
        "# [acquisition] exposure_s and slm_settle_frames, [camera] quantum_efficiency, [source] wavelength_nm."
    )
    return "\n\n".join(parts) + "\n"


def bench_name(path: Path) -> str:
    """A name that a bench may have, from that of its file."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")
    return name or "bench"


def _commented(stanza: Stanza) -> str:
    """A device that is not complete, or fits a role which another has already: to use it, swap the two."""
    role = stanza.device.role
    text, title = stanza.toml(), f"# A {role} that is to be completed by hand:"
    if stanza.is_complete:
        text, title = text.replace(f"[devices.{stanza.name}]", f"[devices.{role}]"), f"# Or, as the {role}:"
    kept = [line for line in text.splitlines() if not (stanza.is_complete and line.startswith("role = "))]
    return "\n".join([title, *(line if line.startswith("#") else f"# {line}" for line in kept)])


def _placeholder(role: str) -> str:
    return f'# {role}: nothing found ({ABSENT.get(role, "name it by hand")}).\n# [devices.{role}]\n# backend = "…"'


def _one_line(text: str) -> str:
    """Text for a comment: control characters, which a device's own name may hold, would end it or be no TOML."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
