"""A full-screen display on one monitor, without any vendor's software: most SLMs on HDMI or DisplayPort are monitors.

In the station file::

    [devices.slm]
    backend = "screen"
    options = {monitor = "HDMI-1", model = "HE PLUTO-2.1", shape = [1080, 1920], settle_s = 0.05}

``labctl devices probe`` lists the monitors by the names of their outputs; with ``model`` or ``serial`` the panel itself
is asked who it is (EDID), so that exchanged cables are noticed. Each pixel of a frame becomes a pixel of the panel, or
the panel is refused: scaled, turned, mirrored onto another monitor, in another mode than the panel's own, with a gamma
ramp, or as the primary monitor, where every message of the desktop appears. At opening a pattern is shown and read back
(option ``self_test``), which finds colour management and covering windows, too; every few seconds the gamma ramp and
the monitor are looked at again, since night light comes in the evening and messages at any time.

Gray levels are sent as ``packing`` says:

``gray8``
    256 levels, the same in red, green and blue. HOLOEYE, Hamamatsu, Thorlabs Exulus, most DMDs as monitors.
``rgb334``
    1024 levels: the three highest bits are the highest of red, the next three those of green, the last four those of
    blue. Santec SLM-200 and SLM-210 in DVI mode (SLM-200 manual, "10 bit gray scale by RGB").

Frames are swapped at the monitor's vertical refresh, and the receipt's ``shown_at_s`` is when the swap was done, on the
host's clock `time.monotonic`. Where the graphics driver does not wait for the refresh (software rendering, "sync to
vblank" switched off), swaps are spaced by one refresh at least, a frame may appear up to one refresh later, and
``settle_s`` is longer by that; the same again where a compositor copies windows to the monitor. ``snapshot`` says
which.

When the window's process ends, by whatever cause, its window is gone and the desktop shows: make its background black.
The screen works in X sessions on Linux. Wayland and Windows are refused, with what to do.
"""

from __future__ import annotations

import getpass
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from filelock import BaseFileLock, FileLock, Timeout
from numpy.typing import NDArray

from drivers import checks
from drivers.backend import PANEL, Backend, Family, Found, Proof
from drivers.errors import CapabilityError, DeviceLost, DeviceProtocolError, DeviceTimeout, NotConnected
from drivers.libraries import readback
from drivers.libraries.monitors import Monitor, Problem, monitor, monitors, power_saving
from drivers.libraries.window import Window
from drivers.options import Checked, option, refused
from drivers.protocols import DeviceFacts, Identity, Levels, OpenContext, ShowReceipt

RAMP_TOLERANCE = 1 / 510
"""Half of one of 256 levels: a gamma ramp that is nearer to a straight line changes no level."""

_BITS = {"gray8": 8, "rgb334": 10}
_LEVELS = np.arange(1024)
_RGB334 = np.stack([_LEVELS >> 7 << 5, (_LEVELS >> 4 & 7) << 5, (_LEVELS & 15) << 4], axis=-1).astype(np.uint8)
_READ_S = 1.0
_AGAIN_S = 0.05


