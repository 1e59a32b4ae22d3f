"""Frames, device time and bytes of steps, counted before anything is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from labctl.bench.steps import ScanBlock, Settling, Step, StepResponse, WholeFrames
from labctl.nodes.node import Facts
from labctl.station.model import Station

_FILE_BYTES, _ARRAY_BYTES = 6000, 330
"""What HDF5 adds for each segment and for each array in it, as measured on segments of every kind [B]."""
_CHANGE_BYTES = 3 * 8 + 8


@dataclass(frozen=True)
class Cost:
    """What steps cost.

    Attributes
    ----------
    kept
        Frames that are read, reference frames not counted.
    exposed
        Frames that the camera exposes, settling and references included.
    seconds
        They take on the device [s].
    bytes
        Of their segments on the disk [B].
    """

    kept: int = 0
    exposed: int = 0
    seconds: float = 0.0
    bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Cost)))


class Counter:
    """Counts steps in the order in which they would be shown: what the panels show already is not settled again.

    Parameters
    ----------
    station, facts
        Of the bench.
    """

    def __init__(self, station: Station, facts: Facts) -> None:
        self._station, self._facts = station, facts
        self._settling = _Changes(station.acquisition)

    def cost(self, steps: Iterable[Step], outputs: int) -> Cost:
        """What these steps cost.

        Parameters
        ----------
        outputs
            Region sums of each frame.
        """
        total = Cost()
        for step in steps:
            self._settling.changes = 0
            exposed = self._settling.exposed(step.shots())
            seconds = exposed * self._facts.frame_period_s
            total += Cost(step.rows, exposed, seconds, self._bytes(step, outputs, seconds))
        return total

    def _bytes(self, step: Step, outputs: int, seconds: float) -> int:
        """Of the segment that a step becomes."""
        rows, columns = self._facts.camera_shape
        monitors = len(self._station.devices.named("monitor"))
        readings = 1 + int(seconds / self._station.acquisition.monitor_spacing_s)
        arrays, size = 2 + 2 * monitors, 16 * monitors * readings + _CHANGE_BYTES * self._settling.changes
        match step:
            case WholeFrames():
                arrays, size = arrays + 1, size + 2 * rows * columns * step.rows
            case StepResponse():
                arrays, size = arrays + 2, size + 8 * step.rows
            case ScanBlock():
                scan, n = step.scan, len(step.scan)
                numbers = 8 * outputs + 4 * 8 + 1  # sums; saturation, time, number of frame and pattern; reference?
                size += scan.slm.nbytes + scan.display.nbytes + n * numbers
                size += sum(array.nbytes for array in step.extra.values())
                arrays += 8 + len(step.extra)
        return _FILE_BYTES + _ARRAY_BYTES * arrays + size


class _Changes(Settling):
    """Settling that also counts how often a panel gets another picture."""

    changes = 0

    def show(self, panel: str, picture: object, settle_frames: int | None = None) -> bool:
        is_new = super().show(panel, picture, settle_frames)
        self.changes += is_new
        return is_new
