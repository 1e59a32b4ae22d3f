"""What is listed and found of backends: also of those that crash, hang, print and lie."""

from __future__ import annotations

import importlib.metadata
import json
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import LIMIT_S

from drivers.backend import Found
from drivers.probe import Outcome, ProbeResult, _searched, how_it_ended, python_of_ours
from drivers.protocols import ROLES, Identity
from labctl.bench.lock import hold_bench
from labctl.instruments.stanzas import stanzas, station_text
from labctl.station.loading import load_station

ASKED = "camera", "meter", "panel", "crashes", "fails", "lies", "port", "needy", "gone"


@pytest.fixture(scope="module")
def found(acme_folder: Path) -> dict[str, Any]:
    """What one probe of all of Acme's backends says, as JSON."""
    command, environment = python_of_ours("labctl")
    environment["PYTHONPATH"] = f"{acme_folder}{':' if sys.platform != 'win32' else ';'}{environment['PYTHONPATH']}"
    done = subprocess.run(
        [*command, "devices", "probe", *(f"acme.{name}" for name in ASKED), "--limit-s", "60", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.parametrize(
    ("backend", "outcome", "detail"),
    [
        ("acme.camera", "found", ""),
        ("acme.meter", "none", ""),
        ("acme.panel", "cannot look", "by hand"),
        ("acme.crashes", "crashed", "crashed (signal 11, SIGSEGV): acme: no such bus"),
        ("acme.fails", "broken", "OSError: no permission for /dev/acme0"),
        ("acme.lies", "broken", "E-DEV-009 unknown option devices.camera.serail"),
        ("acme.needy", "not installed", "needs acme_sdk: pip install acme-sdk"),
        ("acme.gone", "broken", "has no attribute 'GONE'"),
    ],
)
def test_backend_that_fails_is_listed_with_the_reason_and_stops_no_other(
    found: dict[str, Any], backend: str, outcome: str, detail: str
) -> None:
    row = next(row for row in found["backends"] if row["backend"] == backend)
    assert row["outcome"] == outcome
    assert detail in row["detail"]


@pytest.mark.parametrize(
    ("said", "outcome"),
    [('{"done": 0}\n', Outcome.NONE), ('{"error": "E-DEV-001"}\n', Outcome.BROKEN), ("", Outcome.NO_ANSWER)],
)
def test_backend_that_has_said_all_and_does_not_end_has_answered(
    monkeypatch: pytest.MonkeyPatch, said: str, outcome: Outcome
) -> None:
    ended = []

    class Process:
        def __init__(self, command: list[str], stdout: Any, **rest: Any) -> None:
            stdout.write(said.encode())

        def wait(self, timeout: float) -> int:
            raise subprocess.TimeoutExpired("probe", timeout)

    monkeypatch.setattr("drivers.probe.subprocess.Popen", Process)
    monkeypatch.setattr("drivers.probe.end", ended.append)
    assert _searched("acme.camera", 1.0, set()).outcome == outcome
    assert len(ended) == 1


def test_backend_that_hangs_is_ended_and_listed(labctl: Any, acme: Path) -> None:
    code, out, _ = labctl("devices", "probe", "acme.hangs", "--limit-s", "2")
    assert code == 0
    assert "acme.hangs  no answer within 2 s" in out


def test_stanzas_of_a_probe_are_toml_that_names_the_very_device(found: dict[str, Any]) -> None:
    text = "\n\n".join(stanza["toml"] for stanza in found["stanzas"])
    devices = tomllib.loads(text)["devices"]
    assert devices["camera2"]["options"] == {"serial": 'A"1', "exposure_s": 0.5}
    assert devices["camera"] == {"backend": "acme.camera", "options": {"serial": "A2"}}
    assert "# note: scaled by 125 %: cannot be used" in text


def test_device_that_needs_more_than_can_be_found_is_listed_and_stays_a_comment(
    found: dict[str, Any], tmp_path: Path
) -> None:
    row = next(row for row in found["backends"] if row["backend"] == "acme.port")
    (port,) = row["devices"]
    assert port["note"] == "to be completed by hand: devices.camera.serial is missing, a string"
    device = Found("camera", Identity("Acme", "port", "1"), {"exposure_s": 0.5}, port["note"])
    text = station_text(stanzas([ProbeResult("acme.port", Outcome.FOUND, devices=(device,))]), tmp_path / "b.toml")
    assert "devices" not in tomllib.loads(text)
    assert "# A camera that is to be completed by hand:\n# Acme port, serial 1\n# note" in text
    assert "# camera: nothing found" in text


def test_probe_in_words_names_the_command_that_writes_the_file(labctl: Any, acme: Path) -> None:
    code, out, _ = labctl("devices", "probe", "acme.camera", "acme.panel")
    assert code == 0
    assert "acme.camera  2 found" in out
    assert "acme.panel   its devices are named in the station file by hand" in out
    assert "one camera, not 2: keep one of camera, camera2" in out
    assert "labctl station init --from-probe" in out


def test_nobody_looks_for_devices_while_a_bench_is_in_use(labctl: Any, acme: Path) -> None:
    with hold_bench("other") as held_by:
        held_by("20260101T000000Z-other-k7f2")
        for command in (("devices", "probe"), ("station", "init", "--from-probe", "new.toml")):
            code, _, err = labctl(*command)
            assert code == 75
            assert "k7f2" in err
        assert not Path("new.toml").exists()
        assert labctl("devices", "probe", "acme.meter", "--while-in-use")[0] == 0
    assert labctl("devices", "probe", "acme.meter")[0] == 0


def test_probe_of_an_unknown_backend_is_refused(labctl: Any, acme: Path) -> None:
    code, _, err = labctl("devices", "probe", "acme.camra")
    assert code == 2
    assert "did you mean acme.camera?" in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a signal")
def test_ctrl_c_ends_a_search_that_hangs_at_once(acme: Path) -> None:
    command, environment = python_of_ours("labctl")
    hangs = acme / "hangs"
    process = subprocess.Popen(
        [*command, "devices", "probe", "acme.hangs", "--limit-s", "100"],
        env={**environment, "ACME_HANGS": str(hangs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not hangs.exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err


def test_list_says_what_is_lacking_and_marks_what_no_device_has_answered(labctl: Any, acme: Path) -> None:
    code, out, _ = labctl("devices", "list")
    assert code == 0
    words = " ".join(out.split())
    assert "acme.needy not installed camera needs acme_sdk: pip install acme-sdk" in words
    assert "CONTRACT FAKE: Hamamatsu ORCA" in words
    assert "not run: Acme Eye 3" in words
    assert "warning: the laser needs ten minutes to warm up" in words
    assert max(map(len, out.splitlines())) <= 110


def test_word_finds_an_instrument_in_any_backend_and_role_narrows(labctl: Any, acme: Path) -> None:
    out = labctl("devices", "list", "HAMAMATSU")[1]
    assert re.search(r"CONTRACT FAKE +Hamamatsu ORCA\n +a fake of its DCAM library; tests/endpoints/test_acme.py", out)
    assert "Eye" not in out
    listed = json.loads(labctl("devices", "list", "--role", "source", "--json")[1])["backends"]
    assert {backend["name"] for backend in listed} >= {"acme.source", "mock.source"}
    assert all("source" in backend["roles"] for backend in listed)
    assert labctl("devices", "list", "leica")[0] == 2
    assert labctl("devices", "list", "--role", "sorce")[0] == 2


def test_json_of_the_list_is_complete(labctl: Any, acme: Path) -> None:
    (camera,) = json.loads(labctl("devices", "list", "acme.camera", "--json")[1])["backends"]
    assert camera["state"] == "ok"
    assert camera["discovers"]
    assert camera["families"][2] == {
        "name": "Hamamatsu ORCA",
        "proof": "contract fake",
        "proven_by": "a fake of its DCAM library",
        "test": "tests/endpoints/test_acme.py",
    }


plain = st.recursive(
    st.text() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    role=st.sampled_from(list(ROLES)),
    words=st.tuples(st.text(), st.text(), st.text(), st.text()),
    options=st.dictionaries(st.text(), plain, max_size=3),
    note=st.text(),
)
def test_any_device_makes_a_stanza_that_reads_back(
    role: str, words: tuple[str, str, str, str], options: dict[str, Any], note: str
) -> None:
    device = Found(role, Identity(*words), options, note)
    first, second = stanzas([ProbeResult("acme", Outcome.FOUND, devices=(device, device))])
    devices = tomllib.loads(f"{first.toml()}\n\n{second.toml()}")["devices"]
    assert devices[role].get("options", {}) == options
    assert devices[f"{role}2"]["role"] == role


def test_station_of_a_full_bench_loads_as_hardware_with_alternatives_as_comments(tmp_path: Path) -> None:
    devices = [Found(role, Identity("Acme", role, "1"), {"serial": "1"}) for role in ROLES]
    spare = Found("camera", Identity("Acme", "spare", "2"), {"serial": "2"})
    path = tmp_path / "my bench (1).toml"
    path.write_text(station_text(stanzas([ProbeResult("acme", Outcome.FOUND, devices=(*devices, spare))]), path))
    station = load_station(path).station
    assert (station.bench.name, station.bench.mode) == ("my-bench-1", "hardware")
    assert station.devices["camera"].options == {"serial": "1"}
    assert "# Or, as the camera:\n# Acme spare, serial 2\n# [devices.camera]\n# backend" in path.read_text()


def test_bench_with_a_device_that_a_note_speaks_against_is_not_called_hardware(tmp_path: Path) -> None:
    devices = [Found(role, Identity("Acme", role, "1"), {}, "emulated" * (role == "slm")) for role in ROLES]
    text = station_text(stanzas([ProbeResult("acme", Outcome.FOUND, devices=tuple(devices))]), tmp_path / "b.toml")
    assert tomllib.loads(text)["bench"]["mode"] == "mock"
    assert "hardware, once you have read the notes on slm" in text


def test_endings_of_a_process_in_words() -> None:
    assert how_it_ended(-11) == "signal 11, SIGSEGV"
    assert how_it_ended(3) == "exit code 3"
    assert how_it_ended(0xC0000005) == "exit code 0xC0000005"


def test_station_from_a_probe_says_what_is_missing_and_passes_the_check(
    labctl: Any, acme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = importlib.metadata.entry_points(group="labctl.drivers")
    ours = [point for point in installed if point.name.startswith(("acme.", "mock."))]
    quick = [point for point in ours if point.name not in ("acme.hangs", "acme.crashes")]
    monkeypatch.setattr("drivers.registry._points", lambda: quick)
    code, out, _ = labctl("station", "init", "--from-probe", "found.toml")
    assert code == 0
    assert "not found: source, display" in out
    assert "2 devices fit the role camera: camera is used" in out
    station = load_station("found.toml").station
    assert (station.bench.name, station.bench.mode) == ("found", "mock")
    assert station.devices["camera"].options == {"serial": "A2"}
    assert station.devices["slm"].backend == "acme.logged"
    assert labctl("station", "check", "--bench", "found.toml")[0] == 0
    before = Path("found.toml").read_text()
    assert labctl("station", "init", "--from-probe", "found.toml")[0] == 2
    assert Path("found.toml").read_text() == before