@dataclass(frozen=True)
class ScreenOptions(Checked):
    """Options of the backend ``screen``.

    Attributes
    ----------
    monitor
        Name of the output that the panel hangs on, as ``xrandr`` lists it: ``"HDMI-1"``.
    model, serial
        What the panel's EDID must say; empty: whatever it says.
    shape
        [rows, columns] that the panel has; another size is refused.
    packing
        How gray levels are sent.
    settle_s
        From the refresh until the panel shows a new frame well enough to be read [s].
    allow_primary
        Use the desktop's primary monitor, in spite of what may appear there.
    self_test
        Show a pattern at opening and read it back, and look every few seconds whether the last frame is still seen.
    open_timeout_s
        For each step of opening: the monitor is found, the window is there, the self-test is done [s].
    """

    monitor: str
    model: str = ""
    serial: str = ""
    shape: tuple[int, ...] | None = None
    packing: Literal["gray8", "rgb334"] = "gray8"
    settle_s: float = option(0.001, 10.0, 0.1)
    allow_primary: bool = False
    self_test: bool = True
    open_timeout_s: float = option(1.0, 120.0, 20.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape is not None and (len(self.shape) != 2 or min(self.shape) < 1):
            raise refused("shape is no shape", expected="[rows, columns]", seen=f"{list(self.shape)}")


class Screen:
    """A modulator that is a full-screen window on one monitor.

    Parameters
    ----------
    name
        What the station calls it.
    options
        The backend's options.

    Raises
    ------
    NotConnected
        When there is no such monitor, or no window on it can be had.
    CapabilityError
        When the monitor would not show frames pixel by pixel, and what to do.
    DeviceProtocolError
        When what is read back is not what was shown.
    """

    def __init__(self, name: str, options: ScreenOptions) -> None:
        self.name, self._options = name, options
        self._window: Window | None = None
        self._frame_id = 0
        until_s = time.monotonic() + options.open_timeout_s
        self._monitor = one = monitor(options.monitor, options.open_timeout_s)
        self._refuse(_unfit(one, options, until_s))
        self.shape = one.height, one.width
        self.levels, self.refresh_hz = 2 ** _BITS[options.packing], one.refresh_hz
        self._lock = _only_user(name, one.name)
        try:
            self._window = Window(name, one, options.open_timeout_s)
            facts = self._window.facts
            self._check(facts)
            late = (not facts["vertical_sync"]) + facts["composited"]
            self.settle_s = options.settle_s + late / one.refresh_hz
            if options.self_test:
                self.self_test(options.open_timeout_s)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        window, self._window = self._window, None
        try:
            if window is not None:
                window.close()
        finally:
            self._lock.release()

    def identify(self) -> Identity:
        self._live()
        edid = self._monitor.edid
        return Identity(edid.vendor or "unnamed", edid.model or "monitor", edid.serial or self._monitor.name)

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        facts = self._live().ask_facts(timeout_s)
        one = self._monitor
        return {
            "monitor": one.name,
            "position_px": [one.x, one.y],
            "shape_px": list(self.shape),
            "levels": self.levels,
            "packing": self._options.packing,
            "refresh_hz": one.refresh_hz,
            "settle_s": self.settle_s,
            "frame_id": self._frame_id,
            "vertical_sync": facts["vertical_sync"],
            "composited": facts["composited"],
            "gamma_ramp_error": facts["ramp_error"],
            "renderer": facts["renderer"],
        }

    def safe_state(self, timeout_s: float = 5.0) -> None:
        window = self._window
        if window is None or not window.alive:
            return
        try:
            window.show(np.zeros(self.shape, np.uint8), timeout_s)
        except DeviceLost:
            pass
        except DeviceTimeout:
            window.kill()

    def show(self, levels: Levels, timeout_s: float = 2.0) -> ShowReceipt:
        window = self._live()
        levels = checks.levels_shown(self.name, levels, self.shape, self.levels)
        answer = window.show(pack(levels, self._options.packing), timeout_s, look=self._options.self_test)
        self._frame_id += 1
        self._check(answer)
        return ShowReceipt(self._frame_id, answer["at_s"])

    def verify(self, timeout_s: float = 5.0) -> None:
        """As `VerifiedPanel.verify`, by a screenshot and the gamma ramp; nothing without the option ``self_test``."""
        window = self._live()
        if self._options.self_test:
            self._check(window.look(timeout_s))

    def blank(self, timeout_s: float = 2.0) -> ShowReceipt:
        return self.show(np.zeros(self.shape, np.uint8), timeout_s)

    def self_test(self, timeout_s: float = 20.0) -> None:
        """Show a pattern in all three channels and its complement, read both back, and blank the panel.

        The panel shows noise for some tenths of a second. Frames of the test are not counted. Where the time does not
        suffice, a second more is taken to blank the panel.

        Raises
        ------
        DeviceProtocolError
            When what is read back is not what was shown: scaled, moved, with other levels, or covered, and where; or
            when the monitor has a gamma ramp.
        CapabilityError
            When the monitor's settings have changed so that it could not be opened now.
        """
        window, until_s = self._live(), time.monotonic() + timeout_s
        self._refuse(_unfit(monitor(self._monitor.name, timeout_s), self._options, until_s))
        self._check(window.ask_facts(_left_s(until_s)))
        shown = readback.patterns(self.shape)
        try:
            seen = [_settled(window, picture, until_s) for picture in shown]
        finally:
            last = _settled(window, np.zeros((*self.shape, 3), np.uint8), max(until_s, time.monotonic() + _READ_S))
        problem = readback.explain(shown, seen)
        if problem is None and last.any():
            problem = Problem("the panel does not become dark", "close what covers this monitor")
        if problem is not None:
            raise DeviceProtocolError(
                f"{self._monitor.name} does not show what it is given: {problem.what}",
                device=self.name,
                action="read the monitor back",
                expected="each pixel as it was shown, in red, green and blue",
                seen=problem.what,
                safe="the panel is blank",
                hint=problem.hint,
            )

    def _live(self) -> Window:
        if self._window is None:
            raise DeviceLost(f"{self.name} is closed", device=self.name, hint="open it again")
        self._window.check_alive()
        return self._window

    def _check(self, answer: dict[str, Any]) -> None:
        """Raises `DeviceProtocolError` where the window has seen that the monitor does not show what it is given."""
        if not answer.get("as_shown", True):
            raise DeviceProtocolError(
                f"{self._monitor.name} does not show the frame that it was given",
                device=self.name,
                action="show a frame",
                expected="each pixel as it was shown, in red, green and blue",
                seen="another picture, in a screenshot",
                hint="did a window, a message or the screen lock come up there? Close it, and open the panel again: "
                "its self-test says where and what",
            )
        error = answer.get("ramp_error")
        if error is not None and error > RAMP_TOLERANCE:
            raise DeviceProtocolError(
                f"the gamma ramp of {self._monitor.name} changes levels by up to {error * 255:.0f} of 255",
                device=self.name,
                action="look at the gamma ramp",
                expected="a straight line",
                seen=f"{error:.3f} of full scale away from it",
                hint="switch night light, colour profiles and gamma off: "
                f"xrandr --output {self._monitor.name} --gamma 1:1:1 --brightness 1",
            )

    def _refuse(self, problem: Problem | None) -> None:
        if problem is not None:
            raise CapabilityError(
                f"{self._monitor.name} cannot be a modulator: {problem.what}",
                device=self.name,
                action="open",
                expected="each pixel of a frame on one pixel of the panel, and nowhere else",
                seen=problem.what,
                hint=problem.hint,
            )


def pack(levels: Levels, packing: str) -> NDArray[np.uint8]:
    """Gray levels : (rows, columns) as bytes of a picture: (rows, columns), or (rows, columns, 3) red, green, blue."""
    if packing == "gray8":
        return levels.astype(np.uint8)
    packed: NDArray[np.uint8] = _RGB334.take(levels.astype(np.uint16), axis=0)
    return packed


def _settled(window: Window, picture: NDArray[np.uint8], until_s: float) -> NDArray[np.uint8]:
    """Show a picture; what is seen then. A compositor may take some refreshes, so look again for a while."""

    window.show(picture, _left_s(until_s))
    seen = window.grab(_left_s(until_s))
    enough_s = time.monotonic() + _READ_S
    while not np.array_equal(seen, picture) and time.monotonic() < enough_s:
        time.sleep(_AGAIN_S)
        seen = window.grab(_left_s(until_s))
    return seen


def _left_s(until_s: float) -> float:
    return max(0.0, until_s - time.monotonic())


def _unfit(one: Monitor, options: ScreenOptions, until_s: float) -> Problem | None:
    """The first reason for which a monitor cannot be used with these options, asked for until then [s]."""
    if not _is_asked_for(one, options):
        asked = " ".join(filter(None, (options.model, options.serial)))
        seen = " ".join(filter(None, (one.edid.model, one.edid.serial))) or "a panel that does not say what it is"
        there = [other.name for other in monitors(_left_s(until_s)) if _is_asked_for(other, options)]
        return Problem(
            f"it is {seen}, not {asked}",
            f'that one hangs on {there[0]} now: monitor = "{there[0]}"' if there else "labctl devices probe names them",
        )
    if one.problems:
        return one.problems[0]
    if options.shape is not None and options.shape != (one.height, one.width):
        return Problem(
            f"it shows {one.height} rows of {one.width} pixels, not {list(options.shape)} (rows, columns)",
            f"xrandr --output {one.name} --mode {options.shape[-1]}x{options.shape[0]}, or correct the option shape",
        )
    if one.primary and not options.allow_primary:
        return Problem(
            "it is the primary monitor, where the desktop shows its messages",
            "make another monitor the primary one (xrandr --output OTHER --primary), or set allow_primary = true",
        )
    return power_saving(_left_s(until_s))


def _is_asked_for(one: Monitor, options: ScreenOptions) -> bool:
    """Whether the panel is the one whose model and serial number the options give, if they do."""
    return options.model in ("", one.edid.model) and options.serial in ("", one.edid.serial)


def _only_user(name: str, output: str) -> BaseFileLock:
    """A hold on the monitor, which ends with this process at the latest."""
    words = re.sub(r"\W", "_", f"{getpass.getuser()}-{os.environ.get('DISPLAY', '')}-{output}")
    lock = FileLock(Path(tempfile.gettempdir()) / f"labctl-screen-{words}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise NotConnected(
            f"monitor {output} is in use",
            device=name,
            action="open",
            expected="a monitor that no other panel is on",
            seen="another open panel, of this program or another",
            hint="close the other one; two regions of one panel: backend region",
        ) from None
    return lock


def _open(name: str, options: ScreenOptions, context: OpenContext) -> Screen:
    return Screen(name, options)


def _describe(options: ScreenOptions, context: OpenContext) -> DeviceFacts:
    shape = (options.shape[0], options.shape[1]) if options.shape else None
    return DeviceFacts(shape, levels=2 ** _BITS[options.packing])


def _discover() -> list[Found]:
    try:
        found = monitors()
    except NotConnected:  # no session; a server that does not answer in time is another matter, and said
        return []
    return [_found(one) for one in found]


def _found(one: Monitor) -> Found:
    options: dict[str, Any] = {"monitor": one.name, "shape": [one.height, one.width]}
    options |= {key: value for key, value in (("model", one.edid.model), ("serial", one.edid.serial)) if value}
    notes = [problem.what for problem in one.problems] + (["the primary monitor"] if one.primary else [])
    identity = Identity(one.edid.vendor or "unnamed", one.edid.model or "monitor", one.edid.serial or one.name)
    return Found("slm", identity, options, ("no modulator as it is: " if notes else "") + "; ".join(notes))


_TEST = "tests/endpoints/test_screen.py"
SCREEN = Backend(
    "screen",
    PANEL,
    ScreenOptions,
    _open,
    _describe,
    needs=("glfw", "OpenGL", "mss"),
    install="pip install labctl[display]",
    discover=_discover,
    families=(
        Family("Panels that are monitors, 8 bit, in X sessions", Proof.LIVE, "second monitor of an X server", _TEST),
        Family("Santec SLM in DVI mode, 10 bit", Proof.FAKE, "bits read back, no such panel", _TEST),
    ),
    warning="when the program ends the panel shows the desktop's background: make it black",
)
"""A full-screen window on a monitor."""
