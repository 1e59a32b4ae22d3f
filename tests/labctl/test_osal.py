"""Signals: the first asks, the second stops."""

from __future__ import annotations

import signal

import pytest

from labctl.osal import Terminated, graceful_stop, terminate_raises


def test_first_signal_asks_and_the_second_stops() -> None:
    announced: list[int] = []
    with graceful_stop(lambda: announced.append(1)) as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        assert announced == [1]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_signal_of_the_service_manager_is_told_apart() -> None:
    with graceful_stop(lambda: None):
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)


def test_sigterm_raises_so_that_finally_runs_and_the_old_handler_returns() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with terminate_raises(), pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
