"""A monitor at the end of a wire: one question of an instrument, asked again for each reading."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from drivers.errors import DeviceTimeout
from drivers.libraries.wired import Quantity, SetUp, WiredDevice, left_s
from drivers.protocols import Reading
from drivers.resources import Shared


class WiredMonitor(WiredDevice):
    """One quantity of an instrument.

    It is asked for at opening, so that a wrong question is found at once; the limits do not count yet, since the light
    is off.

    Parameters
    ----------
    name, hold, timeout_s
        As of any wired device.
    quantity
        What is asked for.
    set_up
        What the instrument is told first.

    Attributes
    ----------
    unit
        Of every reading.
    """

    def __init__(self, name: str, hold: Shared[Any], timeout_s: float, quantity: Quantity, set_up: SetUp) -> None:
        super().__init__(name, hold, timeout_s)
        self._quantity = quantity
        self.unit = quantity.unit
        self.prepare(set_up)
        try:
            self.value(replace(quantity, low=None, high=None), timeout_s)
        except DeviceTimeout as error:
            error.seen = self.wire.complaint(name, timeout_s) or error.seen
            raise

    def read(self, timeout_s: float = 2.0) -> Reading:
        """The value now, on the host's clock: monotonic, at the moment of the answer.

        Raises
        ------
        DeviceTimeout, DeviceLost
            When no answer comes.
        DeviceProtocolError
            When the answer is no number or outside the allowed range, or a setting of the instrument has changed.
        """
        until_s = time.monotonic() + timeout_s
        self.require_settings(until_s)
        value = self.value(self._quantity, left_s(until_s))
        return Reading(value, self.unit, time.monotonic())

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        return {**super().snapshot(timeout_s), "ask": self._quantity.ask, "unit": self.unit}
