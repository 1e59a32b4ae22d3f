"""A bench whose light no program can switch: its runs say so, and are refused where nothing serves as dark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labctl.__main__ import main
from labctl.archive import find_run

LAMP = """
[devices.source]
backend = "always-on"
options = {{lamp = "halogen lamp", dark_by = "{dark_by}"}}
"""


@pytest.fixture
def station(small_file: Path, tmp_path: Path):
    def make(dark_by: str) -> Path:
        path = tmp_path / f"{dark_by}.toml"
        path.write_text(small_file.read_text() + LAMP.format(dark_by=dark_by))
        return path

    return make


def calibrate(station: Path, runs: Path) -> tuple[int, Path, list[dict[str, object]]]:
    code = main(["calibrate", "registration", "--bench", str(station), "--runs", str(runs), "--quiet"])
    run = find_run(runs, "latest")
    return code, run, [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]


def test_run_without_darkness_is_refused_before_it_pretends(station, tmp_path: Path, capsys) -> None:
    code, _, _ = calibrate(station("nothing"), tmp_path / "runs")
    assert code == 20
    assert "dark_by" in capsys.readouterr().err


def test_run_with_blank_panels_for_darkness_says_so(station, tmp_path: Path) -> None:
    code, run, events = calibrate(station("modulators"), tmp_path / "runs")
    assert code == 0
    (warning,) = (event for event in events if event["event"] == "warning")
    assert warning["device"] == "source"
    assert "cannot be switched off" in str(warning["words"])
    settings = json.loads((run / "snapshot-start.json").read_text())["devices"]["source"]["settings"]
    assert settings == {"is_on": True, "is_switchable": False, "dark_by": "modulators", "lamp": "halogen lamp"}
