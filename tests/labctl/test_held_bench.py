"""A bench that other people's objects hold: locked, lit, settled, and safe however its use ends."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import LIMIT_S

from drivers.errors import CapabilityError, DeviceLost, DeviceTimeout
from drivers.protocols import Roi, Trip
from labctl.bench.marks import look_at
from labctl.doors import held as module
from labctl.doors.held import HeldBench, station_of
from labctl.doors.packages import require_package
from labctl.errors import BenchBusy, InterlockOpen, LockGone, UsageError
from labctl.locks import BenchFiles
from labctl.station.loading import load_station
from labctl.station.model import Station

TINY = """
[bench]
name = "tiny"
[devices.door]
role = "interlock"
backend = "mock.interlock"
[mock]
slm = { rows = 64, cols = 80 }
display = { rows = 64, cols = 80 }
camera = { rows = 75, cols = 95 }
"""


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "state"))
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def held(station: Path) -> Iterator[HeldBench]:
    found = HeldBench(station, "a test")
    yield found
    found.close()


def trip(held: HeldBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The door opens, and is asked about at once."""
    monkeypatch.setattr(held.bench.interlocks["door"], "check", lambda timeout_s=2.0: Trip("the door is open"))
    monkeypatch.setattr(module, "ASK_EVERY_S", 0.0)


def test_it_holds_the_bench_and_its_light_is_on_until_it_is_closed(held: HeldBench, station: Path) -> None:
    source = held.bench.source
    assert source.is_on
    assert look_at("tiny").held
    with pytest.raises(BenchBusy, match="another process holds the bench"):
        HeldBench(station, "another")
    held.close()
    held.close()
    assert held.is_closed
    assert not look_at("tiny").held
    assert not look_at("tiny").unsafe
    with pytest.raises(DeviceLost):
        _ = source.is_on


def test_a_closed_bench_says_so(held: HeldBench) -> None:
    held.close()
    for use in (lambda: held.frames(1, 1.0), lambda: held.fill("slm"), lambda: held.roi, lambda: held.exposure_s):
        with pytest.raises(DeviceLost, match="the bench is closed"):
            use()


def test_frames_have_settled_after_a_panel_has_changed(held: HeldBench) -> None:
    held.fill("display")
    held.fill("slm", 0)
    held.frames(1, 1.0)
    held.fill("slm")
    after = held.frames(12, 1.0).frames.mean(axis=(1, 2))
    assert abs(after[0] / after[-1] - 1) < 0.01


def test_unsettled_frames_can_be_asked_for(station: Path) -> None:
    bench = HeldBench(station, "a test", settle_frames=0)
    bench.fill("display")
    bench.fill("slm", 0)
    bench.frames(30, 1.0)
    bench.fill("slm")
    after = bench.frames(30, 1.0).frames.mean(axis=(1, 2))
    bench.close()
    assert after[0] < 0.9 * after[-1]
    with pytest.raises(UsageError, match="fewer than none"):
        HeldBench(station, "a test", settle_frames=-1)


def test_a_picture_that_is_shown_already_owes_no_settling(held: HeldBench) -> None:
    held.fill("slm", 7)
    first = held.frames(1, 1.0).sequence[0]
    held.fill("slm", 7)
    assert held.frames(1, 1.0).sequence[0] == first + 1
    held.fill("slm", 8)
    assert held.frames(1, 1.0).sequence[0] > first + 2


def test_levels_that_do_not_fit_are_refused_and_the_light_stays(held: HeldBench) -> None:
    for bad in (np.full((64, 80), 256), np.full((64, 80), -1), np.zeros((64, 80)), np.zeros((2, 2), np.uint8)):
        with pytest.raises(CapabilityError):
            held.show("slm", bad)
    with pytest.raises(CapabilityError):
        held.fill("slm", 300)
    with pytest.raises(UsageError, match="no such panel"):
        held.fill("mirror")
    assert held.bench.source.is_on


@pytest.mark.parametrize("number", [1.5, 1.0, "1", True])
def test_numbers_that_are_not_whole_are_refused_not_rounded(number: object, held: HeldBench, station: Path) -> None:
    with pytest.raises(UsageError, match="no whole number"):
        held.fill("slm", number)
    with pytest.raises(UsageError, match="no whole number"):
        HeldBench(station, "a test", settle_frames=number)


