"""Nights without anyone: whether one is switched on, when the last one was, and whether its locks can be trusted."""

from __future__ import annotations

import datetime as dt
import getpass
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from drivers.protocols import ROLES
from labctl.archive.index import list_runs
from labctl.clock import utc_now
from labctl.doctor.check import Finding, State, Surroundings
from labctl.doctor.computer import REMOTE, existing, filesystem
from labctl.osal import home_directory, state_directory
from labctl.units import lingers, night_unit, unit_state

PURPOSE = "nightly"
SHARED = "/var/lib/benches"
LATE = dt.timedelta(hours=36)
"""A night that is older was left out: it begins once a day, and lasts some hours."""


def timer(around: Surroundings) -> Iterator[Finding]:
    """A night that was installed comes: its timer is on, also while nobody is logged in, and the last one is young."""
    if around.station is None or sys.platform == "win32":
        return
    bench = around.station.bench
    state = unit_state(night_unit(bench))
    if not state.installed:
        yield Finding(State.PASS, f"no timer of systemd for the bench {bench}   ·   labctl service install")
        return
    if not state.answers:
        fix = "labctl service install --as cron"
        yield Finding(State.WARN, f"the timer {state.unit} is installed, and no systemd of this user answers", fix)
    elif state.enabled is False:
        fix = f"systemctl --user enable --now {state.unit}.timer"
        yield Finding(State.WARN, f"the timer {state.unit} is installed and not switched on", fix)
    elif not lingers(getpass.getuser(), around.root):
        yield Finding(State.WARN, "nights come only while you are logged in", "loginctl enable-linger")
    else:
        yield Finding(State.PASS, f"the timer {state.unit} is on, next {state.next_start or 'unknown'}")
    yield from _last_night(around, bench)


def state_folder(around: Surroundings) -> Iterator[Finding]:
    """Locks of benches lie on a disk of this computer, and are those of all who use the bench.

    Over a network two computers may both get one; in a folder of one user nobody else sees them.
    """
    folder = existing(state_directory())
    kind = filesystem(around, folder)
    if kind in REMOTE:
        fix = "export XDG_STATE_HOME=FOLDER, on a disk of this computer"
        yield Finding(State.FAIL, f"{state_directory()} lies on {kind}: locks of benches cannot be trusted there", fix)
    elif _is_of_one_user(state_directory()) and around.backends(*ROLES):
        fix = f"one folder for all of its users, each with umask 002: sudo install -d -m 2775 -g GROUP {SHARED}; " + (
            f"export XDG_STATE_HOME={SHARED}"
        )
        said = f"locks of benches lie in {state_directory()}, of this user alone: another can open the devices, too"
        yield Finding(State.WARN, said, fix)
    else:
        yield Finding(State.PASS, f"locks of benches lie in {state_directory()} ({kind or 'file system not known'})")


def _is_of_one_user(folder: Path) -> bool:
    """Whether every user has another such folder."""
    home = home_directory()
    return not os.environ.get("XDG_STATE_HOME") or (home is not None and folder.is_relative_to(home))


def _last_night(around: Surroundings, bench: str) -> Iterator[Finding]:
    night = next((row for row in list_runs(around.runs) if row.bench == bench and f"-{PURPOSE}-" in row.run_id), None)
    if night is None:
        yield Finding(State.WARN, f"no night of the bench {bench} in {around.runs}", "labctl service status")
        return
    age = utc_now() - dt.datetime.fromisoformat(night.started)
    said = f"the last night, {night.run_id}, {age / dt.timedelta(hours=1):.0f} h ago, ended as {night.status}"
    if age > LATE:
        yield Finding(State.WARN, f"{said}: one was left out", "labctl service status")
    else:
        yield Finding(State.PASS, said)
