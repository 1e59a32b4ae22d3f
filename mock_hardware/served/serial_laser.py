"""A laser on a serial line: a pseudo-terminal that any program opens as it would ``/dev/ttyUSB0``. POSIX only.

The dialogue, for a program at 115200 baud (a pseudo-terminal takes any rate). A line ends with a carriage return or a
line feed; every answer ends with both. Capitals or not is the same.

=============  ==========================================================
``ID?``        ``labctl served laser SERIAL``
``ON``         ``OK``, the light is on; ``ERROR interlock`` while it is open
``OFF``        ``OK``, the light is off
``STATE?``     ``ON`` or ``OFF``
``INTERLOCK?`` ``CLOSED``, or ``OPEN`` and why
anything else  ``ERROR unknown command``
=============  ==========================================================
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from drivers.errors import CapabilityError

LINE_MAX = 256
"""What exceeds this without an end of line is forgotten [B]."""


@dataclass(frozen=True)
class LaserControls:
    """What the laser switches.

    Attributes
    ----------
    on, off
        Switch the light.
    is_on
        Whether there is light.
    interlock
        Why the interlock is open; empty while it is closed.
    """

    on: Callable[[], None]
    off: Callable[[], None]
    is_on: Callable[[], bool]
    interlock: Callable[[], str] = lambda: ""


class SerialLaser:
    """The laser, plugged in for as long as the ``with`` block lasts.

    Parameters
    ----------
    controls
        What it switches.
    link
        A path that leads to the line, for a station file: the system's own name of it differs each time.
    serial
        Serial number in its identity.

    Attributes
    ----------
    port
        Path of the serial line: the link, if there is one.

    Raises
    ------
    CapabilityError
        On Windows, which has no pseudo-terminals; where the link's path is a file, or leads to a laser that lives.
    """

    def __init__(self, controls: LaserControls, link: Path | None = None, serial: str = "000001") -> None:
        if os.name != "posix":
            raise CapabilityError(
                "a laser on a pseudo-terminal needs Linux or macOS",
                device="served laser",
                action="open a pseudo-terminal",
                expected="a POSIX system",
                seen=os.name,
                hint="serve the laser on Linux, in WSL for example, or leave it out",
            )
        import tty

        self._held = _hold(link) if link is not None else None
        self._controls, self._serial = controls, serial
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.port = os.ttyname(self._theirs)
        self._link = link
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(self.port)
            self.port = str(link)
        self._end, self._ended = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="serial-laser", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Pull the cable: a program that reads or writes the line finds it gone. Calling it twice is harmless.

        The light stays as it is; a laser does not notice its cable.
        """
        if not self._thread.is_alive():
            return
        os.write(self._ended, b"x")
        self._thread.join()
        for descriptor in (self._ours, self._theirs, self._end, self._ended):
            os.close(descriptor)
        if self._link is not None:
            self._link.unlink(missing_ok=True)
        if self._held is not None:
            os.close(self._held)

    def answer(self, line: str) -> str:
        """What the laser says to one line."""
        match line.strip().upper():
            case "ID?":
                return f"labctl served laser {self._serial}"
            case "ON" if self._controls.interlock():
                return "ERROR interlock"
            case "ON":
                self._controls.on()
                return "OK"
            case "OFF":
                self._controls.off()
                return "OK"
            case "STATE?":
                return "ON" if self._controls.is_on() else "OFF"
            case "INTERLOCK?":
                reason = self._controls.interlock()
                return f"OPEN {reason}" if reason else "CLOSED"
        return "ERROR unknown command"

    def _serve(self) -> None:
        held = b""
        with contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([self._ours, self._end], [], [])
                if self._end in ready:
                    return
                *lines, held = (held + os.read(self._ours, 4096)).replace(b"\r", b"\n").split(b"\n")
                held = held[-LINE_MAX:]
                for line in filter(None, lines):
                    os.write(self._ours, self.answer(line.decode("ascii", "replace")).encode() + b"\r\n")


def _hold(link: Path) -> int:
    """Keep a link's path for this laser until the descriptor is closed, or the process killed."""
    import fcntl

    if link.exists() and not link.is_symlink():
        raise _taken(link, "a file or folder is there", "another path, or remove it")
    held = os.open(link.with_name(f"{link.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        raise _taken(link, "it leads to a laser that is being served", "another path for this one") from error
    return held


def _taken(link: Path, seen: str, hint: str) -> CapabilityError:
    return CapabilityError(
        "the path that is to lead to the laser is taken",
        device="served laser",
        action="make a link to the serial line",
        expected=f"{link} free",
        seen=seen,
        safe="nothing was changed",
        hint=f"{hint}: labctl mock serve --laser-link PATH",
    )
