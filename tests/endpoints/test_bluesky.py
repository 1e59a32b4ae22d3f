"""The mock bench under bluesky's run engine: plans that end, are aborted, and meet a device that hangs."""

from __future__ import annotations

import doctest
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import LIMIT_S, wait_for

import labctl
from drivers.errors import DeviceError, DeviceTimeout
from drivers.testing import require_module
from groundwork.errors import CodedError
from labctl.bench.marks import look_at, make_marked_safe
from labctl.errors import BenchBusy, InterlockOpen, UsageError
from labctl.station.loading import LoadedStation, load_station

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:bluesky", "ignore::DeprecationWarning:event_model")
STATION = """
[bench]
name = "for-bluesky"
[acquisition]
fetch_timeout_s = 0.2
[mock.slm]
rows = 160
cols = 180
[mock.display]
rows = 160
cols = 180
[mock.camera]
rows = 210
cols = 230
[devices.source]
backend = "mock.source"
options = {{ state_file = {light} }}
[devices.power-meter]
role = "monitor"
backend = "mock.monitor"
"""
DOOR = '[devices.door]\nrole = "interlock"\nbackend = "mock.interlock"\n'


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    require_module("bluesky", "pip install labctl[bluesky]")
    from bluesky import RunEngine

    engine = RunEngine({})
    engine.waiting_hook = None
    yield engine
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join(5)
    engine.loop.close()


class Lab:
    """A station whose light writes down when it goes on and off, and the documents of plans on it."""

    def __init__(self, folder: Path, engine: Any) -> None:
        self.folder, self.engine, self.documents = folder, engine, []

    def station(self, *overrides: str, more: str = "") -> LoadedStation:
        path = self.folder / "bench.toml"
        path.write_text(STATION.format(light=json.dumps(str(self.folder / "light"))) + more)
        return load_station(path, overrides)

    def run(self, plan: Any) -> list[tuple[str, dict[str, Any]]]:
        self.documents.clear()
        self.engine(plan, lambda name, doc: self.documents.append((name, doc)))
        return self.documents

    @property
    def light(self) -> list[str]:
        """Each change since the beginning."""
        path = self.folder / "light"
        return path.read_text().split() if path.exists() else []

    def data(self) -> list[dict[str, Any]]:
        return [doc["data"] for name, doc in self.documents if name == "event"]

    @property
    def exit_status(self) -> str:
        (stop,) = [doc for name, doc in self.documents if name == "stop"]
        return str(stop["exit_status"])


@pytest.fixture
def lab(tmp_path: Path, engine: Any) -> Lab:
    return Lab(tmp_path, engine)


def test_devices_have_the_protocols_that_plans_ask_for(lab: Lab) -> None:
    from bluesky import protocols as p

    with labctl.as_bluesky(lab.station()) as bench:
        for device in (bench.slm, bench.display, bench.slm_level, bench.display_level, bench.light):
            assert isinstance(device, p.Movable)
            assert isinstance(device, p.Readable)
            assert isinstance(device, p.Checkable)
            assert isinstance(device, p.Locatable)
        assert isinstance(bench.camera, p.Triggerable)
        assert isinstance(bench.camera, p.Readable)
        assert isinstance(bench.camera, p.Configurable)
        assert isinstance(bench.camera, p.Stageable)
        assert isinstance(bench.light, p.Stoppable)
        assert isinstance(bench.block, p.Flyable)
        assert isinstance(bench.block, p.EventCollectable)
        assert isinstance(bench.block, p.Preparable)
        assert isinstance(bench.slm.set("blank"), p.Status)


