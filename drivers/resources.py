"""What several devices share: a Micro-Manager core, a GenTL producer, one panel split into two regions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar, cast

T = TypeVar("T")


@dataclass
class _Entry:
    """One open resource, the function that closes it, and how many devices use it."""

    value: Any
    close: Callable[[Any], None]
    users: int


class Shared(Generic[T]):
    """One device's hold on a resource.

    Attributes
    ----------
    value
        The resource.
    """

    def __init__(self, value: T, release: Callable[[], None]) -> None:
        self.value = value
        self._release: Callable[[], None] | None = release

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the resource; the last device that does so closes it. Calling it twice is harmless."""
        release, self._release = self._release, None
        if release is not None:
            release()


class Resources:
    """The resources that the devices of one station share. Each is opened once and closed last.

    Examples
    --------
    >>> resources = Resources()
    >>> first = resources.share("core", lambda: ["core"], list.clear)
    >>> second = resources.share("core", lambda: ["another"], list.clear)
    >>> first.value is second.value
    True
    >>> first.release()
    >>> second.value
    ['core']
    >>> second.release()
    >>> second.value
    []
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}
        self._lock = threading.RLock()

    def share(self, key: Hashable, open: Callable[[], T], close: Callable[[T], None]) -> Shared[T]:
        """A hold on the resource of this key, which the first caller opens.

        Parameters
        ----------
        key
            Says which resource: two devices with an equal key share one.
        open
            Called when nobody holds it. When it raises, nothing is kept, and the next caller tries again.
        close
            Of the caller that opens it: called once, by the last device that lets go. The resource is forgotten
            even when it raises; the error goes to that device.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry(open(), cast("Callable[[Any], None]", close), 0)
            entry.users += 1
            return Shared(entry.value, lambda: self._let_go(key, entry))

    def held(self) -> tuple[Hashable, ...]:
        """Keys of the resources that are open, in the order in which they were opened."""
        return tuple(self._entries)

    def users(self) -> dict[Hashable, int]:
        """How many devices hold each open resource, by its key."""
        return {key: entry.users for key, entry in self._entries.items()}

    def _let_go(self, key: Hashable, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
            if entry.users:
                return
            del self._entries[key]
            entry.close(entry.value)
