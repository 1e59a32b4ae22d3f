"""What a device is doing now, as bluesky waits for it: it ends, fails, or is given up after a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from drivers.errors import DeviceLost, DeviceTimeout
from groundwork.errors import CodedError


class Doing:
    """One thing that a device was asked to do: a ``Status`` of bluesky's protocols.

    Parameters
    ----------
    what
        In words: ``"slm: show pattern 3"``.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Doing], None]] = []

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._ended.is_set()

    @property
    def success(self) -> bool:
        """Whether it has ended well."""
        return self.done and self._error is None

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        """Why it failed; None where it did not.

        Raises
        ------
        TimeoutError
            When it has not ended within ``timeout`` [s]; None waits for as long as it takes.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"{self.what}: not done within {timeout} s")
        return self._error

    def wait(self, timeout: float | None = None) -> None:
        """Come back when it has ended well.

        Raises
        ------
        Exception
            What it failed with.
        """
        if (error := self.exception(timeout)) is not None:
            raise error

    def add_callback(self, callback: Callable[[Doing], None]) -> None:
        """Call this when it has ended; at once if it has."""
        with self._lock:
            if not self.done:
                self._callbacks.append(callback)
                return
        callback(self)

    def end(self, error: BaseException | None = None) -> None:
        """It has ended; what comes later changes nothing."""
        with self._lock:
            if self.done:
                return
            self._error = error
            self._ended.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def __repr__(self) -> str:
        if not self.done:
            return f"<{self.what}: under way>"
        if self._error is None:
            return f"<{self.what}: done>"
        code = f"{self._error.code} " if isinstance(self._error, CodedError) else ""
        return f"<{self.what}: {code}{self._error}>"


def already(what: str) -> Doing:
    """Something that is done."""
    found = Doing(what)
    found.end()
    return found


class Hand:
    """Does what one device is asked to do, one thing after the other, and gives up on what does not come back.

    Parameters
    ----------
    device
        Its name.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._late: tuple[Doing, threading.Event] | None = None
        self._is_over, self._asking = False, threading.Lock()
        self._asked: queue.SimpleQueue[tuple[Doing, Callable[[], None], float] | None] = queue.SimpleQueue()
        self._given: queue.SimpleQueue[tuple[Doing, Callable[[], None], threading.Event] | None] = queue.SimpleQueue()
        # daemons: a native call that never comes back must not keep the program from its end
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._watch, self._work)]
        for thread in self._threads:
            thread.start()

    @property
    def hangs(self) -> bool:
        """Whether a call has not come back in time, nor since: nothing else can be asked of the device."""
        late = self._late  # which the thread that watches may take away meanwhile
        return late is not None and not late[1].is_set()

    def do(self, what: str, call: Callable[[], None], limit_s: float) -> Doing:
        """Have ``call`` made; it fails with `DeviceTimeout` where that takes longer than ``limit_s`` [s].

        After `end` it fails with `DeviceLost`, so that nobody waits for what is never done.
        """
        doing = Doing(f"{self.device}: {what}")
        with self._asking:
            if not self._is_over:
                self._asked.put((doing, call, limit_s))
                return doing
        doing.end(DeviceLost("the bench is closed", device=self.device, action=what, hint="open it again"))
        return doing

    def end(self) -> None:
        """No more is asked; comes back when what was asked before has been done, or given up by its limit."""
        with self._asking:
            self._is_over = True
            self._asked.put(None)
        watch, work = self._threads
        watch.join()
        if not self.hangs:
            work.join()

    def _watch(self) -> None:
        while (asked := self._asked.get()) is not None:
            doing, call, limit_s = asked
            late = self._late
            if late is not None and self.hangs:
                doing.end(self._hung(doing.what, f"it has not come back from {late[0].what!r}"))
                continue
            came_back, self._late = threading.Event(), None
            self._given.put((doing, call, came_back))
            if not came_back.wait(limit_s):
                self._late = doing, came_back
                doing.end(self._hung(doing.what, f"no answer within {limit_s:g} s"))
        self._given.put(None)

    def _work(self) -> None:
        while (given := self._given.get()) is not None:
            doing, call, came_back = given
            failed: Exception | None = None
            try:
                call()
            except Exception as error:
                failed = error
            finally:
                came_back.set()
            doing.end(failed)

    def _hung(self, what: str, seen: str) -> DeviceTimeout:
        return DeviceTimeout(
            "the device hangs",
            device=self.device,
            action=what.partition(": ")[2],
            expected="a call that comes back",
            seen=seen,
            safe="the other devices still answer; the light goes off when the plan or the block ends",
            hint="leave the block, reset the device, and open the bench again",
        )
