"""Readings of the monitors beside the frames: at each step and within long ones, and never at the frames' cost."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.errors import DeviceError
from drivers.hosttime import host_time_s
from drivers.protocols import Reading, Simulated, can
from labctl.archive import RunWriter
from labctl.bench.bench import Bench
from labctl.bench.ladder import HOPELESS, Ladder
from labctl.bench.steps import AT_S, MONITOR, VALUE

SHARE = 0.02
"""Of the time, at most, that reading the monitors may take: one that takes long is read less often."""


class MonitorLog:
    """Reads the monitors of a bench and keeps the readings of a step until it is sealed.

    A monitor that fails stops nothing: it is opened again, with the light as it is, before its next turn.

    Parameters
    ----------
    bench, run, ladder
        Whose monitors, the journal, and who opens them again.
    spacing_s
        From one reading within a step to the next, at least, by the camera's clock [s].
    """

    def __init__(self, bench: Bench, run: RunWriter, ladder: Ladder, spacing_s: float) -> None:
        self.bench, self.run, self._ladder, self._spacing_s = bench, run, ladder, spacing_s
        self._kept: dict[str, list[Reading]] = defaultdict(list)
        self._turn_s: dict[str, float] = {}
        self._failed: set[str] = set()
        self._next_s = -math.inf

    def begin_step(self, device_time_s: float) -> None:
        """Read every monitor, into the journal too; what an earlier step has left is dropped."""
        self._kept.clear()
        self._read(device_time_s, in_journal=True)

    def within_step(self, device_time_s: float) -> None:
        """Frames have come: read the monitors if it is time to."""
        if device_time_s >= self._next_s:
            self._read(device_time_s, in_journal=False)

    def arrays(self, epoch_s: float) -> tuple[dict[str, NDArray[np.float64]], dict[str, str]]:
        """Arrays and attributes for the segment of the step; none for a monitor that said nothing.

        Parameters
        ----------
        epoch_s
            Host time at the zero of the camera's clock, on which the readings' times are told [s].
        """
        arrays, attrs = {}, {}
        for name, readings in self._kept.items():
            arrays[f"{MONITOR}{name}{VALUE}"] = np.array([reading.value for reading in readings], np.float64)
            at_s = np.array([reading.at_s for reading in readings], np.float64)
            arrays[f"{MONITOR}{name}{AT_S}"] = at_s if self._is_simulated else at_s - epoch_s
            attrs[f"{MONITOR}{name}_unit"] = readings[-1].unit
        return arrays, attrs

    @property
    def _is_simulated(self) -> bool:
        """Whether readings cost no time and are stamped by the camera's clock."""
        return can(self.bench.camera, Simulated)

    def _read(self, device_time_s: float, in_journal: bool) -> None:
        self._next_s = device_time_s + self._spacing_s
        for name in self.bench.monitors:
            began_s = time.monotonic()
            if not self._is_simulated and began_s < self._turn_s.get(name, -math.inf):
                continue
            self._read_one(name, in_journal)
            self._turn_s[name] = began_s + (time.monotonic() - began_s) / SHARE

    def _read_one(self, name: str, in_journal: bool) -> None:
        """One reading; a failure goes into the journal, and the monitor is opened again when its turn comes."""
        if name in self._failed:
            if not self._ladder.revive(name):
                return
            self._failed.discard(name)
        began_s = host_time_s()
        try:
            reading = self.bench.monitors[name].read()
        except (DeviceError, OSError) as error:
            self.run.journal("monitor", device=name, error=str(error))
            if not isinstance(error, HOPELESS):
                self._failed.add(name)
            return
        about: dict[str, Any] = {"value": reading.value, "unit": reading.unit, "at_s": reading.at_s}
        if not self._is_simulated:
            reading = Reading(reading.value, reading.unit, (began_s + host_time_s()) / 2)
        self._kept[name].append(reading)
        if in_journal:
            value = reading.value if math.isfinite(reading.value) else None
            self.run.journal("monitor", device=name, **{**about, "value": value})
