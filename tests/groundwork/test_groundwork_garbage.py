"""The collector begins late, leaves alone what is there by then, and is the usual one from then on."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from groundwork import garbage


class Ring:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    usual = gc.get_threshold()
    monkeypatch.setattr(garbage, "FIRST", 5000)
    gc.collect()
    garbage.collect_later()
    yield
    if garbage._begin in gc.callbacks:
        gc.callbacks.remove(garbage._begin)
    gc.set_threshold(*usual)


def test_garbage_is_left_until_many_objects_are_made(later: None) -> None:
    ring = weakref.ref(Ring())
    some = [[] for _ in range(2000)]
    assert ring() is not None
    more = [[] for _ in range(5000)]
    assert ring() is None
    assert gc.get_threshold() == garbage._USUAL
    assert garbage._begin not in gc.callbacks
    assert gc.get_freeze_count() >= len(some) + len(more) - garbage._USUAL[0]


def test_garbage_of_later_is_collected_as_ever(later: None) -> None:
    made = [[] for _ in range(6000)]
    ring = weakref.ref(Ring())
    made += [[] for _ in range(20 * garbage._USUAL[0])]
    assert ring() is None


def test_to_ask_twice_is_to_ask_once(later: None) -> None:
    garbage.collect_later()
    assert gc.callbacks.count(garbage._begin) == 1
