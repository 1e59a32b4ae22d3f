"""An X server with several monitors and no graphics card: for tests, and for a mock bench whose panels are monitors.

The server is Xorg with the driver ``dummy``. On Debian::

    apt-get install xserver-xorg-core xserver-xorg-video-dummy libgl1-mesa-dri libgl1 x11-xserver-utils

For example::

    with DummyX([(1280, 1024), (1920, 1080)]) as server:
        subprocess.run(["slmscreen", "list"], env={**os.environ, **server.environment})
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from filelock import BaseFileLock, FileLock, Timeout

INSTALL = "apt-get install xserver-xorg-core xserver-xorg-video-dummy libgl1-mesa-dri libgl1 x11-xserver-utils"
"""What to type on Debian to have the server."""

REFRESH_HZ = 60.0
"""Of every monitor of the server [Hz]."""

_UNWRAPPED = "/usr/lib/xorg/Xorg"
_TRIES = 3
_ANSWER_S = 120.0  # a program that takes longer hangs: it draws all monitors anew, on a processor that others use, too
_NUMBERS = 100
_PR_SET_PDEATHSIG = 1
_ARGUMENTS = "-noreset", "+extension", "GLX", "+extension", "RANDR", "-sharevts", "-novtswitch", "-nolisten", "tcp"
_SET_EDID = """
import ctypes, sys
x, randr = ctypes.CDLL("libX11.so.6"), ctypes.CDLL("libXrandr.so.2")
x.XOpenDisplay.restype = ctypes.c_void_p
x.XInternAtom.restype = ctypes.c_ulong
display = ctypes.c_void_p(x.XOpenDisplay(None))
atom = ctypes.c_ulong(x.XInternAtom(display, b"EDID", 0))
output, data = ctypes.c_ulong(int(sys.argv[1], 16)), bytes.fromhex(sys.argv[2])
randr.XRRChangeOutputProperty(display, output, atom, ctypes.c_ulong(19), 8, 0, data, len(data))
x.XSync(display, 0)
"""
_CONFIG = """
Section "Device"
  Identifier "device"
  Driver "dummy"
  VideoRam 262144
EndSection
Section "Monitor"
  Identifier "monitor"
  HorizSync 5-1000
  VertRefresh 5-200
EndSection
Section "Screen"
  Identifier "screen"
  Device "device"
  Monitor "monitor"
  DefaultDepth 24
  SubSection "Display"
    Depth 24
    Virtual {width} {height}
  EndSubSection
EndSection
Section "ServerFlags"
  Option "AutoAddDevices" "false"
  Option "BlankTime" "0"
