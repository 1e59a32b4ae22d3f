"""Calls that may never come back, made in a thread of their own, so that the caller can give up on them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from drivers.errors import DeviceLost, DeviceTimeout

T = TypeVar("T")


class Job:
    """One call: made when its turn comes, unless it was abandoned before.

    Attributes
    ----------
    done
        Set when the call has come back, or will never be made.
    value, error
        What it returned, or raised.
    """

    def __init__(self, do: Callable[[], Any]) -> None:
        self._do = do
        self.done = threading.Event()
        self.abandoned = False
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Make the call; what it raises is kept."""
        try:
            if not self.abandoned:
                self.value = self._do()
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()


class Worker:
    """A thread that makes one call after another into a library that knows no time-outs of its own.

    All calls come from the same thread, as some libraries ask. A call that hangs holds up those behind it: each of them
    ends with `DeviceTimeout`, and none of them is made any more. The thread does not keep the program from ending.

    Parameters
    ----------
    device
        What the station calls the device; for errors.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closed, self._posting = False, threading.Lock()
        self._given_up: tuple[str, Job] | None = None
        threading.Thread(target=self._run, name=f"{device} (library)", daemon=True).start()

    @property
    def stuck(self) -> str:
        """What the library was asked for and has not come back from since; empty where it answers."""
        given_up = self._given_up
        return "" if given_up is None or given_up[1].done.is_set() else given_up[0]

    def post(self, do: Callable[[], Any]) -> Job:
        """Have a call made when its turn comes, and come back at once.

        Raises
        ------
        DeviceLost
            When the worker is closed.
        """
        return self._put(do, is_last=False)

    def call(self, action: str, do: Callable[[], T], timeout_s: float) -> T:
        """Have a call made and wait for what it returns, or raises.

        Parameters
        ----------
        action
            What is done, for errors: ``"show a frame"``.

        Raises
        ------
        DeviceTimeout
            When it has not come back within ``timeout_s``.
        DeviceLost
            When the worker is closed.
        """
        job = self.post(do)
        if not job.done.wait(timeout_s):
            job.abandoned = True
        return cast(T, self._outcome(action, job, timeout_s))

    def end(self, action: str, do: Callable[[], object], timeout_s: float) -> None:
        """Have a last call made, even where the caller has given up on it, and none after it. As `call` otherwise."""
        job = self._put(do, is_last=True)
        job.done.wait(timeout_s)
        self._outcome(action, job, timeout_s)

    def close(self) -> None:
        """Make no more calls; one that hangs is left behind."""
        with self._posting:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)

    def _put(self, do: Callable[[], Any], is_last: bool) -> Job:
        job = Job(do)
        with self._posting:  # a job behind the end would never be made, and whoever waits for it would wait in vain
            if self._closed:
                raise DeviceLost(f"{self._device} is closed", device=self._device, hint="open it again")
            self._jobs.put(job)
            if is_last:
                self._closed = True
                self._jobs.put(None)
        return job

    def _outcome(self, action: str, job: Job, timeout_s: float) -> Any:
        """What a call returned, or raised; `DeviceTimeout` while it has not come back."""
        if not job.done.is_set():
            self._given_up = self._given_up if self.stuck else (action, job)
            raise DeviceTimeout(
                f"the library does not come back from: {action}",
                device=self._device,
                action=action,
                expected=f"within {timeout_s:g} s",
                seen="no answer",
                hint="is the device connected and switched on? If so, close it and open it again",
            )
        if job.error is not None:
            raise job.error
        return job.value

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            del job
