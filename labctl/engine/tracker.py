"""Counts what a run reads, how fast, and how long the rest will take; keeps ``progress.json``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from labctl.archive.progress import Frames, Progress, ProgressFile, State

REMEMBERED = 16
"""Steps whose speed counts as that of now."""


class Tracker:
    """Where a run is.

    Parameters
    ----------
    run
        The run folder.
    clock
        Monotonic seconds.

    Attributes
    ----------
    state
        What the run does.
    """

    def __init__(self, run: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.state: State = "opening"
        self._run_id, self._file, self._clock = run.name, ProgressFile(run, clock), clock
        self._planned: dict[str, int | None] = {}
        self._node, self._step, self._rows = "", "", 0
        self._node_done = self._done = 0
        self._began_s: float | None = None
        self._lately: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)

    def plan(self, frames: Mapping[str, int | None]) -> None:
        """Frames that nodes will read; None of one that nobody can count yet."""
        self._planned |= frames
        self.look()

    def enter(self, state: State) -> None:
        """The run does something else now."""
        self.state = state
        self.look(at_once=True)

    def count(self, frames: int) -> None:
        """The node that is read reads so many frames more, and no others."""
        self.plan({self._node: self._node_done + frames})

    def begin_node(self, node: str) -> None:
        """The frames that come are this node's; that of the node before is all that was read for it."""
        if self._node:
            self._planned[self._node] = self._node_done
        self._node, self._node_done, self._step, self._rows = node, 0, "", 0
        self._began_s = None
        self.enter("measuring")

    def begin_step(self, kind: str, rows: int) -> None:
        """A step of so many frames is shown and read from now on."""
        self._step, self._rows, self._began_s = kind, rows, self._clock()
        self.state = "measuring"
        self.look()

    def advance(self, frames: float) -> None:
        """So many are read: in the step that was begun, or, where none was, by an earlier process."""
        self._done += int(frames)
        self._node_done += int(frames)
        if self._began_s is not None:
            self._lately.append((int(frames), self._clock() - self._began_s))
            self._began_s = None
        self.look()

    def hear(self, event: str) -> None:
        """A line of the journal: a run that waits for an interlock says so there."""
        if event == "suspended":
            self.enter("suspended")
        elif event == "resumed" and self.state == "suspended":
            self.enter("measuring")

    @property
    def frames(self) -> int | None:
        """How many the run reads in all; None while some cannot be counted."""
        return _sum(self._planned)

    @property
    def frames_per_s(self) -> float | None:
        """How fast frames have come lately; None before the first ones."""
        seconds = sum(seconds for _, seconds in self._lately)
        return sum(frames for frames, _ in self._lately) / seconds if seconds > 0 else None

    def seconds_of(self, rows: int) -> float | None:
        """How long so many frames will take [s]; None before the first ones."""
        rate = self.frames_per_s
        return rows / rate if rate else None

    @property
    def step_left_s(self) -> float | None:
        """How long the step that is read will take still [s]; None where nobody knows."""
        whole_s = self.seconds_of(self._rows)
        if whole_s is None or self._began_s is None:
            return None
        return max(0.0, whole_s - (self._clock() - self._began_s))

    def look(self, *, at_once: bool = False) -> None:
        """Keep the file up to date."""
        self._file.write(self._progress, at_once=at_once)

    def _progress(self) -> Progress:
        total = self.frames
        left_s = self.seconds_of(max(0, total - self._done)) if total is not None else None
        rate = self.frames_per_s
        return Progress(
            run_id=self._run_id,
            state=self.state,
            node=self._node,
            step=self._step,
            node_frames=Frames(self._node_done, self._planned.get(self._node)),
            run_frames=Frames(self._done, total),
            frames_per_s=None if rate is None else round(rate, 2),
            left_s=None if left_s is None else round(left_s, 1),
        )


def _sum(frames: Mapping[str, int | None]) -> int | None:
    known = [n for n in frames.values() if n is not None]
    return sum(known) if len(known) == len(frames) else None
