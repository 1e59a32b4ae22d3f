"""Calls of a native library that may never come back, made in a thread for which nobody waits for ever."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from drivers.errors import DeviceLost, DeviceTimeout

T = TypeVar("T")


class Worker:
    """A thread that makes calls one after the other, and a caller that waits for each only so long.

    Parameters
    ----------
    library
        Whose calls they are, in words; for errors.
    """

    def __init__(self, library: str) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._library, self._stuck = library, ""
        threading.Thread(target=self._work, name=library, daemon=True).start()

    @property
    def stuck(self) -> str:
        """What did not come back; empty where everything did."""
        return self._stuck

    def call(self, what: str, function: Callable[[], T], timeout_s: float) -> T:
        """The result of ``function()``.

        Raises
        ------
        DeviceTimeout
            When it does not come back within ``timeout_s``; it is left running, and nothing else is called any more.
        DeviceLost
            When an earlier call did not come back.
        """
        if self._stuck:
            raise DeviceLost(
                f"{self._library} did not come back from {self._stuck}",
                action=what,
                hint="open the device again; if that fails, restart the program",
            )
        done = threading.Event()
        outcome: list[tuple[T | None, BaseException | None]] = []

        def task() -> None:
            try:
                outcome.append((function(), None))
            except BaseException as error:
                outcome.append((None, error))
            done.set()

        self._tasks.put(task)
        if not done.wait(timeout_s):
            self._stuck = what
            raise DeviceTimeout(
                f"{self._library} does not come back from {what}", action=what, expected=f"within {timeout_s:g} s"
            )
        result, error = outcome[0]
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # a result or an error

    def end(self) -> None:
        """No more calls."""
        self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