EndSection
"""


class DummyX:
    """A running X server whose monitors ``DUMMY0``, ``DUMMY1``, … stand side by side; the first is the primary one.

    The server takes a display number that is free, so that any number of tests run side by side. It ends with the
    ``with`` block, and also when the thread that started it ends or is killed.

    Parameters
    ----------
    outputs
        (columns, rows) of each monitor [px], left to right.
    timeout_s
        In which the server must be ready [s].

    Attributes
    ----------
    display
        ``":7"``, what the variable ``DISPLAY`` must be.
    environment
        Variables with which a program uses this server, and no other that the machine may have.
    """

    def __init__(self, outputs: Sequence[tuple[int, int]] = ((1280, 1024), (1920, 1080)), timeout_s: float = 30.0):
        self.outputs = tuple(outputs)
        self._folder = tempfile.TemporaryDirectory(prefix="dummy-x-")
        self._process: subprocess.Popen[bytes] | None = None
        self._claim = _claim(0)
        try:
            self.display = self._start(timeout_s)
            self._add_modes()
            self.arrange()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Of the server's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DISPLAY": self.display,
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "XDG_SESSION_TYPE": "x11",
            "WAYLAND_DISPLAY": "",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server; calling it twice is harmless."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5.0)
        self._claim.lock.release()
        self._folder.cleanup()

    def xrandr(self, *arguments: str) -> str:
        """Run ``xrandr`` on this server: ``server.xrandr("--output", "DUMMY1", "--scale", "0.5x0.5")``."""
        done = subprocess.run(
            ["xrandr", *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
        )
        if done.returncode:
            raise RuntimeError(f"xrandr {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def arrange(self) -> None:
        """All monitors as they were at the start: side by side, not scaled, without gamma."""
        command: list[str] = []
        left = 0
        for name, (width, height) in self._named():
            command += ["--output", name, "--mode", f"{width}x{height}_test", "--pos", f"{left}x0"]
            command += ["--rotate", "normal", "--reflect", "normal", "--panning", "0x0"]
            command += ["--primary"] if left == 0 else []
            left += width
        self.xrandr(*command)
        straight: list[str] = []
        for name, _ in self._named():
            straight += ["--output", name, "--gamma", "1:1:1", "--brightness", "1"]
        self.xrandr(*straight)
        for _ in range(_TRIES):
            plugged = re.findall(r"^(\S+) connected", self.xrandr("--query"), re.MULTILINE)
            if {name for name, _ in self._named()} <= set(plugged):
                return
        raise RuntimeError(f"the server names only {', '.join(plugged)} as connected")

    def plug_in(self, name: str, edid: bytes) -> None:
        """Let the monitor on this output be the panel that an EDID describes; see `make_edid`.

        The server's own monitors have none. ``arrange`` leaves it: plug in another one, or ``b""`` for none.
        """
        block = re.search(rf"^{name} .*\n\tIdentifier: (0x[0-9a-f]+)", self.xrandr("--verbose"), re.MULTILINE)
        if block is None:
            raise RuntimeError(f"no output {name}")
        subprocess.run(
            [sys.executable, "-c", _SET_EDID, block[1], edid.hex()],
            env={**os.environ, **self.environment},
            timeout=_ANSWER_S,
            check=True,
        )

    def _named(self) -> list[tuple[str, tuple[int, int]]]:
        return [(f"DUMMY{index}", size) for index, size in enumerate(self.outputs)]

    def _add_modes(self) -> None:
        for width, height in set(self.outputs):
            across, down = width + 160, height + 30
            clock_mhz = across * down * REFRESH_HZ / 1e6
            lines = [width, width + 48, width + 80, across, height, height + 3, height + 8, down]
            self.xrandr("--newmode", f"{width}x{height}_test", f"{clock_mhz:.3f}", *map(str, lines))
        for name, (width, height) in self._named():
            self.xrandr("--addmode", name, f"{width}x{height}_test")

    def _start(self, timeout_s: float) -> str:
        """Start the server; where a server that is not one of these has the display number, with the next one."""
        for left in reversed(range(_TRIES)):
            try:
                return self._try(timeout_s)
            except RuntimeError:
                if not left:
                    raise
                taken = self._claim
                self._claim = _claim(taken.number + 1)
                taken.lock.release()
        raise AssertionError("unreachable")

    def _try(self, timeout_s: float) -> str:
        folder = Path(self._folder.name)
        config, log = folder / "xorg.conf", folder / "xorg.log"
        width, height = sum(w for w, _ in self.outputs), max(h for _, h in self.outputs)
        config.write_text(_CONFIG.format(width=width, height=height))
        # The unwrapped program, since the wrapper that Debian puts before it serves only somebody at the console.
        program = _UNWRAPPED if Path(_UNWRAPPED).exists() else "Xorg"
        reader, writer = os.pipe()
        try:
            self._process = subprocess.Popen(
                [
                    program,
                    f":{self._claim.number}",
                    "-displayfd",
                    str(writer),
                    "-config",
                    str(config),
                    "-logfile",
                    str(log),
                    *_ARGUMENTS,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[writer],
                preexec_fn=_end_with_parent(os.getpid()),
                start_new_session=True,
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        number = _read_line(reader, timeout_s)
        if number:
            return f":{number}"
        self._process.kill()
        self._process.wait(5.0)
        said = log.read_text(errors="replace")[-2000:] if log.exists() else "nothing"
        raise RuntimeError(f"no X server within {timeout_s:g} s; its log says: {said}")


class _Claim(NamedTuple):
    """A display number, and the lock that keeps others of these servers from it."""

    number: int
    lock: BaseFileLock


def _claim(first: int) -> _Claim:
    """The first display number from ``first`` on that no other of these servers has.

    The server itself could choose one. But one that ends removes its socket late, and with it that of a server that has
    taken its number meanwhile; a third then takes the number, too.
    """
    for number in range(first, _NUMBERS):
        lock = FileLock(Path(tempfile.gettempdir()) / f"labctl-x-server-{number}.lock", thread_local=False)
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return _Claim(number, lock)
    raise RuntimeError(f"{_NUMBERS} X servers are running already")


def make_edid(vendor: str, model: str, number: int, native: tuple[int, int]) -> bytes:
    """The EDID of a panel: VESA E-EDID 1.4, with one timing and the monitor's name.

    Parameters
    ----------
    vendor
        Three capital letters.
    model
        At most 13 letters.
    number
        Serial number, 32 bits.
    native
        (columns, rows) of the panel [px].
    """
    columns, rows = native
    data = bytearray(128)
    data[:8] = b"\x00\xff\xff\xff\xff\xff\xff\x00"
    data[8:10] = sum((ord(letter) - 64) << shift for letter, shift in zip(vendor, (10, 5, 0), strict=True)).to_bytes(2)
    data[12:16] = number.to_bytes(4, "little")
    data[18:20] = 1, 4
    timing = [1, 1, columns & 255, 160, columns >> 8 << 4, rows & 255, 30, rows >> 8 << 4]
    data[54 : 54 + len(timing)] = timing
    data[72:90] = b"\0\0\0\xfc\0" + (model + "\n").encode()[:13].ljust(13)
    data[127] = -sum(data) % 256
    return bytes(data)


def _read_line(reader: int, timeout_s: float) -> str:
    """The line that is written to a pipe; empty when none comes in time, or the writer ends. Closes the pipe."""
    deadline_s, text = time.monotonic() + timeout_s, b""
    try:
        while not text.endswith(b"\n"):
            if not select.select([reader], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
                return ""
            more = os.read(reader, 64)
            if not more:
                return ""
            text += more
    finally:
        os.close(reader)
    return text.decode().strip()


def _end_with_parent(parent: int) -> Callable[[], None]:
    """What the server's process does first: it asks the kernel to end it when its parent does, or ends if that has."""
    if sys.platform != "linux":
        raise RuntimeError("the X server without a graphics card runs on Linux only")
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it has ended in between, which is told nobody any more
            os._exit(1)

    return ask
