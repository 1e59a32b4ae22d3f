"""Devices of an open bench by bluesky's protocols: panels and light that are set, camera and monitors that are read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.errors import CapabilityError, DeviceError
from drivers.protocols import FrameBlock, Levels, Modulator
from labctl.bench.bench import Bench
from labctl.bench.interlocks import require_closed
from labctl.bench.steps import Settling
from labctl.doors.doing import Doing, Hand, already
from labctl.errors import UsageError
from labctl.instruments.patterns import pattern
from labctl.station.model import Acquisition

Readings = dict[str, dict[str, Any]]
DataKeys = dict[str, dict[str, Any]]
NO_PATTERN = -1
_LEVEL = "level="


class Hands:
    """The open devices, a hand for each, and what they have to know of one another.

    Parameters
    ----------
    bench, settings
        Open, and how it settles.
    limit_s
        After which a call counts as hung, beyond the time that exposures take [s].
    require_held
        Raises where the bench is not held any more.

    Attributes
    ----------
    lit
        Whether the light is on.
    interlocks_s
        How much longer a call may take that asks the interlocks first [s].
    """

    def __init__(self, bench: Bench, settings: Acquisition, limit_s: float, require_held: Callable[[], None]) -> None:
        self.bench, self.settings, self.limit_s, self.require_held = bench, settings, limit_s, require_held
        self.settling, self.lock = Settling(settings), threading.Lock()
        self._hands = {name: Hand(name) for name in bench.devices}
        self.lit = False
        self.interlocks_s = (limit_s + 1) * len(bench.interlocks)

    def ask(self, device: str, what: str, call: Callable[[], None], more_s: float = 0.0) -> Doing:
        """Have something done with a device, by its name in the station."""
        return self._hands[device].do(what, call, self.limit_s + more_s)

    def switch(self, on: bool) -> Doing:
        """Light on, if every interlock is closed and the bench still held; or off."""
        what, more_s = f"light {'on' if on else 'off'}", self.interlocks_s if on else 0.0
        return self.ask(self.bench.name_of("source"), what, lambda: self._switch(on), more_s)

    def _switch(self, on: bool) -> None:
        if on:
            self.require_light_allowed()
        if self.lit is on:
            return
        with self.lock:
            self.settling.wait_for_slm()
        if on:
            self.lit = True  # before it is: what fails on the way may have light
            self.bench.source.on()
        else:
            with suppress(CapabilityError):  # a light that no program can switch
                self.bench.source.off()
            self.lit = False

    def require_light_allowed(self) -> None:
        """Raise where an interlock is open or the bench is not held."""
        self.require_held()
        for name, interlock in self.bench.interlocks.items():
            self.ask(name, "check", partial(require_closed, {name: interlock})).wait()

    @property
    def hung(self) -> list[str]:
        """Names of devices that do not come back."""
        return [name for name, hand in self._hands.items() if hand.hangs]

    def end(self) -> None:
        """Nothing else is asked of any device."""
        for hand in self._hands.values():
            hand.end()


class _Named:
    """What bluesky asks of every device: who it belongs to, and what of it is worth a plot."""

    name: str
    parent = None

    @property
    def hints(self) -> dict[str, Any]:
        """What is worth a plot."""
        return {"fields": [self.name]}


class Light(_Named):
    """The light source: set to True or False; off at the end of every plan, however it ends."""

    def __init__(self, hands: Hands, name: str = "light") -> None:
        self.name, self._hands = name, hands

    def set(self, value: Any) -> Doing:
        """Switch it."""
        self.check_value(value)
        return self._hands.switch(bool(value))

    def check_value(self, value: Any) -> None:
        """Refuse anything but on and off."""
        if not isinstance(value, bool | int | float | np.generic) or value not in (0, 1):
            raise UsageError("a light is on or off", device=self.name, expected="True or False", seen=repr(value))

    def stage(self) -> Doing:
        """Nothing: a plan that stages a light says itself when it is on."""
        return already(f"{self.name}: stage")

    def unstage(self) -> Doing:
        """Off."""
        return self._hands.switch(False)

    def stop(self, success: bool = True) -> None:
        """Off; the run engine calls it for all that was set, at the end of every plan."""
        self._hands.switch(False).wait()

    def read(self) -> Readings:
        """Whether it is on."""
        return _reading({self.name: self._hands.lit}, time.time())

    def describe(self) -> DataKeys:
        """Of `read`."""
        return {self.name: _key(self.name, "boolean")}

    def locate(self) -> dict[str, Any]:
        """Asked for, and there."""
        return {"setpoint": self._hands.lit, "readback": self._hands.lit}


class Panel(_Named):
    """SLM or display: set to a pattern, by its number in a list that was loaded, or in words (``"checker=8"``).

    Parameters
    ----------
    hands, role
        Of the open bench, and which panel: ``"slm"`` or ``"display"``.
    """

    def __init__(self, hands: Hands, role: str) -> None:
        self.name, self._hands = role, hands
        self._device: Modulator = getattr(hands.bench, role)
        self._station_name = hands.bench.name_of(role)
        self._patterns: list[Levels] = []
        self._shown: tuple[int, str] = (NO_PATTERN, "")
        self._asked: Any = NO_PATTERN

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) [px]"""
        return self._device.shape

    @property
    def levels(self) -> int:
        """Gray levels."""
        return self._device.levels

    @property
    def shown(self) -> str:
        """What is on it, in words; empty before anything was set."""
        return self._shown[1]

    def load(self, patterns: Sequence[NDArray[Any] | str]) -> None:
        """Take the patterns that numbers mean from now on: (rows, columns) gray levels, or words.

        Raises
        ------
        UsageError
            For one that does not fit the panel; the list of before stays.
        """
        self._patterns = [self._frame(one, f"pattern {i}") for i, one in enumerate(patterns)]
        self._shown = NO_PATTERN, self._shown[1]  # the number was one of the list of before

    def check_value(self, value: Any) -> None:
        """Refuse what cannot be shown."""
        self._resolve(value)

    def set(self, value: Any) -> Doing:
        """Show a pattern; the next frame that is read waits until it has settled."""
        frame, shown = self._resolve(value)
        self._asked = value
        return self._show(frame, shown, f"show {value!r}")

    def _show(self, frame: Levels, shown: tuple[int, str], what: str) -> Doing:
        def show() -> None:
            settling, key = self._hands.settling, frame.tobytes()
            with self._hands.lock:
                changes = settling.show(self.name, key)
            if changes:
                try:
                    self._device.show(frame)
                except BaseException:
                    settling.forget(self.name)
                    self._shown = (NO_PATTERN, "unknown")
                    raise
            self._shown = shown

        return self._hands.ask(self._station_name, what, show)

    def _resolve(self, value: Any) -> tuple[Levels, tuple[int, str]]:
        if isinstance(value, str):
            return self._frame(value, value), (NO_PATTERN, value)
        if _is_whole(value) and 0 <= int(value) < len(self._patterns):
            return self._patterns[int(value)], (int(value), f"pattern {int(value)}")
        known = f"a number below {len(self._patterns)}" if self._patterns else f"after {self.name}.load([…]) a number"
        raise UsageError(
            "no such pattern", device=self.name, expected=f"{known}, or words: level=128, checker=8", seen=repr(value)
        )

    def _frame(self, one: NDArray[Any] | str, what: str) -> Levels:
        if isinstance(one, str):
            return pattern(one, self.shape, self.levels)
        frame = np.asarray(one)
        fits = frame.shape == self.shape and frame.dtype.kind in "iu"
        if not fits or frame.min() < 0 or frame.max() >= self.levels:
            raise UsageError(
                f"{what} does not fit the panel",
                device=self.name,
                expected=f"{self.shape[0]} × {self.shape[1]} whole numbers in 0 … {self.levels - 1}",
                seen=f"{' × '.join(map(str, frame.shape))} {frame.dtype}",
            )
        return np.ascontiguousarray(frame)

    def read(self) -> Readings:
        """Number and words of what was shown last."""
        number, words = self._shown
        return _reading({self.name: number, f"{self.name}_pattern": words}, time.time())

    def describe(self) -> DataKeys:
        """Of `read`."""
        return {self.name: _key(self.name, "integer"), f"{self.name}_pattern": _key(self.name, "string")}

    def locate(self) -> dict[str, Any]:
        """Asked for, and there."""
        return {"setpoint": self._asked, "readback": self._shown[0]}


