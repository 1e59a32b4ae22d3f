"""A bench that other people's objects hold: open, lit and settled for as long as any of them lives, and safe after."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from drivers import checks
from drivers.errors import CapabilityError, DeviceError, DeviceLost
from drivers.protocols import FrameBlock, Modulator, Roi
from groundwork.nearest import did_you_mean
from labctl.bench.bench import Bench, open_bench
from labctl.bench.interlocks import require_closed
from labctl.bench.steps import PANELS, Settling
from labctl.console import Console
from labctl.engine.holding import devices_in_use, holding
from labctl.errors import InterlockOpen, LockGone, UsageError
from labctl.lab import Lab
from labctl.station.loading import LoadedStation, find_station, load_station
from labctl.station.model import Station

AnyStation = str | Path | Station | LoadedStation | None
Levels = NDArray[np.integer[Any]]

ASK_EVERY_S = 1.0
"""From one question to the interlocks to the next while frames are read, at least [s]."""


class HeldBench:
    """A bench whose lock is held and whose devices are open until `close`, or until nothing refers to it any more.

    The light is on from the beginning, unless an interlock is open, and off at the end: after `close`, when the last
    object that uses the bench is collected, and when the interpreter ends, be it by an exception. It goes off, too,
    when a device fails or an interlock opens, and on again for the next frame that can be read. A process that is
    killed leaves a mark, and the next command on the bench makes it safe first.

    Parameters
    ----------
    station
        What `labctl.load_station` gives, or takes: the path of a station file, the name of one that is shipped, None
        for the mock bench.
    purpose
        For whoever finds the bench busy.
    settle_frames
        Frames that pass unread after a panel has changed or the light was switched on; what the station says if None.

    Attributes
    ----------
    bench
        The open devices.
    station
        What they were opened by.

    Raises
    ------
    BenchBusy
        When somebody holds the bench, this process included.
    InterlockOpen
        When an interlock is open.
    DeviceError
        When a device does not open.
    """

    def __init__(self, station: AnyStation, purpose: str, settle_frames: int | None = None) -> None:
        self.station = station_of(station)
        if settle_frames is not None and whole("settle_frames", settle_frames) < 0:
            raise UsageError("frames to settle cannot be fewer than none", expected="0, 1, …", seen=f"{settle_frames}")
        settings = self.station.acquisition
        if settle_frames is not None:
            settings = settings.model_copy(
                update={"slm_settle_frames": settle_frames, "display_settle_frames": settle_frames}
            )
        self._settling = Settling(settings)
        self._lock = threading.RLock()
        self._wanted, self._lit, self._asked_s = True, False, -ASK_EVERY_S
        with ExitStack() as stack:
            lab = Lab(Console(quiet=True))
            stack.enter_context(holding(lab, self.station.bench.name, purpose, makes_up=False))
            self._require_held: Callable[[], None] = stack.enter_context(devices_in_use(lab, self.station))
            self.bench: Bench = stack.enter_context(open_bench(self.station))
            self.bench.camera.exposure_s = settings.exposure_s
            self._light_up()
            self._end = weakref.finalize(self, stack.pop_all().close)

    @property
    def is_closed(self) -> bool:
        """Whether the bench is safe and free again."""
        return not self._end.alive

    def close(self) -> None:
        """Light off, devices safe and closed, the bench free; calling it twice is harmless.

        Raises
        ------
        DeviceError
            When a device did not reach its safe state.
        """
        with self._lock:
            self._end()

    def panel(self, role: str) -> Modulator:
        """The panel of a role, ``"slm"`` or ``"display"``.

        Raises
        ------
        UsageError
            When there is no such panel.
        """
        require_panel(role)
        return cast(Modulator, getattr(self.bench, role))

    def level_type(self, role: str) -> np.dtype[Any]:
        """The smallest unsigned integers that hold the levels of a panel."""
        return np.dtype(np.uint8 if self.panel(role).levels <= 256 else np.uint16)

    def show(self, role: str, levels: Levels) -> None:
        """Show gray levels on a panel; the next frame that is read has settled.

        Parameters
        ----------
        levels : (rows, columns)
            Whole numbers from 0 to the panel's ``levels`` − 1.

        Raises
        ------
        CapabilityError
            When they do not fit the panel.
        """
        with self._using():
            panel = self.panel(role)
            checks.levels_shown(panel.name, levels, panel.shape, panel.levels)
            try:
                panel.show(levels)
            except BaseException:
                self._settling.forget(role)  # nobody knows what is on it
                raise
            self._settling.show(role, levels.tobytes())

    def fill(self, role: str, level: int | None = None) -> None:
        """Show one gray level everywhere; the highest if None."""
        panel = self.panel(role)
        level = panel.levels - 1 if level is None else whole("a gray level", level)
        self.show(role, np.full(panel.shape, level, np.int64))

    def frames(self, n: int, timeout_s: float) -> FrameBlock:
        """Read frames of what is on the panels now, settled and lit.

        Parameters
        ----------
        n
            How many.
        timeout_s
            For all of them, on top of the time that settling and two exposures of each take [s].

        Raises
        ------
        InterlockOpen
            When an interlock is open: the light is off then.
        DeviceError
            When the camera fails: the light is off then.
        """
        with self._using():
            if self._wanted:
                self._light_up()
            camera, skip = self.bench.camera, self._settling.paid()
            try:
                camera.arm(n, skip)
                return camera.fetch(timeout_s + 2 * (n + skip) * camera.frame_period_s)
            except BaseException:
                self._settling.wait(skip)
                with suppress(DeviceError):
                    camera.stop()
                raise

    @property
    def light(self) -> bool:
        """Whether frames are read with the light on; a light that no program can switch stays on, which is refused."""
        return self._wanted

    @light.setter
    def light(self, on: bool) -> None:
        with self._using():
            if on:
                self._light_up()
            else:
                self._switch_off()
            self._wanted = on

    @property
    def exposure_s(self) -> float:
        """Of the camera, as it reads it back; set it, then read it back [s]."""
        with self._using():
            return self.bench.camera.exposure_s

    @exposure_s.setter
    def exposure_s(self, value: float) -> None:
        with self._using():
            self.bench.camera.exposure_s = value

    @property
    def frame_period_s(self) -> float:
        """From one start of exposure to the next [s]."""
        with self._using():
            return self.bench.camera.frame_period_s

    @property
    def roi(self) -> Roi:
        """Region of interest of the camera; set it, then read it back [px]."""
        with self._using():
            return self.bench.camera.roi

    @roi.setter
    def roi(self, value: Roi) -> None:
        with self._using():
            self.bench.camera.roi = value

    @contextmanager
    def _using(self) -> Iterator[None]:
        """One thread at a time, while the bench is held; where a device fails, the light goes off."""
        with self._lock:
            if self.is_closed:
                raise DeviceLost(
                    "the bench is closed",
                    device=self.station.bench.name,
                    action="using it",
                    safe="the light is off",
                    hint="open it again",
                )
            try:
                self._require_held()
                yield
            except LockGone:
                self.close()
                raise
            except CapabilityError:  # refused, and nothing has changed
                raise
            except (DeviceError, InterlockOpen):
                self._darken()
                raise

    def _light_up(self) -> None:
        """Light, unless an interlock is open; what is lit anew has to settle."""
        if self._lit and time.monotonic() - self._asked_s < ASK_EVERY_S:
            return
        require_closed(self.bench.interlocks)
        self._asked_s = time.monotonic()
        if not self._lit:
            self.bench.source.on()
            self._lit = True
            self._settling.wait_for_slm()

    def _switch_off(self) -> None:
        source = self.bench.source
        source.off()
        if source.is_on:  # blank panels serve a run as dark, but here the panels are somebody else's
            raise CapabilityError(
                "the light cannot be switched off by a program",
                device=self.bench.name_of("source"),
                action="switching the light off",
                expected="no light",
                seen="on, as before",
                safe="the light is on",
                hint="show gray level 0 on both panels",
            )
        self._lit = False

    def _darken(self) -> None:
        """No light; where that cannot be done, closing the bench says so."""
        self._lit = False
        with suppress(DeviceError):
            self.bench.source.off()


def require_panel(role: str) -> None:
    """Refuse what is the name of no panel.

    Raises
    ------
    UsageError
        When it is none.
    """
    if role not in PANELS:
        hint = did_you_mean(role, PANELS, "panel='slm' is usual")
        raise UsageError("no such panel", expected=" or ".join(PANELS), seen=role, hint=hint)


def station_of(station: AnyStation) -> Station:
    """The station that somebody means, in any of the ways in which one can be given."""
    if isinstance(station, Station):
        return station
    if isinstance(station, LoadedStation):
        return station.station
    return load_station(find_station(None if station is None else str(station))).station


def whole(name: str, value: object) -> int:
    """A whole number that somebody gave; nothing is rounded.

    Raises
    ------
    UsageError
        When it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise UsageError(f"{name} is no whole number", expected="0, 1, …", seen=repr(value))
    return int(value)
