"""Rows that several threads share."""

from __future__ import annotations

import os
import threading
from functools import partial

import numpy as np
import pytest

from groundwork import threads
from groundwork.threads import Threads


def double(first: int, last: int, values: np.ndarray, met: set[int]) -> None:
    met.add(threading.get_ident())
    values[first:last] += np.arange(first, last)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 1000])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_row_is_computed_once(count: int, threads: int) -> None:
    values = np.zeros(count)
    Threads(threads).rows(double, count, values, set(), band=16)
    assert (values == np.arange(count)).all()


def test_rows_too_few_to_share_stay_in_the_thread_that_asks() -> None:
    met: set[int] = set()
    Threads(4).rows(double, 100, np.zeros(100), met, band=50)
    assert met == {threading.get_ident()}


def test_what_goes_wrong_in_any_thread_is_raised() -> None:
    begun = threading.Barrier(2)

    def fails_elsewhere(first: int, last: int, here: int) -> None:
        if first < min(20, last):  # one band for each of two threads
            begun.wait(30)
        if threading.get_ident() != here:
            raise ValueError("elsewhere")

    with pytest.raises(ValueError, match="elsewhere"):
        Threads(2).rows(fails_elsewhere, 100, threading.get_ident(), band=10)


def test_a_loop_meets_its_operands_in_one_thread_before_several_run_it() -> None:
    """Not only the first ones: numba compiles a loop for each type that it meets."""
    bands: list[tuple[int, int, int]] = []

    def told(first: int, last: int, values: np.ndarray) -> None:
        bands.append((first, last, threading.get_ident()))

    shared = Threads(2)
    for kind in (np.float32, np.int32):
        bands.clear()
        shared.rows(told, 100, np.zeros(100, kind), band=10)
        assert bands[0] == (0, 0, threading.get_ident())
        assert sum(last - first for first, last, _ in bands) == 100


def test_an_interrupt_waits_for_threads_that_still_write(monkeypatch: pytest.MonkeyPatch) -> None:
    helper_is_in, may_end, ended = threading.Event(), threading.Event(), threading.Event()
    asks = threading.get_ident()

    def slow(first: int, last: int) -> None:
        if last and threading.get_ident() != asks:
            helper_is_in.set()
            may_end.wait(30)
            ended.set()
        elif last:
            helper_is_in.wait(30)

    def interrupted(helpers: object) -> None:
        monkeypatch.undo()
        may_end.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(threads, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Threads(2).rows(slow, 100, band=10)
    assert ended.is_set()


def test_rows_are_computed_while_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool takes no more work then, but threads of the user's may go on."""
    monkeypatch.setattr(threading, "main_thread", lambda: threading.Thread())
    values, met = np.zeros(100), set[int]()
    Threads(2).rows(double, 100, values, met, band=10)
    assert (values == np.arange(100)).all()
    assert met == {threading.get_ident()}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_has_threads_of_its_own() -> None:
    values, shared = np.zeros(100), Threads(2)
    shared.rows(double, 100, values, set(), band=10)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        again = np.zeros(100)
        shared.rows(partial(double, met=set()), 100, again, band=10)
        os.write(write, b"1" if (again == values).all() else b"0")
        os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"1"
    os.waitpid(child, 0)
    os.close(read)