def test_count_reads_lit_frames_and_leaves_the_light_off(lab: Lab) -> None:
    from bluesky.plans import count
    from event_model import DocumentNames, schema_validators

    with labctl.as_bluesky(lab.station()) as bench:
        for name, document in lab.run(count([bench.camera, bench.monitors["power-meter"]], 3)):
            schema_validators[DocumentNames[name]].validate(document)
        assert lab.light[-2:] == ["on", "off"]
        assert bench.light.read()["light"]["value"] is False
    assert lab.exit_status == "success"
    rows = lab.data()
    assert len(rows) == 3
    sequence = [row["camera_sequence"] for row in rows]
    assert sequence == sorted(set(sequence))
    assert all(row["power_meter"] > 0 for row in rows)
    keys = next(doc for name, doc in lab.documents if name == "descriptor")["data_keys"]
    assert (keys["camera_mean_dn"]["units"], keys["power_meter"]["units"]) == ("DN", "W")


def test_list_scan_over_gray_levels_sees_the_panel_brighten(lab: Lab) -> None:
    from bluesky.plans import list_scan

    with labctl.as_bluesky(lab.station()) as bench:
        lab.engine(_set(bench.display, "level=255"))
        lab.run(list_scan([bench.camera], bench.slm_level, [0, 128, 255, 0]))
    means = [row["camera_mean_dn"] for row in lab.data()]
    assert [row["slm_level"] for row in lab.data()] == [0, 128, 255, 0]
    assert means[0] < means[1] < means[2]
    assert means[3] == pytest.approx(means[0], abs=2)  # settled: the frame is of the level that was set


