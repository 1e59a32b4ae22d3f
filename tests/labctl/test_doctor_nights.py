"""What ``labctl doctor`` says of nights, of the disk below its floor, and of locks on a disk of others."""

from __future__ import annotations

import datetime as dt
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from labctl import units
from labctl.archive import RunWriter
from labctl.clock import played_at
from labctl.doctor import computer, nights
from labctl.doctor.check import State, Surroundings
from labctl.station.loading import load_station
from labctl.verdicts import Verdict

NOW = dt.datetime(2026, 12, 5, 8, tzinfo=dt.UTC)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="timers of systemd")


class Usage(NamedTuple):
    free: float


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    """A computer on which the mock's night is installed and on, for somebody whose services linger."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(units, "ask", lambda *words: {"is-enabled": "enabled\n"}.get(words[0], "HOME=/"))
    monkeypatch.setattr("getpass.getuser", lambda: "maria")
    units.unit_folder().mkdir(parents=True)
    (units.unit_folder() / "labctl-night-mock.timer").write_text("[Timer]\n")
    linger = tmp_path / "root/var/lib/systemd/linger/maria"
    linger.parent.mkdir(parents=True)
    linger.touch()
    return Surroundings(load_station(), tmp_path / "runs", root=tmp_path / "root")


def night(here: Surroundings, when: dt.datetime, verdict: Verdict = Verdict.OK) -> None:
    with played_at(when):
        run = RunWriter.create(here.runs, nights.PURPOSE, load_station())
        run.finish(verdict, None, 0)
        run.close()


def states(here: Surroundings, look: Callable = nights.timer) -> list[State]:
    with played_at(NOW):
        return [finding.state for finding in look(here)]


def test_night_of_today_is_well_and_says_how_it_ended(here: Surroundings) -> None:
    night(here, NOW - dt.timedelta(hours=6), Verdict.FAULT)
    with played_at(NOW):
        on, last = nights.timer(here)
    assert (on.state, last.state) == (State.PASS, State.PASS)
    assert "6 h ago, ended as fault" in last.detail


def test_night_that_was_left_out_or_never_came_is_a_warning(here: Surroundings) -> None:
    assert states(here) == [State.PASS, State.WARN]
    night(here, NOW - dt.timedelta(hours=54))
    assert states(here) == [State.PASS, State.WARN]


def test_timer_that_is_off_or_waits_for_a_login_is_a_warning(
    here: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here.root / "var/lib/systemd/linger/maria").unlink()
    assert states(here)[0] is State.WARN
    monkeypatch.setattr(units, "ask", lambda *words: {"is-enabled": "disabled\n"}.get(words[0], "HOME=/"))
    assert "enable --now labctl-night-mock.timer" in next(iter(nights.timer(here))).fix


def test_timer_that_no_systemd_looks_at_is_a_warning(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "ask", lambda *words: "enabled\n" if words[0] == "is-enabled" else "")
    (found, _) = nights.timer(here)
    assert (found.state, found.fix) == (State.WARN, "labctl service install --as cron")


def test_bench_without_a_timer_is_well(here: Surroundings) -> None:
    (units.unit_folder() / "labctl-night-mock.timer").unlink()
    assert states(here) == [State.PASS]


@pytest.mark.parametrize(("kind", "state"), [("ext4", State.PASS), ("nfs4", State.FAIL), ("cifs", State.FAIL)])
def test_locks_over_a_network_cannot_be_trusted(here: Surroundings, kind: str, state: State) -> None:
    (here.root / "proc/self").mkdir(parents=True)
    (here.root / "proc/self/mounts").write_text(f"/dev/sda1 / {kind} rw 0 0\n")
    assert states(here, nights.state_folder) == [state]


def test_disk_below_the_floor_of_the_station_fails(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(30e9))
    assert states(here, computer.disk) != [State.FAIL]
    station = load_station(overrides=["acquisition.disk_floor_gb=40.0"])
    (finding,) = computer.disk(Surroundings(station, here.runs, root=here.root))
    assert finding.state is State.FAIL
    assert "disk_floor_gb" in finding.detail


def test_lock_of_one_user_alone_is_a_warning_where_devices_are_real(
    here: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = replace(here, station=load_station(overrides=["devices.camera.backend=opencv"]))
    monkeypatch.setattr(nights, "home_directory", lambda: tmp_path / "home")
    for folder, state in ((tmp_path / "home/state", State.WARN), (tmp_path / "shared", State.PASS)):
        monkeypatch.setenv("XDG_STATE_HOME", str(folder))
        assert states(here, nights.state_folder) == [State.PASS]
        assert states(real, nights.state_folder) == [state]
    monkeypatch.delenv("XDG_STATE_HOME")
    (finding,) = nights.state_folder(real)
    assert "XDG_STATE_HOME=" in finding.fix
