"""What takes time is not done anew for each visitor: answers are kept for a while, and made by one thread at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
ONE_IN = 20
"""An answer is kept so many times as long as it took, at least: whatever visitors ask, the rest of the time is free."""


class Kept(Generic[T]):
    """Answers to a few questions.

    Parameters
    ----------
    spacing_s
        How long an answer is kept at least [s].
    most
        How many are kept; the oldest goes.
    clock
        Monotonic seconds.
    """

    def __init__(self, spacing_s: float, most: int = 16, clock: Callable[[], float] = time.monotonic) -> None:
        self._spacing_s, self._most, self._clock = spacing_s, most, clock
        self._found: dict[Hashable, tuple[float, T]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The answer, made where there is none that is new enough; what ``make`` raises is not kept."""
        with self._lock:
            began_s = self._clock()
            if key in self._found and began_s < self._found[key][0]:
                return self._found[key][1]
            made = make()
            self._found.pop(key, None)
            while len(self._found) >= self._most:
                self._found.pop(next(iter(self._found)))
            self._found[key] = (began_s + max(self._spacing_s, ONE_IN * (self._clock() - began_s)), made)
            return made
