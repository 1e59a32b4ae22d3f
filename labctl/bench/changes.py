"""What the panels were given, and when: of the step that is being read, and of those before it."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.protocols import Moment
from labctl.archive.segments import Segment
from labctl.bench.steps import PANELS, Step

REMEMBERED = 64
"""Last changes of each panel that are repeated when a simulated bench goes on: more than liquid crystal remembers."""


class Change(NamedTuple):
    """A panel got a new picture: which of a step's, before which frame of the camera, when on its clock."""

    panel: str
    step: Step
    picture: int
    sequence: int
    device_time_s: float


class Changes:
    """All of them, as far back as a panel remembers."""

    def __init__(self) -> None:
        self._now: list[Change] = []
        self._past = {panel: deque[Change](maxlen=REMEMBERED) for panel in PANELS}

    def begin_step(self) -> None:
        """The changes from now on are those of another step."""
        self._now = []

    def add(self, panel: str, step: Step, picture: int, moment: Moment) -> None:
        """A panel was given a picture before the frame of this moment."""
        self._now.append(Change(panel, step, picture, moment.sequence, moment.device_time_s))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The changes of this step as a segment holds them.

        ``changes`` : (n, 3) int64, panel, picture and number of the frame; ``changes_device_time_s`` : (n,) [s].
        """
        rows = [(PANELS.index(c.panel), c.picture, c.sequence) for c in self._now]
        return {
            "changes": np.array(rows, np.int64).reshape(-1, 3),
            "changes_device_time_s": np.array([c.device_time_s for c in self._now], np.float64),
        }

    def end_step(self) -> None:
        """The step is read: what it has shown is remembered."""
        for change in self._now:
            self._past[change.panel].append(change)

    def recall(self, step: Step, segment: Segment) -> None:
        """Remember what a sealed step has shown."""
        arrays = segment.arrays
        for (panel, picture, sequence), at_s in zip(arrays["changes"], arrays["changes_device_time_s"], strict=True):
            change = Change(PANELS[panel], step, int(picture), int(sequence), float(at_s))
            self._past[change.panel].append(change)

    def remembered(self) -> list[Change]:
        """Of all panels, in the order in which they were made."""
        return sorted((change for changes in self._past.values() for change in changes), key=lambda c: c.sequence)
