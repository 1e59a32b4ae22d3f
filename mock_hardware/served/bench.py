"""The mock bench in real time: its clock follows the host's, in whole frame periods."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.errors import CapabilityError
from drivers.protocols import Identity, Moment, Roi, Trip
from mock_hardware.bench import MockBench
from mock_hardware.camera import MockCamera
from mock_hardware.config import BenchConfig
from mock_hardware.devices import MockDisplay, MockModulator, MockSlm, MockSource
from mock_hardware.served.gige_camera import Exposed
from mock_hardware.served.panels import MonitorPanel
from mock_hardware.slow import MockInterlock, MockMonitor

_FAULTS = frozenset({"drop", "stale", "garbage", "saturation", "swap", "stuck-slm", "interlock"})
"""Kinds of faults that a served bench can have."""
_LATE = 0.05
"""Part of a frame period by which an exposure may begin late."""
_NAP_S = 0.05
POWER_NOISE_REL = 0.002


class ServedBench:
    """Camera, panels, light and meters of one `MockBench`, to be used from several threads.

    The mock bench's clock moves by frames. Here each exposure is waited for: frame after frame begins where the grid
    of frame periods says so, or, when rendering took too long, at the next place of the grid.

    What the panels' monitors show is looked at as an exposure begins, and reaches the panels as the next one begins:
    monitors keep a picture for one refresh. From there the bench's own physics go on, refresh ticks and liquid crystal
    included. Where no exposure came right before, a picture has been there for long enough and counts at once.

    Parameters
    ----------
    config
        Of the bench.
    panels
        Monitors that are panels of the bench; one without a monitor shows its brightest level everywhere.

    Raises
    ------
    CapabilityError
        For a fault that a served bench cannot have, or a panel that is no monitor's.
    """

    def __init__(self, config: BenchConfig, panels: Sequence[MonitorPanel] = ()) -> None:
        _check_faults(config)
        self._bench = bench = MockBench(config)
        self._camera = MockCamera("camera", bench)
        self._source = MockSource("source", bench)
        self._power = MockMonitor("power", bench, "power", POWER_NOISE_REL)
        self._temperature = MockMonitor("temperature", bench, "temperature", 0.05)
        self._interlock = MockInterlock("interlock", bench)
        self._modulators: dict[str, MockModulator] = {
            "slm": MockSlm("slm", bench),
            "display": MockDisplay("display", bench),
        }
        self._panels = [(panel, self._modulators[panel.role]) for panel in panels]
        self._coming: list[NDArray[np.uint8] | None] = [None] * len(panels)
        self._next_s = 0.0
        self._lock = threading.Lock()
        self._exposing = False
        self.shape, self.bit_depth = self._camera.shape, self._camera.bit_depth
        camera = config.camera
        self.exposure_range_s = camera.exposure_min_s, camera.exposure_max_s
        self._warm_up()
        self._epoch_s = time.monotonic() - bench.clock_s

    @property
    def config(self) -> BenchConfig:
        """Of the bench."""
        return self._bench.config

    @property
    def bench(self) -> MockBench:
        """For tests, which compare it with the truth."""
        return self._bench

    def identify(self) -> Identity:
        """Of its camera."""
        return self._camera.identify()

    def clock_s(self) -> float:
        """Time since the bench was served [s]."""
        return time.monotonic() - self._epoch_s

    @property
    def exposure_s(self) -> float:
        """Rounded to microseconds [s]."""
        return self._camera.exposure_s

    @exposure_s.setter
    def exposure_s(self, value: float) -> None:
        with self._lock:
            self._camera.exposure_s = value

    @property
    def frame_period_s(self) -> float:
        """From one start of exposure to the next, where rendering keeps up [s]."""
        return self._bench.frame_period_s

    @property
    def temperature_c(self) -> float:
        """Of the sensor [°C]."""
        with self._lock:
            return self._temperature.read().value

    @property
    def is_lit(self) -> bool:
        """Does the light shine?"""
        return self._source.is_on

    def settle_s(self, role: str) -> float:
        """Of a panel: what a modulator on the other side must wait [s]."""
        return self._modulators[role].settle_s

    def on(self) -> None:
        """Switch the light on."""
        with self._lock:
            self._source.on()

    def off(self) -> None:
        """Switch the light off."""
        with self._lock:
            self._source.off()

    def interlock(self) -> str:
        """Why the interlock is open; empty while it is closed."""
        with self._lock:
            answer = self._interlock.check()
        return answer.reason if isinstance(answer, Trip) else ""

    def power_w(self) -> float:
        """What a power meter reads at the source [W]."""
        with self._lock:
            if not self._exposing:
                self._catch_up()
            return self._power.read().value

    def expose(self, roi: Roi, at_once: bool, is_over: Callable[[], bool]) -> Exposed | None:
        """As `Sensor.expose`."""
        with self._lock:
            self._catch_up(exactly=at_once)
            self._exposing, start_s = True, self._bench.clock_s
        try:
            self._wait(start_s, is_over)
            if is_over():
                return None
            seen = [panel.look() for panel, _ in self._panels]
            with self._lock:
                self._hand_over(seen, start_s)
                end_s = start_s + self._bench.exposure_s
                if self._camera.roi != roi:
                    self._camera.roi = roi
                self._camera.arm(1)
                block = self._camera.fetch(math.inf)
            self._wait(end_s, is_over)
        finally:
            self._exposing = False
        return Exposed(block.frames[0], int(block.device_sequence[0]), start_s)

    def _hand_over(self, seen: Sequence[NDArray[np.uint8] | None], start_s: float) -> None:
        """Give the panels what their monitors show since the exposure before; what they show now has yet to come."""
        late, self._coming = self._coming, list(seen)
        if start_s > self._next_s + self._bench.frame_period_s / 2:
            self._coming = [None] * len(seen)
            late = [old if new is None else new for old, new in zip(late, seen, strict=True)]
        for (_, modulator), levels in zip(self._panels, late, strict=True):
            if levels is not None:
                modulator.show(levels)
        self._next_s = start_s + self._bench.frame_period_s

    def _catch_up(self, *, exactly: bool = False) -> None:
        """Move the bench's clock to now: to the first place on the grid that is not past, or ``exactly``."""
        bench, now_s = self._bench, self.clock_s()
        late_s = now_s - bench.clock_s
        if late_s <= 0:
            return
        if not exactly:
            periods = math.ceil(late_s / bench.frame_period_s - _LATE)
            now_s = bench.clock_s + max(periods, 0) * bench.frame_period_s
        bench.continue_at(Moment(now_s, bench.sequence))

    def _wait(self, until_s: float, is_over: Callable[[], bool]) -> None:
        while (left_s := until_s - self.clock_s()) > 0 and not is_over():
            time.sleep(min(left_s, _NAP_S))

    def _warm_up(self) -> None:
        """Compile the mock's kernels, and light panels without a monitor, before time begins to count."""
        with_monitor = {panel.role for panel, _ in self._panels}
        for role, modulator in self._modulators.items():
            if role not in with_monitor:
                modulator.show(np.full(modulator.shape, modulator.levels - 1, np.uint16))
        self._bench.expose(Roi(0, 0, self.shape[1], self.shape[0]))
        self._bench.pass_frames(8)


def _check_faults(config: BenchConfig) -> None:
    for fault in config.faults:
        if fault.kind not in _FAULTS:
            raise CapabilityError(
                f"a served bench cannot have the fault {fault.kind!r}",
                action="serve the mock bench",
                expected="one of " + ", ".join(sorted(_FAULTS)),
                seen=fault.kind,
                hint="pull the real thing instead: end labctl mock serve",
            )
