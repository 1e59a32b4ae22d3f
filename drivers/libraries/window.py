"""A full-screen window on one monitor, in a process of its own: every call has a deadline, whatever the window does.

The process is `drivers.libraries.window_process`. It is started as a file and not by ``multiprocessing``, so that the
program that opens a panel needs no ``__main__`` guard. It ends when this program does.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from drivers.errors import DeviceLost, DeviceProtocolError, DeviceTimeout, NotConnected
from drivers.libraries.monitors import Monitor

_PROGRAM = Path(__file__).with_name("window_process.py")
_CLOSING_S = 3.0


class Window:
    """The other end of a window's process.

    Parameters
    ----------
    device
        What the station calls the panel; for errors.
    monitor
        Where the window is to be.
    timeout_s
        In which it must be there [s].

    Attributes
    ----------
    facts
        ``renderer``, ``vertical_sync`` (whether swaps wait for the monitor's refresh), ``composited`` (whether a
        compositor stands between), ``swap_interval_s``, and ``ramp_error``: the gamma ramp's distance from a straight
        line, full scale 1; None where it has none.
    pid
        Of the process.

    Raises
    ------
    NotConnected
        When the window system does not give the window, and why.
    DeviceTimeout
        When it takes longer.
    """

    def __init__(self, device: str, monitor: Monitor, timeout_s: float) -> None:
        self._device, self._monitor = device, monitor
        self._lock = threading.Lock()
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._sent = self._answered = 0
        self._action = "open"
        self._said = tempfile.TemporaryFile(prefix="labctl-window-")  # noqa: SIM115 — closed with the window
        self._process: subprocess.Popen[str] | None = None
        try:
            with tempfile.NamedTemporaryFile(prefix="labctl-window-") as file:
                self._frame = self._map(file)
                self._process = self._start(file.name)
                threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
                self.facts = self._answer(0, time.monotonic() + timeout_s)
            self._action = "show a frame"
        except BaseException:
            self.close()
            raise
        self.pid = self._process.pid

    def show(self, frame: NDArray[np.uint8], timeout_s: float, look: bool = False) -> dict[str, Any]:
        """Show ``frame`` : (rows, columns) or (rows, columns, 3) uint8. Comes back after the swap.

        Returns
        -------
        ``at_s``: when the swap was done, `time.monotonic` [s]. With ``look``, every few seconds also ``ramp_error``, as
        in `facts`, and ``as_shown``: whether a screenshot agrees with the frame.
        """
        return self._ask("show", timeout_s, frame, channels=1 if frame.ndim == 2 else 3, look=look)

    def look(self, timeout_s: float) -> dict[str, Any]:
        """``ramp_error`` and ``as_shown`` of the frame that was shown last, as `show` returns them."""
        return self._ask("look", timeout_s, None)

    def grab(self, timeout_s: float) -> NDArray[np.uint8]:
        """A screenshot of the monitor as it is now: (rows, columns, 3) uint8, another shape where it is scaled."""
        with self._held(timeout_s):
            size = self._ask_held("grab", timeout_s, None, {})
            if (size["width"], size["height"]) != (self._monitor.width, self._monitor.height):
                return np.zeros((size["height"], size["width"], 3), np.uint8)
            return self._frame.reshape(self._monitor.height, self._monitor.width, 3).copy()

    def ask_facts(self, timeout_s: float) -> dict[str, Any]:
        """`facts`, as they are now."""
        return self._ask("facts", timeout_s, None)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        process = self._process
        return process is not None and process.poll() is None

    def check_alive(self) -> None:
        """Raises `DeviceLost` where the process does not run, with what it said last."""
        if not self.alive:
            raise self._gone(self._ended())

    def close(self) -> None:
        """Blank the panel, and end the process in any case; calling it twice is harmless."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(_CLOSING_S)
            except subprocess.TimeoutExpired:
                _kill(process)
        self._said.close()

    def kill(self) -> None:
        """End the process at once: its window is gone then, whatever it was stuck in."""
        process = self._process
        if process is not None:
            _kill(process)

    def _map(self, file: IO[bytes]) -> NDArray[np.uint8]:
        size = self._monitor.width * self._monitor.height * 3
        file.truncate(size)
        return np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8)

    def _start(self, file: str) -> subprocess.Popen[str]:
        places = {key: getattr(self._monitor, key) for key in ("name", "x", "y", "width", "height", "refresh_hz")}
        return subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM), json.dumps({**places, "file": file, "parent": os.getpid()})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as answers:
            for line in answers:
                self._answers.put(json.loads(line))
        self._answers.put(None)

    def _ask(self, what: str, timeout_s: float, frame: NDArray[np.uint8] | None, **parts: object) -> dict[str, Any]:
        with self._held(timeout_s):
            return self._ask_held(what, timeout_s, frame, parts)

    @contextlib.contextmanager
    def _held(self, timeout_s: float) -> Any:
        if not self._lock.acquire(timeout=timeout_s):
            raise self._late(timeout_s, "another call is not done")
        try:
            yield
        finally:
            self._lock.release()

    def _ask_held(
        self, what: str, timeout_s: float, frame: NDArray[np.uint8] | None, parts: dict[str, object]
    ) -> dict[str, Any]:
        until_s = time.monotonic() + timeout_s
        process = self._process
        if process is None or process.stdin is None:
            raise self._gone("the window is closed")
        if self._answered < self._sent:
            self._answer(self._sent, until_s)  # the window may read the frame until it has answered
        if frame is not None:
            self._frame[: frame.size] = frame.reshape(-1)
        self._sent += 1
        try:
            process.stdin.write(json.dumps({"id": self._sent, "do": what, "with": parts}) + "\n")
            process.stdin.flush()
        except (OSError, ValueError):  # the latter where another thread has closed it meanwhile
            raise self._gone(self._ended()) from None
        return self._answer(self._sent, until_s)

    def _answer(self, number: int, until_s: float) -> dict[str, Any]:
        started_s = time.monotonic()
        while True:
            try:
                answer = self._answers.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                raise self._late(max(0.0, until_s - started_s), "no answer") from None
            if answer is None:
                self._answers.put(None)
                raise self._not_there(self._ended()) if number == 0 else self._gone(self._ended())
            self._answered = answer["id"]
            if answer["id"] == number:
                break
        if "error" not in answer:
            return answer
        if answer["kind"] == "cannot open":
            raise self._not_there(answer["error"])
        if answer["kind"] == "changed":
            raise self._gone(answer["error"])
        raise DeviceProtocolError(
            f"the window on {self._monitor.name} cannot show frames: {answer['error']}",
            device=self._device,
            action=self._action,
            expected="the swap of the buffers",
            seen=answer["error"],
            hint="restart the X session; after an update of the graphics driver, the machine",
        )

    def _ended(self) -> str:
        """That the process has ended, with the last line that it wrote."""
        said: list[str] = []
        with contextlib.suppress(ValueError):  # closed
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip().splitlines()
        return "its window's process has ended" + (f": {said[-1]}" if said else "")

    def _late(self, after_s: float, seen: str) -> DeviceTimeout:
        return DeviceTimeout(
            f"the window on {self._monitor.name} did not answer within {after_s:.3g} s",
            device=self._device,
            action=self._action,
            expected="the swap of the buffers",
            seen=seen,
            hint="is the screen locked, or the graphics card busy?",
        )

    def _not_there(self, seen: str) -> NotConnected:
        return NotConnected(
            f"no full-screen window: {seen}",
            device=self._device,
            action=self._action,
            expected=f"a window of {self._monitor.width} × {self._monitor.height} pixels on {self._monitor.name}",
            seen=seen,
            hint="is OpenGL there (glxinfo -B)? After an update of the graphics driver, restart the machine",
        )

    def _gone(self, what: str) -> DeviceLost:
        return DeviceLost(
            f"{self._device} is lost: {what}", device=self._device, action=self._action, hint="open it again"
        )


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process by force; one that hangs inside the operating system is not waited for."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_CLOSING_S)