class Level(_Named):
    """One gray level all over a panel: an axis to scan."""

    def __init__(self, panel: Panel) -> None:
        self.name, self._panel, self._asked = f"{panel.name}_level", panel, NO_PATTERN

    def check_value(self, value: Any) -> None:
        """Refuse what is no gray level of the panel."""
        if not _is_whole(value) or not 0 <= int(value) < self._panel.levels:
            expected = f"a whole number in 0 … {self._panel.levels - 1}"
            raise UsageError("no gray level of this panel", device=self.name, expected=expected, seen=repr(value))

    def set(self, value: Any) -> Doing:
        """Show it."""
        self.check_value(value)
        self._asked = int(value)
        return self._panel.set(f"{_LEVEL}{self._asked}")

    @property
    def _at(self) -> int:
        """−1 while the panel shows anything else."""
        level = self._panel.shown.removeprefix(_LEVEL)
        return int(level) if level.isascii() and level.isdigit() else NO_PATTERN

    def read(self) -> Readings:
        """The level that the panel shows; −1 where that is something else."""
        return _reading({self.name: self._at}, time.time())

    def describe(self) -> DataKeys:
        """Of `read`."""
        return {self.name: _key(self.name, "integer")}

    def locate(self) -> dict[str, Any]:
        """Asked for, and there."""
        return {"setpoint": self._asked, "readback": self._at}


