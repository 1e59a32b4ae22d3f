"""What the shell completes: options, and names of runs and calibrations."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from labctl.archive.index import RunRow
from labctl.cli import app
from labctl.cli.completing import calibration_names, run_names

RUNS = ["20261129T204752Z-demo-r7f7", "20261128T204752Z-nightly-k2p0"]


@pytest.fixture
def two_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [RunRow(name, "ok", "demo", "mock", "mock", "", None, 1, Path(name)) for name in RUNS]
    monkeypatch.setattr("labctl.archive.index.list_runs", lambda root: rows)


def completed(typed: str, tmp_path: Path) -> list[str]:
    words = typed.split(" ")
    told = {"_LABCTL_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    done = CliRunner().invoke(app, [], prog_name="labctl", env={**told, "LABCTL_RUNS": str(tmp_path)})
    return done.stdout.split()


def test_commands_options_and_runs_are_completed(two_runs: None, tmp_path: Path):
    assert completed("labctl ca", tmp_path) == ["calibrate", "calib"]
    assert "--photons-per-mac" in completed("labctl simulate --ph", tmp_path)
    assert completed("labctl report ", tmp_path) == ["latest", *RUNS]
    assert completed("labctl run show 20261128", tmp_path) == RUNS[1:]


def test_the_end_of_a_runs_id_is_completed_too(two_runs: None, tmp_path: Path):
    assert completed("labctl report r7", tmp_path) == ["r7f7"]


def test_calibrations_are_completed_with_their_bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    class Store:
        def __init__(self, runs: Path) -> None:
            assert runs == tmp_path

        def rows(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(id="cal-a4da", acquired="2026-11-29T20:00:00", bench="table")]

        def benches(self) -> list[str]:
            return ["table", "other"]

        def applied(self, bench: str) -> str | None:
            return "cal-a4da" if bench == "table" else None

    monkeypatch.setattr("labctl.archive.calibrations.CalibrationStore", Store)
    assert completed("labctl simulate ", tmp_path) == ["latest", "table", "cal-a4da"]
    assert completed("labctl calib diff cal", tmp_path) == ["cal-a4da"]


def test_an_archive_that_cannot_be_read_completes_nothing_and_says_nothing(tmp_path: Path):
    (tmp_path / "runs").write_text("no folder")
    broken = SimpleNamespace(params={"runs": tmp_path / "runs"})
    assert run_names(broken, "") == []
    assert calibration_names(broken, "") == []
