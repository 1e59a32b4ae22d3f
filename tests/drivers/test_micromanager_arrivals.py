"""When an image arrived in Micro-Manager, which notes it by a clock that somebody may set meanwhile."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest

from drivers.cameras.micromanager import CLOCK_STEP_S, _Empty

NEAR_S = 20.0
"""From one look at the clock to the next, on a machine that is busy [s]."""


def noted(ago_s: float) -> datetime:
    return datetime.now() - timedelta(seconds=ago_s)


def empty(ago_s: float, clock_set_by_s: float = 0.0) -> _Empty:
    now = _Empty.now()
    return _Empty(now.at_s - ago_s, now.clock_s - clock_set_by_s)


def test_image_that_waited_arrived_when_the_clock_says() -> None:
    assert empty(100.0).arrived_s(noted(40.0)) == pytest.approx(time.monotonic() - 40.0, abs=NEAR_S)


@pytest.mark.parametrize("ago_s", [-30.0, -3600.0, 200.0, 3600.0])
def test_image_noted_at_an_impossible_time_arrived_no_earlier_than_the_core_was_empty(ago_s: float) -> None:
    was = empty(100.0)
    assert was.arrived_s(noted(ago_s)) == was.at_s


@pytest.mark.parametrize("by_s", [-30.0, -2 * CLOCK_STEP_S, 2 * CLOCK_STEP_S, 30.0])
def test_image_that_waited_while_the_clock_was_set_is_taken_for_no_newer_than_it_is(by_s: float) -> None:
    was = empty(100.0, clock_set_by_s=by_s)
    assert was.arrived_s(noted(40.0)) == was.at_s
