"""When a frame of a Basler camera without a clock began: never later than it did, however late the program is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from drivers.cameras.basler import BaslerAcquire
from drivers.triggers import HardwareEdge

EXPOSURE_S, LATENCY_S, BUSY_S = 0.004, 0.02, 0.5


class Clock:
    """Moves when somebody waits, or when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Pylon:
    """What pylon has when it is asked, one word for each question, after what happens before it is asked."""

    def __init__(self, *answers: tuple[Any, Any]) -> None:
        self.answers = iter(answers)

    def IsGrabbing(self) -> bool:
        return True

    def RetrieveResult(self, timeout_ms: int, handling: int) -> Any:
        happens, result = next(self.answers)
        happens()
        return result


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("drivers.cameras.basler.time.monotonic", clock)
    monkeypatch.setattr("drivers.cameras.basler.time.sleep", clock.sleep)
    return clock


def acquiring(pylon: Pylon, trigger: Any) -> Any:
    acquire: Any = object.__new__(BaslerAcquire)
    acquire._camera, acquire._pylon = pylon, SimpleNamespace(TimeoutHandling_Return=0)
    acquire._latch, acquire.trigger = None, trigger
    acquire._exposure_s, acquire._latency_s, acquire._empty_s, acquire._came_s = EXPOSURE_S, LATENCY_S, 0.0, 0.0
    return acquire


def test_frame_that_lay_in_pylon_while_the_computer_was_busy_is_no_newer_than_it_is(clock: Clock) -> None:
    frame = SimpleNamespace(IsValid=lambda: True)
    acquire = acquiring(Pylon((lambda: None, None), (lambda: clock.sleep(BUSY_S), frame)), None)
    began_s = clock()
    assert acquire._waited(1.0) is frame
    assert acquire._begins_s(frame) == began_s - EXPOSURE_S - LATENCY_S
    assert clock() > began_s + BUSY_S


def test_frame_that_had_come_when_the_camera_began_to_listen_is_of_an_earlier_edge(clock: Clock) -> None:
    frame = SimpleNamespace(IsValid=lambda: True)
    trigger = HardwareEdge(lambda on: None)
    acquire = acquiring(Pylon((lambda: None, frame), (lambda: None, None), (lambda: None, frame)), trigger)
    acquire._empty_s = clock()
    clock.sleep(0.01)
    assert acquire._waited(1.0) is frame
    clock.sleep(0.01)
    trigger.arm(1)
    assert acquire._begins_s(frame) < trigger.begins_s
    clock.sleep(0.01)
    assert acquire._waited(1.0) is frame
    assert acquire._begins_s(frame) == trigger.begins_s  # which is later than by the exposure and the latency
