"""``devices test``, ``live`` and ``show``: on the mock, and on devices that hang, break the contract, or are in use."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import LIMIT_S
from rich.console import Console

from drivers.probe import python_of_ours
from labctl.bench.lock import hold_bench
from labctl.errors import UsageError
from labctl.instruments import window
from labctl.instruments.patterns import KINDS, pattern
from labctl.instruments.picture import draw, histogram, numbers, shrunk
from labctl.locks import BenchFiles

STATION = """
[bench]
name = "acme"

[devices.camera]
backend = "acme.camera"
options = {{serial = "A2"}}

[devices.slm]
backend = "acme.logged"
options = {{log = "{folder}/slm.txt"}}

[devices.display]
backend = "acme.deaf"

[devices.source]
backend = "acme.source"
options = {{log = "{folder}/light.txt"}}

[devices.door]
role = "interlock"
backend = "acme.interlock"
options = {{tripped = "{tripped}"}}
"""


@pytest.fixture
def station(acme: Path) -> Path:
    return write_station(acme)


def write_station(folder: Path, tripped: str = "") -> Path:
    path = folder / "acme.toml"
    path.write_text(STATION.format(folder=folder.as_posix(), tripped=tripped))
    return path


def rows(out: str) -> dict[str, dict[str, Any]]:
    return {row["test"]: row for row in json.loads(out)["rows"]}


def test_contract_passes_on_a_camera_and_reads_as_sentences(labctl: Any, station: Path) -> None:
    code, out, _ = labctl("devices", "test", "camera", "--bench", str(station))
    assert code == 0, out
    assert "PASS      roi off the sensor is refused\n" in out
    assert "SKIP      no frame began before arm: this camera's clock cannot be read by a test" in out
    assert re.fullmatch(r"camera \(fake FreeRunning\): \d+ passed, 1 skipped", out.splitlines()[-1])


def test_camera_that_software_paces_is_given_the_tolerance_that_is_asked_for(labctl: Any, acme: Path) -> None:
    Path("s.toml").write_text('[devices.camera]\nbackend = "acme.sloppy"\n')
    code, out, _ = labctl("devices", "test", "camera", "--bench", "s.toml", "--json")
    assert code == 10
    assert rows(out)["sequence comes complete"]["state"] == "FAIL"
    assert "does not hold: np.diff(block.device_time_s)" in rows(out)["sequence comes complete"]["why"]
    assert labctl("devices", "test", "camera", "--bench", "s.toml", "--period-tolerance", "0.5")[0] == 0


def test_contract_follows_what_the_device_can_do(labctl: Any) -> None:
    code, out, _ = labctl("devices", "test", "slm", "--json")
    assert code == 0, out
    assert json.loads(out)["contract"] == "SequencePanelContract"
    assert rows(out)["a list counts each of its patterns"]["state"] == "PASS"


def test_test_that_hangs_is_ended_and_the_others_say_that_they_were_not_run(labctl: Any, station: Path) -> None:
    code, out, _ = labctl("devices", "test", "display", "--bench", str(station), "--limit-s", "12", "--json")
    assert code == 10
    found = rows(out)
    assert found["any integer type is shown"]["state"] == "FAIL"
    assert "did not come back within 12 s" in found["any integer type is shown"]["why"]
    assert found["another shape is refused"]["state"] == "NOT RUN"
    assert found["use after close says that the device is gone"] | {"text": ""} == {
        "test": "use after close says that the device is gone",
        "state": "FAIL",
        "why": "it did not refuse: no DeviceLost was raised",
        "text": "",
    }
    assert json.loads(out)["safe"]
    assert not BenchFiles("acme").note.exists()


def test_suite_that_pytest_cannot_run_is_no_pass(labctl: Any, acme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", "no_such_plugin")
    code, _, err = labctl("devices", "test", "slm")
    assert code == 20
    assert "the contract suite could not be run" in err


@pytest.mark.skipif(sys.platform == "win32", reason="dies of a signal")
def test_driver_that_takes_its_process_with_it_fails_the_test_or_does_not_open(labctl: Any, acme: Path) -> None:
    Path("s.toml").write_text('[devices.slm]\nbackend = "acme.fatal"\n')
    code, out, _ = labctl("devices", "test", "slm", "--bench", "s.toml", "--json")
    assert code == 10
    row = rows(out)["safe state is idempotent and valid after close"]
    assert row["state"] == "FAIL"
    assert "the driver took its process with it: signal 11, SIGSEGV" in row["why"]
    Path("s.toml").write_text('[devices.slm]\nbackend = "acme.opens-not"\n')
    code, _, err = labctl("devices", "test", "slm", "--bench", "s.toml")
    assert code == 20
    assert "E-DEV-002  slm: the driver took its process with it (open)" in err
    assert "signal 11, SIGSEGV: acme: no such bus" in err


def test_light_is_switched_on_only_when_allowed_and_the_interlock_is_closed(labctl: Any, acme: Path) -> None:
    station, light = write_station(acme), acme / "light.txt"
    code, out, _ = labctl("devices", "test", "source", "--bench", str(station))
    assert code == 0
    assert "LEFT OUT  safe state is dark: it would switch the light on" in out
    assert "with them: --light" in out
    assert not light.exists()
    code, out, err = labctl("devices", "test", "source", "--bench", str(station), "--light")
    assert code == 0
    assert "warning: the light is switched on" in err
    assert "PASS      safe state is dark\n" in out
    assert re.fullmatch(r"source \(Acme Laser\): \d+ passed", out.splitlines()[-1])
    assert light.read_text()
    light.unlink()
    write_station(acme, tripped="door open")
    code, _, err = labctl("devices", "test", "source", "--bench", str(station), "--light")
    assert code == 21
    assert "door: the interlock is open: door open" in err
    assert not light.exists()


def test_device_that_does_not_open_is_an_error_and_no_broken_promise(labctl: Any, acme: Path) -> None:
    Path("s.toml").write_text('[devices.camera]\nbackend = "acme.fails"\noptions = {serial = "1"}\n')
    code, _, err = labctl("devices", "test", "camera", "--bench", "s.toml")
    assert code == 20
    assert "E-DEV-002  camera: camera did not open: OSError: no such port /dev/acme0" in err


def test_missing_pytest_says_what_to_install(labctl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "pytest" else found(name, *a))
    code, _, err = labctl("devices", "test", "camera")
    assert code == 2
    assert "pip install pytest" in err


@pytest.mark.parametrize("command", [("test", "slm"), ("live", "camera", "--once"), ("show", "slm", "blank")])
def test_bench_in_use_is_left_alone(labctl: Any, station: Path, command: tuple[str, ...]) -> None:
    with hold_bench("acme") as held_by:
        held_by("20260101T000000Z-acme-k7f2")
        code, _, err = labctl("devices", *command, "--bench", str(station))
    assert code == 75
    assert "k7f2" in err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("test", "camra"), "no device 'camra'"),
        (("live", "slm"), "slm is no camera"),
        (("live", "camera", "--roi", "1,2"), "X,Y,WIDTH,HEIGHT"),
        (("live", "camera", "--save", "frame.jpg"), "--save FILE.png"),
        (("live", "camera", "--show", "slm"), "PANEL=PATTERN"),
        (("show", "camera", "blank"), "camera is no slm or display"),
        (("show", "slm", "chekcer"), "did you mean checker?"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(labctl: Any, station: Path, command: Any, words: str) -> None:
    code, _, err = labctl("devices", *command, "--bench", str(station))
    assert code == 2
    assert words in err


def test_one_picture_of_the_mock_shows_the_letter_that_its_panel_shows(labctl: Any, tmp_path: Path) -> None:
    lit = ("--light", "--show", "slm=text=F", "--show", "display=level=255")
    code, out, err = labctl("devices", "live", "camera", "--once", *lit, "--save", str(tmp_path / "f.png"))
    assert code == 0
    assert "the light is on: source" in err
    assert "12 bit" in out
    assert "4095 DN" in out
    frame = cv2.imread(str(tmp_path / "f.png"), cv2.IMREAD_UNCHANGED)
    assert frame.shape == (1100, 1380)
    assert frame.dtype == np.uint16
    letter = shrunk(frame, 20, 20)[0] > frame.max() / 3
    rows, columns = np.nonzero(letter)
    left, right = np.sum(columns < columns.mean()), np.sum(columns > columns.mean())
    assert left > right
    assert letter[rows.min()].sum() > letter[rows.max()].sum()


def test_light_and_panel_are_as_before_when_the_look_is_over(labctl: Any, station: Path, acme: Path) -> None:
    code, out, _ = labctl(
        "devices", "live", "camera", "--once", "--show", "slm=level=200", "--bench", str(station), "--json"
    )
    assert code == 0
    document = json.loads(out)
    assert document["device"] == "camera"
    assert document["high"] <= 4095
    assert not (acme / "light.txt").exists()


def test_open_interlock_keeps_the_light_off(labctl: Any, acme: Path) -> None:
    station = write_station(acme, tripped="door open")
    assert labctl("devices", "live", "camera", "--once", "--light", "--bench", str(station))[0] == 21
    assert labctl("devices", "show", "slm", "blank", "--light", "--bench", str(station))[0] == 21
    assert not (acme / "light.txt").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_live_without_a_terminal_is_a_line_per_frame_until_it_is_stopped(
    station: Path, number: signal.Signals, code: int
) -> None:
    command, environment = python_of_ours("labctl")
    process = subprocess.Popen(
        [*command, "devices", "live", "camera", "--bench", str(station), "--exposure", "0.005"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, err
    assert first.startswith("frame ")
    assert "exposure 5 ms" in first


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_live_on_a_terminal_draws_and_ends_with_the_last_frame_in_words(station: Path) -> None:
    import pty

    command, environment = python_of_ours("labctl")
    environment |= {"TERM": "xterm-256color", "COLUMNS": "90", "LINES": "30", "COLORTERM": "truecolor"}
    environment.pop("NO_COLOR", None)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*command, "devices", "live", "camera", "--bench", str(station)],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    deadline_s = time.monotonic() + LIMIT_S
    while seen.count(b"\x1b[H") < 3 and time.monotonic() < deadline_s:
        seen += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    try:
        while more := os.read(ours, 65536):
            seen += more
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(LIMIT_S) == 0
    text = seen.decode(errors="replace")
    assert "▀" in text
    assert "looks/s" in text
    last = text.rpartition("\x1b[?1049l")[2]
    assert "frame " in last
    assert "exposure" in last


def test_panel_is_blank_after_the_pattern(labctl: Any, station: Path, acme: Path) -> None:
    code, out, _ = labctl("devices", "show", "slm", "level=200", "--seconds", "0.3", "--bench", str(station))
    assert code == 0
    assert "slm (64 × 48 px, 256 levels) shows level=200" in out
    assert (acme / "slm.txt").read_text().split() == ["200-200", "0-0"]


@given(
    kind=st.sampled_from(list(KINDS)),
    shape=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    levels=st.sampled_from([2, 3, 256, 4096]),
)
def test_every_pattern_fits_every_panel(kind: str, shape: tuple[int, int], levels: int) -> None:
    made = pattern(kind, shape, levels)
    assert made.shape == shape
    assert made.dtype.kind in "iu"
    assert made.min() >= 0
    assert made.max() <= levels - 1


def test_patterns_are_what_they_are_called() -> None:
    assert pattern("checker=1", (2, 3), 256).tolist() == [[0, 255, 0], [255, 0, 255]]
    assert pattern("level 7", (1, 2), 256).tolist() == [[7, 7]]
    assert pattern("grating=4", (1, 8), 256).tolist() == [[0, 64, 128, 192] * 2]
    assert pattern("ramp", (1, 4), 4).tolist() == [[0, 1, 2, 3]]
    cross = pattern("cross=1", (3, 3), 2).tolist()
    assert cross == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


@pytest.mark.parametrize(
    "text", ["level=256", "level=-1", "checker=0", "checker=x", "blank=3", "grating=1", "text=ü", "no.png", "", "=3"]
)
def test_pattern_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        pattern(text, (8, 8), 256)


def test_file_is_shown_pixel_by_pixel_or_refused(tmp_path: Path) -> None:
    levels = np.arange(48, dtype=np.uint16).reshape(6, 8)
    np.save(tmp_path / "a.npy", levels)
    cv2.imwrite(str(tmp_path / "a.png"), levels)
    for name in ("a.npy", "a.png"):
        assert np.array_equal(pattern(str(tmp_path / name), (6, 8), 256), levels)
        with pytest.raises(UsageError, match="does not fit"):
            pattern(str(tmp_path / name), (8, 6), 256)
        with pytest.raises(UsageError, match="out of range"):
            pattern(str(tmp_path / name), (6, 8), 16)
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    cv2.imwrite(str(tmp_path / "c.png"), np.zeros((6, 8, 3), np.uint8))
    (tmp_path / "e.png").write_bytes(b"")
    for name in ("o.npy", "c.png", "e.png"):
        with pytest.raises(UsageError):
            pattern(str(tmp_path / name), (6, 8), 256)


@given(shape=st.tuples(st.integers(1, 70), st.integers(1, 70)), size=st.tuples(st.integers(1, 50), st.integers(2, 50)))
def test_shrunk_picture_fits_keeps_the_light_and_the_brightest_pixel(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    frame = np.random.default_rng(1).integers(0, 4096, shape).astype(np.uint16)
    mean, highest = shrunk(frame, *size)
    assert mean.shape == highest.shape
    assert mean.shape[0] <= size[1]
    assert mean.shape[1] <= size[0]
    assert highest.max() == frame.max()
    assert frame.min() <= mean.min()
    assert mean.max() <= frame.max()


def test_one_saturated_pixel_of_a_large_frame_is_red() -> None:
    frame = np.full((1000, 1000), 100, np.uint16)
    frame[777, 123] = 4095
    console = Console(color_system="truecolor", force_terminal=True, width=60)
    with console.capture() as captured:
        console.print(draw(frame, 4095, (40, 20), (0, 200), colours=True))
    assert captured.get().count("255;40;40") == 1
    with console.capture() as captured:
        console.print(histogram(frame, 4095, 40, 4))
    assert "255;40;40" in captured.get()
    assert numbers(frame, 4095).saturated == 1e-6
    plain = Console(color_system=None, width=60)
    with plain.capture() as captured:
        plain.print(draw(frame, 4095, (40, 20), (0, 200), colours=False))
    assert captured.get().count("!") == 1
    assert np.array_equal(window.in_colours(frame, 4095)[777, 123], (255, 40, 40))


@pytest.mark.parametrize("full_scale_dn", [1, 255, 1023, 65535])
def test_histogram_counts_on_an_axis_to_full_scale(full_scale_dn: int) -> None:
    frame = np.full((10, 10), full_scale_dn, np.uint16)
    *bars, axis = histogram(frame, full_scale_dn, 60, 3).plain.split("\n")
    assert [bar.rstrip()[-1] for bar in bars] == ["█"] * 3
    assert {bar.strip() for bar in bars} == {"█"}
    assert axis.startswith("0")
    assert axis.endswith(f"{full_scale_dn} DN")


def test_frames_reach_the_window_as_they_are_and_it_knows_when_there_are_no_more() -> None:
    frame = np.random.default_rng(2).integers(0, 65536, (5, 7)).astype(np.uint16)
    pipe = io.BytesIO()
    window.send(pipe, window.Shown(frame[::-1, ::-1], 65535, "µ · °C"))
    pipe.seek(0)
    shown = window.receive(pipe)
    assert shown is not None
    assert np.array_equal(shown.frame, frame[::-1, ::-1])
    assert shown[1:] == (65535, "µ · °C")
    assert window.receive(pipe) is None
    assert window.receive(io.BytesIO(pipe.getvalue()[:-1])) is None


@pytest.mark.skipif(sys.platform != "linux", reason="displays of Linux")
def test_window_that_ends_by_itself_does_not_end_the_command(labctl: Any, station: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("DISPLAY", ":98765")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    code, _, err = labctl("devices", "live", "camera", "--window", "--bench", str(station))
    assert code == 2
    assert "window" in err
    assert "without --window" in err


@pytest.mark.skipif(sys.platform != "linux", reason="displays of Linux")
def test_window_without_a_display_is_refused_in_words(labctl: Any, station: Path, monkeypatch: Any) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = labctl("devices", "live", "camera", "--window", "--bench", str(station))
    assert code == 2
    assert "without --window" in err
