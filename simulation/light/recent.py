"""What was made for the keys that were asked for last."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")

MOST = 64
"""Shapes of attention's matrices, which are others with every token that is written."""


class Recent(Generic[Key, Made]):
    """Things by their keys: those that stay, and the `MOST` others that were asked for last; more are made anew."""

    def __init__(self) -> None:
        self._kept: dict[Key, Made] = {}
        self._staying: dict[Key, Made] = {}

    def __len__(self) -> int:
        return len(self._kept) + len(self._staying)

    def of(self, key: Key, make: Callable[[], Made], *, stays: bool = False) -> Made:
        """What there is for a key, or else what ``make()`` returns. Threads that ask at once may make it twice.

        What ``stays`` once is kept for good: models have more matrices that are asked for in turn than `MOST`.
        """
        if key in self._staying:
            return self._staying[key]
        found = self._kept.pop(key, None)
        if found is None:
            found = make()
        (self._staying if stays else self._kept)[key] = found  # the last of a dictionary is what was put in last
        while len(self._kept) > MOST:
            self._kept.pop(next(iter(list(self._kept))), None)  # a list, for others may change it meanwhile
        return found
