"""What is tried when a device fails: each rung with the mock bench, and with devices that fail in ways of their own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from processes import LIMIT_S

from drivers.errors import CapabilityError, DeviceError, DeviceLost, DeviceProtocolError, DeviceTimeout, NotConnected
from drivers.protocols import FrameBlock, Identity, Moment, Reading, Roi, Trip
from labctl.__main__ import main
from labctl.archive import RunReader, RunWriter, find_run
from labctl.bench import bench as bench_module
from labctl.bench import ladder
from labctl.bench.acquirer import Acquirer
from labctl.bench.bench import open_bench
from labctl.bench.steps import Exposure, WholeFrames
from labctl.errors import InterlockOpen
from labctl.station.loading import LoadedStation, load_station
from mock_hardware.camera import MockCamera
from mock_hardware.devices import MockDisplay, MockSlm, MockSource
from mock_hardware.slow import MockInterlock, MockMonitor

MONITOR = 'devices.meter.role="monitor"', 'devices.meter.backend="mock.monitor"'
CAMERA = 'devices.camera.backend="mock.camera"'
DOOR = 'devices.door.role="interlock"', 'devices.door.backend="mock.interlock"', "acquisition.interlock_wait_s=0"
Station = Callable[..., LoadedStation]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "PAUSES_S", (0.0,))


class Lab:
    """An open bench whose run is being written."""

    def __init__(self, acquirer: Acquirer, run: RunWriter, beats: list[float]) -> None:
        self.acquirer, self.run, self.beats = acquirer, run, beats
        self.bench, self.mock = acquirer.bench, acquirer.bench.source.bench
        self._taken = 0

    def take(self, lit: bool = True, frames: int = 3, slm: int = 255) -> Any:
        """A step with its own brightness of the display, read as whole frames."""
        self._taken += 1
        pictures = [
            np.full(panel.shape, level, np.uint8)
            for panel, level in ((self.bench.display, 200 + self._taken), (self.bench.slm, slm))
        ]
        exposure = Exposure(pictures[0], pictures[1], frames)
        return self.acquirer.take(WholeFrames(kind="dark", exposures=(exposure,), lit=lit))

    def events(self, *names: str) -> list[dict[str, Any]]:
        lines = (self.run.path / "journal.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] in names]

    def rungs(self) -> list[str]:
        """What was tried, a word for each line of the journal."""
        return [
            event["event"] + {True: " done", False: " failed"}.get(event.get("opened"), "")  # type: ignore[arg-type]
            for event in self.events("retry", "reopen", "reset", "fault")
        ]


@contextmanager
def open_lab(loaded: LoadedStation, folder: Path) -> Iterator[Lab]:
    beats: list[float] = []
    with RunWriter.create(folder / "runs", "test", loaded) as run, open_bench(loaded.station) as bench:
        yield Lab(
            Acquirer(bench, run, loaded.station.acquisition, beat=lambda: beats.append(time.monotonic())), run, beats
        )


def failing(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, *errors: Exception | None) -> list[object]:
    """Let the next calls of a method raise these, one each; None lets one pass. Returns what is left."""
    works, left = getattr(owner, method), list(errors)

    def scripted(self: object, *arguments: object, **more: object) -> object:
        error = left.pop(0) if left else None
        if error is not None:
            raise error
        return works(self, *arguments, **more)

    monkeypatch.setattr(owner, method, scripted)
    return left


def lost(device: str) -> DeviceLost:
    return DeviceLost(f"{device} is gone", device=device)


def not_opening(monkeypatch: pytest.MonkeyPatch, device: str, until: Callable[[int], bool]) -> list[dict[str, bool]]:
    """The device does not open until ``until(how many times it was tried)``; returns what was lit and open then."""
    opened, seen = bench_module.open_role, []

    def open_role(backend: str, role: str, name: str, options: Any, context: Any) -> Any:
        if name == device:
            held = context.resources.share("mock", lambda: None, lambda bench: None)
            seen.append({"lit": bool(held.value and held.value.is_lit), "shared": held.value is not None})
            held.release()
            if not until(len(seen)):
                raise NotConnected(f"{device} does not answer", device=device)
        return opened(backend, role, name, options, context)

    monkeypatch.setattr(bench_module, "open_role", open_role)
    return seen


def test_a_failure_that_may_pass_is_only_tried_again(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(), tmp_path) as lab:
        failing(monkeypatch, MockCamera, "fetch", DeviceTimeout("late"), DeviceTimeout("late"))
        lab.take()
        assert lab.rungs() == ["retry", "retry"]
        assert lab.mock.is_lit


@pytest.mark.parametrize(
    ("owner", "method", "device"),
    [
        (MockCamera, "fetch", "camera"),
        (MockCamera, "arm", "camera"),
        (MockSlm, "show", "slm"),
        (MockDisplay, "show", "display"),
        (MockSource, "on", "source"),
    ],
)
def test_a_device_that_is_lost_is_opened_again(
    owner: type, method: str, device: str, small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(), tmp_path) as lab:
        lab.take(lit=False)
        failing(monkeypatch, owner, method, lost(device))
        before = lab.bench.devices[device]
        lab.take(slm=250)
        assert lab.rungs() == ["reopen", "reopen done"]
        assert lab.bench.devices[device] is not before
        assert list(lab.bench.devices) == ["source", "slm", "display", "camera"]
        assert lab.mock.is_lit
        assert lab.bench.camera.exposure_s == lab.acquirer.exposure_s
        # both panels show what the step asked for, and it had the frames to settle
        for panel, level in ((lab.mock.display, 202), (lab.mock.slm, 250)):
            assert panel._history[-1][1].levels.mean() == level
        light = lab.take(slm=250).arrays["frames"].mean()
    with open_lab(small_station(), tmp_path) as lab:
        for lit in (False, True):
            lab.take(lit=lit, slm=250)
        assert lab.take(slm=250).arrays["frames"].mean() == pytest.approx(light, rel=0.01)


def test_retries_that_do_not_help_are_followed_by_opening_again(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(), tmp_path) as lab:
        failing(monkeypatch, MockCamera, "fetch", *(DeviceTimeout("late") for _ in range(4)))
        lab.take()
        assert lab.rungs() == ["retry", "retry", "reopen", "reopen done", "retry"]


def test_the_second_time_all_that_share_a_resource_are_opened_again_in_the_dark(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(), tmp_path) as lab:
        first = lab.take()
        seen = not_opening(monkeypatch, "camera", lambda tried: tried > 2)
        failing(monkeypatch, MockCamera, "fetch", lost("camera"))
        second = lab.take()
        # alone, while the others hold the bench; then the bench is closed, too, and made anew
        assert [about["shared"] for about in seen] == [True, False, False]
        assert not any(about["lit"] for about in seen)
        assert lab.rungs() == ["reopen", "reopen failed", "reopen", "reopen failed", "reopen", "reopen done"]
        devices = [event["devices"] for event in lab.events("reopen") if "attempt" in event]
        assert devices == [["camera"], *2 * [["camera", "display", "slm", "source"]]]
        now = lab.bench.source.bench
        assert now is not lab.mock
        assert now.is_lit
        assert second.arrays["frames"].mean() == pytest.approx(first.arrays["frames"].mean(), rel=0.02)
        assert second.attrs["next_sequence"] > first.attrs["next_sequence"]
        assert second.attrs["next_device_time_s"] > first.attrs["next_device_time_s"]


def test_one_region_of_a_panel_is_opened_again_while_the_other_shows_what_it_showed(
    larger_station: Station, tmp_path: Path
) -> None:
    split = tmp_path / "split.toml"
    regions = "".join(
        f'[devices.{name}]\nbackend = "region"\n'
        f'options = {{panel = "mock.slm", x = {x}, y = 0, width = 160, height = 256}}\n'
        for name, x in (("display", 0), ("slm", 160))
    )
    larger_station()
    split.write_text((tmp_path / "small-1.toml").read_text() + regions)
    with open_bench(load_station(split).station) as bench:
        for panel, level in ((bench.display, 100), (bench.slm, 200)):
            panel.show(np.full(panel.shape, level, np.uint8))
        whole = bench.source.bench.slm  # type: ignore[attr-defined]
        bench.reopen({"slm"})
        shown = whole._history[-1][1].levels
        assert (shown[:, :160] == 100).all()
        assert (shown[:, 160:] == 0).all()
        bench.slm.show(np.full(bench.slm.shape, 50, np.uint8))
        assert (whole._history[-1][1].levels[:, :160] == 100).all()
        assert bench.opener.sharing({"slm"}) == set(bench.devices)  # by the panel, and by the mock bench behind it


def test_the_reset_hook_comes_last_and_is_no_shell(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = tmp_path / "$HOME; touch done"
    code = f"print('cycled'); open({str(done)!r}, 'w').close()"
    station = small_station(1, CAMERA, f"devices.camera.reset={json.dumps([sys.executable, '-c', code])}")
    with open_lab(station, tmp_path) as lab:
        lab.take()
        not_opening(monkeypatch, "camera", lambda tried: done.exists())
        failing(monkeypatch, MockCamera, "fetch", lost("camera"))
        lab.take()
        assert lab.rungs() == [*3 * ["reopen", "reopen failed"], "reset", "reopen", "reopen done"]
        (reset,) = lab.events("reset")
        assert reset["answer"] == "exit code 0, said 'cycled'"
        assert lab.mock is not lab.bench.source.bench


@pytest.mark.parametrize(
    ("command", "limit_s", "answer"),
    [
        (["no such program"], LIMIT_S, "did not start"),
        ([sys.executable, "-c", "raise SystemExit(3)"], LIMIT_S, "exit code 3"),
        ([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '2000'])"], 1.0, "ended after 1 s"),
    ],
)
def test_hook_that_fails_or_hangs_is_told(command: list[str], limit_s: float, answer: str) -> None:
    began_s = time.monotonic()
    assert answer in ladder.run_hook(command, limit_s)
    assert time.monotonic() - began_s < LIMIT_S


def test_what_no_rung_brings_back_is_a_fault_that_lists_them(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = json.dumps([sys.executable, "-c", "raise SystemExit(1)"])
    with open_lab(small_station(1, CAMERA, f"devices.camera.reset={hook}"), tmp_path) as lab:
        lab.take()
        not_opening(monkeypatch, "camera", lambda tried: False)
        failing(monkeypatch, MockCamera, "fetch", DeviceTimeout("late"), lost("camera"))
        beats = len(lab.beats)
        with pytest.raises(DeviceLost) as caught:
            lab.take()
        assert caught.value.exit_code == 20
        for rung in ("1. again", "2. opened again: camera", "5. reset: exit code 1; opened again: camera", "E-DEV-002"):
            assert rung in caught.value.seen
        assert len(lab.beats) - beats >= 5  # each rung is a sign of life
        (fault,) = lab.events("fault")
        assert len(fault["tried"]) == 5
        assert not lab.mock.is_lit


def test_rungs_are_bounded_in_time_and_counted_for_each_step(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = small_station(1, "acquisition.reopen_attempts=100", "acquisition.reopen_timeout_s=0.3")
    with open_lab(station, tmp_path) as lab:
        for _ in range(3):
            failing(monkeypatch, MockCamera, "fetch", lost("camera"))
            lab.take()
        monkeypatch.setattr(ladder, "PAUSES_S", (0.0, 0.1))
        not_opening(monkeypatch, "camera", lambda tried: False)
        failing(monkeypatch, MockCamera, "fetch", lost("camera"))
        with pytest.raises(DeviceLost):
            lab.take()
        assert len([event for event in lab.events("reopen") if event.get("opened") is False]) <= 4


def test_loose_contact_does_not_keep_a_step_for_ever(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(), tmp_path) as lab:
        failing(monkeypatch, MockCamera, "fetch", *(lost("camera") for _ in range(9)))
        with pytest.raises(DeviceLost):
            lab.take()
        assert lab.rungs() == [*3 * ["reopen", "reopen done"], "fault"]


def test_a_request_that_no_device_could_fulfil_opens_nothing_again(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(), tmp_path) as lab:
        failing(monkeypatch, MockSlm, "show", CapabilityError("no such level"))
        with pytest.raises(CapabilityError):
            lab.take()
        assert lab.rungs() == []


def test_another_device_in_its_place_is_refused(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(), tmp_path) as lab:
        lab.take()
        failing(monkeypatch, MockCamera, "fetch", lost("camera"))
        monkeypatch.setattr(MockCamera, "identify", lambda self: Identity("mock", "MockCamera", "another"))
        with pytest.raises(DeviceLost, match="gone") as caught:
            lab.take()
        assert "another device answers in place of camera" in caught.value.seen


def test_light_that_does_not_go_off_is_opened_again_with_what_failed(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(), tmp_path) as lab:
        lab.take()
        failing(monkeypatch, MockCamera, "fetch", lost("camera"))
        failing(monkeypatch, MockSource, "off", lost("source"), lost("source"))
        lab.take()
        assert [event["devices"] for event in lab.events("reopen")] == 2 * [["camera", "source"]]
        assert lab.mock.is_lit


def test_silent_interlock_is_an_open_one_until_it_answers_again(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(1, *DOOR), tmp_path) as lab:
        lab.take()
        lit = []
        check = MockInterlock.check
        answers = [lost("door")]

        def silent(self: MockInterlock, timeout_s: float = 2.0) -> Any:
            lit.append(lab.mock.is_lit)
            if answers:
                raise answers.pop()
            return check(self)

        monkeypatch.setattr(MockInterlock, "check", silent)
        lab.take()
        assert lit == [True, False, True, True]  # asked, before the light goes on again, as the step begins and ends
        monkeypatch.setattr(MockInterlock, "check", lambda self, timeout_s=2.0: Trip("the door is open"))
        failing(monkeypatch, MockSource, "on", lost("source"))
        with pytest.raises(InterlockOpen):
            lab.take()


def test_door_that_opened_meanwhile_keeps_the_light_off(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(1, *DOOR), tmp_path) as lab:
        lab.take()
        failing(monkeypatch, MockCamera, "fetch", lost("camera"))
        answers = iter([MockInterlock.check(lab.bench.interlocks["door"])])
        monkeypatch.setattr(MockInterlock, "check", lambda self, timeout_s=2.0: next(answers, Trip("somebody came")))
        with pytest.raises(InterlockOpen, match="somebody came"):
            lab.take()
        assert not lab.mock.is_lit


def test_monitor_that_is_lost_stops_nothing_and_leaves_the_light_on(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(1, *MONITOR), tmp_path) as lab:
        lab.take()
        lit = not_opening(monkeypatch, "meter", lambda tried: tried > 1)
        failing(monkeypatch, MockMonitor, "read", lost("meter"))
        segments = [lab.take() for _ in range(3)]
        assert [about["lit"] for about in lit] == [True, True]
        assert lab.rungs() == ["reopen failed", "reopen done"]
        assert ["monitor_meter_value" in segment.arrays for segment in segments] == [False, False, True]
        failing(monkeypatch, MockMonitor, "identify", lost("meter"))
        assert "meter is gone" in lab.bench.snapshot()["meter"]["error"]


class PluggedCamera:
    """The mock's camera without what only a simulation can do: numbers and clock begin anew when it is opened."""

    trigger_modes = ()

    def __init__(self, camera: MockCamera) -> None:
        self.name, self.shape, self.bit_depth = camera.name, camera.shape, camera.bit_depth
        self._camera, self._zero, self._opened_s = camera, camera.now(), time.time()
        self.unplugged = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._camera.close()

    def identify(self) -> Identity:
        return self._camera.identify()

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        return self._camera.snapshot()

    def safe_state(self, timeout_s: float = 5.0) -> None:
        self._camera.safe_state()

    @property
    def exposure_s(self) -> float:
        return self._camera.exposure_s

    @exposure_s.setter
    def exposure_s(self, value: float) -> None:
        self._camera.exposure_s = value

    @property
    def roi(self) -> Roi:
        return self._camera.roi

    @roi.setter
    def roi(self, value: Roi) -> None:
        self._camera.roi = value

    @property
    def frame_period_s(self) -> float:
        return self._camera.frame_period_s

    def arm(self, n: int, skip: int = 0) -> None:
        self._camera.arm(n, skip)

    def stop(self, timeout_s: float = 2.0) -> None:
        self._camera.stop()

    def fetch(self, timeout_s: float) -> FrameBlock:
        if self.unplugged:
            raise lost(self.name)
        block = self._camera.fetch(timeout_s)
        at_s = block.device_time_s - self._zero.device_time_s
        return replace(
            block,
            sequence=block.device_sequence - self._zero.sequence,
            device_time_s=at_s,
            host_time_s=1e9 + 3 * self._zero.device_time_s + at_s,  # it takes time to open it
        )


