"""``labctl devices``: backends and instruments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli import instrument
from labctl.cli.handler import command
from labctl.lab import Lab

if TYPE_CHECKING:
    from drivers.probe import ProbeResult
    from drivers.registry import BackendInfo

app = typer.Typer(help="The instruments and the backends that open them.", no_args_is_help=True)

RoleOption = Annotated[
    str | None, typer.Option("--role", metavar="ROLE", help="Only backends for this role: slm, camera, source …")
]
LimitOption = Annotated[
    float, typer.Option("--limit-s", min=1, max=600, help="Longest wait for each backend's answer [s].")
]
WhileInUseOption = Annotated[
    bool, typer.Option("--while-in-use", help="Look although a bench of this computer is in use.")
]


@command(app, "list")
def list_(
    lab: Lab,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORD", help="In the name of a backend or of an instrument.")
    ] = None,
    role: RoleOption = None,
) -> None:
    """List the backends, what they reach, and the proofs.

    One that does not work says why. With a word, each family of instruments is listed with its proof: labctl
    devices list hamamatsu. Opens no device.
    """
    from drivers.backend import Proof
    from labctl.cli.device_tables import details, overview
    from labctl.errors import UsageError
    from labctl.instruments.listing import as_json, matching, totals

    chosen = matching(_backends(role), words or (), role)
    if words and not chosen:
        raise UsageError(
            f"no backend reaches {' '.join(words)!r}",
            seen=" ".join(words),
            hint="all of them: labctl devices list   ·   write one: CONTRIBUTING.md, Add a driver",
        )
    lab.console.show(details(chosen, words) if words else overview(chosen))
    if not words:
        lines = [f"\n{totals(chosen)}"]
        if any(family.proof is Proof.FAKE for backend in chosen for family in backend.families):
            lines.append("CONTRACT FAKE: runs against a stand-in that we wrote; no such device has ever answered")
        lab.console.show("\n".join(lines))
        lab.console.say("one in full: labctl devices list WORD   ·   connected: labctl devices probe")
    lab.console.result({"backends": [as_json(backend) for backend in chosen]})


@command(app)
def probe(
    lab: Lab,
    backends: Annotated[
        list[str] | None, typer.Argument(metavar="BACKEND", help="Only these; all if left out.")
    ] = None,
    role: RoleOption = None,
    limit_s: LimitOption = 10.0,
    while_in_use: WhileInUseOption = False,
) -> None:
    """Find what is connected.

    Prints a table of the station file for each device, ready to paste. Each backend looks in a process of its own:
    one that hangs or crashes stops neither the others nor the command. To look may disturb a device that is in use:
    while a bench is held, nobody looks.
    """
    from drivers.probe import Outcome
    from labctl.cli.device_tables import outcomes
    from labctl.instruments.stanzas import rivals, stanzas

    if not while_in_use:
        require_no_bench_in_use()
    chosen = _named(_backends(role), backends or [])
    if role is not None:
        chosen = [backend for backend in chosen if role in backend.roles or (backend.broken and not backend.roles)]
    results = look_for_devices(lab, chosen, limit_s)
    made = [stanza for stanza in stanzas(results) if role in (None, stanza.device.role)]
    lab.console.show(outcomes(results, backends or ()))
    for stanza in made:
        lab.console.say(f"\n{stanza.toml()}")
    for several, names in rivals(made).items():
        lab.console.say(f"\none {several}, not {len(names)}: keep one of {', '.join(names)}")
    if made:
        lab.console.say("\npaste what you need into a station file, or: labctl station init --from-probe FILE.toml")
    elif any(result.outcome is not Outcome.CANNOT_LOOK for result in results):
        lab.console.say("\nnothing found: is it switched on, plugged in, and not in use by another program?")
    lab.console.result(
        {
            "backends": results,
            "stanzas": [{"name": s.name, "backend": s.backend, "role": s.device.role, "toml": s.toml()} for s in made],
        }
    )


def require_no_bench_in_use() -> None:
    """Refuse to look for devices while somebody measures: a question on a bus may end a night's run."""
    from labctl.bench.lock import living_holders
    from labctl.errors import BenchBusy

    for holder in living_holders():
        raise BenchBusy(
            "the bench is in use, and to look for devices might disturb it",
            device=holder.bench,
            action="looking for devices",
            seen=holder.words,
            safe="nothing was touched",
            hint="wait for it, or look anyway: --while-in-use",
        )


def look_for_devices(lab: Lab, backends: list[BackendInfo] | None = None, limit_s: float = 10.0) -> list[ProbeResult]:
    """Let backends look for devices, all of them if none are named, and show how far that is."""
    from drivers.probe import probe as look
    from drivers.registry import available

    asked = available(probe=True) if backends is None else backends
    with lab.console.progress("looking for devices", len(asked)) as progress:
        return look(asked, limit_s, lambda result: progress.advance(1, result.backend))


def _backends(role: str | None) -> list[BackendInfo]:
    """Every backend, imported; a role that does not exist is refused."""
    from drivers.protocols import ROLES
    from drivers.registry import available
    from groundwork.nearest import did_you_mean
    from labctl.errors import UsageError

    if role is not None and role not in ROLES:
        hint = did_you_mean(role, ROLES)
        raise UsageError(f"no role {role!r}", expected="one of " + ", ".join(ROLES), seen=role, hint=hint)
    return available(probe=True)


def _named(backends: list[BackendInfo], names: list[str]) -> list[BackendInfo]:
    """Those of these names, or of a family's name with what it has: ``genicam`` is ``genicam.gige`` and the others."""
    from drivers.registry import find_backend

    if not names:
        return backends
    chosen = []
    for name in names:
        fits = [one for one in backends if one.name == name or one.name.startswith(f"{name}.")]
        if not fits:
            find_backend(name)  # raises, with the nearest name that exists
        chosen += [one for one in fits if one not in chosen]
    return chosen


instrument.register(app)