def test_an_open_interlock_switches_the_light_off_until_it_is_closed(
    held: HeldBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.frames(1, 1.0)
    with monkeypatch.context() as patch:
        trip(held, patch)
        with pytest.raises(InterlockOpen, match="the door is open"):
            held.frames(1, 1.0)
        assert not held.bench.source.is_on
        with pytest.raises(InterlockOpen):
            held.light = True
        assert not held.bench.source.is_on
    held.frames(1, 1.0)
    assert held.bench.source.is_on


def test_it_does_not_open_with_an_open_interlock(station: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mock_hardware.slow.MockInterlock.check", lambda self, timeout_s=2.0: Trip("the door is open"))
    with pytest.raises(InterlockOpen):
        HeldBench(station, "a test")
    assert not look_at("tiny").held


def test_a_camera_that_fails_leaves_no_light_and_nothing_armed(
    held: HeldBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.fill("display")
    held.fill("slm", 3)
    with monkeypatch.context() as patch:

        def silent(timeout_s: float) -> None:
            raise DeviceTimeout("no frame", device="camera", action="fetch")

        patch.setattr(held.bench.camera, "fetch", silent)
        with pytest.raises(DeviceTimeout):
            held.frames(1, 1.0)
    assert not held.bench.source.is_on
    before = held.bench.camera.now().sequence  # type: ignore[attr-defined]
    assert held.frames(1, 1.0).frames.mean() > 100
    assert held.bench.source.is_on
    assert held.bench.camera.now().sequence > before + 1  # type: ignore[attr-defined]  # settling is still owed


def test_light_can_be_switched(held: HeldBench) -> None:
    held.fill("display")
    held.fill("slm")
    lit = held.frames(1, 1.0).frames.mean()
    held.light = False
    assert not held.bench.source.is_on
    assert held.frames(1, 1.0).frames.mean() < 0.5 * lit
    held.light = True
    assert held.frames(1, 1.0).frames.mean() == pytest.approx(lit, rel=0.05)


@pytest.mark.parametrize("dark_by", ["nothing", "modulators"])
def test_a_light_that_no_program_can_switch_stays_on_and_says_so(station: Path, dark_by: str) -> None:
    lamp = f'[devices.source]\nbackend = "always-on"\noptions = {{lamp = "halogen lamp", dark_by = "{dark_by}"}}\n'
    station.write_text(TINY + lamp, encoding="utf-8")
    bench = HeldBench(station, "a test")
    with pytest.raises(CapabilityError):
        bench.light = False
    assert bench.light
    bench.close()


def test_a_lock_that_is_gone_closes_the_bench(held: HeldBench) -> None:
    BenchFiles("tiny").lock.unlink()
    with pytest.raises(LockGone):
        held.frames(1, 1.0)
    assert held.is_closed


def test_a_bench_that_nobody_refers_to_is_closed(station: Path) -> None:
    bench = HeldBench(station, "a test")
    around = [bench]
    around.append(around)  # type: ignore[arg-type]  # a ring
    del bench, around
    gc.collect()
    assert not look_at("tiny").held
    assert not look_at("tiny").unsafe


@pytest.mark.parametrize("end", ["1 / 0", "raise KeyboardInterrupt"])
def test_the_end_of_a_script_closes_the_bench(station: Path, end: str) -> None:
    code = f"from labctl.doors.held import HeldBench\nbench = HeldBench({str(station)!r}, 'a script')\n{end}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode != 0
    assert end.split()[-1] in done.stderr or "ZeroDivisionError" in done.stderr
    assert not look_at("tiny").held
    assert not look_at("tiny").unsafe


def test_a_bench_whose_process_was_killed_is_made_safe_before_it_opens_again(station: Path) -> None:
    code = f"import os\nfrom labctl.doors.held import HeldBench\nbench = HeldBench({str(station)!r}, 'x')\n"
    done = subprocess.run([sys.executable, "-c", code + "os._exit(9)"], timeout=LIMIT_S, check=False)
    assert done.returncode == 9
    assert look_at("tiny").unsafe
    with pytest.MonkeyPatch.context() as patch:
        told: list[str] = []
        patch.setattr("labctl.engine.holding.is_made_safe", lambda bench, **_: told.append(bench) or True)
        HeldBench(station, "another").close()
    assert told == ["tiny"]
    assert not look_at("tiny").unsafe


def test_region_and_exposure_are_read_back(held: HeldBench) -> None:
    held.roi = Roi(10, 20, 30, 40)
    held.exposure_s = 0.02
    assert (held.roi.shape, held.exposure_s) == ((40, 30), 0.02)
    assert held.frames(2, 1.0).frames.shape == (2, 40, 30)


def test_a_station_may_be_given_in_every_way(station: Path) -> None:
    loaded = load_station(station)
    for given in (station, str(station), loaded, loaded.station):
        assert station_of(given).bench.name == "tiny"
    assert isinstance(station_of(None), Station)
    with pytest.raises(UsageError):
        station_of("no-such-bench")


def test_a_package_that_is_missing_says_what_to_install() -> None:
    with pytest.raises(UsageError, match="no_such_package is not installed") as caught:
        require_package("no_such_package", "that-package")
    assert caught.value.hint == "python -m pip install that-package"
