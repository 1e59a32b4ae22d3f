"""A frame that slmsuite hands out at once was exposed for an earlier call, however long the call had to wait."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from drivers import StaleFrames
from drivers.cameras.slmsuite import OnRequest
from drivers.libraries.worker import Worker

EXPOSURE_S, BUSY_S = 0.2, 1.0


class Clock:
    """Moves when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("drivers.cameras.slmsuite.time.monotonic", clock)
    return clock


@pytest.fixture
def acquire() -> Iterator[Any]:
    made: Any = object.__new__(OnRequest)
    made._name, made.kind, made._exposure_s = "camera", SimpleNamespace(target="acme:Queued"), EXPOSURE_S
    made._taken, made._extra_s, made._run = queue.SimpleQueue(), deque(maxlen=5), 1
    made._worker = Worker("camera")
    yield made
    made._worker.close()


@pytest.mark.parametrize(("took_s", "is_stale"), [(0.0, True), (EXPOSURE_S, False)])
def test_waiting_for_a_turn_is_no_exposure(acquire: Any, clock: Clock, took_s: float, is_stale: bool) -> None:
    gate = threading.Event()

    def busy() -> None:
        gate.wait(60.0)
        clock.now_s += BUSY_S

    def grab() -> Any:
        clock.now_s += took_s
        return np.zeros((1, 1), np.uint16)

    acquire._grab = grab
    acquire._worker.post(busy)
    acquire.fire()
    gate.set()
    if is_stale:
        with pytest.raises(StaleFrames):
            acquire.next_frame(60.0)
    else:
        assert acquire.next_frame(60.0).begins_s == 100.0 + BUSY_S
