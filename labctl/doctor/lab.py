"""The lab: the station, its backends, who holds the bench, and what earlier runs have left behind."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import islice

from drivers.backend import Proof
from drivers.probe import Outcome, probe
from drivers.registry import BackendInfo, available
from labctl.archive.index import RunRow, list_runs
from labctl.archive.reader import RunReader
from labctl.bench.check import check_station
from labctl.bench.marks import look_at
from labctl.clock import utc_now
from labctl.doctor.check import Finding, State, Surroundings
from labctl.errors import LabError

SCREEN = "screen"
SCREENS_LIMIT_S = 8.0
_NEWEST = 50


def station(around: Surroundings) -> Iterator[Finding]:
    """The station file loads, and each of its devices could be opened as far as that is known without trying."""
    if around.station is None:
        error = around.refused
        said = f"{error.code} {error.device}: {error.what}" if error else "no station"
        yield Finding(State.FAIL, said, (error.hint if error else "") or "labctl station init")
        return
    for row in check_station(around.station):
        detail = row.detail if row.check == "station file" else f"{row.check.removeprefix('devices.')}: {row.detail}"
        yield Finding(State(row.state), detail, row.fix)


def backends(around: Surroundings) -> Iterator[Finding]:
    """What a person must know of the backends that the station names; those that do not work and are not named."""
    known = {backend.name: backend for backend in available(probe=True)}
    named = around.backends(*_roles())
    for device, name in named.items():
        if name in known:
            yield from _about(device, known[name])
    broken = [one.name for one in known.values() if one.broken and not one.lacking]
    if broken:
        yield Finding(
            State.WARN,
            f"do not import: {', '.join(broken)}",
            f"why, and what to install: labctl devices list {broken[0]}",
        )
    absent = sum(bool(one.lacking) for one in known.values())
    without = f", {absent} without their library" if absent else ""
    yield Finding(State.PASS, f"{len(known)} installed{without}   ·   labctl devices list")


def held(around: Surroundings) -> Iterator[Finding]:
    """Nobody holds the bench, or somebody who is alive; and nobody has left its devices open."""
    if around.station is None:
        return
    look = look_at(around.station.bench)
    if look.unsafe:
        fix = f"look at the light, then: labctl bench safe {look.bench}"
        yield Finding(State.FAIL, f"the bench {look.bench} was left open by a process that is gone", fix)
    if look.held and look.holder is None:
        yield Finding(State.WARN, f"the bench {look.bench} is held by a process that left no name", "labctl bench who")
    elif look.held and look.holder is not None:
        yield Finding(State.PASS, f"the bench {look.bench} is in use by {look.holder.words}")
    elif look.holder is not None:
        words = f"{look.holder.who} held the bench {look.bench} and was killed (process {look.holder.process} is gone)"
        yield Finding(State.WARN, words, "look at the light; the next command that holds the bench clears this")
    else:
        yield Finding(State.PASS, f"nobody holds the bench {look.bench}")


def left_behind(around: Surroundings) -> Iterator[Finding]:
    """No run of this bench has left its devices in a state that nobody knows."""
    if around.station is None:
        return
    bench = around.station.bench
    rows = [row for row in islice(list_runs(around.runs), _NEWEST) if row.bench == bench]
    ahead = [row for row in rows if _begins(row) > utc_now() + dt.timedelta(minutes=5)]
    if ahead:
        yield Finding(State.WARN, f"run {ahead[0].run_id} begins in the future", "set the clock, or that of then")
    if not rows:
        yield Finding(State.PASS, f"no runs of the bench {bench} in {around.runs}")
        return
    newest = rows[0]
    short = newest.run_id.rpartition("-")[2]
    if newest.status == "crashed":
        fix = f"look at the light; then: labctl run resume {short}"
        yield Finding(State.WARN, f"the newest run, {newest.run_id}, was killed", fix)
    elif _unsafe(newest):
        yield Finding(
            State.FAIL,
            f"after the newest run, {newest.run_id}, not every device could be made safe",
            "check the bench in person, the light first; a run that ends well clears this",
        )
    else:
        yield Finding(State.PASS, f"the newest run, {newest.run_id}, ended as {newest.status}")


def screens(around: Surroundings) -> Iterator[Finding]:
    """Monitors that a panel could be shown on are not scaled."""
    named = [device for device, backend in around.backends("slm", "display").items() if backend == SCREEN]
    known = [backend for backend in available(probe=True) if backend.name == SCREEN]
    if not known or known[0].broken:
        return
    (result,) = probe(known, SCREENS_LIMIT_S)
    if result.outcome is Outcome.NONE or (result.outcome is not Outcome.FOUND and not named):
        yield Finding(State.PASS, result.detail or "no monitor that could be a panel")
        return
    if result.outcome is not Outcome.FOUND:
        yield Finding(State.WARN, f"monitors could not be listed: {result.detail}", "labctl devices probe screen")
    for found in result.devices:
        who = f"{found.identity.model} {found.identity.serial}".strip()
        if found.note:
            yield Finding(
                State.WARN if named else State.PASS, f"{who}: {found.note}", "the display's settings" if named else ""
            )
        else:
            yield Finding(State.PASS, f"{who} can be a panel")


def _about(device: str, backend: BackendInfo) -> Iterator[Finding]:
    if backend.warning:
        yield Finding(State.WARN, f"{device}: {backend.warning}", f"labctl devices list {backend.name}")
    proofs = {family.proof for family in backend.families}
    if proofs and proofs <= {Proof.FAKE, Proof.NOT_RUN}:
        yield Finding(
            State.WARN,
            f"{device}: no device has ever answered the backend {backend.name} in a test of ours",
            f"labctl devices test {device}",
        )


def _roles() -> tuple[str, ...]:
    from drivers.protocols import ROLES

    return tuple(ROLES)


def _unsafe(row: RunRow) -> bool:
    """Whether the supervisor could not make the bench safe after a run, or the run itself could not."""
    try:
        run = RunReader(row.path)
        if any(line.get("event") == "stalled" and not line.get("safe", True) for line in run.journal()):
            return True
        summary = run.summary()
    except LabError:
        return False
    error = summary.first_error if summary else None
    return error is not None and error.safe.startswith("unknown")


def _begins(row: RunRow) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(row.started)
    except ValueError:
        return dt.datetime.min.replace(tzinfo=dt.UTC)