def test_list_scan_over_loaded_patterns_and_whole_frames(lab: Lab) -> None:
    from bluesky.plans import list_scan

    with labctl.as_bluesky(lab.station(), frames=True) as bench:
        bright = np.full(bench.slm.shape, bench.slm.levels - 1)
        half = bright.copy()
        half[:, : half.shape[1] // 2] = 0
        bench.slm.load([bright, half])
        lab.engine(_set(bench.display, "level=255"))
        lab.run(list_scan([bench.camera], bench.slm, [0, 1]))
        assert bench.slm_level.read()["slm_level"]["value"] == -1
    whole, dark = (row["camera_frame_dn"].astype(float) for row in lab.data())
    assert whole.shape == (210, 230)
    left, right = slice(60, 100), slice(130, 170)
    assert (whole - dark)[80:130, left].mean() > 10 * abs((whole - dark)[80:130, right].mean())


def test_fly_reads_a_block_and_switches_the_light(lab: Lab) -> None:
    from bluesky.plans import fly

    with labctl.as_bluesky(lab.station()) as bench:
        bench.block.prepare([(f"level={level}", "level=255") for level in (0, 128, 255)] + [(None, "blank")])
        lab.run(fly([bench.block]))
        assert lab.light[-2:] == ["on", "off"]
    (page,) = [doc for name, doc in lab.documents if name == "event_page"]
    means = page["data"]["camera_mean_dn"]
    assert means[0] < means[1] < means[2] > means[3]
    assert page["data"]["slm_pattern"] == ["level=0", "level=128", "level=255", "level=255"]
    assert lab.exit_status == "success"


def test_light_is_off_after_a_plan_that_fails(lab: Lab) -> None:
    from bluesky.plan_stubs import abs_set, trigger_and_read
    from bluesky.preprocessors import run_decorator

    with labctl.as_bluesky(lab.station()) as bench:

        @run_decorator()
        def failing() -> Any:
            yield from abs_set(bench.light, True, wait=True)
            yield from trigger_and_read([bench.camera])
            raise RuntimeError("in the middle")

        with pytest.raises(RuntimeError, match="in the middle"):
            lab.run(failing())
        assert lab.light[-2:] == ["on", "off"]
    assert lab.exit_status == "fail"
    assert len(lab.data()) == 1


def test_light_is_off_after_an_abort(lab: Lab) -> None:
    from bluesky.plan_stubs import pause, trigger_and_read
    from bluesky.preprocessors import run_decorator, stage_decorator
    from bluesky.utils import RunEngineInterrupted

    with labctl.as_bluesky(lab.station()) as bench:

        @stage_decorator([bench.camera])
        @run_decorator()
        def pausing() -> Any:
            yield from trigger_and_read([bench.camera])
            yield from pause()
            yield from trigger_and_read([bench.camera])

        with pytest.raises(RunEngineInterrupted):
            lab.run(pausing())
        assert lab.light[-1] == "on"
        lab.engine.abort("somebody comes in")
        bench.light.set(False).wait(LIMIT_S)  # what the run engine asked for before is done by then
        assert lab.light[-2:] == ["on", "off"]
    assert lab.exit_status == "abort"


def test_block_that_is_aborted_gives_what_it_has_read(lab: Lab) -> None:
    from bluesky.plans import fly
    from bluesky.utils import RunEngineInterrupted

    with labctl.as_bluesky(lab.station()) as bench:
        bench.block.prepare([(f"level={i % 256}", None) for i in range(50_000)])

        def pause_when_frames_are_read() -> None:
            wait_for(lambda: len(bench.block._events) > 3)
            lab.engine.request_pause()

        def flying() -> Any:
            threading.Thread(target=pause_when_frames_are_read).start()
            yield from fly([bench.block])

        with pytest.raises(RunEngineInterrupted):
            lab.run(flying())
        lab.engine.abort("somebody comes in")
        assert lab.light[-2:] == ["on", "off"]
    assert lab.exit_status == "abort"
    (page,) = [doc for name, doc in lab.documents if name == "event_page"]
    assert 0 < len(page["data"]["camera_mean_dn"]) < 50_000


def test_staged_block_stops_with_the_plan_that_fails(lab: Lab) -> None:
    from bluesky.plan_stubs import kickoff
    from bluesky.preprocessors import run_decorator, stage_decorator

    with labctl.as_bluesky(lab.station()) as bench:
        bench.block.prepare([(f"level={i % 256}", None) for i in range(50_000)])

        @stage_decorator([bench.block])
        @run_decorator()
        def failing() -> Any:
            yield from kickoff(bench.block, wait=True)
            raise RuntimeError("in the middle")

        with pytest.raises(RuntimeError, match="in the middle"):
            lab.run(failing())
        assert lab.light[-2:] == ["on", "off"]
        assert bench.block.complete().done
    assert lab.exit_status == "fail"


def test_leaving_the_bench_ends_a_block_that_is_under_way(lab: Lab) -> None:
    with labctl.as_bluesky(lab.station()) as bench:
        bench.block.prepare([(f"level={i % 256}", None) for i in range(50_000)])
        bench.block.kickoff().wait(LIMIT_S)
        assert lab.light[-1] == "on"
    assert lab.light[-1] == "off"
    assert bench.block.complete().success


def test_camera_that_hangs_fails_the_plan_in_time_and_the_bench_is_marked(lab: Lab) -> None:
    """The light goes off, though the camera does not come back; the next command makes the rest safe."""
    from bluesky.plans import count
    from bluesky.utils import FailedStatus

    loaded = lab.station('mock.faults=["hang@6:120"]')
    stack = ExitStack()
    bench = stack.enter_context(labctl.as_bluesky(loaded, limit_s=3.0))
    with pytest.raises(FailedStatus) as caught:
        lab.run(count([bench.camera], 20))
    assert isinstance(caught.value.__cause__, DeviceTimeout)
    assert "camera: read a frame: E-DEV-003" in repr(caught.value.args[0])
    bench.light.set(False).wait(LIMIT_S)
    assert lab.light[-2:] == ["on", "off"]
    assert lab.exit_status == "fail"
    with pytest.raises(DeviceError, match="safe state") as left:
        stack.close()
    assert "check the bench in person" in left.value.safe
    assert look_at("for-bluesky").unsafe
    assert make_marked_safe("for-bluesky")


def test_bench_is_held_inside_the_block_and_free_after_it(lab: Lab) -> None:
    loaded = lab.station()
    with labctl.as_bluesky(loaded):
        with pytest.raises(BenchBusy), labctl.as_bluesky(loaded):
            pass
        assert look_at("for-bluesky").held
    assert not look_at("for-bluesky").held
    with pytest.raises(ZeroDivisionError):
        _leave_in_the_middle(lab, loaded)
    assert lab.light[-1] == "off"
    assert not look_at("for-bluesky").unsafe


def test_no_light_while_an_interlock_is_open(lab: Lab) -> None:
    from bluesky.plans import count
    from bluesky.utils import FailedStatus

    with labctl.as_bluesky(lab.station('mock.faults=["interlock@0"]', more=DOOR)) as bench:
        before = list(lab.light)
        with pytest.raises(FailedStatus) as caught:
            lab.run(count([bench.camera]))
        assert isinstance(caught.value.__cause__, InterlockOpen)
        assert "on" not in lab.light[len(before) :]


def test_light_goes_off_when_an_interlock_opens(lab: Lab) -> None:
    from bluesky.plans import count
    from bluesky.utils import FailedStatus

    with labctl.as_bluesky(lab.station('mock.faults=["interlock@12"]', more=DOOR)) as bench:
        with pytest.raises(FailedStatus) as caught:
            lab.run(count([bench.camera], 50))
        assert isinstance(caught.value.__cause__, InterlockOpen)
        bench.light.set(False).wait(LIMIT_S)
        assert lab.light[-2:] == ["on", "off"]
    assert 0 < len(lab.data()) < 50


def test_example_in_the_docstring_works(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(labctl.as_bluesky, "as_bluesky", globs={})
    failed, tried = doctest.DocTestRunner().run(example)
    assert (failed, tried) == (0, 5), capsys.readouterr().out


def test_interlock_that_hangs_forbids_light_and_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from bluesky.plans import count
    from bluesky.utils import FailedStatus

    stack, gate = ExitStack(), threading.Event()
    bench = stack.enter_context(labctl.as_bluesky(lab.station(more=DOOR), limit_s=2.0))
    before = list(lab.light)
    monkeypatch.setattr("mock_hardware.slow.MockInterlock.check", lambda self, timeout_s=2.0: gate.wait(LIMIT_S))
    with pytest.raises(FailedStatus) as caught:
        lab.run(count([bench.camera]))
    assert isinstance(caught.value.__cause__, DeviceTimeout)
    assert caught.value.__cause__.device == "door"
    assert "on" not in lab.light[len(before) :]
    with pytest.raises(DeviceError, match="safe state"):
        stack.close()
    gate.set()
    assert make_marked_safe("for-bluesky")


@pytest.mark.parametrize(
    ("device", "value"),
    [
        ("slm", 0),
        ("slm", "chequer=8"),
        ("slm", float("nan")),
        ("slm_level", 256),
        ("slm_level", 1.5),
        ("display_level", -1),
        ("light", 2),
        ("light", "on"),
    ],
)
def test_what_cannot_be_set_is_refused_before_anything_moves(lab: Lab, device: str, value: Any) -> None:
    with labctl.as_bluesky(lab.station()) as bench:
        with pytest.raises(UsageError):
            getattr(bench, device).check_value(value)
        with pytest.raises(CodedError):
            getattr(bench, device).set(value)
        for wrong in (np.zeros((3, 3), int), np.full(bench.slm.shape, 256), np.zeros(bench.slm.shape)):
            with pytest.raises(UsageError, match="does not fit"):
                bench.slm.load([wrong])
        with pytest.raises(UsageError):
            bench.block.kickoff()
        with pytest.raises(UsageError):
            bench.camera.read()


def _leave_in_the_middle(lab: Lab, loaded: LoadedStation) -> None:
    with labctl.as_bluesky(loaded) as bench:
        bench.light.set(True).wait(LIMIT_S)
        assert lab.light[-1] == "on"
        raise ZeroDivisionError


def _set(device: Any, value: Any) -> Any:
    from bluesky.plan_stubs import abs_set

    return abs_set(device, value, wait=True)
