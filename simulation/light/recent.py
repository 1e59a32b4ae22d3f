"""What was made for the keys that were asked for last."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")

MOST = 64
"""More shapes than one model's matrices have; those of attention are others with every token that is written."""


class Recent(Generic[Key, Made]):
    """Things by their keys, the `MOST` that were asked for last; others are made anew."""

    def __init__(self) -> None:
        self._kept: dict[Key, Made] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, key: Key, make: Callable[[], Made]) -> Made:
        """What there is for a key, or else what ``make()`` returns. Threads that ask at once may make it twice."""
        found = self._kept.pop(key, None)
        if found is None:
            found = make()
        self._kept[key] = found  # the last of a dictionary is what was put in last
        while len(self._kept) > MOST:
            self._kept.pop(next(iter(list(self._kept))), None)  # a list, for others may change it meanwhile
        return found