class CameraReader(_Named):
    """The camera: triggered, it reads one settled frame.

    Parameters
    ----------
    hands
        Of the open bench.
    frames
        Whether events hold whole frames, and not their mean and maximum alone.

    Attributes
    ----------
    lit
        Whether staging it switches the light on; for dark frames set it to False.
    """

    def __init__(self, hands: Hands, frames: bool, name: str = "camera") -> None:
        self.name, self.lit, self._hands, self._frames = name, True, hands, frames
        self._station_name = hands.bench.name_of("camera")
        self._block: FrameBlock | None = None

    def stage(self) -> Doing:
        """Light, where frames are to be lit."""
        return self._hands.switch(True) if self.lit else already(f"{self.name}: stage")

    def unstage(self) -> Doing:
        """Dark."""
        return self._hands.switch(False)

    def trigger(self) -> Doing:
        """Read a frame that began after everything that was shown has settled."""
        camera, settling = self._hands.bench.camera, self._hands.settling

        def read() -> None:
            if self._hands.lit:
                try:
                    self._hands.require_light_allowed()
                except Exception:
                    self._hands.switch(False)
                    raise
            with self._hands.lock:
                owed = settling.paid()
            try:
                camera.arm(1, owed)
                self._block = camera.fetch(self._wait_s(owed))
            except BaseException:
                with self._hands.lock:
                    settling.wait_for_slm()
                with suppress(DeviceError):
                    camera.stop()
                raise

        usual = max(self._hands.settings.slm_settle_frames, self._hands.settings.display_settle_frames)
        more_s = self._wait_s(usual) + self._hands.interlocks_s
        return self._hands.ask(self._station_name, "read a frame", read, more_s)

    def _wait_s(self, owed: int) -> float:
        settings = self._hands.settings
        return settings.fetch_timeout_s + 2 * (1 + owed) * self._hands.bench.camera.frame_period_s

    def read(self) -> Readings:
        """The last frame in numbers, or as a whole."""
        if self._block is None:
            raise UsageError("no frame was read yet", device=self.name, hint="bps.trigger(camera, wait=True) first")
        return _reading(self.values(self._block), float(self._block.host_time_s[-1]))

    def values(self, block: FrameBlock) -> dict[str, Any]:
        """What is told of a block's last frame."""
        frame = block.frames[-1]
        found: dict[str, Any] = {
            f"{self.name}_mean_dn": float(frame.mean()),
            f"{self.name}_max_dn": int(frame.max()),
            f"{self.name}_saturated_fraction": float(block.saturated_fraction[-1]),
            f"{self.name}_sequence": int(block.sequence[-1]),
            f"{self.name}_device_time_s": float(block.device_time_s[-1]),
        }
        return found | ({f"{self.name}_frame_dn": frame} if self._frames else {})

    def describe(self) -> DataKeys:
        """Of `read`."""
        keys = {
            f"{self.name}_mean_dn": _key(self.name, "number", "DN"),
            f"{self.name}_max_dn": _key(self.name, "integer", "DN"),
            f"{self.name}_saturated_fraction": _key(self.name, "number", "1"),
            f"{self.name}_sequence": _key(self.name, "integer", "1"),
            f"{self.name}_device_time_s": _key(self.name, "number", "s"),
        }
        if self._frames:
            shape = list(self._hands.bench.camera.roi.shape)
            whole = _key(self.name, "array", "DN") | {"shape": shape, "dtype_numpy": "<u2", "dims": ["row", "column"]}
            keys[f"{self.name}_frame_dn"] = whole
        return keys

    def read_configuration(self) -> Readings:
        """How it is set."""
        camera = self._hands.bench.camera
        values = {"exposure_s": camera.exposure_s, "frame_period_s": camera.frame_period_s, "lit": self.lit}
        return _reading({f"{self.name}_{name}": value for name, value in values.items()}, time.time())

    def describe_configuration(self) -> DataKeys:
        """Of `read_configuration`."""
        kinds = {"exposure_s": ("number", "s"), "frame_period_s": ("number", "s"), "lit": ("boolean", "")}
        return {f"{self.name}_{name}": _key(self.name, *kind) for name, kind in kinds.items()}

    @property
    def hints(self) -> dict[str, Any]:
        """What is worth a plot."""
        return {"fields": [f"{self.name}_mean_dn"]}


