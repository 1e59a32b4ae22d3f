"""Signals: the first asks, the second stops, and more change nothing."""

from __future__ import annotations

import signal

import pytest

from labctl.osal import Stops, Terminated


@pytest.fixture
def stops() -> Stops:
    return Stops()


def test_first_signal_asks_and_the_second_stops(stops: Stops) -> None:
    announced: list[int] = []
    with stops.graceful(lambda: announced.append(1)):
        assert stops.asked is None
        signal.raise_signal(signal.SIGINT)
        assert stops.asked == signal.SIGINT
        assert announced == [1]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_signal_is_told_apart_where_it_is_sigterm(stops: Stops) -> None:
    with stops.installed(), stops.graceful(lambda: None):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)


def test_sigterm_to_supervisor_and_worker_counts_once(stops: Stops) -> None:
    with stops.installed(), stops.graceful(lambda: None):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stops.asked == signal.SIGTERM
        with pytest.raises(Terminated):
            stops.stop()


def test_no_signal_breaks_into_what_the_stop_has_begun(stops: Stops) -> None:
    made_safe = []

    def stopped() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM) * 10:
                signal.raise_signal(number)
            made_safe.append(True)

    with stops.installed(), pytest.raises(KeyboardInterrupt):
        stopped()
    assert made_safe


def test_nobody_is_asked_when_there_is_nobody_left_to_wait_for(stops: Stops) -> None:
    with stops.installed(), stops.graceful(lambda: None):
        stops.at_once()
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)


def test_announcement_in_the_middle_of_a_line_is_dropped_and_the_stop_is_not(stops: Stops) -> None:
    def announce() -> None:
        raise RuntimeError("reentrant call")

    with stops.installed(), stops.graceful(announce):
        signal.raise_signal(signal.SIGINT)
        assert stops.asked == signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP])
def test_stop_raises_so_that_finally_runs_and_the_old_handler_returns(stops: Stops, number: int) -> None:
    before = signal.getsignal(number)
    with stops.installed(), pytest.raises(Terminated):
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_command_that_was_told_to_outlive_its_terminal_is_not_stopped_by_its_end(stops: Stops) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does it
    try:
        with stops.installed():
            signal.raise_signal(signal.SIGHUP)
            assert stops.asked is None
    finally:
        signal.signal(signal.SIGHUP, before)
