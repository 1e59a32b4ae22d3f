"""A panel of the mock bench that is a monitor: what the monitor shows is read back from the screen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.errors import CapabilityError, DeviceLost
from drivers.libraries.loading import load
from drivers.libraries.monitors import monitor

LEVELS = 256
"""Gray levels of a monitor."""


class MonitorPanel:
    """A monitor that is looked at before each exposure.

    Parameters
    ----------
    role
        ``"slm"`` or ``"display"``; for messages.
    output
        Name of the monitor's output, ``"DUMMY1"``.
    shape
        (rows, columns) of the panel, which the monitor's mode must have [px].
    levels
        Gray levels of the panel, which must be a monitor's.

    Raises
    ------
    CapabilityError
        When the monitor has another size, or the panel other levels.
    """

    def __init__(self, role: str, output: str, shape: tuple[int, int], levels: int) -> None:
        self.role, self.output = role, output
        if levels != LEVELS:
            raise CapabilityError(
                f"the mock bench's {role} has not the gray levels of a monitor",
                device=role,
                action="serve the panel",
                expected=str(LEVELS),
                seen=str(levels),
                hint=f"--set mock.{role}.levels={LEVELS}",
            )
        found = monitor(output)
        rows, columns = shape
        if (found.height, found.width) != shape:
            raise CapabilityError(
                f"the monitor {output} has not the size of the mock bench's {role}",
                device=role,
                action="serve the panel",
                expected=f"{columns} × {rows}",
                seen=f"{found.width} × {found.height}",
                hint=f"--set mock.{role}.cols={found.width} --set mock.{role}.rows={found.height}",
            )
        self._area = {"left": found.x, "top": found.y, "width": columns, "height": rows}
        self._shape = shape
        self._grabber: Any = None
        self._last: NDArray[np.uint32] | None = None

    def look(self) -> NDArray[np.uint8] | None:
        """(rows, columns) gray levels that the monitor shows, or None when they are those of the last look.

        Always from the same thread. The level is that of the green channel.
        """
        if self._grabber is None:
            self._grabber = load("mss").MSS()
        try:
            shot = self._grabber.grab(self._area)
        except Exception as error:
            raise DeviceLost(
                f"the monitor {self.output} cannot be read any more",
                device=self.role,
                action="read the screen",
                seen=str(error) or type(error).__name__,
                hint="does the X server still run?",
            ) from error
        seen = np.frombuffer(shot.raw, np.uint32).reshape(self._shape)
        if self._last is not None and np.array_equal(seen, self._last):
            return None
        self._last = seen.copy()
        return np.ascontiguousarray(self._last.view(np.uint8).reshape(*self._shape, 4)[:, :, 1])