class MonitorReader(_Named):
    """A power meter or a thermometer: read when it is triggered."""

    def __init__(self, hands: Hands, station_name: str) -> None:
        self.name, self._hands, self._station_name = station_name.replace("-", "_"), hands, station_name
        self._value: tuple[float, float] | None = None

    def trigger(self) -> Doing:
        """Read it."""

        def read() -> None:
            self._value = self._hands.bench.monitors[self._station_name].read().value, time.time()

        return self._hands.ask(self._station_name, "read", read)

    def read(self) -> Readings:
        """The last reading."""
        if self._value is None:
            raise UsageError(
                "nothing was read yet", device=self.name, hint=f"bps.trigger({self.name}, wait=True) first"
            )
        return _reading({self.name: self._value[0]}, self._value[1])

    def describe(self) -> DataKeys:
        """Of `read`."""
        return {self.name: _key(self.name, "number", self._hands.bench.monitors[self._station_name].unit)}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and float(value).is_integer()


def _reading(values: dict[str, Any], at_s: float) -> Readings:
    return {name: {"value": value, "timestamp": at_s} for name, value in values.items()}


def _key(device: str, dtype: str, unit: str = "") -> dict[str, Any]:
    key: dict[str, Any] = {"source": f"labctl:{device}", "dtype": dtype, "shape": []}
    return key | ({"units": unit} if unit else {})
