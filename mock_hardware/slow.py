"""The slow instruments of the mock bench: a power meter, a thermometer, and the interlock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from drivers.protocols import Ok, Reading, Trip
from mock_hardware import noise
from mock_hardware.bench import MockBench
from mock_hardware.devices import MockDevice

Quantity = Literal["power", "temperature"]

_READING = 1 << 44
_UNITS: dict[Quantity, str] = {"power": "W", "temperature": "degC"}


class MockMonitor(MockDevice):
    """A power meter at the source, or a thermometer at the sensor.

    A reading's noise depends on the seed, the quantity, the number of the next frame, and how many readings there were
    since the frame before: a bench that goes on where another stopped reads the same.

    Parameters
    ----------
    name, bench, on_close
        As of any device.
    quantity
        ``"power"`` or ``"temperature"``.
    noise_rms
        Standard deviation of a reading: relative for a power [1], absolute for a temperature [°C].
    """

    model = "MockMonitor"

    def __init__(
        self,
        name: str,
        bench: MockBench,
        quantity: Quantity = "power",
        noise_rms: float = 0.0,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(name, bench, on_close)
        self.quantity: Quantity = quantity
        self.unit = _UNITS[quantity]
        self._noise_rms = noise_rms
        self._last = (-1, 0)  # frame number of the last reading, and how many readings it has had

    def read(self, timeout_s: float = 2.0) -> Reading:
        bench = self.bench
        frame, count = self._last
        self._last = bench.sequence, count + 1 if frame == bench.sequence else 0
        key = _READING + list(_UNITS).index(self.quantity)
        deviate = self._noise_rms * float(noise.generator(bench.config.seed, key, *self._last).standard_normal())
        if self.quantity == "power":
            source = bench.config.source
            power_w = 1e-3 * source.power_mw * bench.drift.power(bench.clock_s) if bench.is_lit else 0.0
            return Reading(power_w * (1.0 + deviate), self.unit, bench.clock_s)
        return Reading(bench.config.camera.temperature_c + deviate, self.unit, bench.clock_s)

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        return {"serial": self.identify().serial, "quantity": self.quantity, "unit": self.unit}

    def _make_safe(self) -> None:
        pass


class MockInterlock(MockDevice):
    """The contact that says whether light may be on. The fault ``interlock@FRAME:FRAMES`` opens it for a while.

    It stays open until it has been asked, as a contact does that has to be reset, and then for ``FRAMES`` frames. While
    nothing is exposed no frame passes: then each question counts as one, so that a run that waits sees it close.

    Parameters
    ----------
    name, bench, on_close
        As of any device.
    tripped
        Why it is open from the start; empty when it is closed.

    Attributes
    ----------
    opened_at
        The frames at which it has opened: for tests.
    """

    model = "MockInterlock"

    def __init__(
        self, name: str, bench: MockBench, tripped: str = "", on_close: Callable[[], None] | None = None
    ) -> None:
        super().__init__(name, bench, on_close)
        self._tripped = tripped
        self._asked_at, self._looked_at = bench.sequence, bench.sequence - 1
        self._frames_left = 0
        self._has_said_so = False
        self.opened_at: list[int] = []

    @property
    def is_open(self) -> bool:
        """Whether it is open; looking at it is no question."""
        bench = self.bench
        for frame in range(self._looked_at + 1, bench.sequence + 1):
            if fault := bench.faults.due("interlock", frame):
                self._frames_left, self._has_said_so = max(self._frames_left, round(fault.amount)), False
                self.opened_at.append(frame)
        self._looked_at = bench.sequence
        return bool(self._tripped) or self._frames_left > 0

    def check(self, timeout_s: float = 2.0) -> Ok | Trip:
        if self._has_said_so:
            self._frames_left = max(0, self._frames_left - max(1, self.bench.sequence - self._asked_at))
        self._asked_at = self.bench.sequence
        self._has_said_so = self.is_open
        if not self._has_said_so:
            return Ok()
        return Trip(self._tripped or "enclosure opened, by the fault script")

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        return {"serial": self.identify().serial, "closed": not self.is_open}

    def _make_safe(self) -> None:
        pass
