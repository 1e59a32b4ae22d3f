"""What a device is asked to do ends, fails, or is given up; nobody waits for ever, and the words say what it was."""

from __future__ import annotations

import threading
import time

import pytest
from processes import LIMIT_S

from drivers.errors import DeviceLost, DeviceTimeout
from labctl.doors.doing import Doing, Hand


def test_what_is_done_is_told_to_whoever_asked_before_or_after() -> None:
    told: list[str] = []
    hand, gate = Hand("slm"), threading.Event()
    doing = hand.do("show 3", lambda: gate.wait(5) and None, LIMIT_S)
    doing.add_callback(lambda status: told.append("before"))
    assert (doing.done, doing.success, repr(doing)) == (False, False, "<slm: show 3: under way>")
    gate.set()
    doing.wait(LIMIT_S)
    doing.add_callback(lambda status: told.append("after"))
    assert (doing.done, doing.success, doing.exception()) == (True, True, None)
    assert told == ["before", "after"]
    hand.end()


def test_failure_is_the_status_and_its_words() -> None:
    hand = Hand("camera")

    def fail() -> None:
        raise DeviceLost("the cable is out", device="camera")

    doing = hand.do("read a frame", fail, LIMIT_S)
    assert isinstance(doing.exception(LIMIT_S), DeviceLost)
    assert (doing.done, doing.success) == (True, False)
    assert "read a frame" in repr(doing)
    assert "E-DEV-005" in repr(doing)
    with pytest.raises(DeviceLost):
        doing.wait()
    hand.end()


def test_call_that_does_not_come_back_fails_in_time_and_so_does_what_is_asked_meanwhile() -> None:
    hand, gate = Hand("camera"), threading.Event()
    began_s = time.monotonic()
    stuck = hand.do("read a frame", lambda: gate.wait(10 * LIMIT_S) and None, 0.1)
    assert isinstance(stuck.exception(LIMIT_S), DeviceTimeout)
    assert time.monotonic() - began_s < LIMIT_S
    assert hand.hangs
    asked = hand.do("read another", lambda: None, 10 * LIMIT_S)
    assert isinstance(asked.exception(LIMIT_S), DeviceTimeout)
    gate.set()
    while hand.hangs:
        time.sleep(0.01)
    hand.do("read a third", lambda: None, LIMIT_S).wait(LIMIT_S)
    assert isinstance(stuck.exception(), DeviceTimeout)  # what came late changes nothing
    hand.end()


class Taken(Hand):
    """A hand whose watching thread takes the late call away just when another thread looks at it."""

    @property
    def _late(self) -> tuple[Doing, threading.Event] | None:
        late, self._kept = self._kept, None
        return late

    @_late.setter
    def _late(self, late: tuple[Doing, threading.Event] | None) -> None:
        self._kept = late


def test_late_call_that_is_taken_away_while_somebody_looks_is_no_accident() -> None:
    hand = Taken("slm")
    hand._late = Doing("slm: show 3"), threading.Event()
    assert (hand.hangs, hand.hangs) == (True, False)
    hand.end()


def test_end_waits_for_a_call_that_is_under_way_and_leaves_no_thread() -> None:
    hand, begun, gate = Hand("camera"), threading.Event(), threading.Event()
    doing = hand.do("read a frame", lambda: begun.set() or (gate.wait(LIMIT_S) and None), LIMIT_S)
    assert begun.wait(LIMIT_S)
    ending = threading.Thread(target=hand.end)
    ending.start()
    ending.join(0.1)
    assert ending.is_alive()
    gate.set()
    ending.join(LIMIT_S)
    assert doing.success
    assert not any(thread.is_alive() for thread in (ending, *hand._threads))


def test_what_is_asked_after_the_end_fails_at_once() -> None:
    hand = Hand("source")
    hand.end()
    assert isinstance(hand.do("light off", lambda: None, LIMIT_S).exception(), DeviceLost)


def test_order_is_that_of_asking() -> None:
    hand, seen = Hand("slm"), list[int]()
    doings = [hand.do(f"show {i}", lambda i=i: seen.append(i), 5.0) for i in range(20)]
    doings[-1].wait(LIMIT_S)
    assert seen == list(range(20))
    hand.end()


def test_waiting_for_what_goes_on_has_an_end() -> None:
    with pytest.raises(TimeoutError, match="slm: show"):
        Doing("slm: show").wait(0.01)