def test_numbers_and_times_go_on_where_a_camera_counts_anew(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = bench_module.open_role

    def open_role(backend: str, role: str, name: str, options: Any, context: Any) -> Any:
        device = opened(backend, role, name, options, context)
        return PluggedCamera(device) if name == "camera" else device

    monkeypatch.setattr(bench_module, "open_role", open_role)
    with open_lab(small_station(), tmp_path) as lab:
        segments = []
        for _ in range(3):
            segments += [lab.take(), lab.take()]
            lab.bench.camera.unplugged = True  # type: ignore[attr-defined]
            lab.mock.pass_frames(100)
        changes = np.concatenate([segment.arrays["changes"] for segment in segments])
        assert (np.diff(changes[:, 2]) >= 0).all()
        numbers = [segment.attrs["next_sequence"] for segment in segments]
        times = np.array([segment.attrs["next_device_time_s"] for segment in segments])
        assert (np.diff(numbers) > 0).all()
        assert (np.diff(times) > 0).all()
        # on the host's clock, which the fake's counts three times as fast while it is away
        assert times[2] - times[1] > 100 * lab.bench.camera.frame_period_s
        assert lab.rungs() == 2 * ["reopen", "reopen done"]


def test_resumed_camera_that_counts_anew_goes_on_with_its_numbers(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = bench_module.open_role

    def open_role(backend: str, role: str, name: str, options: Any, context: Any) -> Any:
        device = opened(backend, role, name, options, context)
        return PluggedCamera(device) if name == "camera" else device

    monkeypatch.setattr(bench_module, "open_role", open_role)
    loaded = small_station()
    with open_lab(loaded, tmp_path) as lab:
        pictures = np.full(lab.bench.display.shape, 200, np.uint8), np.full(lab.bench.slm.shape, 255, np.uint8)
        step = WholeFrames(kind="dark", exposures=(Exposure(*pictures, 3),))
        segment, path = lab.acquirer.take(step), lab.run.path
    with RunWriter.resume(path) as run, open_bench(loaded.station) as bench:
        acquirer = Acquirer(bench, run, loaded.station.acquisition)
        acquirer.pass_over(step, segment)
        again = acquirer.take(replace(step, attrs={"another": 1}))
        assert again.attrs["next_sequence"] > segment.attrs["next_sequence"]


def test_mock_camera_that_is_opened_again_counts_as_the_bench_does(small_station: Station, tmp_path: Path) -> None:
    """So that a run which is resumed finds the frame where it was left."""
    with open_lab(small_station(1, 'mock.faults=["disconnect@30"]'), tmp_path) as lab:
        for _ in range(6):
            lab.take()
        assert lab.rungs() == ["reopen", "reopen done"]
        assert lab.acquirer._count.last == lab.mock.sequence - 1
        assert lab.bench.camera.now() == Moment(lab.mock.clock_s, lab.mock.sequence)  # type: ignore[attr-defined]


@pytest.fixture
def measured(small_file: Path, products, tmp_path: Path) -> Callable[..., int]:
    def measure(runs: str, *more: str) -> int:
        arguments = ["measure", str(products[0]), "--bench", str(small_file), "--runs", str(tmp_path / runs)]
        return main([*arguments, "--quiet", "--set", 'mock.faults=["disconnect@700"]', *more])

    return measure


def test_run_that_lost_its_camera_resumes_bit_for_bit(
    measured: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measured("whole") == 0
    whole = RunReader(find_run(tmp_path / "whole", "latest"))
    assert [event["event"] for event in whole.journal()].count("reopen") == 2
    write, written = RunWriter.write_segment, []

    def write_until(self: RunWriter, *arguments: object) -> object:
        if len(written) == 25:
            raise KeyboardInterrupt
        written.append(arguments)
        return write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "write_segment", write_until)
        assert measured("broken") == 130
    assert main(["run", "resume", "latest", "--runs", str(tmp_path / "broken"), "--quiet"]) == 0
    again = RunReader(find_run(tmp_path / "broken", "latest"))
    assert [row.sha256 for row in again.manifest] == [row.sha256 for row in whole.manifest]
    numbers = np.concatenate([s.arrays["sequence"] for s in again.segments() if "sequence" in s.arrays])
    assert (np.diff(numbers) > 0).all()


def test_reading_of_a_monitor_is_sealed_within_long_steps(small_station: Station, tmp_path: Path) -> None:
    with open_lab(small_station(1, *MONITOR, "acquisition.monitor_spacing_s=0.1"), tmp_path) as lab:
        segment = lab.take(frames=1)
        for _ in range(3):
            segment = lab.take(frames=20, slm=lab._taken)
        value, at_s = (segment.arrays[f"monitor_meter_{what}"] for what in ("value", "at_s"))
        assert len(value) == len(at_s) == 2
        assert segment.attrs["monitor_meter_unit"] == "W"
        assert at_s[1] - at_s[0] >= 0.1
        assert value == pytest.approx(1e-3 * lab.mock.config.source.power_mw, rel=0.02)


def test_slow_monitor_is_read_less_often(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, read = bench_module.open_role, []

    def open_role(backend: str, role: str, name: str, options: Any, context: Any) -> Any:
        device = opened(backend, role, name, options, context)
        return PluggedCamera(device) if name == "camera" else device

    def slow(self: MockMonitor, timeout_s: float = 2.0) -> Reading:
        read.append(1)
        time.sleep(0.2)
        return Reading(1.0, "W", 0.0)

    monkeypatch.setattr(bench_module, "open_role", open_role)
    monkeypatch.setattr(MockMonitor, "read", slow)
    with open_lab(small_station(1, *MONITOR), tmp_path) as lab:
        began_s = time.monotonic()
        for _ in range(10):
            lab.take(frames=1)
        assert len(read) <= 1 + (time.monotonic() - began_s) / 10


def failed_run(station: LoadedStation, folder: Path, doing: Callable[[Lab], None]) -> tuple[DeviceError, Lab]:
    """What comes out of a bench on which this is done, and the bench as it was left."""
    labs: list[Lab] = []

    def run() -> None:
        with open_lab(station, folder) as lab:
            labs.append(lab)
            doing(lab)

    with pytest.raises(DeviceError) as caught:
        run()
    return caught.value, labs[0]


def test_a_source_that_failed_once_and_was_closed_is_dark_at_the_end_though_the_camera_stays_away(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, MockSource, "off", lost("source"))
    monkeypatch.setattr(MockSource, "close", lambda source: None)  # its line is dead: nothing arrives

    def lose_the_camera(lab: Lab) -> None:
        lab.take()
        not_opening(monkeypatch, "camera", lambda tried: False)
        failing(monkeypatch, MockCamera, "fetch", lost("camera"))
        lab.take()

    error, lab = failed_run(small_station(), tmp_path, lose_the_camera)
    assert "camera is gone" in str(error)
    assert "unknown" not in error.safe
    assert not lab.mock.is_lit


@pytest.mark.parametrize("ends", [lost("camera"), KeyboardInterrupt(), ZeroDivisionError()])
def test_a_light_that_may_be_on_is_told_whatever_ended_the_run(
    ends: BaseException, small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(source: object, timeout_s: float = 5.0) -> None:
        raise lost("source")

    def end(lab: Lab) -> None:
        lab.take()
        monkeypatch.setattr(MockSource, "safe_state", gone)
        raise ends

    error, _ = failed_run(small_station(), tmp_path, end)
    assert "check the bench in person, the light source first (source: " in error.safe


def test_a_source_that_does_not_open_again_is_told(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_the_source(lab: Lab) -> None:
        lab.take(lit=False)
        not_opening(monkeypatch, "source", lambda tried: False)
        failing(monkeypatch, MockSource, "on", lost("source"))
        lab.take()

    error, _ = failed_run(small_station(), tmp_path, lose_the_source)
    assert "check the bench in person, the light source first (source: " in error.safe


def looking(monkeypatch: pytest.MonkeyPatch, *errors: Exception | None) -> list[int]:
    """Let the SLM look whether it shows what it was given, with these answers; returns what it was showing then."""
    left, shown = list(errors), []

    def verify(slm: Any, timeout_s: float = 5.0) -> None:
        shown.append(int(slm._panel._history[-1][1].levels.max()))
        if error := left.pop(0) if left else None:
            raise error

    monkeypatch.setattr(MockSlm, "verify", verify, raising=False)
    return shown


@pytest.mark.parametrize("error", [DeviceProtocolError("another picture", device="slm"), lost("slm")])
def test_a_step_whose_panel_showed_something_else_is_read_again_before_it_is_sealed(
    error: Exception, small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(), tmp_path) as lab:
        lab.take(slm=240)
        looks = looking(monkeypatch, error)
        segment = lab.take(slm=250)
        assert lab.rungs() == ["reopen", "reopen done"]
        assert [event["step"] for event in lab.events("again")] == ["dark"]
        assert len(looks) == 3, "as it was found, as it was after that, and after the second reading"
        assert segment.arrays["frames"].shape[0] == 3
        assert segment.attrs["retried"] == 3
        assert segment.attrs["next_sequence"] > 9


def test_a_panel_that_is_lost_in_the_middle_of_a_step_is_no_reason_to_believe_what_was_read_before(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_lab(small_station(), tmp_path) as lab:
        pictures = [np.full(lab.bench.slm.shape, level, np.uint8) for level in (10, 250)]
        display = np.full(lab.bench.display.shape, 255, np.uint8)
        step = WholeFrames(kind="dark", exposures=tuple(Exposure(display, one, 2) for one in pictures), lit=True)
        failing(monkeypatch, MockSlm, "show", None, lost("slm"))
        segment = lab.acquirer.take(step)
        assert [event["step"] for event in lab.events("again")] == ["dark"]
        light = segment.arrays["frames"].mean(axis=(1, 2))
        assert light[0] == pytest.approx(light[1], rel=0.05)
        assert light[2] > 1.5 * light[0]
        assert segment.attrs["retried"] == 4


def test_a_panel_that_never_shows_what_it_is_given_ends_the_run(
    small_station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking(monkeypatch, *(DeviceProtocolError("another picture", device="slm") for _ in range(9)))
    error, lab = failed_run(small_station(), tmp_path, lambda lab: lab.take() and None)
    assert isinstance(error, DeviceProtocolError)
    assert lab.rungs().count("reopen done") == 3
    assert not RunReader(lab.run.path).manifest
